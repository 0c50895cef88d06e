import { AppError, isAppError } from '../../errors/index.ts';
import { shell } from '../../ssh/index.ts';
import type { Note } from '../source.ts';
import type { EsxiContext } from './context.ts';
import { formatDatastorePath, type DatastoreMap, type DatastorePath } from './datastore-path.ts';
import { listInvalidMachines, listMachines, readMachine, type InventoryMachine } from './inventory.ts';
import { chooseMovedOrCopied, parseAutostartOrder, parseQuestion, parseRegisteredId } from './vim-cmd.ts';
import { lastWords } from './vmkfstools.ts';

const APPEAR_TIMEOUT_MS = 30_000;
/** A machine has no configuration either while the host still reads it. */
const INVALID_MS = 5_000;
const POWER_ON_TIMEOUT_MS = 180_000;

/**
 * Registers a machine and waits until the inventory shows it.
 * @throws RESTORE_REGISTER_FAILED
 */
export async function registerMachine(
  context: EsxiContext,
  datastores: DatastoreMap,
  vmx: DatastorePath,
  name: string,
  signal?: AbortSignal,
): Promise<InventoryMachine> {
  const present = await findByPath(context, datastores, vmx);
  if (present !== null) return present;
  const path = datastores.toShell(vmx);
  // Of a host that lost its power in the middle, or that did not understand what was here before.
  await unregisterInvalid(context, datastores, (other) => other === path);
  const words = await issueRegister(context, datastores, vmx, name, signal);
  const startedMs = context.clock.monotonicMs();
  for (;;) {
    const found = await findByPath(context, datastores, vmx);
    if (found !== null) return found;
    const waitedMs = context.clock.monotonicMs() - startedMs;
    const isHopeless = words !== '' && waitedMs > context.limits.pollIntervalMs;
    const isInvalid = waitedMs > INVALID_MS && (await invalidMachines(context, datastores)).has(path);
    if (isHopeless || isInvalid || waitedMs > APPEAR_TIMEOUT_MS) {
      throw new AppError('RESTORE_REGISTER_FAILED', `The host did not register the machine "${name}".`, {
        hint: 'See the words of the host in the details: often the hardware version is newer than the host knows.',
        details: { machine: name, path: formatDatastorePath(vmx), words: isInvalid ? 'invalid' : words },
      });
    }
    await context.clock.sleep(Math.min(500, context.limits.pollIntervalMs), signal);
  }
}

/** @returns the words of a refusal; empty where the host took the order */
async function issueRegister(
  context: EsxiContext,
  datastores: DatastoreMap,
  vmx: DatastorePath,
  name: string,
  signal?: AbortSignal,
): Promise<string> {
  if (context.facts.soapWrites !== 'refused') {
    try {
      await context.vsphere.registerMachine(formatDatastorePath(vmx), name);
      context.facts.soapWrites = 'allowed';
      return '';
    } catch (error) {
      if (!isAppError(error) || error.code !== 'HOST_LICENSE_REFUSES') return String(error);
      context.facts.soapWrites = 'refused';
    }
  }
  const command = shell`vim-cmd solo/registervm ${datastores.toShell(vmx)}`;
  const { code, stdout, stderr } = await context.shell.exec(command, signal === undefined ? {} : { signal });
  const text = stdout.toString('utf8');
  return code === 0 && parseRegisteredId(text) !== null ? '' : lastWords(`${text}\n${stderr}`) || 'no words';
}

/** Takes the machine off the inventory; its files stay. Idempotent. @throws HOST_COMMAND_FAILED */
export async function unregisterMachine(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
): Promise<void> {
  const vmx = datastores.parse(machine.identity.path);
  await context.shell.exec(shell`vim-cmd vmsvc/unregister ${machine.hostId}`, { isRepeatable: true });
  const startedMs = context.clock.monotonicMs();
  while ((await findByPath(context, datastores, vmx)) !== null) {
    if (context.clock.monotonicMs() - startedMs > APPEAR_TIMEOUT_MS) {
      throw new AppError('HOST_COMMAND_FAILED', `The host did not unregister "${machine.identity.name}".`, {
        hint: 'Unregister it in the Host Client, then try again.',
        details: { machine: machine.identity.name },
      });
    }
    await context.clock.sleep(Math.min(500, context.limits.pollIntervalMs));
  }
}

/**
 * Takes machines off the inventory that the host calls invalid: such a one keeps its place from being registered.
 * @param isWanted asked with the path of the `.vmx`, for the shell
 */
export async function unregisterInvalid(
  context: EsxiContext,
  datastores: DatastoreMap,
  isWanted: (path: string) => boolean,
): Promise<void> {
  const found = async (): Promise<[string, string][]> =>
    [...(await invalidMachines(context, datastores))].filter(([path]) => isWanted(path));
  let left = await found();
  for (const [, hostId] of left) {
    await context.shell.exec(shell`vim-cmd vmsvc/unregister ${hostId}`, { isRepeatable: true });
  }
  for (const startedMs = context.clock.monotonicMs(); left.length > 0; left = await found()) {
    if (context.clock.monotonicMs() - startedMs > APPEAR_TIMEOUT_MS) {
      const path = left[0]?.[0] ?? '';
      throw new AppError('HOST_COMMAND_FAILED', `The host did not unregister the invalid machine ${path}.`, {
        hint: 'Unregister it in the Host Client, then try again.',
        details: { path },
      });
    }
    await context.clock.sleep(Math.min(500, context.limits.pollIntervalMs));
  }
}

/** Ids of invalid machines by the path of their `.vmx`, for the shell. */
async function invalidMachines(context: EsxiContext, datastores: DatastoreMap): Promise<Map<string, string>> {
  const machines = await listInvalidMachines(context.vsphere);
  return new Map(
    machines.flatMap(({ hostId, path }) => {
      const there = datastores.toShellIfThere(path);
      return there === null ? [] : [[there, hostId] as const];
    }),
  );
}

/**
 * The host keeps with the id of a machine whether it starts with it, and forgets that with the registration.
 * @returns its place in the order, -1 for any; null where it does not start with the host, or that cannot be told
 */
export async function readAutostartOrder(context: EsxiContext, machine: InventoryMachine): Promise<number | null> {
  try {
    const command = shell`vim-cmd hostsvc/autostartmanager/get_autostartseq`;
    const { code, stdout } = await context.shell.exec(command, { isRepeatable: true });
    return code === 0 ? parseAutostartOrder(stdout.toString('utf8'), machine.hostId) : null;
  } catch (error) {
    if (!isAppError(error)) throw error;
    return null;
  }
}

export async function findByPath(
  context: EsxiContext,
  datastores: DatastoreMap,
  vmx: DatastorePath,
): Promise<InventoryMachine | null> {
  const wanted = formatDatastorePath(vmx);
  const machines = await listMachines(context.vsphere, datastores);
  return machines.find((machine) => machine.identity.path === wanted) ?? null;
}

/**
 * Powers a machine on and answers whether it was moved or copied. Other questions stay open for a
 * person. A machine that does not start is still restored: that is a note, not a failure.
 */
export async function powerOn(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  options: { identity: 'keep' | 'new'; note(note: Note): void; signal: AbortSignal },
): Promise<void> {
  const { clock, shell: host } = context;
  const { signal } = options;
  const stop = new AbortController();
  const callSignal = AbortSignal.any([signal, stop.signal]);
  // Blocks while a question is open, so it runs beside the look at the state.
  let words: string | null = null;
  const call = host
    .exec(shell`vim-cmd vmsvc/power.on ${machine.hostId}`, { signal: callSignal })
    .then(({ code, stdout, stderr }) => {
      const text = `${stdout.toString('utf8')}\n${stderr}`;
      if (code !== 0 || /failed/i.test(text)) words = lastWords(text);
    })
    .catch(() => undefined);
  const fail = (reason: string): void => {
    const text = `"${machine.identity.name}" was restored but did not start: ${reason}`;
    const details = { machine: machine.identity.name, words: reason };
    options.note({ level: 'error', code: 'RESTORE_POWER_ON_FAILED', text, details });
  };
  try {
    for (const startedMs = clock.monotonicMs(); ;) {
      const now = await readMachine(context.vsphere, machine.reference, datastores);
      if (now.powerState === 'on' && now.question === null) return;
      const text = (
        await host.run(shell`vim-cmd vmsvc/message ${machine.hostId}`, 'read a question', { signal })
      ).toString();
      const question = parseQuestion(text);
      if (question !== null) {
        const choice = chooseMovedOrCopied(question, options.identity === 'keep' ? 'moved' : 'copied');
        if (choice === null) return fail(`it asks: ${question.text.slice(0, 300)}`);
        await host.run(shell`vim-cmd vmsvc/message ${machine.hostId} ${question.id} ${choice}`, 'answer a question', {
          signal,
        });
      } else if (words !== null) {
        return fail(words);
      }
      if (clock.monotonicMs() - startedMs > POWER_ON_TIMEOUT_MS) return fail('no answer in three minutes');
      await clock.sleep(context.limits.pollIntervalMs, signal);
    }
  } finally {
    stop.abort();
    await call;
  }
}

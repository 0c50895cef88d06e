import { AppError, isAppError } from '../../errors/index.ts';
import { shell } from '../../ssh/index.ts';
import type { Reference } from '../../vsphere/index.ts';
import type { EsxiContext } from './context.ts';
import type { DatastoreMap, DatastorePath } from './datastore-path.ts';
import { formatDatastorePath } from './datastore-path.ts';
import { Dictionary } from './dictionary.ts';
import { folderPath } from './disk-chain.ts';
import { readMachine, toSnapshots, type InventoryMachine, type InventorySnapshot } from './inventory.ts';
import { parseDump, parseSnapshotTree, parseTaskIds } from './vim-cmd.ts';
import { lastWords } from './vmkfstools.ts';
import { vmxDisks } from './vmx.ts';
import { parseVmsd, type Vmsd } from './vmsd.ts';

/** A machine's files that tell how its disks stand, read at one moment. */
export interface MachineFiles {
  vmxPath: DatastorePath;
  vmx: Buffer;
  /** Empty where the machine has no snapshots. */
  vmsd: Vmsd;
  /** The file that each disk writes to, by node. */
  disks: Map<string, DatastorePath>;
}

export async function readMachineFiles(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  signal?: AbortSignal,
): Promise<MachineFiles> {
  const vmxPath = datastores.parse(machine.identity.path);
  const folder = folderPath(vmxPath);
  const vmx = await context.shell.readFile(datastores.toShell(vmxPath), signal);
  const vmsdPath = { ...vmxPath, file: vmxPath.file.replace(/\.vmx$/i, '.vmsd') };
  const vmsd = await context.shell.readFileIfThere(datastores.toShell(vmsdPath), signal);
  const disks = new Map<string, DatastorePath>();
  for (const { node, fileName } of vmxDisks(Dictionary.parse(vmx))) {
    disks.set(node, datastores.resolve(folder, fileName));
  }
  return { vmxPath, vmx, vmsd: parseVmsd(vmsd ?? Buffer.alloc(0)), disks };
}

/** What a snapshot of ours changed, as the machine's own files prove. */
export interface TakenSnapshot {
  snapshot: InventorySnapshot;
  /** The file that the snapshot froze, by node. */
  frozen: Map<string, DatastorePath>;
  /** The files that the machine writes to since. */
  deltas: DatastorePath[];
}

/**
 * Looks whether a snapshot is there in every respect: listed by its exact name, every disk moved on
 * to a new file that exists. Null as long as one is missing.
 */
export async function findTaken(
  context: EsxiContext,
  datastores: DatastoreMap,
  request: { machine: Reference; hold: string; nodes: readonly string[]; signal: AbortSignal },
): Promise<TakenSnapshot | null> {
  const { hold, nodes, signal } = request;
  const machine = await readMachine(context.vsphere, request.machine, datastores);
  const snapshot = machine.snapshots.find((candidate) => candidate.name === hold);
  if (snapshot === undefined) return null;
  const files = await readMachineFiles(context, datastores, machine, signal);
  const entry = files.vmsd.snapshots.find((candidate) => candidate.name === hold);
  if (entry === undefined) return null;
  const folder = folderPath(files.vmxPath);
  const frozen = new Map<string, DatastorePath>();
  const deltas: DatastorePath[] = [];
  for (const node of nodes) {
    const fileName = entry.disks.find((disk) => disk.node === node)?.fileName;
    const current = files.disks.get(node);
    if (fileName === undefined || fileName === '' || current === undefined) return null;
    const tip = datastores.resolve(folder, fileName);
    if (formatDatastorePath(tip) === formatDatastorePath(current)) return null;
    if (!(await context.shell.exists(datastores.toShell(current), signal))) return null;
    frozen.set(node, tip);
    deltas.push(current);
  }
  return { snapshot, frozen, deltas };
}

/** Whether the host still lists this very snapshot. */
export async function isListed(
  context: EsxiContext,
  machine: Reference,
  { reference, name }: Pick<InventorySnapshot, 'reference' | 'name'>,
): Promise<boolean> {
  const { properties } = await context.vsphere.retrieveOne(machine, ['snapshot']);
  return toSnapshots(properties['snapshot']).some(
    (snapshot) => snapshot.reference.value === reference.value && snapshot.name === name,
  );
}

/**
 * Takes a snapshot named by the hold and waits until it is proven. The host's own answer decides
 * nothing: it may come early, late, never, or say yes without a snapshot.
 *
 * @throws SNAPSHOT_NOT_TAKEN, SNAPSHOT_FAILED, SNAPSHOT_QUIESCE_REFUSED, DATASTORE_FULL; a half
 *   snapshot may be left, which the caller removes
 */
export async function takeSnapshot(
  context: EsxiContext,
  datastores: DatastoreMap,
  request: { machine: InventoryMachine; hold: string; nodes: readonly string[]; quiesce: boolean; signal: AbortSignal },
): Promise<TakenSnapshot> {
  const { clock, limits } = context;
  const { machine, signal } = request;
  const startedMs = clock.monotonicMs();
  const call: { outcome: CallOutcome | null; endedMs: number } = { outcome: null, endedMs: 0 };
  const stopCall = new AbortController();
  const callSignal = AbortSignal.any([signal, stopCall.signal]);
  const running = issueCreate(context, { ...request, signal: callSignal }).then((outcome) => {
    call.outcome = outcome;
    call.endedMs = clock.monotonicMs();
  });
  try {
    for (let round = 0; ; round += 1) {
      signal.throwIfAborted();
      const taken = await findTaken(context, datastores, { ...request, machine: machine.reference });
      // A quiesced snapshot is listed before the guest has answered: only the end of the call, or of
      // the host's task, makes it one.
      const isBusy = call.outcome === null || (await hasRunningTask(context, machine, signal));
      if (taken !== null && (!isBusy || call.outcome?.kind === 'done')) return taken;
      const { outcome } = call;
      const nowMs = clock.monotonicMs();
      if (outcome !== null && !isBusy && taken === null) {
        if (outcome.kind === 'failed' && nowMs - call.endedMs > FAILED_SETTLE_MS) throw outcome.error;
        if (nowMs - call.endedMs > limits.snapshotSettleMs) throw notTaken(machine);
      }
      if (nowMs - startedMs > limits.snapshotTimeoutMs) {
        if (taken !== null) return taken;
        throw outcome?.kind === 'failed' ? outcome.error : notTaken(machine);
      }
      await Promise.race([clock.sleep(Math.min(200 * 1.5 ** round, limits.pollIntervalMs), signal), running]);
      if (call.outcome !== null && round > 0) await clock.sleep(Math.min(200, limits.pollIntervalMs), signal);
    }
  } finally {
    stopCall.abort();
    await running.catch(() => undefined);
  }
}

/** After a refusal the host needs a moment to take its half snapshot off the list. */
const FAILED_SETTLE_MS = 1_000;

type CallOutcome = { kind: 'done' } | { kind: 'failed'; error: AppError };

/** Never throws: whatever the call says is an opinion that the state confirms or not. */
async function issueCreate(
  context: EsxiContext,
  request: { machine: InventoryMachine; hold: string; quiesce: boolean; signal: AbortSignal },
): Promise<CallOutcome> {
  const { machine, hold, quiesce, signal } = request;
  const description = 'Taken for a backup and removed after it. Do not revert to it.';
  try {
    if (context.facts.soapWrites !== 'refused') {
      try {
        const options = { name: hold, description, memory: false, quiesce };
        await context.vsphere.createSnapshot(machine.reference, options, signal);
        context.facts.soapWrites = 'allowed';
        return { kind: 'done' };
      } catch (error) {
        if (!isAppError(error) || error.code !== 'HOST_LICENSE_REFUSES') throw error;
        context.facts.soapWrites = 'refused';
      }
    }
    const line = shell`vim-cmd vmsvc/snapshot.create ${machine.hostId} ${hold} ${description} 0 ${quiesce ? 1 : 0}`;
    const { code, stdout, stderr } = await context.shell.exec(line, { signal });
    const words = `${stdout.toString('utf8')}\n${stderr}`;
    if (code === 0 && !/fail|error|fault/i.test(words)) return { kind: 'done' };
    return { kind: 'failed', error: createFailed(machine, lastWords(words), quiesce) };
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    const fault = isAppError(error) ? String(error.details['fault'] ?? '') : '';
    if (isAppError(error) && error.code !== 'SOAP_FAULT') return { kind: 'failed', error };
    return { kind: 'failed', error: createFailed(machine, `${fault} ${words}`.trim(), quiesce) };
  }
}

function createFailed(machine: InventoryMachine, words: string, quiesce: boolean): AppError {
  const details = { machine: machine.identity.name, words };
  const isQuiesce = /quiesc|ToolsUnavailable|sync provider|freeze/i.test(words);
  if (quiesce && (isQuiesce || !/space|NoDiskSpace|consolidat/i.test(words))) {
    return new AppError(
      'SNAPSHOT_QUIESCE_REFUSED',
      `The guest of "${machine.identity.name}" did not get quiet for a snapshot.`,
      {
        hint: 'Check VMware Tools, the VSS writers and the freeze scripts in the guest, or choose "try" or "off".',
        details,
      },
    );
  }
  if (/space|NoDiskSpace/i.test(words)) {
    return new AppError('DATASTORE_FULL', `There is no space for a snapshot of "${machine.identity.name}".`, {
      hint: 'Free space on the datastores of the machine.',
      details,
    });
  }
  return new AppError('SNAPSHOT_FAILED', `The host refused a snapshot of "${machine.identity.name}".`, {
    hint: 'Look at the events of the machine in the Host Client; independent or shared disks and passed-through devices forbid snapshots.',
    details,
  });
}

function notTaken(machine: InventoryMachine): AppError {
  return new AppError(
    'SNAPSHOT_NOT_TAKEN',
    `The host reported a snapshot of "${machine.identity.name}" that is not there.`,
    {
      hint: 'Check the guest (a hung guest agent does this) and vmware.log of the machine; the next run tries again.',
      details: { machine: machine.identity.name },
    },
  );
}

/**
 * Snapshots of a machine; over the shell where SOAP does not answer, since removing what is ours
 * must not depend on it.
 */
async function listSnapshots(
  context: EsxiContext,
  hostId: string,
  datastores: DatastoreMap,
  signal?: AbortSignal,
): Promise<{ id: string; name: string; reference: Reference | null; consolidationNeeded: boolean | null }[]> {
  try {
    const machine = await readMachine(context.vsphere, { type: 'VirtualMachine', value: hostId }, datastores);
    const { consolidationNeeded } = machine;
    const found = machine.snapshots.map(({ id, name, reference }) => ({ id, name, reference, consolidationNeeded }));
    return found.length > 0 ? found : [{ id: '', name: '', reference: null, consolidationNeeded }];
  } catch (error) {
    if (!isAppError(error) || error.code === 'MACHINE_NOT_FOUND' || isGone(error)) throw error;
    context.logger.warn({ code: error.code }, 'snapshots are listed by the shell, since SOAP does not answer');
    const text = await context.shell.run(shell`vim-cmd vmsvc/snapshot.get ${hostId}`, 'list snapshots', {
      ...(signal && { signal }),
    });
    const found = parseSnapshotTree(text).map(({ id, name }) => ({
      id,
      name,
      reference: null,
      consolidationNeeded: null,
    }));
    return found.length > 0 ? found : [{ id: '', name: '', reference: null, consolidationNeeded: null }];
  }
}

function isGone(error: AppError): boolean {
  return error.code === 'SOAP_FAULT' && error.details['fault'] === 'ManagedObjectNotFound';
}

/** Times that the removal is asked for anew when the snapshot is still there and nothing works on it. */
const REMOVALS_MAX = 3;

/**
 * Removes the snapshots of exactly this name and waits until the machine is as before: name gone,
 * no task, no file of ours in use or left, nothing to consolidate. Idempotent; foreign snapshots are
 * never touched.
 *
 * @returns whether there was one
 * @throws SNAPSHOT_REMOVE_FAILED, SNAPSHOT_CONSOLIDATION_NEEDED
 */
export async function removeHoldSnapshot(
  context: EsxiContext,
  datastores: DatastoreMap,
  request: {
    machine: InventoryMachine;
    hold: string;
    deltas: readonly DatastorePath[];
    /** Keep looking so long: a snapshot was just ordered, and the host may not have begun it yet. */
    settleMs?: number;
    signal?: AbortSignal;
  },
): Promise<boolean> {
  const { clock, limits } = context;
  const { machine, hold, signal } = request;
  const deltas = [...request.deltas, ...(await currentDeltas(context, datastores, machine, hold, signal))];
  const startedMs = clock.monotonicMs();
  let idleSinceMs = startedMs;
  let removals = 0;
  let wasThere = false;
  for (let round = 0; ; round += 1) {
    signal?.throwIfAborted();
    // In this order: a task that ends between the two questions has put its snapshot on the list.
    const isBusy = await hasRunningTask(context, machine, signal);
    const listed = await listSnapshots(context, machine.hostId, datastores, signal);
    const ours = listed.find((snapshot) => snapshot.name === hold);
    const nowMs = clock.monotonicMs();
    if (isBusy) idleSinceMs = nowMs;
    if (ours !== undefined && !isBusy) {
      wasThere = true;
      if (removals >= REMOVALS_MAX && nowMs - idleSinceMs > limits.removeIdleMs) throw removeFailed(machine, hold);
      if (removals === 0 || (removals < REMOVALS_MAX && nowMs - idleSinceMs > limits.removeIdleMs / REMOVALS_MAX)) {
        removals += 1;
        idleSinceMs = nowMs;
        await issueRemove(context, machine, ours, signal);
        idleSinceMs = clock.monotonicMs();
        // Mostly the host answers when it is done.
        continue;
      }
    }
    if (ours === undefined && !isBusy) {
      const rest = await leftovers(context, datastores, machine, deltas, signal);
      const needsConsolidation = listed.some((snapshot) => snapshot.consolidationNeeded === true);
      const isSettled = clock.monotonicMs() - startedMs >= (request.settleMs ?? 0);
      if (rest.length === 0 && !needsConsolidation && isSettled) return wasThere;
      if (clock.monotonicMs() - idleSinceMs > limits.removeIdleMs) {
        throw consolidationNeeded(machine, rest.map(formatDatastorePath));
      }
    }
    if (nowMs - startedMs > limits.consolidateTimeoutMs) {
      throw ours === undefined ? consolidationNeeded(machine, []) : removeFailed(machine, hold);
    }
    await clock.sleep(Math.min(200 * 1.5 ** Math.min(round, 20), limits.pollIntervalMs), signal);
  }
}

async function issueRemove(
  context: EsxiContext,
  machine: InventoryMachine,
  snapshot: { id: string; reference: Reference | null },
  signal?: AbortSignal,
): Promise<void> {
  if (context.facts.soapWrites !== 'refused' && snapshot.reference !== null) {
    try {
      await context.vsphere.removeSnapshot(snapshot.reference, signal);
      context.facts.soapWrites = 'allowed';
      return;
    } catch (error) {
      if (signal?.aborted === true) throw error;
      if (isAppError(error) && error.code === 'HOST_LICENSE_REFUSES') context.facts.soapWrites = 'refused';
      else context.logger.warn({ error: String(error) }, 'SOAP did not remove a snapshot; the shell is tried');
      if (await hasRunningTask(context, machine, signal)) return;
    }
  }
  // The status says nothing: the removal goes on after a timeout, and may fail after a success.
  const line = shell`vim-cmd vmsvc/snapshot.remove ${machine.hostId} ${snapshot.id} 0`;
  await context.shell.exec(line, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    if (signal?.aborted === true || !isAppError(error) || error.retry !== 'transient') throw error;
  });
}

/** The files that the machine writes to since our snapshot, while it is the current one. */
async function currentDeltas(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  hold: string,
  signal?: AbortSignal,
): Promise<DatastorePath[]> {
  const files = await readMachineFiles(context, datastores, machine, signal);
  const entry = files.vmsd.snapshots.find((snapshot) => snapshot.name === hold);
  if (entry === undefined || files.vmsd.currentUid !== entry.uid) return [];
  const frozen = new Set(
    entry.disks.map((disk) => formatDatastorePath(datastores.resolve(folderPath(files.vmxPath), disk.fileName))),
  );
  return [...files.disks.values()].filter((path, index) => {
    const node = [...files.disks.keys()][index] ?? '';
    return entry.disks.some((disk) => disk.node === node) && !frozen.has(formatDatastorePath(path));
  });
}

/** Files of our snapshot that are still in use or on the datastore, and belong to no other snapshot. */
async function leftovers(
  context: EsxiContext,
  datastores: DatastoreMap,
  machine: InventoryMachine,
  deltas: readonly DatastorePath[],
  signal?: AbortSignal,
): Promise<DatastorePath[]> {
  if (deltas.length === 0) return [];
  const files = await readMachineFiles(context, datastores, machine, signal);
  const folder = folderPath(files.vmxPath);
  const foreign = new Set(
    files.vmsd.snapshots.flatMap((snapshot) =>
      snapshot.disks.map((disk) => formatDatastorePath(datastores.resolve(folder, disk.fileName))),
    ),
  );
  const inUse = new Set([...files.disks.values()].map(formatDatastorePath));
  const rest: DatastorePath[] = [];
  for (const delta of deltas) {
    const id = formatDatastorePath(delta);
    // A snapshot taken by somebody else after ours goes on with our file.
    if (foreign.has(id) || (inUse.has(id) && files.vmsd.snapshots.length > 0)) continue;
    if (inUse.has(id) || (await context.shell.exists(datastores.toShell(delta), signal))) rest.push(delta);
  }
  return rest;
}

/** Whether the host works on the machine. What cannot be asked counts as no. */
export async function hasRunningTask(
  context: EsxiContext,
  machine: { hostId: string },
  signal?: AbortSignal,
): Promise<boolean> {
  const list = await context.shell.exec(shell`vim-cmd vmsvc/get.tasklist ${machine.hostId}`, repeatable(signal));
  return await isAnyRunning(context, parseTaskIds(list.stdout.toString('utf8')), signal);
}

const RECENT_TASKS = 8;

/**
 * Waits until the host makes no snapshot of any machine: one that a killed run ordered may not be
 * listed yet, and would be overlooked.
 */
export async function waitForSnapshotTasks(context: EsxiContext, signal?: AbortSignal): Promise<void> {
  const { clock, limits } = context;
  const startedMs = clock.monotonicMs();
  while (clock.monotonicMs() - startedMs < limits.snapshotTimeoutMs) {
    const list = await context.shell.exec(shell`vim-cmd vimsvc/task_list`, repeatable(signal));
    // Ended tasks are listed as well, oldest first; each question costs the host up to a second.
    const ids = parseTaskIds(list.stdout.toString('utf8'))
      .filter((id) => /createSnapshot/i.test(id))
      .slice(-RECENT_TASKS);
    if (!(await isAnyRunning(context, ids, signal))) return;
    await clock.sleep(limits.pollIntervalMs, signal);
  }
}

async function isAnyRunning(context: EsxiContext, ids: readonly string[], signal?: AbortSignal): Promise<boolean> {
  for (const id of ids) {
    const info = await context.shell.exec(shell`vim-cmd vimsvc/task_info ${id}`, repeatable(signal));
    const dump = parseDump(info.stdout.toString('utf8'));
    const state = dump !== null && typeof dump === 'object' && !Array.isArray(dump) ? dump['state'] : null;
    if (state === 'running' || state === 'queued') return true;
  }
  return false;
}

function repeatable(signal?: AbortSignal): { isRepeatable: true; signal?: AbortSignal } {
  return signal === undefined ? { isRepeatable: true } : { isRepeatable: true, signal };
}

function removeFailed(machine: InventoryMachine, hold: string): AppError {
  return new AppError(
    'SNAPSHOT_REMOVE_FAILED',
    `The snapshot ${hold} of "${machine.identity.name}" cannot be removed.`,
    {
      hint: 'The next run tries again. If it stays, remove it in the Host Client: Snapshots, Manage snapshots.',
      details: { machine: machine.identity.name, snapshot: hold },
    },
  );
}

function consolidationNeeded(machine: InventoryMachine, files: readonly string[]): AppError {
  return new AppError(
    'SNAPSHOT_CONSOLIDATION_NEEDED',
    `The disks of "${machine.identity.name}" need consolidation after their snapshot was removed.`,
    {
      hint: 'In the Host Client choose Snapshots, Consolidate disks; check free space and that nothing else reads the disks.',
      details: { machine: machine.identity.name, files: files.join(', ') },
    },
  );
}

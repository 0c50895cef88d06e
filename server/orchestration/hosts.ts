import type { z } from 'zod';
import {
  hostFactsSchema,
  type hostChangeSchema,
  type HostFactsView,
  type HostInput,
  type probeResultSchema,
} from '../contract/api/host.schema.ts';
import { machineSummarySchema } from '../contract/api/machine.schema.ts';
import type { LogLine } from '../contract/run.ts';
import type { InventoryResult } from '../contract/task-result.ts';
import { matchMachines, type HostRecord, type MachineRecord, type Tables } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import type { Sealer } from '../queue/index.ts';
import { randomHex } from '../runtime/index.ts';
import { found, type OrchestrationContext } from './context.ts';
import { openHostSecret, sealHostAddress, sealHostSecret, sealNewAddress } from './host-addresses.ts';
import { refreshSelections } from './selections.ts';

/** Connecting, logging in and asking around, on a slow and busy host. */
const PROBE_TIMEOUT_MS = 120_000;
const INVENTORY_TIMEOUT_MS = 180_000;

/** Hosts and their machines: what is known, and asking again. */
export class HostService {
  readonly #context: OrchestrationContext;

  constructor(context: OrchestrationContext) {
    this.#context = context;
  }

  /** Tries an address out without keeping it. Steps arrive as `probe` events as well. */
  async probe(input: Omit<HostInput, 'name'>, probeId: string | null): Promise<z.infer<typeof probeResultSchema>> {
    const steps: LogLine[] = [];
    try {
      const facts = await this.#askProbe(sealNewAddress(this.#context.sealer, input), (line) => {
        steps.push(line);
        if (probeId !== null) this.#context.events.emit({ type: 'probe', probeId, line });
      });
      return { ok: true, facts, error: null, steps };
    } catch (error) {
      return { ok: false, facts: null, error: toAppError(error).toBody(), steps };
    }
  }

  /**
   * Adds a host that answers, with its machines; pins its key and certificate.
   * @throws what the probe throws; CONFLICT
   */
  async add(input: HostInput): Promise<string> {
    const { catalogue, sealer, clock, events } = this.#context;
    const name = input.name ?? input.host;
    if ((await catalogue.hosts.list()).some((host) => host.name === name)) throw nameTaken(name);
    const facts = await this.#askProbe(sealNewAddress(sealer, input));
    const id = randomHex(8);
    await catalogue.hosts.save({
      id,
      name,
      host: input.host,
      sshPort: input.sshPort,
      httpsPort: input.httpsPort,
      user: input.user,
      auth: input.privateKey === null ? 'password' : 'key',
      secret: sealHostSecret(sealer, id, input),
      sshHostKey: facts.sshHostKey,
      tlsCertificate: facts.tlsCertificate,
      facts,
      error: null,
      checkedAtMs: clock.nowMs(),
      createdAtMs: clock.nowMs(),
    });
    events.emit({ type: 'changed', what: 'host', id });
    // The host is added even if its list of machines fails to come: that is shown with the host.
    await this.refresh(id).catch((error: unknown) => this.#logFailure(id, error));
    return id;
  }

  /** @throws NOT_FOUND, CONFLICT */
  async change(id: string, change: z.infer<typeof hostChangeSchema>): Promise<void> {
    const { catalogue, sealer, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      const host = found(await tables.hosts.load(id), 'host', id);
      const others = (await tables.hosts.list()).filter((other) => other.id !== id);
      if (change.name !== undefined && others.some((other) => other.name === change.name)) throw nameTaken(change.name);
      await tables.hosts.save({
        ...host,
        name: change.name ?? host.name,
        host: change.host ?? host.host,
        sshPort: change.sshPort ?? host.sshPort,
        httpsPort: change.httpsPort ?? host.httpsPort,
        user: change.user ?? host.user,
        ...changeSecret(sealer, host, change),
        sshHostKey: change.sshHostKey === undefined ? host.sshHostKey : change.sshHostKey,
        tlsCertificate: change.tlsCertificate === undefined ? host.tlsCertificate : change.tlsCertificate,
      });
    });
    events.emit({ type: 'changed', what: 'host', id });
  }

  /**
   * Forgets a host. Machines with versions stay, as machines without a host.
   * @throws NOT_FOUND, CONFLICT while a job uses its machines or something of ours is left on it
   */
  async remove(id: string): Promise<void> {
    const { catalogue, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      found(await tables.hosts.load(id), 'host', id);
      const machines = new Set((await tables.machines.list({ hostId: id })).map((machine) => machine.id));
      // Those of a selection leave it by themselves.
      const job = (await tables.jobs.list()).find(
        (one) => one.selection === null && one.machineIds.some((machineId) => machines.has(machineId)),
      );
      if (job !== undefined) {
        throw new AppError('CONFLICT', `The job "${job.name}" backs up machines of this host.`, {
          hint: 'Take the machines out of the job, or delete it, first.',
          details: { jobId: job.id },
        });
      }
      const holds = (await tables.holds.listOpen()).filter((hold) => hold.hostId === id);
      if (holds.length > 0) {
        throw new AppError('CONFLICT', `${holds.length} things of ours may still be on this host.`, {
          hint: 'Dozo removes them when it can reach the host again. Then the host can be deleted.',
          details: { openHolds: holds.length },
        });
      }
      for (const machine of await tables.machines.list({ hostId: id })) await tables.machines.markAbsent(machine.id);
      await refreshSelections(tables);
      await tables.machines.removeUnused(id);
      await tables.holds.removeReleased(id);
      await tables.hosts.remove(id);
    });
    events.emit({ type: 'changed', what: 'host', id });
  }

  /** Probes a known host. @throws NOT_FOUND */
  async test(id: string): Promise<z.infer<typeof probeResultSchema>> {
    const { catalogue, sealer, clock, events } = this.#context;
    const host = found(await catalogue.hosts.load(id), 'host', id);
    const steps: LogLine[] = [];
    try {
      const facts = await this.#askProbe(sealHostAddress(sealer, host), (line) => steps.push(line));
      await catalogue.hosts.saveContact(id, { facts, error: null, atMs: clock.nowMs() });
      return { ok: true, facts, error: null, steps };
    } catch (error) {
      const body = toAppError(error).toBody();
      await catalogue.hosts.saveContact(id, { facts: null, error: body, atMs: clock.nowMs() });
      return { ok: false, facts: null, error: body, steps };
    } finally {
      events.emit({ type: 'changed', what: 'host', id });
    }
  }

  /**
   * Asks the host what it holds and takes its machines over.
   * @throws NOT_FOUND and what reaching the host throws
   */
  async refresh(id: string): Promise<InventoryResult> {
    const { catalogue, queue, sealer, clock, events } = this.#context;
    const host = found(await catalogue.hosts.load(id), 'host', id);
    try {
      const inventory = (await queue.request(
        { kind: 'inventory', address: sealHostAddress(sealer, host), facts: host.facts },
        { timeoutMs: INVENTORY_TIMEOUT_MS },
      )) as InventoryResult;
      await catalogue.transaction(async (tables) => {
        const facts = hostFactsSchema.parse(inventory.facts);
        const machines = inventory.machines.map((machine) => machineSummarySchema.parse(machine));
        await tables.hosts.saveContact(id, { facts, error: null, atMs: clock.nowMs() });
        await takeOverMachines(tables, host, machines, clock.nowMs());
        await refreshSelections(tables);
      });
      return inventory;
    } catch (error) {
      const body = toAppError(error).toBody();
      await catalogue.hosts.saveContact(id, { facts: null, error: body, atMs: clock.nowMs() });
      throw error;
    } finally {
      events.emit({ type: 'changed', what: 'host', id });
      events.emit({ type: 'changed', what: 'machine', id: null });
    }
  }

  async #askProbe(address: string, onStep: (line: LogLine) => void = () => undefined): Promise<HostFactsView> {
    const facts = await this.#context.queue.request(
      { kind: 'probe', address },
      {
        timeoutMs: PROBE_TIMEOUT_MS,
        onEvent: (event) => {
          if (event.kind === 'log') for (const { line } of event.entries) onStep(line);
        },
      },
    );
    return hostFactsSchema.parse(facts);
  }

  #logFailure(hostId: string, error: unknown): void {
    this.#context.logger.warn({ hostId, code: toAppError(error).code }, 'the machines of a host could not be listed');
  }
}

/**
 * Finds the known machines among those that a host lists: one that was renamed, moved, re-registered
 * or restored stays itself. Those of other hosts count when their host does not list them any more.
 */
export async function takeOverMachines(
  tables: Tables,
  host: Pick<HostRecord, 'id'>,
  summaries: InventoryResult['machines'],
  nowMs: number,
): Promise<void> {
  const all = await tables.machines.list();
  const known: MachineRecord[] = [
    ...all.filter((machine) => machine.hostId === host.id),
    ...all.filter((machine) => machine.hostId !== host.id && !machine.present),
  ];
  const matches = matchMachines(
    known.map((machine) => machine.identity),
    summaries.map((summary) => summary.identity),
  );
  const matched = new Set<number>();
  for (const [index, machine] of known.entries()) {
    const foundIndex = matches[index] ?? null;
    const summary = foundIndex === null ? undefined : summaries[foundIndex];
    if (foundIndex === null || summary === undefined) {
      if (machine.hostId === host.id) await tables.machines.markAbsent(machine.id);
      continue;
    }
    matched.add(foundIndex);
    await tables.machines.save(toRecord(machine.id, host.id, summary, nowMs));
  }
  for (const [index, summary] of summaries.entries()) {
    if (!matched.has(index)) await tables.machines.save(toRecord(randomHex(8), host.id, summary, nowMs));
  }
}

function toRecord(
  id: string,
  hostId: string,
  summary: InventoryResult['machines'][number],
  nowMs: number,
): MachineRecord {
  return {
    id,
    hostId,
    name: summary.identity.name,
    identity: summary.identity,
    summary,
    present: true,
    seenAtMs: nowMs,
  };
}

/** The new secret of a host; nothing when it stays. Only then need the old one be readable. */
function changeSecret(
  sealer: Sealer,
  host: HostRecord,
  change: z.infer<typeof hostChangeSchema>,
): Pick<HostRecord, 'auth' | 'secret'> | null {
  const { password, privateKey } = change;
  if (password === undefined && privateKey === undefined) return null;
  const old = password === undefined || privateKey === undefined ? openHostSecret(sealer, host) : null;
  const secret = {
    password: password ?? old?.password ?? null,
    privateKey: privateKey === undefined ? (old?.privateKey ?? null) : privateKey,
  };
  return { auth: secret.privateKey === null ? 'password' : 'key', secret: sealHostSecret(sealer, host.id, secret) };
}

function nameTaken(name: string): AppError {
  return new AppError('CONFLICT', `There is a host named "${name}" already.`, {
    hint: 'Choose another name.',
    details: { name },
  });
}

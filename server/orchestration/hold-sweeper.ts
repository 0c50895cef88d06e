import type { ErrorBody } from '../contract/error-codes.ts';
import type { SweepResult } from '../contract/task-result.ts';
import type { WorkerTask } from '../contract/task.ts';
import type { HoldRecord, HostRecord } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import { found, type OrchestrationContext } from './context.ts';
import { sealHostAddress } from './host-addresses.ts';
import type { RunLog } from './run-log.ts';

const SWEEP_TIMEOUT_MS = 30 * 60_000;
const RETRY_FIRST_MS = 30_000;
const RETRY_MAX_MS = 3600_000;

/**
 * Removes from hosts what ended runs may have left there, and strikes it out of the journal when it
 * is proven gone. Tries again, less and less often, for as long as the host cannot be reached.
 */
export class HoldSweeper {
  readonly #context: OrchestrationContext;
  readonly #log: RunLog;
  readonly #hosts = new Map<string, { isRunning: boolean; failures: number; notBeforeMs: number }>();

  constructor(context: OrchestrationContext, log: RunLog) {
    this.#context = context;
    this.#log = log;
  }

  /** Looks through the journal and sweeps every host whose turn it is. Resolves when it has begun. */
  async sweep(options: { now?: boolean } = {}): Promise<void> {
    const { catalogue, clock } = this.#context;
    const byHost = new Map<string, HoldRecord[]>();
    for (const hold of await catalogue.holds.listAbandoned()) {
      byHost.set(hold.hostId, [...(byHost.get(hold.hostId) ?? []), hold]);
    }
    for (const [hostId, holds] of byHost) {
      // The host would lock the account; whoever gives Dozo the right password has the host looked at, which ends this.
      if ((await catalogue.hosts.load(hostId))?.error?.code === 'HOST_LOGIN_REFUSED') {
        if (this.#hosts.get(hostId)?.isRunning === false) this.#hosts.delete(hostId);
        continue;
      }
      const state = this.#hosts.get(hostId) ?? { isRunning: false, failures: 0, notBeforeMs: 0 };
      this.#hosts.set(hostId, state);
      if (state.isRunning || (options.now !== true && clock.monotonicMs() < state.notBeforeMs)) continue;
      state.isRunning = true;
      void this.#sweepHost(hostId, holds)
        .then((isClean) => {
          state.failures = isClean ? 0 : state.failures + 1;
          const pauseMs = Math.min(RETRY_FIRST_MS * 2 ** (state.failures - 1), RETRY_MAX_MS);
          state.notBeforeMs = isClean ? 0 : clock.monotonicMs() + pauseMs;
        })
        .finally(() => (state.isRunning = false));
    }
  }

  /** Returns whether nothing of the holds is left. Never rejects. */
  async #sweepHost(hostId: string, holds: HoldRecord[]): Promise<boolean> {
    const { catalogue, queue, sealer, clock, events, logger } = this.#context;
    let asked: HostRecord | null = null;
    let isClean = true;
    try {
      const host = found(await catalogue.hosts.load(hostId), 'host', hostId);
      asked = host;
      const report = (await queue.request(
        {
          kind: 'sweep',
          address: sealHostAddress(sealer, host),
          facts: host.facts,
          holds: holds.map((hold) => hold.name),
        },
        { timeoutMs: SWEEP_TIMEOUT_MS },
      )) as SweepResult;
      for (const hold of holds) {
        const failure =
          report.failed.find((entry) => entry.hold === hold.name) ?? (await this.#findUnseen(hold, report.unseen));
        const removed = report.removed.filter((entry) => entry.hold === hold.name);
        if (failure === undefined) {
          await catalogue.holds.release(hold.name, clock.nowMs());
          await this.#logReleased(
            hold,
            removed.map((entry) => entry.what),
          );
        } else {
          const error = new AppError('SNAPSHOT_REMOVE_FAILED', `${failure.what}: ${failure.message}`, {
            hint: hintFor(failure.what),
            details: { hold: hold.name, what: failure.what },
          });
          isClean = false;
          await catalogue.holds.saveError(hold.name, error.toBody());
        }
      }
      events.emit({ type: 'changed', what: 'host', id: hostId });
      return isClean;
    } catch (error) {
      const body = toAppError(error).toBody();
      logger.warn({ hostId, holds: holds.length, code: body.code }, 'a host could not be swept');
      if (body.code === 'HOST_LOGIN_REFUSED') await this.#noteRefusal(hostId, asked, body).catch(() => undefined);
      for (const hold of holds) await catalogue.holds.saveError(hold.name, body).catch(() => undefined);
      return false;
    }
  }

  /**
   * What a run has left on a datastore that is away shows only when that is back: the original of a restore that was
   * cut short, for one. Datastores that the run had nothing to do with are left out, since one may be away for good.
   */
  async #findUnseen(
    { partId, machineId }: HoldRecord,
    unseen: readonly string[],
  ): Promise<{ what: string; message: string } | undefined> {
    if (unseen.length === 0) return undefined;
    const { parts, machines } = this.#context.catalogue;
    const task = (await parts.load(partId))?.task;
    const summary = machineId === null ? null : (await machines.load(machineId))?.summary;
    const isConcerned = (datastore: string): boolean => {
      if (task?.kind === 'restore') return [null, datastore].includes(task.target.datastore) || isReplaced(task);
      if (task?.kind !== 'backup' || !summary) return true;
      const { disks, identity } = summary;
      return identity.path.startsWith(`[${datastore}]`) || disks.some((disk) => disk.datastore === datastore);
    };
    const away = unseen.find(isConcerned);
    return away === undefined ? undefined : { what: `datastore ${away}`, message: 'it does not answer' };
  }

  /** Stands at the host unless it was given another login meanwhile. */
  async #noteRefusal(hostId: string, asked: HostRecord | null, error: ErrorBody): Promise<void> {
    const { catalogue, clock, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      const host = await tables.hosts.load(hostId);
      if (host === null || host.user !== asked?.user || host.secret !== asked.secret) return;
      await tables.hosts.saveContact(hostId, { facts: null, error, atMs: clock.nowMs() });
    });
    events.emit({ type: 'changed', what: 'host', id: hostId });
  }

  async #logReleased(hold: HoldRecord, removed: string[]): Promise<void> {
    await this.#log.write(hold.runId, hold.partId, {
      level: 'info',
      code: removed.length === 0 ? 'HOLD_NOTHING_LEFT' : 'HOLD_SWEPT',
      text:
        removed.length === 0
          ? 'Nothing of this run is left on the host.'
          : `Removed from the host what this run had left: ${removed.join(', ')}.`,
      details: { hold: hold.name, removed: removed.length },
    });
  }
}

function isReplaced({ target }: Extract<WorkerTask, { kind: 'restore' }>): boolean {
  return target.mode.kind === 'replace';
}

function hintFor(what: string): string {
  if (what.startsWith('datastore ')) {
    return 'Attach it again: what the run may have left on it is removed then. Or take it off the host.';
  }
  if (what.startsWith('unfinished restore')) {
    return 'Dozo tries again by itself. Remove nothing of it: the machine that was to be replaced may lie there.';
  }
  return 'Dozo tries again by itself. If it stays, remove it in the host client.';
}

import { isDeepStrictEqual } from 'node:util';
import { hostFactsSchema } from '../contract/api/host.schema.ts';
import { machineIdentitySchema, machineSummarySchema } from '../contract/api/machine.schema.ts';
import type { RunStopper } from '../contract/api/run.schema.ts';
import { ERROR_CODES, type ErrorBody } from '../contract/error-codes.ts';
import type { MachineProgress, RunState } from '../contract/run.ts';
import type { Sealed } from '../contract/task.ts';
import type { HostRecord, RunPartRecord, RunRecord, Tables } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import { allowedBytesPerSecond } from '../policy/index.ts';
import type { Sealer, TaskEvent, TaskOutcome, TaskSight } from '../queue/index.ts';
import { found, loadSettings, type OrchestrationContext } from './context.ts';
import { chooseParts, isAwaited, priorityOf, type DispatchPart } from './dispatch.ts';
import { HoldSweeper } from './hold-sweeper.ts';
import { ADDRESS_PURPOSE, sealHostAddress } from './host-addresses.ts';
import type { HostService } from './hosts.ts';
import type { JobScripts } from './job-scripts.ts';
import type { MaintenanceService } from './maintenance.ts';
import { judgeOutcome, worstState } from './run-end.ts';
import { RunLog } from './run-log.ts';
import { viewPart, viewRun } from './views.ts';
import { explainShortage } from './window-shortage.ts';

const RECONCILE_EVERY_MS = 2_000;
/**
 * A task that the queue does not know any more is handed over again after this: a worker that lost
 * Redis only has said by then that it still has it.
 */
const MISSING_GRACE_MS = 8_000;
const SAVE_PROGRESS_EVERY_MS = 10_000;
const SWEEP_EVERY_MS = 15_000;
const RETAIN_EVERY_MS = 3600_000;
const DAY_MS = 86_400_000;

/**
 * Brings every run that the catalogue knows to its end: hands its parts to the queue in turn, compares
 * catalogue and queue again and again, takes results over, and cleans up. Events of the queue only
 * make it look sooner; whatever of them is lost is found by looking.
 */
export class RunKeeper {
  readonly #context: OrchestrationContext;
  readonly #hosts: HostService;
  readonly #scripts: Pick<JobScripts, 'before' | 'after'>;
  readonly #maintenance: Pick<MaintenanceService, 'afterRun'>;
  readonly #log: RunLog;
  readonly #sweeper: HoldSweeper;
  /** Since when a task is missing in the queue, on the monotonic clock. */
  readonly #missingSinceMs = new Map<string, number>();
  readonly #progress = new Map<string, { progress: MachineProgress; savedMs: number }>();
  readonly #stopping = new AbortController();
  #wake: () => void = () => undefined;
  #isWoken = false;
  #loop: Promise<void> = Promise.resolve();
  #nextSweepMs = 0;
  #nextRetainMs = 0;

  constructor(
    context: OrchestrationContext,
    services: {
      hosts: HostService;
      maintenance: Pick<MaintenanceService, 'afterRun'>;
      scripts: Pick<JobScripts, 'before' | 'after'>;
    },
  ) {
    this.#context = context;
    this.#hosts = services.hosts;
    this.#maintenance = services.maintenance;
    this.#scripts = services.scripts;
    this.#log = new RunLog(context);
    this.#sweeper = new HoldSweeper(context, this.#log);
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#loop;
  }

  /** Look soon: something may have happened. */
  wake(): void {
    this.#isWoken = true;
    this.#wake();
  }

  /** Tells that a run was made and lets it begin. */
  async announce(runId: string): Promise<void> {
    const run = await this.#context.catalogue.runs.load(runId);
    if (run !== null) this.#context.events.emit({ type: 'run', run: viewRun(run) });
    this.wake();
  }

  /** @throws NOT_FOUND, CONFLICT when it has ended */
  async cancel(runId: string, by: RunStopper = 'request'): Promise<void> {
    const { catalogue } = this.#context;
    const run = found(await catalogue.runs.load(runId), 'run', runId);
    if (!(await catalogue.runs.requestCancel(runId, by))) {
      throw new AppError('CONFLICT', 'This run has ended already.', { details: { state: run.state } });
    }
    const line =
      by === 'request'
        ? { level: 'info' as const, code: 'CANCEL_REQUESTED', text: 'The run is to be cancelled.' }
        : { level: 'warning' as const, code: 'SCHEDULE_WINDOW_CLOSED', text: 'The window has closed; the run ends.' };
    await this.#log.write(runId, null, line);
    await this.announce(runId);
  }

  /** Live news of a worker. */
  takeEvent(partId: string, event: TaskEvent): void {
    this.#takeEvent(partId, event).catch((error: unknown) => {
      this.#context.logger.warn({ partId, code: toAppError(error).code }, 'an event could not be taken over');
    });
  }

  async #takeEvent(partId: string, event: TaskEvent): Promise<void> {
    const { catalogue, events } = this.#context;
    const part = await catalogue.parts.load(partId);
    if (part === null) return;
    switch (event.kind) {
      case 'started':
        await this.#markStarted(part, { isReported: true });
        return;
      case 'progress':
        if (part.state !== 'waiting' && part.state !== 'running') return;
        await this.#keepProgress(partId, event.progress);
        events.emit({ type: 'progress', runId: part.runId, partId, progress: event.progress });
        return;
      case 'log':
        await this.#log.take(part.runId, partId, event.source, event.entries);
        return;
    }
  }

  /** Newest progress of a part that runs, newer than the catalogue's. */
  progressOf(partId: string): MachineProgress | null {
    return this.#progress.get(partId)?.progress ?? null;
  }

  /** Every commit costs the NAS a sync: the catalogue gets progress now and then, for after a restart. */
  async #keepProgress(partId: string, progress: MachineProgress): Promise<void> {
    const nowMs = this.#context.clock.monotonicMs();
    const known = this.#progress.get(partId);
    const isDue = known === undefined || nowMs - known.savedMs > SAVE_PROGRESS_EVERY_MS;
    this.#progress.set(partId, { progress, savedMs: isDue ? nowMs : known.savedMs });
    if (isDue) await this.#context.catalogue.parts.saveProgress(partId, progress);
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#context;
    while (!this.#stopping.signal.aborted) {
      this.#isWoken = false;
      try {
        await this.#reconcile();
        if (clock.monotonicMs() >= this.#nextSweepMs) {
          this.#nextSweepMs = clock.monotonicMs() + SWEEP_EVERY_MS;
          await this.#sweeper.sweep();
        }
        if (clock.monotonicMs() >= this.#nextRetainMs) {
          this.#nextRetainMs = clock.monotonicMs() + RETAIN_EVERY_MS;
          const { keepRunsDays } = await loadSettings(this.#context.catalogue);
          await this.#context.catalogue.runs.removeBefore(clock.nowMs() - keepRunsDays * DAY_MS);
        }
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        logger.warn({ code: toAppError(error).code, reason: toAppError(error).message }, 'runs wait');
      }
      if (this.#isWoken) continue;
      const woken = new Promise<void>((resolve) => (this.#wake = resolve));
      await Promise.race([woken, clock.sleep(RECONCILE_EVERY_MS, this.#stopping.signal).catch(() => undefined)]);
    }
  }

  async #reconcile(): Promise<void> {
    const { catalogue, logger } = this.#context;
    const parts = await catalogue.parts.listActive();
    for (const part of parts) {
      if (this.#stopping.signal.aborted) return;
      try {
        await this.#lookAt(part);
      } catch (error) {
        const { code, message: reason } = toAppError(error);
        // A queue that is away is so for all of them; what else is wrong with one keeps none of the others waiting.
        if (code === 'QUEUE_UNAVAILABLE') throw error;
        logger.warn({ partId: part.id, code, reason }, 'a part of a run waits');
      }
    }
    await this.#publishLimits();
    await this.#dispatch();
    // A run all of whose parts have ended, and that was cut off before it could be ended itself.
    for (const run of await catalogue.runs.list({ active: true, limit: 1000 })) await this.#endRunIfDone(run.id);
  }

  async #lookAt(part: RunPartRecord): Promise<void> {
    const run = await this.#context.catalogue.runs.load(part.runId);
    if (run === null) return;
    if (part.enqueuedAtMs !== null) await this.#compare(run, part);
    else if (run.cancelRequested) await this.#endUntouched(run, part);
  }

  /** Compares one part with what the queue knows of it. */
  async #compare(run: RunRecord, part: RunPartRecord): Promise<void> {
    const { queue, clock } = this.#context;
    if (run.cancelRequested && (await queue.cancel(part.id)) === 'removed') {
      await this.#endUntouched(run, part);
      return;
    }
    const sight: TaskSight = await queue.look(part.id);
    if (sight.state !== 'missing') this.#missingSinceMs.delete(part.id);
    switch (sight.state) {
      case 'ended':
        await this.#takeOutcome(run, part, sight.outcome);
        return;
      case 'active':
      case 'claimed':
        if (part.state === 'waiting') await this.#markStarted(part, { isReported: false });
        return;
      case 'queued':
        return;
      case 'missing': {
        const sinceMs = this.#missingSinceMs.get(part.id);
        if (sinceMs === undefined) {
          this.#missingSinceMs.set(part.id, clock.monotonicMs());
        } else if (clock.monotonicMs() - sinceMs >= MISSING_GRACE_MS) {
          this.#missingSinceMs.delete(part.id);
          await this.#log.write(run.id, part.id, {
            level: 'warning',
            code: 'QUEUE_FORGOT_TASK',
            text: 'The queue had lost this task; it was handed over again.',
          });
          const [described] = await describeParts(this.#context.catalogue, [part]);
          await this.#handOver(part, described?.priority);
        }
        return;
      }
    }
  }

  /** What workers are held to as of now. Said every time, since Redis may have forgotten it. */
  async #publishLimits(): Promise<void> {
    const { catalogue, queue, clock } = this.#context;
    // Where there is nothing to hand over, nothing waits for a Redis that is away.
    if (!queue.isUp()) return;
    const { throttle, tasksPerWorker } = await loadSettings(catalogue);
    const nowMs = clock.nowMs();
    const runBytesPerSecond: Record<string, number> = {};
    for (const { id, jobId } of await catalogue.runs.list({ kind: 'backup', active: true, limit: 1000 })) {
      const job = jobId === null ? null : await catalogue.jobs.load(jobId);
      const allowed = allowedBytesPerSecond(job?.options.throttle ?? null, nowMs);
      if (allowed !== null) runBytesPerSecond[id] = allowed;
    }
    const bytesPerSecond = allowedBytesPerSecond(throttle, nowMs);
    await queue.publishLimits({ tasksPerWorker, bytesPerSecond, runBytesPerSecond });
  }

  /** Hands waiting parts over, as far as the limits allow. */
  async #dispatch(): Promise<void> {
    const { catalogue, clock } = this.#context;
    const active = await this.#withoutHeld(await catalogue.parts.listActive());
    if (!active.some((part) => part.enqueuedAtMs === null)) return;
    const parts = new Map(active.map((part) => [part.id, part]));
    const dispatched = await describeParts(catalogue, active);
    const priorities = new Map(dispatched.map(({ id, priority }) => [id, priority]));
    for (const id of chooseParts(dispatched, await loadSettings(catalogue))) {
      const part = parts.get(id);
      if (part === undefined || this.#stopping.signal.aborted) continue;
      const refusal = await this.#loginRefusedSince(part);
      if (refusal !== null) {
        await this.#endUnbegun(part, refusal);
        continue;
      }
      // The catalogue first: after a crash in between, the task is missing and handed over again.
      await catalogue.parts.saveEnqueued(part.id, part.task, clock.nowMs());
      await this.#handOver(part, priorities.get(id));
    }
  }

  /** One that an upgrade has made unreadable ends as failed: it would wait for ever, and keep others waiting. */
  async #handOver(part: RunPartRecord, priority: number | undefined): Promise<void> {
    try {
      await this.#context.queue.enqueue(part.id, part.task, priority);
    } catch (error) {
      const known = toAppError(error);
      if (known.code !== 'INPUT_INVALID') throw error;
      await this.#endUnbegun(part, known.toBody());
    }
  }

  async #endUnbegun(part: RunPartRecord, error: ErrorBody): Promise<void> {
    const { catalogue, clock } = this.#context;
    await this.#tellError(part, error);
    await catalogue.transaction(async (tables) => {
      const atMs = clock.nowMs();
      await tables.parts.finish(part.id, { state: 'failed', result: null, error, atMs });
      if (part.startedAtMs === null) await tables.holds.releaseOfPart(part.id, atMs);
    });
    await this.#emitPart(part);
  }

  /** What failed before a worker's own log had begun is not in it. */
  async #tellError({ id, runId }: RunPartRecord, error: ErrorBody | null): Promise<void> {
    if (error === null) return;
    const told = await this.#context.catalogue.log.list(runId, { afterNumber: 0, limit: 5000, level: 'error' });
    if (told.some(({ partId }) => partId === id)) return;
    const { code, message, details } = error;
    await this.#log.write(runId, id, { level: 'error', code, text: message, details });
  }

  /**
   * What another machine's login met since the run began: each further one would bring the account nearer to its lock.
   */
  async #loginRefusedSince(part: RunPartRecord): Promise<ErrorBody | null> {
    const { catalogue, sealer } = this.#context;
    if (part.hostId === null || !('address' in part.task)) return null;
    const host = await catalogue.hosts.load(part.hostId);
    if (host?.error?.code !== 'HOST_LOGIN_REFUSED' || !isAddressOf(sealer, host, part.task.address)) return null;
    const run = await catalogue.runs.load(part.runId);
    return run !== null && (host.checkedAtMs ?? 0) >= run.createdAtMs ? host.error : null;
  }

  /** Leaves out what waits for the script before its run, and ends what that script has failed. */
  async #withoutHeld(active: readonly RunPartRecord[]): Promise<RunPartRecord[]> {
    const { catalogue, clock } = this.#context;
    const held = new Set<string>();
    for (const runId of new Set(active.map((part) => part.runId))) {
      const parts = active.filter((part) => part.runId === runId);
      // One that has begun had its script before.
      if (parts.some((part) => part.enqueuedAtMs !== null)) continue;
      const run = await catalogue.runs.load(runId);
      if (run === null || run.startedAtMs !== null) continue;
      const before = await this.#scripts.before(run, () => this.wake());
      if (before === 'ready') continue;
      held.add(runId);
      if (before === 'at-work') continue;
      for (const part of parts) {
        await catalogue.transaction(async (tables) => {
          const atMs = clock.nowMs();
          await tables.parts.finish(part.id, { state: 'failed', result: null, error: before.error, atMs });
          await tables.holds.releaseOfPart(part.id, atMs);
        });
        await this.#emitPart(part);
      }
    }
    return active.filter((part) => !held.has(part.runId));
  }

  async #markStarted(part: RunPartRecord, options: { isReported: boolean }): Promise<void> {
    const { catalogue, clock, events } = this.#context;
    const isRunStarted = await catalogue.transaction(async (tables) => {
      await tables.parts.start(part.id, clock.nowMs(), options);
      return tables.runs.start(part.runId, clock.nowMs());
    });
    await this.#emitPart(part);
    const run = isRunStarted ? await catalogue.runs.load(part.runId) : null;
    if (run !== null) events.emit({ type: 'run', run: viewRun(run) });
  }

  /** A part that no worker ever had, in a run that is cancelled: there is nothing on the host. */
  async #endUntouched(run: RunRecord, part: RunPartRecord): Promise<void> {
    const { catalogue, clock } = this.#context;
    await catalogue.transaction(async (tables) => {
      const atMs = clock.nowMs();
      const error = await explainCancel(tables, run.id);
      await tables.parts.finish(part.id, { state: 'cancelled', result: null, error, atMs });
      // A worker that was lost may have begun all the same: then the sweep decides.
      if (part.startedAtMs === null) await tables.holds.releaseOfPart(part.id, atMs);
    });
    await this.#emitPart(part);
    await this.#endRunIfDone(run.id);
  }

  async #takeOutcome(run: RunRecord, part: RunPartRecord, outcome: TaskOutcome): Promise<void> {
    const { catalogue, queue, clock } = this.#context;
    await this.#log.take(run.id, part.id, outcome.source, outcome.log);
    const verdict = judgeOutcome(run.kind, outcome);
    await this.#tellError(part, verdict.error);
    if (verdict.state === 'cancelled' && run.stoppedBy === 'window') {
      const ended = { run, part, progress: this.progressOf(part.id), nowMs: clock.nowMs() };
      const line = await explainShortage(catalogue, ended);
      if (line !== null) await this.#log.write(run.id, part.id, line);
    }
    await catalogue.transaction(async (tables) => {
      const atMs = clock.nowMs();
      const { state, result } = verdict;
      const error = state === 'cancelled' ? await explainCancel(tables, run.id) : verdict.error;
      const progress = this.progressOf(part.id);
      if (progress !== null) await tables.parts.saveProgress(part.id, progress);
      if (!(await tables.parts.finish(part.id, { state, result, error, atMs }))) return;
      if (verdict.isHoldReleased) await tables.holds.releaseOfPart(part.id, atMs);
      await takeOverIdentity(tables, run, part, verdict.result);
      await takeOverFacts(tables, part, outcome, atMs);
      await takeOverRefusal(tables, part, { sealer: this.#context.sealer, error, atMs });
    });
    this.#progress.delete(part.id);
    await queue.forget(part.id);
    await this.#emitPart(part);
    if (part.hostId !== null && isRefusal(verdict.error)) {
      this.#context.events.emit({ type: 'changed', what: 'host', id: part.hostId });
    }
    await this.#endRunIfDone(run.id);
    if (!verdict.isHoldReleased) await this.#sweeper.sweep({ now: true });
  }

  async #endRunIfDone(runId: string): Promise<void> {
    const { catalogue, clock, events } = this.#context;
    const parts = await catalogue.parts.listByRun(runId);
    if (parts.some((part) => part.state === 'waiting' || part.state === 'running')) return;
    const state = worstState([...parts.map((part) => part.state), ...(await this.#judgeSelection(runId))]);
    const error = parts.find((part) => part.state === state && part.error !== null)?.error ?? null;
    if (!(await catalogue.runs.finish(runId, { state, error, atMs: clock.nowMs() }))) return;
    const run = await catalogue.runs.load(runId);
    if (run === null) return;
    events.emit({ type: 'run', run: viewRun(run) });
    this.#scripts.after(run).catch((failure: unknown) => {
      this.#context.logger.warn({ runId, code: toAppError(failure).code }, 'the script after a run was not run');
    });
    this.#lookAgain(run, parts);
  }

  /** That nobody backs a machine up any more is not told where all is well. */
  async #judgeSelection(runId: string): Promise<RunState[]> {
    const lines = await this.#context.catalogue.log.list(runId, { afterNumber: 0, limit: 5000, level: 'warning' });
    return lines.some(({ partId, code }) => partId === null && code === 'SELECTION_LEFT') ? ['warning'] : [];
  }

  /** After a run: what it changed in the repository and on the host is looked up again, in the background. */
  #lookAgain(run: RunRecord, parts: readonly RunPartRecord[]): void {
    const logFailure = (error: unknown): void => {
      this.#context.logger.warn({ runId: run.id, code: toAppError(error).code }, 'looking again after a run failed');
    };
    if (run.kind === 'backup' || run.kind === 'maintenance' || run.kind === 'copy')
      this.#maintenance.afterRun(run, parts).catch(logFailure);
    for (const hostId of new Set(parts.map((part) => part.hostId))) {
      if (hostId !== null) this.#lookAtHost(hostId, run, parts).catch(logFailure);
    }
  }

  /** A restore leaves a machine on the host; a backup may have found out that it answers again, or that it does not. */
  async #lookAtHost(hostId: string, run: RunRecord, parts: readonly RunPartRecord[]): Promise<void> {
    const own = parts.filter((part) => part.hostId === hostId);
    if (own.some(({ error }) => isRefusal(error))) return;
    if (run.kind === 'backup') {
      const host = await this.#context.catalogue.hosts.load(hostId);
      const isKnownToFail = host !== null && host.error !== null;
      const hasAnswered = own.some(({ state }) => state === 'success' || state === 'warning');
      const wasMissed = own.some(({ error }) => error?.code.startsWith('HOST_') === true);
      if (isKnownToFail ? !hasAnswered : !wasMissed) return;
    } else if (run.kind !== 'restore') return;
    await this.#hosts.refresh(hostId);
  }

  async #emitPart(part: RunPartRecord): Promise<void> {
    const { catalogue, events } = this.#context;
    const now = await catalogue.parts.load(part.id);
    if (now === null) return;
    const open = (await catalogue.holds.listByRun(part.runId)).filter((hold) => hold.releasedAtMs === null);
    const view = viewPart(now, new Set(open.map((hold) => hold.partId)));
    events.emit({ type: 'part', runId: part.runId, part: view });
  }
}

/** What only a person mends, like a refused login: to look again would have the host lock the account. */
function isRefusal(error: ErrorBody | null): boolean {
  return error !== null && error.code.startsWith('HOST_') && ERROR_CODES[error.code].retry === 'never';
}

async function describeParts(tables: Tables, parts: readonly RunPartRecord[]): Promise<DispatchPart[]> {
  const jobs = new Map((await tables.jobs.list()).map((job) => [job.id, job]));
  const described: DispatchPart[] = [];
  for (const part of parts) {
    const run = await tables.runs.load(part.runId);
    const machine = part.machineId === null ? null : await tables.machines.load(part.machineId);
    const target = part.task.kind === 'restore' ? part.task.target.datastore : null;
    described.push({
      id: part.id,
      machineId: part.machineId,
      hostId: part.hostId,
      datastores: target === null ? (machine?.summary?.disks ?? []).map(({ datastore }) => datastore) : [target],
      repositoryId: run?.repositoryId ?? null,
      priority: priorityOf(run?.kind ?? 'backup', jobs.get(run?.jobId ?? '')?.options ?? null),
      isAwaited: isAwaited(run?.kind ?? 'backup'),
      isEnqueued: part.enqueuedAtMs !== null,
    });
  }
  return described;
}

/** Null: someone wanted it, and knows. */
async function explainCancel(tables: Tables, runId: string): Promise<ErrorBody | null> {
  if ((await tables.runs.load(runId))?.stoppedBy !== 'window') return null;
  return new AppError('RUN_STOPPED_BY_WINDOW', 'The window closed before this was done.', {
    hint: 'What arrived is not stored again. Where this comes back, make the window longer or let runs finish.',
  }).toBody();
}

/** What the host turned out to be while it was used: which routes work, what its licence refuses. */
async function takeOverFacts(tables: Tables, part: RunPartRecord, outcome: TaskOutcome, atMs: number): Promise<void> {
  const { value } = outcome;
  if (part.hostId === null || typeof value !== 'object' || value === null || !('facts' in value)) return;
  const facts = hostFactsSchema.safeParse(value.facts);
  if (facts.success) await tables.hosts.saveContact(part.hostId, { facts: facts.data, error: null, atMs });
}

/** That it let nobody in stands at the host, too, unless another password or key was given to Dozo meanwhile. */
async function takeOverRefusal(
  tables: Tables,
  part: RunPartRecord,
  { sealer, error, atMs }: { sealer: Sealer; error: ErrorBody | null; atMs: number },
): Promise<void> {
  if (part.hostId === null || !('address' in part.task) || !isRefusal(error)) return;
  const host = await tables.hosts.load(part.hostId);
  if (host === null || !isAddressOf(sealer, host, part.task.address)) return;
  await tables.hosts.saveContact(host.id, { facts: null, error, atMs });
}

function isAddressOf(sealer: Sealer, host: HostRecord, address: Sealed): boolean {
  try {
    const now = sealer.open(ADDRESS_PURPOSE, sealHostAddress(sealer, host));
    return isDeepStrictEqual(sealer.open(ADDRESS_PURPOSE, address), now);
  } catch {
    // What cannot be read must not keep a run from its end.
    return false;
  }
}

/** Who the machine is after a run: a restore in place gives it a new id on the host, and the job goes on. */
async function takeOverIdentity(tables: Tables, run: RunRecord, part: RunPartRecord, result: unknown): Promise<void> {
  if (part.machineId === null || typeof result !== 'object' || result === null) return;
  if (run.kind === 'backup' && 'identity' in result) {
    const identity = machineIdentitySchema.safeParse(result.identity);
    if (identity.success) await tables.machines.saveIdentity(part.machineId, identity.data);
  }
  if (run.kind === 'restore' && 'machine' in result) {
    const summary = machineSummarySchema.safeParse(result.machine);
    if (summary.success) await tables.machines.saveIdentity(part.machineId, summary.data.identity);
  }
}

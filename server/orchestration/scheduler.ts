import type { Schedule } from '../contract/api/schedule.schema.ts';
import { ERROR_CODES } from '../contract/error-codes.ts';
import type { LogLine } from '../contract/run.ts';
import type { RunPartRecord, RunRecord, ScheduleProgress, ScheduleRecord } from '../database/index.ts';
import { isAppError, toAppError } from '../errors/index.ts';
import { findDueLink, findDueRun, isWindowOpen, retryAtMs } from '../policy/index.ts';
import type { OrchestrationContext } from './context.ts';
import type { InventoryKeeper } from './inventory-keeper.ts';
import type { RunKeeper } from './run-keeper.ts';
import { RunLog } from './run-log.ts';
import type { RunOrigin, RunStarter } from './run-starter.ts';

/** How often schedules are looked at: a run begins so much later than it is due at worst. */
const LOOK_EVERY_MS = 5_000;
/** Ends of a followed job that are looked through: more do not come between two looks. */
const FOLLOWED_RUNS = 20;

interface SchedulerServices {
  starter: RunStarter;
  keeper: Pick<RunKeeper, 'announce' | 'cancel'>;
  inventory: Pick<InventoryKeeper, 'isFresh'>;
}

/** Why a run is to begin now. */
interface Due {
  startedBy: 'schedule' | 'catch-up' | 'link';
  dueMs: number;
  isLate: boolean;
  done: ScheduleProgress;
}

/**
 * Starts what is due. It keeps nothing in memory and sets no timers: every few seconds the clock is
 * compared with the catalogue, so a restart, a jump of the clock or a week without power are nothing
 * special. What was dealt with is written in the transaction that makes the run.
 */
export class Scheduler {
  readonly #context: OrchestrationContext;
  readonly #starter: RunStarter;
  readonly #keeper: SchedulerServices['keeper'];
  readonly #inventory: SchedulerServices['inventory'];
  readonly #log: RunLog;
  readonly #stopping = new AbortController();
  #wake: () => void = () => undefined;
  #loop: Promise<void> = Promise.resolve();

  constructor(context: OrchestrationContext, services: SchedulerServices) {
    this.#context = context;
    this.#starter = services.starter;
    this.#keeper = services.keeper;
    this.#inventory = services.inventory;
    this.#log = new RunLog(context);
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#loop;
  }

  wake(): void {
    this.#wake();
  }

  /** Deals once with every schedule. */
  async look(): Promise<void> {
    const { catalogue, logger } = this.#context;
    for (const record of await catalogue.schedules.list()) {
      if (this.#stopping.signal.aborted) return;
      try {
        await this.#lookAt(record);
      } catch (error) {
        // Of this job only: the others are not to wait for it.
        logger.warn({ jobId: record.jobId, code: toAppError(error).code }, 'a schedule waits');
      }
    }
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#context;
    while (!this.#stopping.signal.aborted) {
      const woken = new Promise<void>((resolve) => (this.#wake = resolve));
      try {
        await this.look();
      } catch (error) {
        logger.warn({ code: toAppError(error).code }, 'schedules wait');
      }
      await Promise.race([woken, clock.sleep(LOOK_EVERY_MS, this.#stopping.signal).catch(() => undefined)]);
    }
  }

  async #lookAt(record: ScheduleRecord): Promise<void> {
    const { catalogue, clock } = this.#context;
    const { jobId } = record;
    const nowMs = clock.nowMs();
    const [newest] = await catalogue.runs.list({ jobId, kind: 'backup', limit: 1 });
    const active = newest !== undefined && isActive(newest) ? newest : null;
    if (active !== null) await this.#closeWindow(record, active, nowMs);

    const due = await this.#findDue(record, nowMs);
    if (due === null && active !== null) return;
    const last = newest?.startedBy === 'request' ? await this.#findLastWhole(jobId) : newest;
    if (due === null) {
      if (last === undefined) return;
      if (!(await this.#goOn(record, last, nowMs))) await this.#retry(record, last, nowMs);
    } else if (active !== null) {
      await this.#skip(jobId, active, due);
    } else if (due.isLate && !record.schedule.catchUp) {
      await this.#giveUp(jobId, due);
    } else if (await this.#isReady(jobId)) {
      const { startedBy, dueMs, done } = due;
      // What the window kept from its turn is not to come last again.
      const first = last?.stoppedBy === 'window' ? await this.#listUnfinished(last) : [];
      await this.#start(jobId, undefined, { startedBy, dueAtMs: dueMs, attempt: 0, done, first });
    }
  }

  /** What is due by the rules, else by the end of a followed run. One run stands for all of it. */
  async #findDue(record: ScheduleRecord, nowMs: number): Promise<Due | null> {
    const { jobId, schedule, doneUntilMs, doneUntilRun } = record;
    const before = { doneUntilMs, doneUntilRun };
    const answer = findDueRun({ schedule, jobId, doneUntilMs, nowMs });
    if (answer.kind === 'clock-set-back') {
      this.#context.logger.warn({ jobId, doneUntilMs, nowMs }, 'the clock was set back; the schedule goes on from now');
      const done = { before, doneUntilRun, doneUntilMs: answer.doneUntilMs, missedAtMs: null };
      await this.#context.catalogue.schedules.markDone(jobId, done);
      return null;
    }
    const ended = await this.#findFollowedEnd(record);
    const link = ended === null ? null : findDueLink(schedule, ended.finishedAtMs ?? nowMs, nowMs);
    const linkDone = link === null ? doneUntilRun : (ended?.number ?? doneUntilRun);
    if (answer.kind === 'due') {
      const { dueMs, isLate } = answer;
      const done = { before, doneUntilMs: dueMs, doneUntilRun: linkDone, missedAtMs: isLate ? dueMs : null };
      return { startedBy: isLate ? 'catch-up' : 'schedule', dueMs, isLate, done };
    }
    if (link === null || ended === null) return null;
    const dueMs = ended.finishedAtMs ?? nowMs;
    const done = { before, doneUntilMs, doneUntilRun: linkDone, missedAtMs: link.isLate ? dueMs : null };
    return { startedBy: link.isLate ? 'catch-up' : 'link', dueMs, isLate: link.isLate, done };
  }

  /** The newest end of a run of the followed job that counts and was not dealt with. */
  async #findFollowedEnd({ schedule, doneUntilRun }: ScheduleRecord): Promise<RunRecord | null> {
    if (schedule.after === null || !schedule.enabled) return null;
    const { jobId, on } = schedule.after;
    const { catalogue } = this.#context;
    const runs = await catalogue.runs.list({ jobId, kind: 'backup', limit: FOLLOWED_RUNS });
    for (const [index, run] of runs.entries()) {
      if (run.number <= doneUntilRun) return null;
      if (isActive(run)) continue;
      if (run.state === 'success' || run.state === 'warning') return run;
      if (on === 'success') continue;
      const next = runs[index - 1];
      const isContinued =
        next === undefined ? await this.#isToBeContinued(jobId, run) : ['retry', 'window'].includes(next.startedBy);
      if (!isContinued) return run;
    }
    return null;
  }

  /** Whether a run that ended badly is going to have another go by itself. */
  async #isToBeContinued(jobId: string, run: RunRecord): Promise<boolean> {
    const record = await this.#context.catalogue.schedules.load(jobId);
    if (record === null) return false;
    if (isPaused(record.schedule, run)) return (await this.#listUnfinished(run)).length > 0;
    return retryTimeOf(record.schedule, run) !== null && (await this.#listWorthRetrying(run))?.length !== 0;
  }

  /** The newest run that is not one that a person started of some machines only: it settles nothing for the others. */
  async #findLastWhole(jobId: string): Promise<RunRecord | undefined> {
    const { catalogue } = this.#context;
    const machineIds = (await catalogue.jobs.load(jobId))?.machineIds ?? [];
    for (const run of await catalogue.runs.list({ jobId, kind: 'backup', limit: FOLLOWED_RUNS })) {
      if (run.startedBy !== 'request') return run;
      const parts = await catalogue.parts.listByRun(run.id);
      if (machineIds.every((id) => parts.some(({ machineId }) => machineId === id))) return run;
    }
    return undefined;
  }

  /** Of these machines those that belong to the job and that no later run, of some machines only, has done. */
  async #listOpen(run: RunRecord, parts: readonly RunPartRecord[]): Promise<string[]> {
    const { catalogue } = this.#context;
    const job = run.jobId === null ? null : await catalogue.jobs.load(run.jobId);
    const open: string[] = [];
    for (const { machineId } of parts) {
      if (job === null || machineId === null || !job.machineIds.includes(machineId)) continue;
      const [newest] = await catalogue.parts.listOfMachine({ jobId: job.id, machineId, limit: 1 });
      if (newest === undefined || newest.runId === run.id || !isDone(newest)) open.push(machineId);
    }
    return open;
  }

  /** Machines that are new join a selection before its run: asked for in the background, once. */
  async #isReady(jobId: string): Promise<boolean> {
    const job = await this.#context.catalogue.jobs.load(jobId);
    return job === null || job.selection === null || (await this.#inventory.isFresh(job.selection));
  }

  /** Starts a run; one that cannot even begin is recorded as failed, so that it is seen and retried. */
  async #start(jobId: string, machineIds: string[] | undefined, origin: RunOrigin): Promise<void> {
    let runId: string;
    try {
      runId = await this.#starter.startJob(jobId, machineIds === undefined ? {} : { machineIds }, origin);
    } catch (error) {
      // Someone else was faster: the next look sees what they did.
      if (isAppError(error) && ['CONFLICT', 'RUN_ALREADY_ACTIVE'].includes(error.code)) return;
      runId = await this.#starter.recordFailedStart(jobId, origin, toAppError(error).toBody());
    }
    const line = explainStart(origin);
    if (line !== null) await this.#log.write(runId, null, line);
    await this.#keeper.announce(runId);
  }

  async #skip(jobId: string, active: RunRecord, { dueMs, done }: Due): Promise<void> {
    if (!(await this.#context.catalogue.schedules.markDone(jobId, done))) return;
    await this.#log.write(active.id, null, {
      level: 'warning',
      code: 'SCHEDULE_SKIPPED',
      text: `A run was due at ${new Date(dueMs).toISOString()}; it was left out, since this one was still at work.`,
      details: { dueAtMs: dueMs },
    });
  }

  async #giveUp(jobId: string, { dueMs, done }: Due): Promise<void> {
    const { catalogue, events, logger } = this.#context;
    if (!(await catalogue.schedules.markDone(jobId, done))) return;
    logger.warn({ jobId, dueMs }, 'a run was missed, and the schedule says not to catch it up');
    events.emit({ type: 'changed', what: 'job', id: jobId });
  }

  async #closeWindow({ schedule }: ScheduleRecord, active: RunRecord, nowMs: number): Promise<void> {
    if (schedule.window === null || schedule.window.atClose === 'finish' || isWindowOpen(schedule, nowMs)) return;
    // What a person started is theirs to end.
    if (active.startedBy === 'request' || active.cancelRequested) return;
    await this.#keeper.cancel(active.id, 'window');
  }

  /** Backs up what was not done when the window closed. @returns false when there is nothing of that kind */
  async #goOn({ jobId, schedule }: ScheduleRecord, last: RunRecord, nowMs: number): Promise<boolean> {
    if (!isPaused(schedule, last)) return false;
    const machineIds = await this.#listUnfinished(last);
    if (machineIds.length === 0) return false;
    if (!isWindowOpen(schedule, nowMs)) return true;
    const { dueAtMs, attempt } = last;
    await this.#start(jobId, machineIds, { startedBy: 'window', dueAtMs, attempt, done: null });
    return true;
  }

  async #retry({ jobId, schedule }: ScheduleRecord, last: RunRecord, nowMs: number): Promise<void> {
    const atMs = retryTimeOf(schedule, last);
    if (atMs === null || nowMs < atMs || !isWindowOpen(schedule, nowMs)) return;
    const machineIds = await this.#listWorthRetrying(last);
    if (machineIds !== undefined && machineIds.length === 0) return;
    const { dueAtMs, attempt } = last;
    await this.#start(jobId, machineIds, { startedBy: 'retry', dueAtMs, attempt: attempt + 1, done: null });
  }

  /**
   * Machines of a run that the window ended: those that were not done, and those worth another try. Those that had no
   * turn come first: one that no window is long enough for keeps back no others.
   */
  async #listUnfinished(run: RunRecord): Promise<string[]> {
    const parts = (await this.#context.catalogue.parts.listByRun(run.id))
      .filter((part) => part.state === 'cancelled' || isWorthRetrying(part))
      .sort((a, b) => Number(a.startedAtMs !== null) - Number(b.startedAtMs !== null));
    return this.#listOpen(run, parts);
  }

  /** Machines of a run that failed, and whose failure a repetition does not make worse; undefined: all. */
  async #listWorthRetrying(run: RunRecord): Promise<string[] | undefined> {
    const { catalogue } = this.#context;
    const parts = await catalogue.parts.listByRun(run.id);
    if (parts.length === 0) {
      return run.error !== null && ERROR_CODES[run.error.code].retry === 'never' ? [] : undefined;
    }
    return this.#listOpen(run, parts.filter(isWorthRetrying));
  }
}

function isActive(run: RunRecord): boolean {
  return run.state === 'waiting' || run.state === 'running';
}

/** A run that ended with its window, in a schedule that goes on with it when the window opens. */
function isPaused(schedule: Schedule, run: RunRecord): boolean {
  return schedule.enabled && schedule.window?.atClose === 'pause' && run.stoppedBy === 'window' && !isActive(run);
}

/** When a run is tried again; null: not by itself. */
function retryTimeOf(schedule: Schedule, run: RunRecord): number | null {
  const hasFailed = run.state === 'failed' || run.state === 'incomplete';
  if (!hasFailed || run.startedBy === 'request' || run.cancelRequested || run.finishedAtMs === null) return null;
  return retryAtMs(schedule, { attempt: run.attempt, finishedAtMs: run.finishedAtMs });
}

function isDone({ state }: Pick<RunPartRecord, 'state'>): boolean {
  return state === 'success' || state === 'warning';
}

function isWorthRetrying({ state, error }: Pick<RunPartRecord, 'state' | 'error'>): boolean {
  return (
    (state === 'failed' || state === 'incomplete') && (error === null || ERROR_CODES[error.code].retry !== 'never')
  );
}

function explainStart({ startedBy, dueAtMs }: RunOrigin): Omit<LogLine, 'atMs'> | null {
  const due = dueAtMs === null ? '' : new Date(dueAtMs).toISOString();
  const details = { dueAtMs };
  switch (startedBy) {
    case 'catch-up':
      return {
        level: 'info',
        code: 'SCHEDULE_CAUGHT_UP',
        text: `This run was due at ${due}; it is caught up.`,
        details,
      };
    case 'window':
      return {
        level: 'info',
        code: 'SCHEDULE_WINDOW_OPENED',
        text: 'The window is open again: going on with the machines that were not done when it closed.',
        details,
      };
    case 'schedule':
    case 'link':
    case 'retry':
      return null;
  }
}

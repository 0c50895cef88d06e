import { ERROR_CODES } from '../contract/error-codes.ts';
import type { RunRecord, ScheduleRecord } from '../database/index.ts';
import { isAppError, toAppError } from '../errors/index.ts';
import { findDueRun, isWindowOpen, retryAtMs } from '../policy/index.ts';
import type { OrchestrationContext } from './context.ts';
import type { RunKeeper } from './run-keeper.ts';
import { RunLog } from './run-log.ts';
import type { RunOrigin, RunStarter } from './run-starter.ts';

/** How often schedules are looked at: a run begins so much later than it is due at worst. */
const LOOK_EVERY_MS = 5_000;

/**
 * Starts what is due. It keeps nothing in memory and sets no timers: every few seconds the clock is
 * compared with the catalogue, so a restart, a jump of the clock or a week without power are nothing
 * special. What was dealt with is written in the transaction that makes the run.
 */
export class Scheduler {
  readonly #context: OrchestrationContext;
  readonly #starter: RunStarter;
  readonly #keeper: Pick<RunKeeper, 'announce' | 'cancel'>;
  readonly #log: RunLog;
  readonly #stopping = new AbortController();
  #wake: () => void = () => undefined;
  #loop: Promise<void> = Promise.resolve();

  constructor(
    context: OrchestrationContext,
    services: { starter: RunStarter; keeper: Pick<RunKeeper, 'announce' | 'cancel'> },
  ) {
    this.#context = context;
    this.#starter = services.starter;
    this.#keeper = services.keeper;
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
    const { catalogue, clock, logger } = this.#context;
    const { jobId, schedule, doneUntilMs } = record;
    const nowMs = clock.nowMs();
    const [last] = await catalogue.runs.list({ jobId, kind: 'backup', limit: 1 });
    const active = last !== undefined && isActive(last) ? last : null;
    if (active !== null) await this.#closeWindow(record, active, nowMs);

    const answer = findDueRun({ schedule, jobId, doneUntilMs, nowMs });
    switch (answer.kind) {
      case 'clock-set-back':
        logger.warn({ jobId, doneUntilMs, nowMs }, 'the clock was set back; the schedule goes on from now');
        await catalogue.schedules.markDone(jobId, {
          before: doneUntilMs,
          doneUntilMs: answer.doneUntilMs,
          missedAtMs: null,
        });
        return;
      case 'nothing':
        if (active === null && last !== undefined) await this.#retry(record, last, nowMs);
        return;
      case 'due': {
        const { dueMs, isLate } = answer;
        const done = { before: doneUntilMs, doneUntilMs: dueMs, missedAtMs: isLate ? dueMs : null };
        if (active !== null) await this.#skip(jobId, active, dueMs, done);
        else if (isLate && !schedule.catchUp) await this.#giveUp(jobId, done);
        else {
          const startedBy = isLate ? 'catch-up' : 'schedule';
          await this.#start(jobId, undefined, { startedBy, dueAtMs: dueMs, attempt: 0, done });
        }
        return;
      }
    }
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
    if (origin.startedBy === 'catch-up' && origin.dueAtMs !== null) {
      await this.#log.write(runId, null, {
        level: 'info',
        code: 'SCHEDULE_CAUGHT_UP',
        text: `This run was due at ${new Date(origin.dueAtMs).toISOString()} and is caught up now.`,
        details: { dueAtMs: origin.dueAtMs },
      });
    }
    await this.#keeper.announce(runId);
  }

  async #skip(jobId: string, active: RunRecord, dueMs: number, done: NonNullable<RunOrigin['done']>): Promise<void> {
    if (!(await this.#context.catalogue.schedules.markDone(jobId, done))) return;
    await this.#log.write(active.id, null, {
      level: 'warning',
      code: 'SCHEDULE_SKIPPED',
      text: `A run was due at ${new Date(dueMs).toISOString()}; it was left out, since this one was still at work.`,
      details: { dueAtMs: dueMs },
    });
  }

  async #giveUp(jobId: string, done: NonNullable<RunOrigin['done']>): Promise<void> {
    const { catalogue, events, logger } = this.#context;
    if (!(await catalogue.schedules.markDone(jobId, done))) return;
    logger.warn({ jobId, dueMs: done.doneUntilMs }, 'a run was missed, and the schedule says not to catch it up');
    events.emit({ type: 'changed', what: 'job', id: jobId });
  }

  async #closeWindow({ schedule }: ScheduleRecord, active: RunRecord, nowMs: number): Promise<void> {
    if (schedule.window?.atClose !== 'cancel' || isWindowOpen(schedule, nowMs)) return;
    // What a person started is theirs to end.
    if (active.startedBy === 'request' || active.cancelRequested) return;
    await this.#log.write(active.id, null, {
      level: 'warning',
      code: 'SCHEDULE_WINDOW_CLOSED',
      text: 'The window has closed; the run ends. The next one goes on with what has arrived.',
    });
    await this.#keeper.cancel(active.id);
  }

  async #retry(record: ScheduleRecord, last: RunRecord, nowMs: number): Promise<void> {
    const { jobId, schedule } = record;
    const hasFailed = last.state === 'failed' || last.state === 'incomplete';
    if (!hasFailed || last.startedBy === 'request' || last.cancelRequested || last.finishedAtMs === null) return;
    const atMs = retryAtMs(schedule, { attempt: last.attempt, finishedAtMs: last.finishedAtMs });
    if (atMs === null || nowMs < atMs || !isWindowOpen(schedule, nowMs)) return;
    const machineIds = await this.#listWorthRetrying(last);
    if (machineIds !== undefined && machineIds.length === 0) return;
    await this.#start(jobId, machineIds, {
      startedBy: 'retry',
      dueAtMs: last.dueAtMs,
      attempt: last.attempt + 1,
      done: null,
    });
  }

  /** Machines of a run that failed, and whose failure a repetition does not make worse; undefined: all. */
  async #listWorthRetrying(run: RunRecord): Promise<string[] | undefined> {
    const { catalogue } = this.#context;
    const parts = await catalogue.parts.listByRun(run.id);
    if (parts.length === 0) {
      return run.error !== null && ERROR_CODES[run.error.code].retry === 'never' ? [] : undefined;
    }
    const job = run.jobId === null ? null : await catalogue.jobs.load(run.jobId);
    return parts
      .filter((part) => part.state === 'failed' || part.state === 'incomplete')
      .filter((part) => part.error === null || ERROR_CODES[part.error.code].retry !== 'never')
      .flatMap((part) => (part.machineId !== null && job?.machineIds.includes(part.machineId) ? [part.machineId] : []));
  }
}

function isActive(run: RunRecord): boolean {
  return run.state === 'waiting' || run.state === 'running';
}

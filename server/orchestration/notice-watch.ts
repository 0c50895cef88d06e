import type { NoticeResult } from '../contract/api/notification.schema.ts';
import { scheduleSchema, type Schedule, type ScheduleRule } from '../contract/api/schedule.schema.ts';
import { ERROR_CODES } from '../contract/error-codes.ts';
import { RUN_STATE_ORDER } from '../contract/run.ts';
import type {
  JobRecord,
  RecipientRecord,
  RunPartRecord,
  RunRecord,
  ScheduleRecord,
  Tables,
} from '../database/index.ts';
import { toAppError } from '../errors/index.ts';
import type { MachineNotice, Notice, RunNotice } from '../notification/index.ts';
import { findDueRun, nextStarts, retryAtMs } from '../policy/index.ts';
import { randomHex } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import { compileDigest } from './digest.ts';
import { findLastSuccess } from './last-success.ts';
import type { NotificationSettings } from './notification-settings.ts';

const DAY_MS = 86_400_000;
/** A version's hash is known when its repository was looked at again after the run: waited for no longer. */
const POINT_WAIT_MS = 60_000;
/** A task that keeps failing for the same reason is not told again before. */
const SAME_FAILURE_MS = 6 * 3600_000;
/** A task without success is told again after. */
const OVERDUE_AGAIN_MS = 7 * DAY_MS;
const RUNS_A_LOOK = 100;
/** Of a run with hundreds of machines: no mail shows more, and the window shows all. */
const MACHINES_MAX = 200;
const WARNINGS_MAX = 5;
/** How long deliveries, and sizes for reports, are kept. */
const KEEP_DELIVERIES_MS = 90 * DAY_MS;
const KEEP_SIZES_MS = 3 * 366 * DAY_MS;

/**
 * Finds what is to be told and puts it into the outbox, by comparing clock and catalogue: it keeps nothing in memory.
 * What was told is written in the transaction that puts it in, so nothing is told twice or forgotten by a crash.
 */
export class NoticeWatch {
  readonly #context: OrchestrationContext;
  readonly #settings: NotificationSettings;

  constructor(context: OrchestrationContext, settings: NotificationSettings) {
    this.#context = context;
    this.#settings = settings;
  }

  /** Ends of runs: cheap, since only those that were not told yet are looked at. */
  async lookAtRuns(): Promise<void> {
    for (const run of await this.#context.catalogue.runs.listUnnoticed(RUNS_A_LOOK)) {
      await this.#attempt(`run ${run.id}`, () => this.#lookAtRun(run));
    }
  }

  /** What time brings: runs that were missed, tasks without success, digests. */
  async lookAtClock(): Promise<void> {
    const { catalogue } = this.#context;
    const jobs = new Map((await catalogue.jobs.list()).map((job) => [job.id, job]));
    for (const record of await catalogue.schedules.list()) {
      const job = jobs.get(record.jobId);
      if (job !== undefined) await this.#attempt(`job ${job.id}`, () => this.#lookAtJob(job, record));
    }
    for (const recipient of await catalogue.recipients.list()) {
      await this.#attempt(`recipient ${recipient.id}`, () => this.#lookAtDigest(recipient));
    }
    await this.#attempt('sizes', () => this.#keepSizes());
  }

  /** What fails is tried again at the next look, and nothing else waits for it. */
  async #attempt(what: string, body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      const { code, message: reason } = toAppError(error);
      this.#context.logger.warn({ what, code, reason }, 'a notice waits');
    }
  }

  async #lookAtRun(run: RunRecord): Promise<void> {
    const { catalogue, clock } = this.#context;
    const nowMs = clock.nowMs();
    const parts = await catalogue.parts.listByRun(run.id);
    if (nowMs - (run.finishedAtMs ?? 0) < POINT_WAIT_MS && !(await arePointsKnown(catalogue, parts))) return;
    const notice = await this.#composeRun(run, parts);
    await catalogue.transaction(async (tables) => {
      if (!(await tables.runs.markNoticed(run.id)) || notice === null) return;
      await put(tables, { key: `run ${run.id}`, notice, jobId: run.jobId, results: notice.results, nowMs });
      if (run.jobId === null) return;
      if (notice.results.includes('failure')) await tables.outbox.saveMark(failureKey(run.jobId), nowMs);
      else if (notice.results.includes('recovered')) await tables.outbox.removeMark(failureKey(run.jobId));
    });
  }

  /** Null: nothing to be told. */
  async #composeRun(run: RunRecord, parts: readonly RunPartRecord[]): Promise<RunNotice | null> {
    const { catalogue } = this.#context;
    const before = await this.#loadBefore(run);
    const results = judgeRun(run, await this.#hasRecovered(run));
    if (results.length === 0 || run.finishedAtMs === null) return null;
    const retryAtMs = results.includes('failure') ? await this.#findRetry(run, parts) : null;
    if (results.includes('failure') && (await this.#isKnownFailure(run, before, retryAtMs))) return null;
    const repository = run.repositoryId === null ? null : await catalogue.repositories.load(run.repositoryId);
    const warnings = await catalogue.log.list(run.id, { afterNumber: 0, limit: 5000, level: 'warning' });
    const machines: MachineNotice[] = [];
    const worstFirst = [...parts].sort((a, b) => RUN_STATE_ORDER.indexOf(b.state) - RUN_STATE_ORDER.indexOf(a.state));
    for (const part of worstFirst.slice(0, MACHINES_MAX)) {
      const own = warnings.filter(({ partId }) => partId === part.id).slice(0, WARNINGS_MAX);
      machines.push({
        name: part.name,
        state: part.state,
        error: part.error,
        startedAtMs: part.startedAtMs,
        finishedAtMs: part.finishedAtMs,
        ...(await describeResult(catalogue, part)),
        warnings: own.map(toWarning),
      });
    }
    return {
      kind: 'run',
      results,
      runId: run.id,
      runKind: run.kind,
      title: run.title,
      state: run.state,
      startedBy: run.startedBy,
      startedAtMs: run.startedAtMs ?? run.createdAtMs,
      finishedAtMs: run.finishedAtMs,
      error: run.error,
      repository: repository?.name ?? null,
      retryAtMs,
      machines,
      machineCount: parts.length,
      warnings: warnings
        .filter(({ partId }) => partId === null)
        .slice(0, WARNINGS_MAX)
        .map(toWarning),
    };
  }

  /**
   * Whether a job that had failed is well again: not by a run of some of its machines, as long as others are as they
   * were.
   */
  async #hasRecovered({ kind, jobId, state }: RunRecord): Promise<boolean> {
    const { catalogue } = this.#context;
    if (kind !== 'backup' || jobId === null || (state !== 'success' && state !== 'warning')) return false;
    if ((await catalogue.outbox.loadMark(failureKey(jobId))) === null) return false;
    const job = await catalogue.jobs.load(jobId);
    for (const machineId of job?.machineIds ?? []) {
      const parts = await catalogue.parts.listOfMachine({ jobId, machineId, limit: 20 });
      const last = parts.find((part) => !['waiting', 'running', 'cancelled'].includes(part.state));
      if (last !== undefined && isFailed(last)) return false;
    }
    return true;
  }

  /** The run of the job before this one that says something of its health. */
  async #loadBefore(run: RunRecord): Promise<RunRecord | null> {
    if (run.kind !== 'backup' || run.jobId === null) return null;
    const { jobId, number } = run;
    const before = await this.#context.catalogue.runs.list({
      jobId,
      kind: 'backup',
      active: false,
      beforeNumber: number,
      limit: 20,
    });
    return before.find(({ state }) => state !== 'cancelled') ?? null;
  }

  async #findRetry(run: RunRecord, parts: readonly RunPartRecord[]): Promise<number | null> {
    if (run.jobId === null || run.startedBy === 'request' || run.finishedAtMs === null) return null;
    const record = await this.#context.catalogue.schedules.load(run.jobId);
    if (record === null) return null;
    const errors = parts.length === 0 ? [run.error] : parts.filter(isFailed).map(({ error }) => error);
    const isWorthIt = errors.some((error) => error === null || ERROR_CODES[error.code].retry !== 'never');
    return isWorthIt ? retryAtMs(record.schedule, { attempt: run.attempt, finishedAtMs: run.finishedAtMs }) : null;
  }

  /** Repetitions are told at the end of their row only; so is a task that fails every few minutes. */
  async #isKnownFailure(run: RunRecord, before: RunRecord | null, retryMs: number | null): Promise<boolean> {
    if (run.startedBy === 'request' || run.jobId === null) return false;
    if (run.attempt > 0) return retryMs !== null;
    if (before === null || !isFailed(before) || before.error?.code !== run.error?.code) return false;
    const toldAtMs = await this.#context.catalogue.outbox.loadMark(failureKey(run.jobId));
    const agoMs = this.#context.clock.nowMs() - (toldAtMs ?? 0);
    return toldAtMs !== null && agoMs >= 0 && agoMs < SAME_FAILURE_MS;
  }

  async #lookAtJob(job: JobRecord, record: ScheduleRecord): Promise<void> {
    await this.#lookAtMissed(job, record);
    await this.#lookAtOverdue(job, record);
  }

  async #lookAtMissed(job: JobRecord, { schedule, missedAtMs }: ScheduleRecord): Promise<void> {
    const { catalogue, clock } = this.#context;
    const markKey = `missed ${job.id}`;
    const toldMs = await catalogue.outbox.loadMark(markKey);
    if (missedAtMs === null || missedAtMs === toldMs) return;
    const notice: Notice = { kind: 'missed', title: job.name, dueAtMs: missedAtMs, isCaughtUp: schedule.catchUp };
    const nowMs = clock.nowMs();
    await catalogue.transaction(async (tables) => {
      await tables.outbox.saveMark(markKey, missedAtMs);
      await tables.outbox.saveMark(`missed told ${job.id}`, nowMs);
      await put(tables, { key: `missed ${job.id} ${missedAtMs}`, notice, jobId: job.id, results: ['missed'], nowMs });
    });
  }

  async #lookAtOverdue(job: JobRecord, { schedule, doneUntilMs }: ScheduleRecord): Promise<void> {
    const { catalogue, clock } = this.#context;
    const { overdueDays } = await this.#settings.load();
    const nowMs = clock.nowMs();
    const { outbox } = catalogue;
    const sinceKey = `scheduled ${job.id}`;
    if (!schedule.enabled || overdueDays === null) {
      await outbox.removeMark(sinceKey);
      return;
    }
    // What was due before there was a schedule is no failure of it.
    const sinceMs = await outbox.loadMark(sinceKey);
    if (sinceMs === null || sinceMs > nowMs) {
      await outbox.saveMark(sinceKey, nowMs);
      return;
    }
    const success = await findLastSuccess(catalogue, job);
    let succeededMs = success?.finishedAtMs ?? 0;
    if (succeededMs > nowMs) {
      // By a clock that was ahead: counted from when that is first seen, or all would be well until it is reached.
      const aheadKey = `ahead ${job.id}`;
      if ((await outbox.loadMark(aheadKey)) !== succeededMs) {
        await outbox.saveMark(aheadKey, succeededMs);
        await outbox.saveMark(sinceKey, nowMs);
        return;
      }
      succeededMs = 0;
    }
    const [dueMs] = nextStarts(schedule, Math.max(succeededMs, sinceMs), 1);
    const toldKey = `overdue ${job.id}`;
    const toldMs = await outbox.loadMark(toldKey);
    const isOverdue = dueMs !== undefined && nowMs - dueMs >= overdueDays * DAY_MS;
    if (!isOverdue) {
      if (toldMs !== null) await outbox.removeMark(toldKey);
      return;
    }
    // After a time without power the scheduler has the first word, and a run that was missed was told just now.
    const missedToldMs = await outbox.loadMark(`missed told ${job.id}`);
    // A run that is at work may mend it; one that hangs, or waits for a turn that never comes, must not hide it.
    const [active] = await catalogue.runs.list({ jobId: job.id, active: true, limit: 1 });
    const isAtWork = active !== undefined && nowMs - active.createdAtMs < DAY_MS;
    const isAboutToRun = doneUntilMs < dueMs || isAtWork;
    if (isAboutToRun || (missedToldMs !== null && Math.abs(nowMs - missedToldMs) < DAY_MS)) return;
    if (toldMs !== null && Math.abs(nowMs - toldMs) < OVERDUE_AGAIN_MS) return;
    const [last] = await catalogue.runs.list({ jobId: job.id, kind: 'backup', limit: 1 });
    const notice: Notice = {
      kind: 'overdue',
      title: job.name,
      lastSuccessAtMs: success?.finishedAtMs ?? null,
      dueSinceMs: dueMs,
      days: Math.floor((nowMs - dueMs) / DAY_MS),
      lastState: last?.state ?? null,
      lastError: last?.error ?? null,
    };
    await catalogue.transaction(async (tables) => {
      await tables.outbox.saveMark(toldKey, nowMs);
      await put(tables, { key: `overdue ${job.id} ${nowMs}`, notice, jobId: job.id, results: ['missed'], nowMs });
    });
  }

  async #lookAtDigest(recipient: RecipientRecord): Promise<void> {
    const { catalogue, clock } = this.#context;
    const { id, digest, timeZone, enabled } = recipient;
    const nowMs = clock.nowMs();
    const markKey = `digest ${id}`;
    const doneUntilMs = await catalogue.outbox.loadMark(markKey);
    if (digest === 'none' || !enabled) {
      if (doneUntilMs !== null) await catalogue.outbox.removeMark(markKey);
      return;
    }
    if (doneUntilMs === null) {
      await catalogue.outbox.saveMark(markKey, nowMs);
      return;
    }
    const answer = findDueRun({ schedule: digestSchedule(digest, timeZone), jobId: id, doneUntilMs, nowMs });
    if (answer.kind === 'clock-set-back') await catalogue.outbox.saveMark(markKey, answer.doneUntilMs);
    if (answer.kind !== 'due') return;
    const { dueMs } = answer;
    const span = { fromMs: doneUntilMs, toMs: dueMs };
    const notice = await compileDigest(catalogue, { period: digest, span, jobIds: recipient.jobIds, nowMs });
    await catalogue.transaction(async (tables) => {
      await tables.outbox.saveMark(markKey, dueMs);
      await tables.outbox.add({ key: `digest ${id} ${dueMs}`, notice, atMs: nowMs, to: addressesOf(recipient) });
    });
  }

  /** One row a day for reports; and what is old goes, once a day. */
  async #keepSizes(): Promise<void> {
    const { catalogue, clock } = this.#context;
    const dayMs = Math.floor(clock.nowMs() / DAY_MS) * DAY_MS;
    const repositories = await catalogue.repositories.list();
    const fingerprint = repositories.reduce((sum, { seenAtMs }) => Math.max(sum, seenAtMs ?? 0), dayMs);
    if ((await catalogue.outbox.loadMark('sizes')) === fingerprint) return;
    await catalogue.transaction(async (tables) => {
      for (const { id, stats } of repositories) {
        if (stats === null) continue;
        const { storedBytes, nominalBytes, points } = stats;
        await tables.repositorySizes.save({ repositoryId: id, dayMs, storedBytes, nominalBytes, points });
      }
      await tables.outbox.saveMark('sizes', fingerprint);
      await tables.repositorySizes.removeBefore(dayMs - KEEP_SIZES_MS);
      await tables.outbox.removeBefore(dayMs - KEEP_DELIVERIES_MS);
    });
  }
}

/** What an end of a run is worth telling as; nothing where a person ended it. */
function judgeRun(run: RunRecord, hasRecovered: boolean): NoticeResult[] {
  const recovered: NoticeResult[] = hasRecovered ? ['recovered'] : [];
  switch (run.state) {
    case 'success':
      return ['success', ...recovered];
    case 'warning':
      return ['warning', ...recovered];
    case 'incomplete':
    case 'failed':
      return ['failure'];
    case 'cancelled':
      return run.startedBy === 'request' ? [] : ['warning'];
    case 'waiting':
    case 'running':
      return [];
  }
}

/** Of the mark that is there from a failure that was told until the job is well again: when it was told last. */
function failureKey(jobId: string): string {
  return `failure ${jobId}`;
}

function isFailed({ state }: Pick<RunRecord, 'state'>): boolean {
  return state === 'failed' || state === 'incomplete';
}

async function arePointsKnown(tables: Tables, parts: readonly RunPartRecord[]): Promise<boolean> {
  for (const { result } of parts) {
    if (result === null || !('pointId' in result) || result.pointId === null) continue;
    if ((await tables.points.load(result.pointId)) === null) return false;
  }
  return true;
}

async function describeResult(
  tables: Tables,
  { result }: RunPartRecord,
): Promise<Pick<MachineNotice, 'bytes' | 'rootHash' | 'consistency'>> {
  if (result === null || !('stats' in result)) return { bytes: null, rootHash: null, consistency: null };
  const { nominalBytes: nominal, readBytes: read, storedBytes: stored } = result.stats;
  const point = result.pointId === null ? null : await tables.points.load(result.pointId);
  return {
    bytes: { nominal, read, stored },
    rootHash: point?.rootHash ?? null,
    consistency: result.consistency?.level ?? null,
  };
}

function toWarning({ code, text, details }: MachineNotice['warnings'][number]): MachineNotice['warnings'][number] {
  return details === undefined ? { code, text } : { code, text, details };
}

/** Puts a notice in for everybody who wants to hear of it. */
async function put(
  tables: Tables,
  entry: { key: string; notice: Notice; jobId: string | null; results: readonly NoticeResult[]; nowMs: number },
): Promise<void> {
  const { key, notice, jobId, results, nowMs } = entry;
  const wanting = (await tables.recipients.list()).filter(
    (recipient) =>
      recipient.enabled &&
      recipient.results.some((result) => results.includes(result)) &&
      (recipient.jobIds === null || (jobId !== null && recipient.jobIds.includes(jobId))),
  );
  if (wanting.length > 0) await tables.outbox.add({ key, notice, atMs: nowMs, to: wanting.flatMap(addressesOf) });
}

function addressesOf({ id, channel }: RecipientRecord): { deliveryId: string; recipientId: string; address: string }[] {
  const addresses = channel.kind === 'mail' ? channel.addresses : [''];
  return addresses.map((address) => ({ deliveryId: randomHex(8), recipientId: id, address }));
}

function digestSchedule(digest: 'daily' | 'weekly' | 'monthly', timeZone: string): Schedule {
  const time = '08:00';
  const rules: Record<typeof digest, ScheduleRule> = {
    daily: { kind: 'daily', time },
    weekly: { kind: 'weekly', days: ['monday'], time },
    monthly: { kind: 'monthly', on: { kind: 'day', day: 1 }, time },
  };
  return scheduleSchema.parse({ timeZone, rules: [{ rule: rules[digest] }] });
}

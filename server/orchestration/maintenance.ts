import * as z from 'zod';
import type { JobRemoved } from '../contract/api/job.schema.ts';
import type { PointsChanged } from '../contract/api/point.schema.ts';
import type { RepositoryMaintenanceView } from '../contract/api/repository.schema.ts';
import { maintenanceResultSchema } from '../contract/api/run.schema.ts';
import { scheduleSchema, type Schedule } from '../contract/api/schedule.schema.ts';
import type { Settings } from '../contract/api/settings.schema.ts';
import type { PointChange, WorkerTask } from '../contract/task.ts';
import type { WorkerResults } from '../contract/task-result.ts';
import type { PointRecord, RunPartRecord, RunRecord } from '../database/index.ts';
import { AppError, isAppError, toAppError } from '../errors/index.ts';
import { findDueRun, nextStarts } from '../policy/index.ts';
import type { readBoot } from '../runtime/index.ts';
import { ClockWatch } from './clock-watch.ts';
import { found, loadSettings, type OrchestrationContext } from './context.ts';
import type { RepositoryService } from './repositories.ts';
import { addressOf } from './repository-keys.ts';
import type { RetentionService } from './retention.ts';
import type { RunOrigin, RunStarter } from './run-starter.ts';

const LOOK_EVERY_MS = 30_000;
const CHANGE_TIMEOUT_MS = 300_000;
/** How long a maintenance waits for runs that may need what is to go, before it leaves the rest to the next. */
const PATIENCE_MS = 5 * 60_000;
const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** Nobody can take a lock back: not one whose year has a digit too many either. */
const LOCK_MS_MAX = 100 * 366 * DAY_MS;
/** A look at the store that is worth its start. */
const VERIFY_BYTES_MIN = 64 * 1024 * 1024;
const ALL_POINTS = 1_000_000;
/** Kinds of runs after which a repository holds something else. */
const CHANGING_RUNS = new Set<RunRecord['kind']>(['backup', 'copy', 'maintenance']);
/** Ended runs among which those are that an earlier server had no time to look into. */
const CATCH_UP_RUNS = 1000;

/** What is remembered of a repository between maintenances; without it a round begins anew. */
const stateSchema = z.object({
  doneUntilMs: z.number(),
  isWaiting: z.boolean(),
  verification: z
    .object({
      after: z.string().nullable(),
      atMs: z.number(),
      roundStartedAtMs: z.number(),
      lastRoundEndedAtMs: z.number().nullable(),
      verifiedBytes: z.number(),
      totalBytes: z.number(),
    })
    .nullable(),
});
type MaintenanceState = z.infer<typeof stateSchema>;

/**
 * What keeps repositories in order: versions go to the trash and come back, retention is applied, and once a
 * day what is in the trash for too long goes for good, room comes free, and a part of the store is read again.
 */
export class MaintenanceService {
  readonly #context: OrchestrationContext;
  readonly #repositories: RepositoryService;
  readonly #retention: RetentionService;
  readonly #starter: RunStarter;
  readonly #announce: (runId: string) => Promise<void>;
  readonly #clockWatch: ClockWatch;
  readonly #stopping = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(
    context: OrchestrationContext,
    services: {
      repositories: RepositoryService;
      retention: RetentionService;
      starter: RunStarter;
      announce(runId: string): Promise<void>;
      /** Absent: that of the system that this runs on. */
      readBoot?: typeof readBoot;
    },
  ) {
    this.#context = context;
    this.#clockWatch = new ClockWatch(context, services.readBoot);
    this.#repositories = services.repositories;
    this.#retention = services.retention;
    this.#starter = services.starter;
    this.#announce = (runId) => services.announce(runId);
  }

  start(): void {
    this.#loop = this.#run();
    this.catchUp().catch((error: unknown) => {
      this.#context.logger.warn({ code: toAppError(error).code }, 'what ended runs have changed is not looked into');
    });
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loop;
  }

  /** Moves versions to the trash. @throws NOT_FOUND, STORAGE_*, REPOSITORY_* */
  async deletePoints(input: { pointIds: string[]; repositoryId?: string; trashDays?: number }): Promise<PointsChanged> {
    const { trashDays = (await loadSettings(this.#context.catalogue)).trashDays } = input;
    const keepUntilMs = this.#context.clock.nowMs() + trashDays * DAY_MS;
    return this.#changePoints(input, { verb: 'delete', keepUntilMs, reason: 'Deleted on request.' });
  }

  async undeletePoints(input: { pointIds: string[]; repositoryId?: string }): Promise<PointsChanged> {
    return this.#changePoints(input, { verb: 'restore' });
  }

  /** @throws INPUT_INVALID for a time that is over or more than a hundred years ahead, and as `deletePoints` */
  async lockPoints(input: { pointIds: string[]; repositoryId?: string; untilMs: number }): Promise<PointsChanged> {
    const aheadMs = input.untilMs - this.#context.clock.nowMs();
    if (aheadMs <= 0 || aheadMs > LOCK_MS_MAX) {
      throw new AppError('INPUT_INVALID', 'A lock must end in the future, and within a hundred years.', {
        details: { untilMs: input.untilMs },
      });
    }
    return this.#changePoints(input, { verb: 'lock', untilMs: input.untilMs });
  }

  /**
   * Moves to the trash what retention lets go of, of machines whose last run went well.
   * @returns how many versions
   */
  async applyRetention(repositoryId: string): Promise<number> {
    const { trashDays } = await loadSettings(this.#context.catalogue);
    const keepUntilMs = this.#context.clock.nowMs() + trashDays * DAY_MS;
    await this.#repositories.refresh(repositoryId);
    const { ofJobs, copies } = await this.#retention.plan(repositoryId);
    let trashed = 0;
    for (const [pointIds, whose] of [
      [ofJobs, 'its task'],
      [copies, 'this repository'],
    ] as const) {
      if (pointIds.length === 0) continue;
      const change: PointChange = { verb: 'delete', keepUntilMs, reason: `Let go by the retention of ${whose}.` };
      const { failed } = await this.#request(repositoryId, pointIds, change);
      trashed += pointIds.length - failed.length;
      // A lock that was set since the plan was made is no trouble.
      const [first] = failed.filter(({ error }) => error.code !== 'POINT_LOCKED');
      if (first === undefined) continue;
      const { code, message: reason } = first.error;
      this.#context.logger.warn({ repositoryId, points: failed.length, code, reason }, 'retention could not let go');
    }
    if (ofJobs.length + copies.length === 0) return 0;
    await this.#repositories.refresh(repositoryId);
    this.#context.logger.info({ repositoryId, points: trashed }, 'retention was applied');
    return trashed;
  }

  /**
   * Versions of the job's machines that no other job of the repository has, to the trash; some may be refused.
   * @returns `undo` brings those back that it moved
   */
  async trashPointsOfJob(jobId: string): Promise<{ removed: JobRemoved; undo(): Promise<void> }> {
    const { catalogue } = this.#context;
    const job = found(await catalogue.jobs.load(jobId), 'job', jobId);
    const others = (await catalogue.jobs.list()).filter(
      (one) => one.id !== jobId && one.repositoryId === job.repositoryId,
    );
    const shared = new Set(others.flatMap((one) => one.machineIds));
    const points = await catalogue.points.list({ repositoryId: job.repositoryId, limit: ALL_POINTS });
    const own = points.filter(({ machineId }) => job.machineIds.includes(machineId) && !shared.has(machineId));
    if (own.length === 0) return { removed: { trashed: 0, failed: [] }, undo: () => Promise.resolve() };
    const { trashDays } = await loadSettings(catalogue);
    const keepUntilMs = this.#context.clock.nowMs() + trashDays * DAY_MS;
    const reason = `The task "${job.name}" was deleted.`;
    const { repositoryId } = job;
    const { failed } = await this.#request(
      repositoryId,
      own.map(({ id }) => id),
      { verb: 'delete', keepUntilMs, reason },
    );
    await this.#repositories.refresh(repositoryId);
    const pointIds = own.map(({ id }) => id).filter((id) => failed.every(({ pointId }) => pointId !== id));
    return {
      removed: { trashed: pointIds.length, failed },
      undo: async () => void (await this.undeletePoints({ pointIds, repositoryId })),
    };
  }

  /** Starts a maintenance now. @throws NOT_FOUND, RUN_ALREADY_ACTIVE */
  async begin(repositoryId: string, origin?: RunOrigin): Promise<string> {
    const { catalogue, logger } = this.#context;
    found(await catalogue.repositories.load(repositoryId), 'repository', repositoryId);
    await this.applyRetention(repositoryId).catch((error: unknown) => {
      // The run that follows meets the same trouble and shows it.
      logger.warn({ repositoryId, code: toAppError(error).code }, 'retention could not be applied');
    });
    // That has looked at the repository: its size is today's.
    const verify = await this.#planVerification(repositoryId);
    const clockDoubt = await this.#clockWatch.look();
    return this.#starter.startMaintenance(repositoryId, { patienceMs: PATIENCE_MS, verify, clockDoubt }, origin);
  }

  async describe(repositoryId: string): Promise<RepositoryMaintenanceView> {
    const { catalogue, clock } = this.#context;
    found(await catalogue.repositories.load(repositoryId), 'repository', repositoryId);
    const { maintenance } = await loadSettings(catalogue);
    const state = await this.#loadState(repositoryId);
    const last = (await catalogue.runs.listLastMaintenances()).find((run) => run.repositoryId === repositoryId) ?? null;
    const isActive = last !== null && (last.state === 'waiting' || last.state === 'running');
    const trash = await catalogue.points.list({ repositoryId, trash: true, limit: ALL_POINTS });
    const purges = trash.map((point) => Math.max(point.trash?.keepUntilMs ?? 0, point.lockedUntilMs ?? 0));
    const { verification } = state;
    return {
      activeRunId: isActive ? last.id : null,
      lastRun: last === null ? null : { runId: last.id, state: last.state, finishedAtMs: last.finishedAtMs },
      nextAtMs: maintenance.enabled ? (nextStarts(scheduleOf(maintenance), clock.nowMs(), 1)[0] ?? null) : null,
      isWaiting: state.isWaiting,
      trash: { points: trash.length, nextPurgeAtMs: purges.length === 0 ? null : Math.min(...purges) },
      verification:
        verification === null
          ? null
          : {
              roundStartedAtMs: verification.roundStartedAtMs,
              lastRoundEndedAtMs: verification.lastRoundEndedAtMs,
              verifiedBytes: verification.verifiedBytes,
              totalBytes: verification.totalBytes,
            },
    };
  }

  /**
   * What a copy into a repository sends: all, or what its rules would keep.
   * @throws as `RepositoryService.refresh`, of either
   */
  async planCopy(sourceId: string, targetId: string): Promise<{ pointIds: string[]; leftOut: number } | null> {
    const target = found(await this.#context.catalogue.repositories.load(targetId), 'repository', targetId);
    if (target.retention === null) return null;
    for (const id of [sourceId, targetId]) await this.#repositories.refresh(id);
    return this.#retention.planCopy(sourceId, targetId);
  }

  /** After a run: what it made may let others go; what waited for it may go on. */
  async afterRun(run: RunRecord, parts: readonly RunPartRecord[]): Promise<void> {
    if (run.repositoryId === null) return;
    if (run.kind === 'maintenance') {
      await this.#takeResult(run.repositoryId, parts);
      await this.#repositories.refresh(run.repositoryId);
    }
    if (run.kind !== 'backup' && run.kind !== 'copy') return;
    await this.applyRetention(run.repositoryId);
    if (!(await this.#loadState(run.repositoryId)).isWaiting) return;
    const active = await this.#context.catalogue.runs.list({ active: true, limit: 1000 });
    if (active.some((other) => other.repositoryId === run.repositoryId)) return;
    const origin: RunOrigin = { startedBy: 'retry', dueAtMs: null, attempt: 0, done: null };
    await this.#announce(await this.begin(run.repositoryId, origin));
  }

  /** What a server that ended did not come to: repositories that runs have changed since they were looked into. */
  async catchUp(): Promise<void> {
    const { catalogue, logger } = this.#context;
    const ended = await catalogue.runs.list({ active: false, limit: CATCH_UP_RUNS });
    for (const { id: repositoryId, seenAtMs } of await catalogue.repositories.list()) {
      const changes = ended.filter((run) => run.repositoryId === repositoryId && CHANGING_RUNS.has(run.kind));
      if (changes.every(({ finishedAtMs }) => (finishedAtMs ?? 0) <= (seenAtMs ?? 0))) continue;
      try {
        await this.applyRetention(repositoryId);
      } catch (error) {
        logger.warn({ repositoryId, code: toAppError(error).code }, 'a repository could not be looked into');
      }
    }
  }

  /** Begins what is due. */
  async look(): Promise<void> {
    const { catalogue, clock, logger } = this.#context;
    await this.#clockWatch.look();
    const { maintenance } = await loadSettings(catalogue);
    for (const { id: repositoryId } of await catalogue.repositories.list()) {
      const state = await this.#loadState(repositoryId);
      const { doneUntilMs } = state;
      const answer = findDueRun({
        schedule: scheduleOf(maintenance),
        jobId: repositoryId,
        doneUntilMs,
        nowMs: clock.nowMs(),
      });
      if (answer.kind === 'clock-set-back') await this.#saveState(repositoryId, { ...state, ...answer });
      if (answer.kind !== 'due') continue;
      try {
        const startedBy = answer.isLate ? 'catch-up' : 'schedule';
        const origin: RunOrigin = { startedBy, dueAtMs: answer.dueMs, attempt: 0, done: null };
        await this.#announce(await this.begin(repositoryId, origin));
      } catch (error) {
        if (!isAppError(error) || error.code !== 'RUN_ALREADY_ACTIVE') {
          // Of this repository only: the others are not to wait for it.
          logger.warn({ repositoryId, code: toAppError(error).code }, 'a maintenance waits');
          continue;
        }
        logger.info({ repositoryId }, 'a maintenance was due, and one is at work');
      }
      // As it is by now: a run that ended meanwhile has written what it found.
      await this.#saveState(repositoryId, { ...(await this.#loadState(repositoryId)), doneUntilMs: answer.dueMs });
    }
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#context;
    while (!this.#stopping.signal.aborted) {
      try {
        await this.look();
      } catch (error) {
        logger.warn({ code: toAppError(error).code }, 'maintenance waits');
      }
      await clock.sleep(LOOK_EVERY_MS, this.#stopping.signal).catch(() => undefined);
    }
  }

  async #changePoints(
    input: { pointIds: string[]; repositoryId?: string },
    change: PointChange,
  ): Promise<PointsChanged> {
    const { catalogue } = this.#context;
    const wanted = new Set(input.pointIds);
    const byRepository = new Map<string, string[]>();
    const failed: PointsChanged['failed'] = [];
    for (const pointId of wanted) {
      const point = await this.#findPoint(pointId, input.repositoryId);
      if (point === null) failed.push({ pointId, error: pointNotFound(pointId).toBody() });
      else byRepository.set(point.repositoryId, [...(byRepository.get(point.repositoryId) ?? []), pointId]);
    }
    const points: PointRecord[] = [];
    for (const [repositoryId, pointIds] of byRepository) {
      failed.push(...(await this.#request(repositoryId, pointIds, change)).failed);
      await this.#repositories.refresh(repositoryId);
      points.push(
        ...(await catalogue.points.listByIds(pointIds)).filter((point) => point.repositoryId === repositoryId),
      );
    }
    return { points, failed };
  }

  /** @throws INPUT_INVALID when several repositories have it (a copy) and none is named */
  async #findPoint(pointId: string, repositoryId: string | undefined): Promise<PointRecord | null> {
    const places = (await this.#context.catalogue.points.listByIds([pointId])).filter(
      (point) => repositoryId === undefined || point.repositoryId === repositoryId,
    );
    if (places.length < 2) return places[0] ?? null;
    throw new AppError('INPUT_INVALID', `Several repositories have the version ${pointId}.`, {
      hint: 'Name the repository.',
      details: { pointId },
    });
  }

  async #request(
    repositoryId: string,
    pointIds: string[],
    change: PointChange,
  ): Promise<WorkerResults['change-points']> {
    const { catalogue, queue } = this.#context;
    const repository = found(await catalogue.repositories.load(repositoryId), 'repository', repositoryId);
    const address = await addressOf(catalogue, repository);
    return (await queue.request(
      { kind: 'change-points', repository: address, pointIds, change },
      { timeoutMs: CHANGE_TIMEOUT_MS },
    )) as WorkerResults['change-points'];
  }

  /** So much that the whole store is read within the days that the settings say. Null: nothing is due. */
  async #planVerification(repositoryId: string): Promise<Extract<WorkerTask, { kind: 'maintenance' }>['verify']> {
    const { maintenance } = await loadSettings(this.#context.catalogue);
    const { verifyDays, verifyMinutes } = maintenance;
    const storedBytes = (await this.#context.catalogue.repositories.load(repositoryId))?.stats?.storedBytes ?? 0;
    if (verifyDays === 0 || storedBytes === 0) return null;
    const { verification } = await this.#loadState(repositoryId);
    const sinceDays = verification === null ? 1 : (this.#context.clock.nowMs() - verification.atMs) / DAY_MS;
    const days = Math.min(Math.max(sinceDays, 1), verifyDays);
    const bytesMax = Math.max(VERIFY_BYTES_MIN, Math.ceil((storedBytes / verifyDays) * days));
    return { after: verification?.after ?? null, bytesMax, timeMs: verifyMinutes * MINUTE_MS };
  }

  async #takeResult(repositoryId: string, parts: readonly RunPartRecord[]): Promise<void> {
    const parsed = maintenanceResultSchema.safeParse(parts[0]?.result);
    if (!parsed.success) return;
    const nowMs = this.#context.clock.nowMs();
    const state = await this.#loadState(repositoryId);
    const { verification: done } = parsed.data;
    let { verification } = state;
    if (done !== null) {
      const isNewRound = verification === null || verification.after === null;
      const hasEnded = done.nextAfter === null;
      verification = {
        after: done.nextAfter,
        atMs: nowMs,
        roundStartedAtMs: isNewRound ? (parts[0]?.startedAtMs ?? nowMs) : (verification?.roundStartedAtMs ?? nowMs),
        lastRoundEndedAtMs: hasEnded ? nowMs : (verification?.lastRoundEndedAtMs ?? null),
        verifiedBytes: (isNewRound ? 0 : (verification?.verifiedBytes ?? 0)) + done.verifiedBytes,
        totalBytes: done.totalBytes,
      };
    }
    await this.#saveState(repositoryId, { ...state, isWaiting: parsed.data.state === 'waiting', verification });
  }

  async #loadState(repositoryId: string): Promise<MaintenanceState> {
    const { catalogue, clock } = this.#context;
    const parsed = stateSchema.safeParse(await catalogue.settings.load(stateKey(repositoryId)));
    if (parsed.success) return parsed.data;
    // The first maintenance is the next one by the clock.
    const state = { doneUntilMs: clock.nowMs(), isWaiting: false, verification: null };
    await this.#saveState(repositoryId, state);
    return state;
  }

  async #saveState(repositoryId: string, { doneUntilMs, isWaiting, verification }: MaintenanceState): Promise<void> {
    await this.#context.catalogue.settings.save(stateKey(repositoryId), { doneUntilMs, isWaiting, verification });
  }
}

function stateKey(repositoryId: string): string {
  return `maintenance ${repositoryId}`;
}

function scheduleOf({ enabled, time, timeZone }: Settings['maintenance']): Schedule {
  return scheduleSchema.parse({ enabled, timeZone, rules: [{ rule: { kind: 'daily', time } }] });
}

function pointNotFound(pointId: string): AppError {
  return new AppError('POINT_NOT_FOUND', `There is no version ${pointId}.`, {
    hint: 'Load the list of versions again.',
    details: { pointId },
  });
}

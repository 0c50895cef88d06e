import type { z } from 'zod';
import type {
  Retention,
  RetentionPreview,
  retentionPreviewInputSchema,
  RetentionSimulation,
  retentionSimulationInputSchema,
} from '../contract/api/retention.schema.ts';
import type { PointRecord } from '../database/index.ts';
import { assertSchedule, judgePoints, simulateRetention, type RetainedPoint } from '../policy/index.ts';
import { found, type OrchestrationContext } from './context.ts';

/** More versions than a repository has. */
const ALL_POINTS = 1_000_000;

/** Newest runs among which the last copy into a repository is looked for. */
const RUNS_LOOKED_AT = 1_000;

/** What retention would do, and does. Nothing is removed here. */
export class RetentionService {
  readonly #context: OrchestrationContext;

  constructor(context: OrchestrationContext) {
    this.#context = context;
  }

  /** Judges the versions that the repository held when it was last looked at. @throws NOT_FOUND */
  async preview(input: z.infer<typeof retentionPreviewInputSchema>): Promise<RetentionPreview> {
    const { catalogue, clock } = this.#context;
    const { repositoryId, machineIds, retention } = input;
    found(await catalogue.repositories.load(repositoryId), 'repository', repositoryId);
    const points = await catalogue.points.list({ repositoryId, limit: ALL_POINTS });
    const chosen = points.filter(({ machineId }) => machineIds === undefined || machineIds.includes(machineId));
    const machines = [...groupByMachine(chosen)].map(([machineId, points]) => {
      const reasons = judgePoints(points, retention, clock.nowMs());
      return {
        machineId,
        machineName: points[0]?.machineName ?? machineId,
        points: points.map((point) => ({
          pointId: point.id,
          createdAtMs: point.createdAtMs,
          state: point.state,
          storedBytes: point.disks.reduce((sum, disk) => sum + disk.storedBytes, 0),
          reasons: reasons.get(point.id) ?? [],
        })),
      };
    });
    const all = machines.flatMap(({ points }) => points);
    const removed = all.filter(({ reasons }) => reasons.length === 0);
    return {
      machines,
      keptCount: all.length - removed.length,
      removedCount: removed.length,
      removedStoredBytes: removed.reduce((sum, point) => sum + point.storedBytes, 0),
    };
  }

  /**
   * Versions that every job of their machine lets go of; of a machine that was never backed up into the repository, so
   * that its versions are copies, those that the repository's own rules let go of. A machine that some job keeps all
   * of, that no job backs up any more, or whose last run into the repository (for copies: the last copy) did not go
   * well, lets go of none: what does not grow must not shrink.
   */
  async plan(repositoryId: string): Promise<{ ofJobs: string[]; copies: string[] }> {
    const { catalogue } = this.#context;
    const rules = await this.#loadRules(repositoryId);
    const lastStates = new Map(
      (await catalogue.parts.listLastOfMachines({ repositoryId })).map((part) => [part.machineId, part.state]),
    );
    const lastCopy = (await catalogue.runs.list({ kind: 'copy', limit: RUNS_LOOKED_AT })).find(
      (run) => run.repositoryId === repositoryId && run.finishedAtMs !== null,
    );
    const planned: { ofJobs: string[]; copies: string[] } = { ofJobs: [], copies: [] };
    for (const [machineId, own] of groupByMachine(await catalogue.points.list({ repositoryId, limit: ALL_POINTS }))) {
      const jobRules = rules.ofJobs.get(machineId);
      // Without a job but with a run it has left its job, or is gone from its host: someone is to decide.
      if (jobRules === undefined && lastStates.has(machineId)) continue;
      const state = jobRules === undefined ? lastCopy?.state : lastStates.get(machineId);
      if (state !== 'success' && state !== 'warning') continue;
      const staying = this.#judge(own, jobRules ?? [rules.ofCopies]);
      const going = own.map(({ id }) => id).filter((id) => !staying.has(id));
      (jobRules === undefined ? planned.copies : planned.ofJobs).push(...going);
    }
    return planned;
  }

  /**
   * Which versions of the source are worth copying: those that the target would keep if it had all. What it would
   * let go of is not sent, or it would be sent again with every copy.
   * @returns null when it would keep all
   */
  async planCopy(sourceId: string, targetId: string): Promise<{ pointIds: string[]; leftOut: number } | null> {
    const { catalogue } = this.#context;
    const rules = await this.#loadRules(targetId);
    const there = groupByMachine(await catalogue.points.list({ repositoryId: targetId, limit: ALL_POINTS }));
    const wanted: string[] = [];
    let leftOut = 0;
    for (const [machineId, own] of groupByMachine(
      await catalogue.points.list({ repositoryId: sourceId, limit: ALL_POINTS }),
    )) {
      // A copy has another id and the time of its original. A lock at the source holds there alone.
      const times = new Set(own.map(({ createdAtMs }) => createdAtMs));
      const others = (there.get(machineId) ?? []).filter(({ createdAtMs }) => !times.has(createdAtMs));
      const candidates = own.map((point) => ({ ...point, lockedUntilMs: null }));
      const staying = this.#judge([...candidates, ...others], rules.ofJobs.get(machineId) ?? [rules.ofCopies]);
      const chosen = own.filter(({ id }) => staying.has(id));
      wanted.push(...chosen.map(({ id }) => id));
      leftOut += own.length - chosen.length;
    }
    return leftOut === 0 ? null : { pointIds: wanted, leftOut };
  }

  /** What some rule keeps; null as a rule keeps all. */
  #judge(points: readonly RetainedPoint[], rules: readonly (Retention | null)[]): Set<string> {
    const nowMs = this.#context.clock.nowMs();
    if (rules.includes(null)) return new Set(points.map(({ id }) => id));
    const judged = rules.map((rule) => (rule === null ? null : judgePoints(points, rule, nowMs)));
    return new Set(
      points.map(({ id }) => id).filter((id) => judged.some((reasons) => (reasons?.get(id) ?? []).length > 0)),
    );
  }

  /** By machine those of the jobs that back it up into the repository, and that of all others. */
  async #loadRules(
    repositoryId: string,
  ): Promise<{ ofJobs: Map<string, (Retention | null)[]>; ofCopies: Retention | null }> {
    const { catalogue } = this.#context;
    const repository = found(await catalogue.repositories.load(repositoryId), 'repository', repositoryId);
    const ofJobs = new Map<string, (Retention | null)[]>();
    for (const job of await catalogue.jobs.list()) {
      if (job.repositoryId !== repositoryId) continue;
      for (const machineId of job.machineIds) {
        ofJobs.set(machineId, [...(ofJobs.get(machineId) ?? []), job.options.retention]);
      }
    }
    return { ofJobs, ofCopies: repository.retention };
  }

  /** Which versions of a job stay. @throws NOT_FOUND */
  async setOfJob(jobId: string, retention: Retention | null): Promise<void> {
    const { catalogue, clock, events } = this.#context;
    await catalogue.transaction(async (tables) => {
      const job = found(await tables.jobs.load(jobId), 'job', jobId);
      await tables.jobs.change({ ...job, options: { ...job.options, retention }, updatedAtMs: clock.nowMs() });
    });
    events.emit({ type: 'changed', what: 'job', id: jobId });
  }

  /** @throws INPUT_INVALID */
  simulate(input: z.infer<typeof retentionSimulationInputSchema>): RetentionSimulation {
    const { retention, schedule, days, fromMs = this.#context.clock.nowMs() } = input;
    assertSchedule(schedule);
    return simulateRetention({ retention, schedule, fromMs, days });
  }
}

function groupByMachine(points: readonly PointRecord[]): Map<string, PointRecord[]> {
  const byMachine = new Map<string, PointRecord[]>();
  for (const point of points) {
    const own = byMachine.get(point.machineId);
    if (own === undefined) byMachine.set(point.machineId, [point]);
    else own.push(point);
  }
  return byMachine;
}

import type { z } from 'zod';
import type {
  Retention,
  RetentionPreview,
  retentionPreviewInputSchema,
  RetentionSimulation,
  retentionSimulationInputSchema,
} from '../contract/api/retention.schema.ts';
import type { PointRecord } from '../database/index.ts';
import { assertSchedule, judgePoints, simulateRetention } from '../policy/index.ts';
import { found, type OrchestrationContext } from './context.ts';

/** More versions than a repository has. */
const ALL_POINTS = 1_000_000;

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
    const byMachine = new Map<string, PointRecord[]>();
    for (const point of await catalogue.points.list({ repositoryId, limit: ALL_POINTS })) {
      if (machineIds !== undefined && !machineIds.includes(point.machineId)) continue;
      byMachine.set(point.machineId, [...(byMachine.get(point.machineId) ?? []), point]);
    }
    const machines = [...byMachine].map(([machineId, points]) => {
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
   * Versions that every job of their machine lets go of. A machine that some job of the repository keeps all
   * of, or whose last run did not go well, lets go of none: what does not grow must not shrink.
   */
  async plan(repositoryId: string): Promise<{ pointIds: string[] }> {
    const { catalogue, clock } = this.#context;
    const rules = new Map<string, (Retention | null)[]>();
    for (const job of await catalogue.jobs.list()) {
      if (job.repositoryId !== repositoryId) continue;
      for (const machineId of job.machineIds) {
        rules.set(machineId, [...(rules.get(machineId) ?? []), job.options.retention]);
      }
    }
    const lastStates = new Map(
      (await catalogue.parts.listLastOfMachines()).map((part) => [part.machineId, part.state]),
    );
    const points = await catalogue.points.list({ repositoryId, limit: ALL_POINTS });
    const pointIds: string[] = [];
    for (const [machineId, retentions] of rules) {
      const state = lastStates.get(machineId);
      if (state !== 'success' && state !== 'warning') continue;
      const own = points.filter((point) => point.machineId === machineId);
      const judged = retentions.map((rule) => (rule === null ? null : judgePoints(own, rule, clock.nowMs())));
      for (const { id } of own) {
        if (judged.every((reasons) => reasons !== null && (reasons.get(id) ?? []).length === 0)) pointIds.push(id);
      }
    }
    return { pointIds };
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

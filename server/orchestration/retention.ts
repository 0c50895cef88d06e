import type { z } from 'zod';
import type {
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

/** What retention would do. Nothing is removed here. */
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
      // Locks are not in the catalogue yet, nor in any repository.
      const judged = points.map(({ id, createdAtMs, state }) => ({ id, createdAtMs, state, lockedUntilMs: null }));
      const reasons = judgePoints(judged, retention, clock.nowMs());
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

  /** @throws INPUT_INVALID */
  simulate(input: z.infer<typeof retentionSimulationInputSchema>): RetentionSimulation {
    const { retention, schedule, days, fromMs = this.#context.clock.nowMs() } = input;
    assertSchedule(schedule);
    return simulateRetention({ retention, schedule, fromMs, days });
  }
}

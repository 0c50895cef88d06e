import type { PointChange } from '../../contract/task.ts';
import type { WorkerResults } from '../../contract/task-result.ts';
import { isAppError } from '../../errors/index.ts';
import type { KeptRepository } from '../../repository/index.ts';

/** What concerns one version only. */
const REFUSALS = new Set(['POINT_NOT_FOUND', 'POINT_LOCKED', 'CONFLICT']);

/** Moves versions to the trash or back, or locks them; one that is refused does not keep the others. */
export async function changePoints(
  repository: KeptRepository,
  pointIds: readonly string[],
  change: PointChange,
): Promise<WorkerResults['change-points']> {
  const failed: WorkerResults['change-points']['failed'] = [];
  for (const pointId of pointIds) {
    try {
      await changePoint(repository, pointId, change);
    } catch (error) {
      if (!isAppError(error) || !REFUSALS.has(error.code)) throw error;
      failed.push({ pointId, error: error.toBody() });
    }
  }
  return { failed };
}

async function changePoint(repository: KeptRepository, pointId: string, change: PointChange): Promise<void> {
  switch (change.verb) {
    case 'delete':
      await repository.deletePoint(pointId, change);
      return;
    case 'restore':
      await repository.restorePoint(pointId);
      return;
    case 'lock':
      await repository.lockPoint(pointId, change.untilMs);
      return;
  }
}

import type { LogLine } from '../../contract/run.ts';
import type { CopyResult } from '../../contract/task-result.ts';
import type { WorkerTask } from '../../contract/task.ts';
import { AppError } from '../../errors/index.ts';
import type { TaskContext } from '../../queue/index.ts';
import { copyPoints, type KeptRepository } from '../../repository/index.ts';
import { SpeedMeter, type Clock } from '../../runtime/index.ts';

/** Copies versions from one repository into another, telling how far it is. */
export async function copyVersions(
  repositories: { source: KeptRepository; target: KeptRepository },
  task: Extract<WorkerTask, { kind: 'copy' }>,
  context: TaskContext,
  clock: Clock,
): Promise<CopyResult> {
  const speed = new SpeedMeter(clock);
  const say = (level: LogLine['level'], code: string, text: string, details: NonNullable<LogLine['details']>): void =>
    context.report({ kind: 'log', line: { atMs: clock.nowMs(), level, code, text, details } });
  let seenBytes = 0;
  const { copied, present, repaired, failed } = await copyPoints({
    ...repositories,
    pointIds: task.pointIds,
    signal: context.signal,
    begin: ({ machineName, pointId }, { number, count }) => {
      seenBytes = 0;
      say('info', 'COPY_BEGUN', `Version ${pointId} of ${machineName}, ${number} of ${count}.`, {
        machine: machineName,
        pointId,
        number,
        count,
      });
    },
    progress: ({ doneBytes, totalBytes }) => {
      speed.add(Math.max(0, doneBytes - seenBytes));
      seenBytes = doneBytes;
      const bytesPerSecond = speed.bytesPerSecond();
      const remainingSeconds = bytesPerSecond === 0 ? null : Math.round((totalBytes - doneBytes) / bytesPerSecond);
      context.report({
        kind: 'progress',
        progress: { stage: 'writing', totalBytes, doneBytes, bytesPerSecond, remainingSeconds, disks: [] },
      });
    },
  });
  for (const { pointId, text } of failed) say('error', 'COPY_POINT_FAILED', `${pointId}: ${text}`, { pointId, text });
  for (const { targetPointId } of repaired) {
    say('info', 'COPY_REPAIRED', `Version ${targetPointId} was damaged here and is whole again.`, {
      pointId: targetPointId,
    });
  }
  say('info', 'COPY_DONE', `${copied.length} versions copied and compared; ${present} were there already.`, {
    copied: copied.length,
    present,
    failed: failed.length,
  });
  const sum = (of: 'readBytes' | 'storedBytes'): number => copied.reduce((total, one) => total + one[of], 0);
  return {
    state: failed.length === 0 ? 'success' : 'failed',
    error: failed.length === 0 ? null : describeFailures(failed).toBody(),
    copied: copied.map(({ pointId, targetPointId }) => ({ pointId, targetPointId })),
    present,
    failed,
    readBytes: sum('readBytes'),
    storedBytes: sum('storedBytes'),
    holdReleased: true,
  };
}

function describeFailures(failed: readonly { pointId: string; text: string }[]): AppError {
  return new AppError(
    'REPOSITORY_CHUNK_DAMAGED',
    `${failed.length} versions could not be copied. The first: ${failed[0]?.text ?? ''}`,
    { hint: 'Check the source; the versions that were copied are whole.', details: { versions: failed.length } },
  );
}

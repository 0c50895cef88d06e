import type { CheckDepth } from '../../contract/run.ts';
import type { CheckResult } from '../../contract/task-result.ts';
import type { TaskContext } from '../../queue/index.ts';
import type { Repository } from '../../repository/index.ts';
import { SpeedMeter, type Clock } from '../../runtime/index.ts';

/** Checks a repository, telling how far it is. */
export async function checkFolder(
  repository: Repository,
  depth: CheckDepth,
  context: TaskContext,
  clock: Clock,
): Promise<CheckResult> {
  return repository.check({
    depth,
    noteDamage: true,
    signal: context.signal,
    progress: createCheckProgress(context, clock),
  });
}

/** Tells the server how far a check is, with its speed. */
export function createCheckProgress(
  context: TaskContext,
  clock: Clock,
): (done: { bytes: number; totalBytes: number }) => void {
  const speed = new SpeedMeter(clock);
  let seenBytes = 0;
  return ({ bytes, totalBytes }) => {
    speed.add(Math.max(0, bytes - seenBytes));
    seenBytes = bytes;
    const bytesPerSecond = speed.bytesPerSecond();
    context.report({
      kind: 'progress',
      progress: {
        stage: 'verifying',
        totalBytes,
        doneBytes: bytes,
        bytesPerSecond,
        remainingSeconds: bytesPerSecond === 0 ? null : Math.round((totalBytes - bytes) / bytesPerSecond),
        disks: [],
      },
    });
  };
}

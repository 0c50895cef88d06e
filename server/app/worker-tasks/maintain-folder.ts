import type { LogLine, RunStage } from '../../contract/run.ts';
import type { MaintenanceResult } from '../../contract/task-result.ts';
import type { WorkerTask } from '../../contract/task.ts';
import type { TaskContext } from '../../queue/index.ts';
import type { CollectStage, KeptRepository } from '../../repository/index.ts';
import { createCheckProgress } from './check-folder.ts';
import { formatBytes, type Clock } from '../../runtime/index.ts';

const STAGES: Record<CollectStage, RunStage> = {
  marking: 'planning',
  rewriting: 'writing',
  waiting: 'waiting',
  removing: 'finishing',
};

/** Ends deletions whose time is over, removes what no version needs, reads a part again; tells how far it is. */
export async function maintainFolder(
  repository: KeptRepository,
  task: Extract<WorkerTask, { kind: 'maintenance' }>,
  context: TaskContext,
  clock: Clock,
): Promise<MaintenanceResult> {
  let shown: CollectStage | null = null;
  const say = (code: string, text: string, details: NonNullable<LogLine['details']>): void =>
    context.report({ kind: 'log', line: { atMs: clock.nowMs(), level: 'info', code, text, details } });
  const report = await repository.collect({
    patienceMs: task.patienceMs,
    signal: context.signal,
    progress: ({ stage }) => {
      if (stage === shown) return;
      shown = stage;
      const progress = { totalBytes: 0, doneBytes: 0, bytesPerSecond: 0, remainingSeconds: null, disks: [] };
      context.report({ kind: 'progress', progress: { ...progress, stage: STAGES[stage] } });
    },
  });
  const { purgedPoints, removedPacks, removedBytes, writtenBytes, waitingFor } = report;
  const freedBytes = Math.max(0, removedBytes - writtenBytes);
  say(
    'MAINTENANCE_FREED',
    `${purgedPoints.length} versions were removed for good; ${formatBytes(freedBytes)} came free.`,
    { points: purgedPoints.length, freedBytes, packs: removedPacks },
  );
  if (report.state === 'waiting') {
    say(
      'MAINTENANCE_WAITS',
      'Runs at work may need some of what is to be removed; the next maintenance goes on with it.',
      { runs: waitingFor.length },
    );
  }
  if (task.verify === null) return { ...report, verification: null, damages: [] };
  const { part: verification, damages } = await repository.check({
    depth: 'hashes',
    part: task.verify,
    noteDamage: true,
    signal: context.signal,
    progress: createCheckProgress(context, clock),
  });
  if (verification !== null) {
    const { verifiedBytes, totalBytes } = verification;
    say('MAINTENANCE_VERIFIED', `${formatBytes(verifiedBytes)} of ${formatBytes(totalBytes)} were read again.`, {
      verifiedBytes,
      totalBytes,
    });
  }
  return { ...report, verification, damages };
}

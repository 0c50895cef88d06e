import type { LogLine, RunStage } from '../../contract/run.ts';
import type { MaintenanceResult } from '../../contract/task-result.ts';
import type { WorkerTask } from '../../contract/task.ts';
import { isAppError } from '../../errors/index.ts';
import type { TaskContext } from '../../queue/index.ts';
import type { CollectOptions, CollectReport, CollectStage, KeptRepository } from '../../repository/index.ts';
import { createCheckProgress } from './check-folder.ts';
import { formatBytes, type Clock } from '../../runtime/index.ts';

const STAGES: Record<CollectStage, RunStage> = {
  marking: 'planning',
  rewriting: 'writing',
  waiting: 'waiting',
  removing: 'finishing',
};

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

type Say = (code: string, text: string, details: NonNullable<LogLine['details']>, level?: LogLine['level']) => void;

/** What was done when nothing could be removed. */
const KEPT_ALL: CollectReport = {
  ...{ state: 'done', waitingFor: [], purgedPoints: [], spared: [], keptPoints: 0, fencedSessions: [] },
  ...{ packs: 0, removedPacks: 0, removedBytes: 0, writtenBytes: 0, missingChunks: 0 },
};

/** On a WriteOnce share nothing comes free, which is what the share is for: the rest of the maintenance goes on. */
async function collectOrKeep(repository: KeptRepository, say: Say, options: CollectOptions): Promise<CollectReport> {
  try {
    return await repository.collect(options);
  } catch (error) {
    if (!isAppError(error) || error.code !== 'STORAGE_WRITE_ONCE') throw error;
    say(
      'MAINTENANCE_WRITE_ONCE',
      'Nothing can be removed from this share (WriteOnce). No room comes free until its time to keep files is over; reading and checking go on.',
      {},
      'warning',
    );
    return KEPT_ALL;
  }
}

/** Ends deletions whose time is over, removes what no version needs, reads a part again; tells how far it is. */
export async function maintainFolder(
  repository: KeptRepository,
  task: Extract<WorkerTask, { kind: 'maintenance' }>,
  context: TaskContext,
  clock: Clock,
): Promise<MaintenanceResult> {
  let shown: CollectStage | null = null;
  const say: Say = (code, text, details, level = 'info') =>
    context.report({ kind: 'log', line: { atMs: clock.nowMs(), level, code, text, details } });
  const doubt = task.clockDoubt ?? null;
  if (doubt !== null) {
    const days = Math.round(doubt.aheadMs / DAY_MS);
    const hours = Math.max(1, Math.ceil(doubt.settlesInMs / HOUR_MS));
    say(
      'MAINTENANCE_CLOCK_AHEAD',
      `The clock was set forward by ${days} days. What lies in the trash is not removed early by that: set the clock right, or leave it; after it has run on for ${hours} hours it is believed.`,
      { days, hours },
      'warning',
    );
  }
  const { spared, ...report } = await collectOrKeep(repository, say, {
    patienceMs: task.patienceMs,
    clockAheadMs: doubt?.aheadMs ?? 0,
    readPoints: task.readPoints ?? [],
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
  if (spared.length > 0) {
    say(
      'MAINTENANCE_SPARED',
      `${spared.length} versions of the trash stay although their time is over: they are being restored, exported, downloaded or copied. The next maintenance removes them.`,
      { points: spared.length },
    );
  }
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

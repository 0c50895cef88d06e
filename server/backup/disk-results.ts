import type { DiskResult, LogLine, TransferStats } from '../contract/run.ts';
import type { PointManifest } from '../repository/index.ts';
import { formatBytes } from '../runtime/index.ts';
import type { Note } from '../source/index.ts';

import type { DiskRun } from './disk-run.ts';
import { labelOf, parseEvidence, type PointEvidence } from './point-record.ts';

const BOTTLENECKS: Record<NonNullable<DiskResult['bottleneck']>, string> = {
  host: "the host's reading",
  network: 'the way from the host',
  limit: 'the speed limit that is set',
  processor: 'the processor of this machine',
  repository: 'the storage of the repository',
};

export function describeDisk(run: DiskRun): DiskResult {
  const { disk } = run.frozen;
  return {
    key: disk.key,
    label: disk.label,
    sizeBytes: disk.sizeBytes,
    kind: run.failure === null ? run.kind : 'failed',
    why: run.why,
    route: run.plan.route,
    stats: transferStats(run),
    seconds: run.bottleneck.seconds,
    bottleneck: run.bottleneck.verdict({ route: run.plan.route, ...run.report }),
  };
}

function transferStats(run: DiskRun): TransferStats {
  return {
    nominalBytes: run.frozen.disk.sizeBytes,
    readBytes: run.report.readBytes,
    sentBytes: run.report.wireBytes,
    storedBytes: run.stats?.storedBytes ?? 0,
    // The writer knows them as zeros.
    zeroBytes: Math.max(0, (run.stats?.zeroBytes ?? 0) - run.skippedBytes),
    duplicateBytes: run.stats?.duplicateBytes ?? 0,
    ...(run.skippedBytes > 0 ? { skippedBytes: run.skippedBytes } : {}),
  };
}

/** What became of a disk, in one line of the log. */
export function explainDisk(
  { key, label, kind, route, stats, seconds, bottleneck }: DiskResult,
  verifiedBytes: number,
): Note {
  const { skippedBytes = 0 } = stats;
  const parts = [
    `${formatBytes(stats.readBytes)} read by ${route ?? 'no way'} in ${seconds.toFixed(1)} s`,
    `${formatBytes(stats.storedBytes)} added to the repository`,
    ...(skippedBytes > 0 ? [`${formatBytes(skippedBytes)} of free space and swap left out, zeros when restored`] : []),
    ...(verifiedBytes > 0 ? [`${formatBytes(verifiedBytes)} of the rest found unchanged`] : []),
    ...(bottleneck === null ? [] : [`limited by ${BOTTLENECKS[bottleneck]}`]),
  ];
  const { readBytes, sentBytes, storedBytes } = stats;
  const details = {
    disk: key,
    label,
    kind,
    route,
    readBytes,
    sentBytes,
    storedBytes,
    verifiedBytes,
    skippedBytes,
    bottleneck,
  };
  return { level: 'info', code: 'DISK_DONE', text: `${label} (${key}): ${parts.join(', ')}.`, details };
}

/** What the version has as zeros although the disk did not; empty where there is nothing of that. */
export function describeSkipped(run: DiskRun | undefined): Pick<PointEvidence['disks'][number], 'skipped'> {
  if (run === undefined || (run.skippedBytes === 0 && !run.inheritsSkipped)) return {};
  const volumes = run.skipped?.volumes ?? [];
  return { skipped: { bytes: run.skippedBytes, isInherited: run.inheritsSkipped, volumes } };
}

/** Whether a disk is missing against the task's wish, as opposed to by its choice. */
export function isGap(disk: DiskResult): boolean {
  return disk.kind === 'failed' || disk.why.code === 'DISK_NOT_PROTECTABLE';
}

export function absentDisk(disk: { key: string; label: string; sizeBytes: number }, why: LogLine): DiskResult {
  return {
    key: disk.key,
    label: disk.label,
    sizeBytes: disk.sizeBytes,
    kind: 'excluded',
    why,
    route: null,
    stats: { ...sumStats([]), nominalBytes: disk.sizeBytes },
    seconds: 0,
    bottleneck: null,
  };
}

/** The disks of a point that an earlier attempt of this run committed, as far as the point tells. */
export function diskResultsOfPoint(point: PointManifest): DiskResult[] {
  const evidence = parseEvidence(point.evidence);
  return point.disks.map((disk) => {
    const told = evidence?.disks.find((candidate) => candidate.key === disk.key);
    return {
      key: disk.key,
      label: labelOf(disk.facts, disk.key),
      sizeBytes: disk.sizeBytes,
      kind: told?.kind ?? 'everything',
      why: { atMs: point.createdAtMs, level: 'info', code: 'RUN_COMMITTED_BEFORE', text: told?.why ?? '' },
      route: told?.route ?? null,
      stats: {
        nominalBytes: disk.sizeBytes,
        readBytes: disk.stats.deliveredBytes,
        sentBytes: disk.stats.deliveredBytes,
        storedBytes: disk.stats.storedBytes,
        zeroBytes: disk.stats.zeroBytes,
        duplicateBytes: disk.stats.duplicateBytes,
      },
      seconds: 0,
      bottleneck: null,
    };
  });
}

export function sumStats(disks: readonly DiskResult[]): TransferStats {
  const sum: TransferStats = {
    nominalBytes: 0,
    readBytes: 0,
    sentBytes: 0,
    storedBytes: 0,
    zeroBytes: 0,
    duplicateBytes: 0,
  };
  for (const { stats } of disks) {
    sum.nominalBytes += stats.nominalBytes;
    sum.readBytes += stats.readBytes;
    sum.sentBytes += stats.sentBytes;
    sum.storedBytes += stats.storedBytes;
    sum.zeroBytes += stats.zeroBytes;
    sum.duplicateBytes += stats.duplicateBytes;
    if (stats.skippedBytes !== undefined) sum.skippedBytes = (sum.skippedBytes ?? 0) + stats.skippedBytes;
  }
  return sum;
}

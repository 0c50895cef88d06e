import type { ErrorBody } from './error-codes.ts';

/** States of a run, of one machine in it, of a restore. The worst of the parts decides the whole. */
export type RunState = 'waiting' | 'running' | 'success' | 'warning' | 'incomplete' | 'failed' | 'cancelled';

/** From harmless to worst; a run takes the worst state of its machines. */
export const RUN_STATE_ORDER: readonly RunState[] = ['success', 'warning', 'cancelled', 'incomplete', 'failed'];

export type RunStage =
  | 'waiting'
  | 'connecting'
  | 'freezing'
  | 'planning'
  | 'reading'
  | 'committing'
  | 'thawing'
  | 'preparing'
  | 'writing'
  | 'verifying'
  | 'finishing'
  | 'done';

/**
 * How far a check goes. `structure`: everything is where it must be; `checksums`: every stored byte is as it was
 * written, too, which tells rot; `hashes`: every content, restored in memory, is what its identity names, too.
 */
export const CHECK_DEPTHS = ['structure', 'checksums', 'hashes'] as const;
export type CheckDepth = (typeof CHECK_DEPTHS)[number];

/** A line of a run's log: a code that the window translates, an English sentence, its parts. */
export interface LogLine {
  atMs: number;
  level: 'info' | 'warning' | 'error';
  code: string;
  text: string;
  details?: Record<string, string | number | boolean | null>;
}

/** Live numbers of one machine of a run. Sent often, kept nowhere but in the last one. */
export interface MachineProgress {
  stage: RunStage;
  /** Bytes of disks to deal with and dealt with in this stage; unchanged and zero areas are not counted. */
  totalBytes: number;
  doneBytes: number;
  /** Over the last seconds. */
  bytesPerSecond: number;
  remainingSeconds: number | null;
  /** Since when the stage is the same and no bytes have come; absent while that is no matter. */
  stillSinceMs?: number;
  disks: {
    key: string;
    label: string;
    totalBytes: number;
    doneBytes: number;
    route: string | null;
    /** What holds it up at the moment; absent while that is not known. */
    waitsFor?: LiveBottleneck;
  }[];
}

/** `source`: the host or the way to it; which of the two is known at the end only. `limit`: the speed that was set. */
export type LiveBottleneck = 'source' | 'limit' | 'processor' | 'repository';

/** What a machine's part of a backup run left behind. */
export interface BackupResult {
  state: Exclude<RunState, 'waiting' | 'running'>;
  pointId: string | null;
  error: ErrorBody | null;
  stats: TransferStats;
  disks: DiskResult[];
  consistency: { level: string; requested: string; evidence: string } | null;
  /** True when the snapshot is proven gone (or never was): the hold can be forgotten. */
  holdReleased: boolean;
  /** The machine as it was found, for the catalogue. */
  identity: unknown;
  startedAtMs: number;
  finishedAtMs: number;
}

export interface TransferStats {
  nominalBytes: number;
  /** Read from disks on the host. */
  readBytes: number;
  /** Over the wire. */
  sentBytes: number;
  /** Added to the repository. */
  storedBytes: number;
  zeroBytes: number;
  duplicateBytes: number;
  /** Neither read nor stored, since the guest does not need them: zeros in the version. Absent: none. */
  skippedBytes?: number;
}

/** What of a volume a version does without. */
export interface SkippedVolume {
  /** Of its partition; 0 for a disk without partitions; from 1001 for logical volumes. */
  number: number;
  kind: 'ext4' | 'xfs' | 'ntfs' | 'swap' | null;
  skippedBytes: number;
  /** Why nothing was left out though that was chosen; an English clause. */
  reason: string | null;
}

export interface DiskResult {
  key: string;
  label: string;
  sizeBytes: number;
  kind: 'changed' | 'allocated' | 'everything' | 'excluded' | 'failed';
  why: LogLine;
  route: string | null;
  stats: TransferStats;
  seconds: number;
  /** Where most of the time went. `limit`: into waiting for the speed that was set. */
  bottleneck: 'host' | 'network' | 'limit' | 'processor' | 'repository' | null;
}

export interface RestoreResult {
  state: Exclude<RunState, 'waiting' | 'running'>;
  error: ErrorBody | null;
  /** The restored machine as the host knows it now; null for an export. */
  machine: unknown;
  writtenBytes: number;
  verifiedBytes: number;
  holdReleased: boolean;
  startedAtMs: number;
  finishedAtMs: number;
}

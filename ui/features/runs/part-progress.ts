import type { RunPartView } from '../../api/types.ts';

type Progress = NonNullable<RunPartView['progress']>;

/** In the other stages nothing is counted: how far they are is not known. */
const COUNTED: readonly Progress['stage'][] = ['reading', 'writing', 'verifying'];

/** What is known of how far a live part is; bar and number are told the same. */
export interface Measured {
  /** From 0 to 1. */
  share: number;
  doneBytes: number;
  totalBytes: number;
  /** Null until something has moved. */
  bytesPerSecond: number | null;
  remainingSeconds: number | null;
}

/** Null while there is nothing to measure: the bar then shows that something happens, and no number is shown. */
export function measure(part: Pick<RunPartView, 'state' | 'progress'>): Measured | null {
  const { progress } = part;
  if (progress === null || progress.totalBytes === 0 || !COUNTED.includes(progress.stage)) return null;
  const { totalBytes, bytesPerSecond } = progress;
  const doneBytes = Math.min(progress.doneBytes, totalBytes);
  const hasMoved = doneBytes > 0;
  return {
    share: doneBytes / totalBytes,
    doneBytes,
    totalBytes,
    bytesPerSecond: hasMoved ? bytesPerSecond : null,
    remainingSeconds: hasMoved ? progress.remainingSeconds : null,
  };
}

/** Nothing is known of a disk before its bytes are counted. */
export function shareOf(disk: Progress['disks'][number]): number {
  return disk.totalBytes === 0 ? 0 : Math.min(1, disk.doneBytes / disk.totalBytes);
}

import type { Extent } from '../disk/index.ts';
import type { FrozenMachine } from '../source/index.ts';

/** What a checkpoint remembers beside the chunks: which snapshot they are of, and what of it arrived. */
export interface CheckpointFacts {
  version: 1;
  hold: string;
  /** Tells this snapshot from a later one under the same hold. */
  snapshot: SnapshotPrint;
  createdAtMs: number;
  disks: CheckpointDisk[];
}

export interface CheckpointDisk {
  key: string;
  sizeBytes: number;
  /** The version whose bytes stand where nothing was delivered; null: zeros. */
  base: { pointId: string; key: string } | null;
  /** Offset and length by turns, in bytes: what was delivered. */
  arrived: number[];
  /** The change map was found wrong: only a full read may end this disk. */
  distrusted: boolean;
}

/** What no two snapshots of a machine share. */
export interface SnapshotPrint {
  frozenAtMs: number;
  disks: { key: string; sizeBytes: number; changeToken: string | null }[];
}

export function takeSnapshotPrint(frozen: FrozenMachine): SnapshotPrint {
  return {
    frozenAtMs: frozen.frozenAtMs,
    disks: frozen.disks.map(({ disk, changeToken }) => ({ key: disk.key, sizeBytes: disk.sizeBytes, changeToken })),
  };
}

/**
 * Whether two prints are of one snapshot. Data of two snapshots must never meet in one point, so the
 * time and every disk's size and change token have to agree.
 */
export function isSameSnapshot(a: SnapshotPrint, b: SnapshotPrint): boolean {
  if (a.frozenAtMs !== b.frozenAtMs || a.disks.length !== b.disks.length) return false;
  return a.disks.every((disk) =>
    b.disks.some(
      (other) => other.key === disk.key && other.sizeBytes === disk.sizeBytes && other.changeToken === disk.changeToken,
    ),
  );
}

/** Facts that this version wrote for this hold; null for anything else, which means starting anew. */
export function parseCheckpointFacts(facts: unknown, hold: string): CheckpointFacts | null {
  if (typeof facts !== 'object' || facts === null) return null;
  const candidate = facts as Partial<CheckpointFacts>;
  if (candidate.version !== 1 || candidate.hold !== hold) return null;
  if (!Array.isArray(candidate.disks) || typeof candidate.snapshot !== 'object') return null;
  return candidate as CheckpointFacts;
}

export function flattenExtents(extents: readonly Extent[]): number[] {
  return extents.flatMap((extent) => [extent.offsetBytes, extent.lengthBytes]);
}

export function unflattenExtents(numbers: readonly number[]): Extent[] {
  const extents: Extent[] = [];
  for (let index = 0; index + 1 < numbers.length; index += 2) {
    extents.push({ offsetBytes: numbers[index] ?? 0, lengthBytes: numbers[index + 1] ?? 0 });
  }
  return extents;
}

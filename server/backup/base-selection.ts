import { toAppError } from '../errors/index.ts';
import type { PointDisk, PointDiskManifest, PointManifest, Repository } from '../repository/index.ts';
import type { MachineDisk } from '../source/index.ts';

import { diskUuidOf } from './point-record.ts';

/** The disk of an earlier point that a new version builds on. */
export interface Base {
  pointId: string;
  createdAtMs: number;
  manifest: PointDiskManifest;
  disk: PointDisk;
}

/**
 * Earlier versions of one disk, best first. The newest comes first even when its point is
 * incomplete: a point holds only disks that are whole in it, and the nearest version means the least
 * to read. A disk is the same when its UUID agrees, wherever it is plugged in now; without UUIDs, or
 * where a UUID is not unique (clones keep it), when it has the same key.
 *
 * @param points of this machine, newest first
 */
export function findBaseCandidates(
  points: readonly PointManifest[],
  disk: MachineDisk,
): { point: PointManifest; disk: PointDiskManifest }[] {
  const candidates: { point: PointManifest; disk: PointDiskManifest }[] = [];
  for (const point of points) {
    const match = matchDisk(point, disk);
    if (match !== null) candidates.push({ point, disk: match });
  }
  return candidates;
}

function matchDisk(point: PointManifest, disk: MachineDisk): PointDiskManifest | null {
  const sameKey = point.disks.find((candidate) => candidate.key === disk.key);
  if (disk.diskUuid === null) return sameKey ?? null;
  if (sameKey !== undefined) {
    const uuid = diskUuidOf(sameKey.facts);
    if (uuid === null || uuid === disk.diskUuid) return sameKey;
  }
  const sameUuid = point.disks.filter((candidate) => diskUuidOf(candidate.facts) === disk.diskUuid);
  return sameUuid.length === 1 ? (sameUuid[0] ?? null) : null;
}

/** How many versions back a readable base is looked for. */
const BASES_TRIED_MAX = 3;

/**
 * Opens the best base that can be opened.
 * @param unreadable told of each version that could not
 */
export async function openBase(
  repository: Repository,
  points: readonly PointManifest[],
  disk: MachineDisk,
  unreadable: (pointId: string, message: string) => void,
): Promise<Base | null> {
  for (const candidate of findBaseCandidates(points, disk).slice(0, BASES_TRIED_MAX)) {
    try {
      const point = await repository.openPoint(candidate.point.pointId);
      return {
        pointId: candidate.point.pointId,
        createdAtMs: candidate.point.createdAtMs,
        manifest: candidate.disk,
        disk: await point.openDisk(candidate.disk.key),
      };
    } catch (error) {
      unreadable(candidate.point.pointId, toAppError(error).message);
    }
  }
  return null;
}

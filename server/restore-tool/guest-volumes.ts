import type { DiskReader } from '../disk/index.ts';
import { AppError, isAbort, isAppError } from '../errors/index.ts';
import { findVolumes, type DiskVolume, type GuestFileSystem } from '../filesystem/index.ts';
import type { Point } from '../repository/index.ts';

/** A disk of a version, opened as far as it can be read. */
export interface GuestDisk<T> {
  key: string;
  sizeBytes: number;
  volumes: T[];
  /** Why its volumes cannot be told: what is stored of it is damaged. */
  trouble: AppError | null;
}

/**
 * Looks for something on the disks of a version, one after the other, each beside the others of its machine; one that
 * cannot be read hides no other.
 * @param diskKey only this one; null: all
 * @throws NOT_FOUND for the disk
 */
export async function lookAtDisks<T>(
  point: Point,
  diskKey: string | null,
  look: (disk: DiskReader, others: readonly DiskReader[]) => Promise<T[]>,
): Promise<GuestDisk<T>[]> {
  const { manifest } = point;
  const disks: GuestDisk<T>[] = [];
  const readers = await Promise.all(manifest.disks.map(({ key }) => point.openDisk(key)));
  for (const [index, { key, sizeBytes }] of manifest.disks.entries()) {
    if (diskKey !== null && key !== diskKey) continue;
    const disk: GuestDisk<T> = { key, sizeBytes, volumes: [], trouble: null };
    try {
      const others = readers.filter((_, number) => number !== index);
      disk.volumes = await look(readers[index] as DiskReader, others);
    } catch (error) {
      if (!isAppError(error) || isAbort(error)) throw error;
      disk.trouble = error;
    }
    disks.push(disk);
  }
  if (diskKey === null || disks.length > 0) return disks;
  throw new AppError('NOT_FOUND', `Version ${manifest.pointId} has no disk ${diskKey}.`, {
    hint: `Its disks are: ${manifest.disks.map(({ key }) => key).join(', ')}.`,
  });
}

/** A file system of a version that a command goes on with. */
export interface ChosenVolume {
  diskKey: string;
  number: number;
  system: GuestFileSystem;
}

/**
 * The one volume that is meant: of the given number, or the only one that holds a file system which is read.
 * @throws NOT_FOUND, INPUT_INVALID where several could be meant, FILESYSTEM_*, and what hinders reading the disks
 */
export async function chooseVolume(
  point: Point,
  wanted: { diskKey: string | null; number: number | null },
  signal: AbortSignal,
): Promise<ChosenVolume> {
  const disks = await lookAtDisks(point, wanted.diskKey, (disk, others) => findVolumes(disk, signal, others));
  const volumes = disks.flatMap(({ key, volumes: found }) => found.map((volume) => ({ diskKey: key, volume })));
  const meant = volumes.filter(({ volume }) => wanted.number === null || volume.number === wanted.number);
  const readable = meant.flatMap(({ diskKey, volume: { number, system } }) =>
    system === null ? [] : [{ diskKey, number, system }],
  );
  const [chosen, ...others] = readable;
  if (chosen !== undefined && others.length === 0) return chosen;
  if (chosen !== undefined) {
    const places = readable.map(({ diskKey, number }) => `--disk ${diskKey} --volume ${number}`).join(', ');
    throw new AppError('INPUT_INVALID', 'More than one volume could be meant.', { hint: `Name one: ${places}.` });
  }
  throw (
    disks.find(({ trouble }) => trouble !== null)?.trouble ??
    meant.find(({ volume }) => volume.failure !== null)?.volume.failure ??
    nothingToRead(meant.map(({ volume }) => volume))
  );
}

function nothingToRead(meant: readonly DiskVolume[]): AppError {
  return meant.length === 0
    ? new AppError('NOT_FOUND', 'The version has no such volume.', { hint: 'List its volumes: files VERSION.' })
    : new AppError('FILESYSTEM_UNSUPPORTED', 'There is no file system that Dozo reads.', {
        hint: 'Restore the disk and mount it where its system runs.',
      });
}

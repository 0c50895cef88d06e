import type { DiskReader } from '../disk/index.ts';

import type { Volume } from './filesystem.ts';
import { findForeignMark, openFileSystem, type ForeignKind, type VolumeContent } from './open-file-system.ts';
import { readPartitions } from './partitions.ts';
import { readSwapArea } from './swap-area.ts';

/** A volume of a disk and what it holds. */
export interface DiskVolume extends VolumeContent {
  /** The number of its partition; 0 for a disk without partitions. Names it within its disk. */
  number: number;
  offsetBytes: number;
  sizeBytes: number;
  /** Type of its partition; null for a disk without partitions. */
  partitionType: string | null;
  /** Where it is a swap area: how many bytes from its start must stay for it to be used again. */
  swapKeepBytes: number | null;
}

/**
 * The volumes of a disk: its partitions, or the disk as a whole. A table that contradicts itself, or that lies
 * beside a file system over the whole disk, leaves all its volumes with `freeUnknown`.
 * Rejects only with what reading the disk throws.
 */
export async function findVolumes(disk: DiskReader, signal?: AbortSignal): Promise<DiskVolume[]> {
  const table = await readPartitions(disk, signal);
  const whole = await openFileSystem(disk, signal);
  if (table === null) {
    const swapKeepBytes = whole.system === null ? await readSwapArea(disk, signal) : null;
    return [{ number: 0, offsetBytes: 0, sizeBytes: disk.sizeBytes, partitionType: null, swapKeepBytes, ...whole }];
  }
  const isDoubtful = whole.system !== null || whole.failure !== null;
  const trouble = isDoubtful ? 'the disk bears the mark of a file system without partitions as well' : table.trouble;
  const volumes: DiskVolume[] = [];
  for (const { number, offsetBytes, sizeBytes, type } of table.partitions) {
    const volume = volumeOf(disk, { offsetBytes, sizeBytes });
    const content = await openFileSystem(volume, signal);
    const swapKeepBytes = content.system === null && trouble === null ? await readSwapArea(volume, signal) : null;
    const freeUnknown = trouble ?? content.freeUnknown;
    volumes.push({ number, offsetBytes, sizeBytes, partitionType: type, swapKeepBytes, ...content, freeUnknown });
  }
  return volumes;
}

/** What a volume is marked as that is none of the file systems that Dozo reads; null where nothing is known. */
export async function recogniseForeign(
  disk: DiskReader,
  { offsetBytes, sizeBytes }: DiskVolume,
  signal?: AbortSignal,
): Promise<ForeignKind | null> {
  return (await findForeignMark(volumeOf(disk, { offsetBytes, sizeBytes }), signal))?.kind ?? null;
}

function volumeOf(disk: DiskReader, { offsetBytes, sizeBytes }: { offsetBytes: number; sizeBytes: number }): Volume {
  return {
    sizeBytes,
    read: (withinBytes, lengthBytes, signal) => disk.read(offsetBytes + withinBytes, lengthBytes, signal),
  };
}

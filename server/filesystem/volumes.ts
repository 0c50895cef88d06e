import type { DiskReader, Extent } from '../disk/index.ts';

import type { Volume } from './filesystem.ts';
import { findLogicalVolumes, type FoundLogicalVolume } from './logical-volumes.ts';
import { findForeignMark, openFileSystem, type ForeignKind, type VolumeContent } from './open-file-system.ts';
import { readPartitions } from './partitions.ts';
import { readSwapArea } from './swap-area.ts';

/** A volume of a disk and what it holds. */
export interface DiskVolume extends VolumeContent {
  /**
   * The number of its partition; 0 for a disk without partitions; from 1001 for logical ones. Names it within its disk.
   */
  number: number;
  /** Of a logical volume: its group and name, parted by `/`. Null for any other. */
  name: string | null;
  /** Where it begins on the disk. */
  offsetBytes: number;
  sizeBytes: number;
  /** Type of its partition; null for a disk without partitions and for logical volumes. */
  partitionType: string | null;
  /** Where it is a swap area: how many bytes from its start must stay for it to be used again. */
  swapKeepBytes: number | null;
  /** It is a physical volume of LVM: the logical ones on it follow by themselves. */
  isPhysical: boolean;
  /** The volume by itself. */
  reader: Volume;
  /** Where bytes of it lie on the disk, in no order; nowhere for one that is not read. */
  onDisk(extent: Extent): Extent[];
}

/** Numbers of logical volumes begin behind those of partitions. */
const LOGICAL_NUMBERS_FROM = 1001;

/**
 * The volumes of a disk: its partitions, or the disk as a whole, then the logical volumes of LVM on them. A table that
 * contradicts itself, or that lies beside a file system over the whole disk, leaves all its volumes with `freeUnknown`.
 * Rejects only with what reading the disk throws.
 *
 * @param others other disks of the machine: logical volumes may go on there. Nothing on those is ever said to be free
 */
export async function findVolumes(
  disk: DiskReader,
  signal?: AbortSignal,
  others: readonly DiskReader[] = [],
): Promise<DiskVolume[]> {
  const table = await readPartitions(disk, signal);
  const whole = await openFileSystem(disk, signal);
  const isDoubtful = table !== null && (whole.system !== null || whole.failure !== null);
  const doubt = isDoubtful
    ? 'the disk bears the mark of a file system without partitions as well'
    : (table?.trouble ?? null);
  const volumes: DiskVolume[] = [];
  const parts = table?.partitions ?? [{ number: 0, offsetBytes: 0, sizeBytes: disk.sizeBytes, type: null }];
  for (const { number, offsetBytes, sizeBytes, type } of parts) {
    const reader = table === null ? disk : volumeOf(disk, { offsetBytes, sizeBytes });
    volumes.push({
      number,
      name: null,
      offsetBytes,
      sizeBytes,
      partitionType: type,
      isPhysical: false,
      reader,
      onDisk: (extent) => [{ offsetBytes: offsetBytes + extent.offsetBytes, lengthBytes: extent.lengthBytes }],
      ...(table === null ? await contentOf(reader, whole, null, signal) : await readContent(reader, doubt, signal)),
    });
  }
  return [...volumes, ...(await addLogical({ disk, others }, volumes, doubt, signal))];
}

/** Looks for physical volumes where no file system is, and gives the logical volumes on them. */
async function addLogical(
  { disk, others }: { disk: DiskReader; others: readonly DiskReader[] },
  volumes: readonly DiskVolume[],
  doubt: string | null,
  signal: AbortSignal | undefined,
): Promise<DiskVolume[]> {
  const empty = volumes.filter(({ system, failure }) => system === null && failure === null);
  const places = empty.map(({ offsetBytes, reader }) => ({ offsetBytes, volume: reader }));
  const found = await findLogicalVolumes(disk, places, others, signal);
  for (const [index, volume] of empty.entries()) {
    volume.isPhysical = found.physical.has(index);
    volume.failure = found.failures.get(index) ?? null;
  }
  const logical: DiskVolume[] = [];
  for (const [index, volume] of found.volumes.entries()) {
    logical.push(await openLogical(volume, LOGICAL_NUMBERS_FROM + index, doubt, signal));
  }
  return logical;
}

async function openLogical(
  { name, sizeBytes, mapped, failure, doubt }: FoundLogicalVolume,
  number: number,
  doubtOfDisk: string | null,
  signal: AbortSignal | undefined,
): Promise<DiskVolume> {
  const place = { number, name, sizeBytes, partitionType: null, isPhysical: false };
  if (mapped === null) {
    const freeUnknown = failure?.message ?? 'it is not read';
    const reader: Volume = { sizeBytes: 0, read: () => Promise.resolve(Buffer.alloc(0)) };
    const nothing = { system: null, failure, freeUnknown, swapKeepBytes: null, reader, onDisk: () => [] };
    return { ...place, offsetBytes: 0, ...nothing };
  }
  return {
    ...place,
    offsetBytes: mapped.onDisk({ offsetBytes: 0, lengthBytes: 1 })[0]?.offsetBytes ?? 0,
    reader: mapped,
    onDisk: (extent) => mapped.onDisk(extent),
    ...(await readContent(mapped, doubtOfDisk ?? doubt, signal)),
  };
}

type ReadContent = VolumeContent & Pick<DiskVolume, 'swapKeepBytes'>;

async function readContent(
  reader: Volume,
  doubt: string | null,
  signal: AbortSignal | undefined,
): Promise<ReadContent> {
  return contentOf(reader, await openFileSystem(reader, signal), doubt, signal);
}

async function contentOf(
  reader: Volume,
  content: VolumeContent,
  doubt: string | null,
  signal: AbortSignal | undefined,
): Promise<ReadContent> {
  const swapKeepBytes = content.system === null && doubt === null ? await readSwapArea(reader, signal) : null;
  return { ...content, swapKeepBytes, freeUnknown: doubt ?? content.freeUnknown };
}

/** What a volume is marked as that is none of the file systems that Dozo reads; null where nothing is known. */
export async function recogniseForeign({ reader }: DiskVolume, signal?: AbortSignal): Promise<ForeignKind | null> {
  return (await findForeignMark(reader, signal))?.kind ?? null;
}

function volumeOf(disk: DiskReader, { offsetBytes, sizeBytes }: { offsetBytes: number; sizeBytes: number }): Volume {
  return {
    sizeBytes,
    read: (withinBytes, lengthBytes, signal) => disk.read(offsetBytes + withinBytes, lengthBytes, signal),
  };
}

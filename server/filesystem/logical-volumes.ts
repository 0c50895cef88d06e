import type { DiskReader, Extent } from '../disk/index.ts';
import { AppError, isAbort, isAppError } from '../errors/index.ts';

import type { Volume } from './filesystem.ts';
import { parseVolumeGroup, type LogicalSegment, type LogicalVolume, type VolumeGroup } from './lvm-group.ts';
import { readPhysicalVolume, type PhysicalVolume } from './lvm-label.ts';
import { lvmDamaged } from './lvm-text.ts';
import { readPartitions } from './partitions.ts';

/** Where a volume lies that may be a physical volume of LVM. */
export interface PhysicalPlace {
  offsetBytes: number;
  volume: Volume;
}

/** A logical volume that begins on a disk, or of whose group a part is there. */
export interface FoundLogicalVolume {
  /** Group and name, as a guest's `/dev/group/name`. */
  name: string;
  sizeBytes: number;
  /** Null: it is not read, see `failure`. */
  mapped: MappedVolume | null;
  failure: AppError | null;
  /** Null: nothing speaks against what its file system says of free space. Else an English clause. */
  doubt: string | null;
}

export interface LogicalVolumes {
  volumes: FoundLogicalVolume[];
  /** What was given and is a physical volume, by its index. */
  physical: Set<number>;
  /** Physical volumes, by their index in what was given, whose group cannot be told, and why. */
  failures: Map<number, AppError>;
}

/**
 * The logical volumes of LVM2 that begin on a disk: linear and striped ones can be read, others are named.
 * Rejects only with what reading the disk throws.
 *
 * @param others other disks of the machine, looked at only where a group lies on them as well; one that cannot be
 *   read is as if it were not there
 */
export async function findLogicalVolumes(
  disk: DiskReader,
  places: readonly PhysicalPlace[],
  others: readonly DiskReader[],
  signal?: AbortSignal,
): Promise<LogicalVolumes> {
  const result: LogicalVolumes = { volumes: [], physical: new Set(), failures: new Map() };
  const held: HeldVolume[] = [];
  const groups: Groups = new Map();
  for (const [index, { offsetBytes, volume }] of places.entries()) {
    const physical = await readPhysicalVolume(volume, signal);
    if (physical === null) continue;
    result.physical.add(index);
    held.push({ physical, disk, offsetBytes, sizeBytes: volume.sizeBytes });
    if (physical.trouble !== null && physical.texts.length === 0) {
      result.failures.set(index, lvmDamaged(physical.trouble));
    }
    for (const text of physical.texts) {
      try {
        keepNewest(groups, parseVolumeGroup(text));
      } catch (error) {
        if (!isAppError(error)) throw error;
        physical.trouble ??= 'its description of the volume group is damaged';
        result.failures.set(index, error);
      }
    }
  }
  const all = [...held];
  if ([...groups.values()].some(({ group }) => !isWhole(group, held))) {
    for (const other of others) all.push(...(await readOtherDisk(other, groups, signal)));
  }
  for (const { group, sequences } of groups.values()) {
    const doubt = group.doubt ?? doubtOf(group, held) ?? (sequences.size > 1 ? 'its descriptions differ' : null);
    const volumes = group.logical.map((logical) => mapVolume(disk, group, logical, { held: all, doubt }));
    // Each is given once: by the disk that it begins on.
    result.volumes.push(...volumes.filter(({ mapped }) => mapped === null || mapped.startsHere));
  }
  return result;
}

function isWhole({ physical }: VolumeGroup, held: readonly HeldVolume[]): boolean {
  return [...physical.values()].every(({ uuid }) => held.some((one) => one.physical.uuid === uuid));
}

/** Physical volumes on another disk, and newer descriptions of groups that are known. */
async function readOtherDisk(disk: DiskReader, groups: Groups, signal: AbortSignal | undefined): Promise<HeldVolume[]> {
  const found: HeldVolume[] = [];
  try {
    const table = await readPartitions(disk, signal);
    for (const { offsetBytes, sizeBytes } of table?.partitions ?? [{ offsetBytes: 0, sizeBytes: disk.sizeBytes }]) {
      const read: Volume['read'] = (at, length, readSignal) => disk.read(offsetBytes + at, length, readSignal);
      const physical = await readPhysicalVolume({ sizeBytes, read }, signal);
      if (physical === null) continue;
      found.push({ physical, disk, offsetBytes, sizeBytes });
      for (const text of physical.texts) {
        const group = parseVolumeGroup(text);
        if (groups.has(group.id)) keepNewest(groups, group);
      }
    }
  } catch (error) {
    if (!isAppError(error) || isAbort(error)) throw error;
  }
  return found;
}

/** By their ids: the newest description, and the numbers of all that were found. */
type Groups = Map<string, { group: VolumeGroup; sequences: Set<number> }>;

interface HeldVolume {
  physical: PhysicalVolume;
  disk: DiskReader;
  offsetBytes: number;
  sizeBytes: number;
}

function keepNewest(groups: Groups, group: VolumeGroup): void {
  const known = groups.get(group.id);
  const sequences = known?.sequences ?? new Set();
  sequences.add(group.sequence);
  if (known === undefined || known.group.sequence < group.sequence) groups.set(group.id, { group, sequences });
}

/** What is free is sure only where the whole group is on the one disk, once, and at rest. */
function doubtOf(group: VolumeGroup, held: readonly HeldVolume[]): string | null {
  const ends: { from: number; to: number }[] = [];
  for (const [name, { uuid }] of group.physical) {
    const [here, ...doubles] = held.filter(({ physical }) => physical.uuid === uuid);
    if (here === undefined) return 'its volume group lies on other disks as well';
    if (doubles.length > 0) return 'two physical volumes have the same name';
    if (here.physical.trouble !== null) return here.physical.trouble;
    for (const { segments } of group.logical) {
      for (const { lengthBytes, places } of segments) {
        for (const { physical, offsetBytes } of places) {
          const from = here.offsetBytes + offsetBytes;
          if (physical === name) ends.push({ from, to: from + lengthBytes / places.length });
        }
      }
    }
  }
  ends.sort((a, b) => a.from - b.from);
  const isOverlapping = ends.some(({ from }, index) => from < (ends[index - 1]?.to ?? 0));
  return isOverlapping ? 'its logical volumes overlap' : null;
}

function mapVolume(
  disk: DiskReader,
  group: VolumeGroup,
  logical: LogicalVolume,
  known: { held: readonly HeldVolume[]; doubt: string | null },
): FoundLogicalVolume {
  const { name, sizeBytes, unreadable } = logical;
  const found: FoundLogicalVolume = {
    name: `${group.name}/${name}`,
    sizeBytes,
    mapped: null,
    failure: null,
    doubt: known.doubt ?? logical.doubt,
  };
  const segments: MappedSegment[] = [];
  let reason = unreadable;
  for (const segment of unreadable === null ? logical.segments : []) {
    const starts = segment.places.map(({ physical, offsetBytes }) => {
      const uuid = group.physical.get(physical)?.uuid;
      const here = known.held.find((one) => one.physical.uuid === uuid);
      if (here === undefined) reason ??= 'it lies on other disks as well';
      else if (offsetBytes + segment.lengthBytes / segment.places.length > here.sizeBytes)
        reason ??= 'it reaches over the end of its disk';
      return { disk: here?.disk ?? disk, offsetBytes: (here?.offsetBytes ?? 0) + offsetBytes };
    });
    segments.push({ ...segment, starts });
  }
  if (reason === null) found.mapped = new MappedVolume(disk, sizeBytes, segments);
  else {
    found.failure = new AppError(
      'FILESYSTEM_UNSUPPORTED',
      `Dozo does not read this logical volume of LVM: ${reason}.`,
      {
        hint: 'The disk as a whole is backed up and restored regardless. Restore the disks to get at its files.',
        details: { kind: 'lvm', fact: reason },
      },
    );
  }
  return found;
}

interface MappedSegment extends LogicalSegment {
  /** Where it begins, a place each. */
  starts: { disk: DiskReader; offsetBytes: number }[];
}

/** A volume that is put together from stretches of a disk, and of others. */
export class MappedVolume implements Volume {
  readonly sizeBytes: number;
  readonly #disk: DiskReader;
  readonly #segments: readonly MappedSegment[];

  constructor(disk: DiskReader, sizeBytes: number, segments: readonly MappedSegment[]) {
    this.#disk = disk;
    this.sizeBytes = sizeBytes;
    this.#segments = segments;
  }

  /** Whether its first byte lies on the disk that it was looked for on. */
  get startsHere(): boolean {
    return this.#segments[0]?.starts[0]?.disk === this.#disk;
  }

  async read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    const result = Buffer.alloc(lengthBytes);
    for (const piece of this.#pieces({ offsetBytes, lengthBytes })) {
      const { segment, turn, disk, onDisk, fromBytes } = piece;
      const bytes = await disk.read(onDisk.offsetBytes, onDisk.lengthBytes, signal);
      const { startBytes, stripeBytes, places } = segment;
      for (let done = 0; done < bytes.length;) {
        const within = fromBytes + done;
        const round = Math.floor(within / stripeBytes);
        const length = Math.min(bytes.length - done, (round + 1) * stripeBytes - within);
        const at = startBytes + (round * places.length + turn) * stripeBytes + (within - round * stripeBytes);
        bytes.copy(result, at - offsetBytes, done, done + length);
        done += length;
      }
    }
    return result;
  }

  /** Where bytes of it lie on the disk; in no order. */
  onDisk(extent: Extent): Extent[] {
    return [...this.#pieces(extent)].flatMap(({ disk, onDisk }) => (disk === this.#disk ? [onDisk] : []));
  }

  /**
   * A stretch of a segment lies on each of its places in one run: by its turn, of which every so many bytes are its.
   */
  *#pieces({ offsetBytes, lengthBytes }: Extent): Generator<{
    segment: MappedSegment;
    turn: number;
    /** From the start of the segment's part on this place. */
    fromBytes: number;
    disk: DiskReader;
    onDisk: Extent;
  }> {
    const endBytes = offsetBytes + lengthBytes;
    for (const segment of this.#segments) {
      const from = Math.max(offsetBytes - segment.startBytes, 0);
      const to = Math.min(endBytes - segment.startBytes, segment.lengthBytes);
      if (from >= to) continue;
      for (const [turn, start] of segment.starts.entries()) {
        const fromBytes = bytesOnPlace(segment, turn, from);
        const length = bytesOnPlace(segment, turn, to) - fromBytes;
        if (length === 0) continue;
        const onDisk = { offsetBytes: start.offsetBytes + fromBytes, lengthBytes: length };
        yield { segment, turn, fromBytes, disk: start.disk, onDisk };
      }
    }
  }
}

/** How many of a segment's first bytes lie on the place whose turn it is. */
function bytesOnPlace({ stripeBytes, places }: LogicalSegment, turn: number, bytes: number): number {
  const round = Math.floor(bytes / (stripeBytes * places.length));
  const rest = bytes - round * stripeBytes * places.length - turn * stripeBytes;
  return round * stripeBytes + Math.min(Math.max(rest, 0), stripeBytes);
}

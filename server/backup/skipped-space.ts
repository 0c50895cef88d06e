import type { SkippedVolume } from '../contract/run.ts';
import {
  alignExtents,
  normalizeExtents,
  subtractExtents,
  totalBytes,
  type DiskReader,
  type DiskSink,
  type Extent,
} from '../disk/index.ts';
import { isAbort, isAppError, toAppError } from '../errors/index.ts';
import { findVolumes, type DiskVolume } from '../filesystem/index.ts';
import type { PointDisk } from '../repository/index.ts';
import { KIB, MIB } from '../runtime/index.ts';

/** What of a disk a version does without. */
export interface SkippedSpace {
  /** Whole chunks, normalized: nothing of them is worth keeping. Zeros in the version. */
  extents: Extent[];
  volumes: SkippedVolume[];
}

export interface SkipChoice {
  freeSpace: boolean;
  swap: boolean;
}

/** More runs than this cost more than they save: the shorter ones are read after all. */
const RUNS_MAX = 65_536;
/** Reads of a disk on a host are whole pages of it. */
const READ_UNIT_BYTES = 4 * KIB;
/** Page files of Windows at the root of their volume; it fills them anew with each start. */
const PAGE_FILES = ['/pagefile.sys', '/swapfile.sys'];

/**
 * Finds what need not be read of a frozen disk: chunks that lie within what its file systems call free and within
 * swap, as chosen. A chunk that is used in part is not among them. A volume that is not sure of its free space
 * gives nothing, and says why.
 *
 * @param disk the frozen disk as it is, not its earlier version: a change map may be wrong
 * @throws what reading the disk throws
 */
export async function findSkippedSpace(
  disk: DiskReader,
  choice: SkipChoice,
  chunkSizeBytes: number,
  signal: AbortSignal,
): Promise<SkippedSpace> {
  const chunks = new WholeChunks(chunkSizeBytes, disk.sizeBytes);
  const volumes: SkippedVolume[] = [];
  for (const volume of await findVolumes(disk, signal)) {
    const before = chunks.totalBytes;
    const reason = await skipVolume(volume, choice, chunks, signal);
    const kind = volume.system?.kind ?? (volume.swapKeepBytes === null ? null : 'swap');
    volumes.push({ number: volume.number, kind, skippedBytes: chunks.totalBytes - before, reason });
  }
  return { extents: chunks.extents(), volumes };
}

/** What of an earlier version cannot be built on. */
export interface ReadAgain {
  /** Normalized. */
  extents: Extent[];
  /** Other zeros of the version lie where nothing is needed now either, and stay. */
  isInherited: boolean;
}

/**
 * Finds what a version that left something out has as zeros, and what is not known to be free now. A guest can put
 * such space into use without writing to it any more: a file's data reach the disk before the records that claim
 * them, and a version frozen in between holds the one without the other. No change map speaks of that.
 *
 * @param skipped what is left out now, normalized
 * @returns areas within `sizeBytes`; of very many, neighbours are joined over what lies between them
 * @throws what the repository throws where the version is damaged
 */
export async function findReadAgain(
  version: Pick<PointDisk, 'dataExtents' | 'sizeBytes'>,
  sizeBytes: number,
  skipped: readonly Extent[],
): Promise<ReadAgain> {
  const endBytes = Math.min(version.sizeBytes, sizeBytes);
  let extents: Extent[] = [];
  let isInherited = false;
  let gapBytes = MIB;
  let at = 0;
  let nextSkipped = 0;
  const addZeros = (untilBytes: number): void => {
    if (untilBytes <= at) return;
    const zeros = { offsetBytes: at, lengthBytes: untilBytes - at };
    while (endOf(skipped[nextSkipped]) <= at) nextSkipped += 1;
    let behind = nextSkipped;
    while ((skipped[behind]?.offsetBytes ?? Infinity) < untilBytes) behind += 1;
    const rest = subtractExtents([zeros], skipped.slice(nextSkipped, behind));
    isInherited ||= totalBytes(rest) < zeros.lengthBytes;
    extents.push(...rest);
    if (extents.length <= RUNS_MAX) return;
    extents = joinNear(extents, gapBytes);
    // Enough room that this is seldom done.
    while (extents.length > RUNS_MAX * 0.9) extents = joinNear(extents, (gapBytes *= 2));
  };
  for await (const { offsetBytes, lengthBytes } of version.dataExtents()) {
    if (offsetBytes >= endBytes) break;
    addZeros(offsetBytes);
    at = offsetBytes + lengthBytes;
  }
  addZeros(endBytes);
  return { extents: normalizeExtents(extents), isInherited };
}

function endOf(extent: Extent | undefined): number {
  return extent === undefined ? Infinity : extent.offsetBytes + extent.lengthBytes;
}

function joinNear(areas: readonly Extent[], gapBytes: number): Extent[] {
  const joined: Extent[] = [];
  for (const area of areas) {
    const last = joined.at(-1);
    if (last !== undefined && area.offsetBytes - last.offsetBytes - last.lengthBytes <= gapBytes) {
      last.lengthBytes = area.offsetBytes + area.lengthBytes - last.offsetBytes;
    } else joined.push({ ...area });
  }
  return joined;
}

/** Adds what a volume can do without; gives the reason where that is nothing, though it was chosen. */
async function skipVolume(
  volume: DiskVolume,
  choice: SkipChoice,
  chunks: WholeChunks,
  signal: AbortSignal,
): Promise<string | null> {
  const { sizeBytes, swapKeepBytes } = volume;
  const add = (extent: Extent): void => volume.onDisk(extent).forEach((part) => chunks.add(part));
  if (swapKeepBytes !== null) {
    if (choice.swap) add({ offsetBytes: swapKeepBytes, lengthBytes: sizeBytes - swapKeepBytes });
    return null;
  }
  // Its logical volumes speak for themselves.
  if (volume.isPhysical && volume.failure === null) return null;
  if (volume.system === null || volume.freeUnknown !== null) {
    return choice.freeSpace ? volume.freeUnknown : null;
  }
  const found: Extent[] = [];
  try {
    if (choice.freeSpace) await gather(found, volume.system.freeExtents(signal), chunks);
    if (choice.swap && volume.system.kind === 'ntfs') await gatherPageFiles(found, volume, chunks, signal);
  } catch (error) {
    if (!isAppError(error) || !error.code.startsWith('FILESYSTEM_')) throw error;
    return error.message;
  }
  // Free runs and page files are of one volume that is sound to its end, or nothing of it is taken.
  for (const { offsetBytes, lengthBytes } of normalizeExtents(found)) {
    add({ offsetBytes, lengthBytes: Math.min(offsetBytes + lengthBytes, sizeBytes) - offsetBytes });
  }
  return null;
}

async function gatherPageFiles(
  found: Extent[],
  volume: DiskVolume,
  chunks: WholeChunks,
  signal: AbortSignal,
): Promise<void> {
  for (const path of PAGE_FILES) {
    try {
      const file = await volume.system?.open(path, signal);
      if (file?.extents !== undefined) await gather(found, file.extents(signal), chunks);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'FILESYSTEM_PATH_NOT_FOUND') throw error;
    }
  }
}

/** Only what may hold a chunk: a volume of tiny holes must not fill the memory. */
async function gather(found: Extent[], extents: AsyncIterable<Extent>, chunks: WholeChunks): Promise<void> {
  for await (const extent of extents) {
    if (extent.lengthBytes >= chunks.chunkSizeBytes) found.push(extent);
  }
}

/** Collects the whole chunks within runs of bytes that come in order. */
class WholeChunks {
  readonly chunkSizeBytes: number;
  readonly #sizeBytes: number;
  #runs: Extent[] = [];
  #shortestBytes = 0;

  constructor(chunkSizeBytes: number, sizeBytes: number) {
    this.chunkSizeBytes = chunkSizeBytes;
    this.#sizeBytes = sizeBytes;
  }

  get totalBytes(): number {
    return totalBytes(this.#runs);
  }

  add({ offsetBytes, lengthBytes }: Extent): void {
    const unit = this.chunkSizeBytes;
    const start = Math.ceil(offsetBytes / unit) * unit;
    const endBytes = offsetBytes + lengthBytes;
    // The last chunk of a disk may be shorter.
    const end = endBytes >= this.#sizeBytes ? this.#sizeBytes : Math.floor(endBytes / unit) * unit;
    if (end - start <= 0 || end - start < this.#shortestBytes) return;
    this.#runs.push({ offsetBytes: start, lengthBytes: end - start });
    while (this.#runs.length > RUNS_MAX) {
      this.#shortestBytes = Math.max(unit, this.#shortestBytes) * 2;
      this.#runs = this.#runs.filter((run) => run.lengthBytes >= this.#shortestBytes);
    }
  }

  extents(): Extent[] {
    return normalizeExtents(this.#runs);
  }
}

/** A disk on its host, read in small pieces through a transfer. */
export function transferReader(
  sizeBytes: number,
  transfer: (sink: DiskSink, extents: Extent[]) => Promise<void>,
): DiskReader {
  return {
    sizeBytes,
    async read(offsetBytes, lengthBytes) {
      const [wanted] = alignExtents([{ offsetBytes, lengthBytes }], READ_UNIT_BYTES, sizeBytes);
      if (wanted === undefined) return Buffer.alloc(0);
      const bytes = Buffer.alloc(wanted.lengthBytes);
      const sink: DiskSink = {
        write: (atBytes, data) => {
          const from = Math.max(atBytes, wanted.offsetBytes);
          const to = Math.min(atBytes + data.length, wanted.offsetBytes + wanted.lengthBytes);
          if (from < to) data.copy(bytes, from - wanted.offsetBytes, from - atBytes, to - atBytes);
          return Promise.resolve();
        },
        zero: () => Promise.resolve(),
      };
      await transfer(sink, [wanted]);
      return bytes.subarray(offsetBytes - wanted.offsetBytes, offsetBytes - wanted.offsetBytes + lengthBytes);
    },
  };
}

/** `extents` parted into what is to be read and the whole chunks that become zeros instead. */
export function partSkipped(
  extents: readonly Extent[],
  skipped: readonly Extent[],
  chunk: { sizeBytes: number; diskSizeBytes: number },
): { read: Extent[]; zero: Extent[] } {
  const touched = alignExtents(extents, chunk.sizeBytes, chunk.diskSizeBytes);
  return { read: subtractExtents(extents, skipped), zero: subtractExtents(touched, subtractExtents(touched, skipped)) };
}

/**
 * What a failure to look into a disk says for the log; the disk is then read as if nothing had been chosen.
 * @throws the error where it ends the run
 */
export function explainFailure(error: unknown): string {
  if (isAbort(error)) throw error;
  return toAppError(error).message;
}

import type { Extent } from '../disk/index.ts';
import { damaged, unsupported, type Volume } from './filesystem.ts';
import { decompressLznt1 } from './ntfs-lznt1.ts';
import {
  appendRuns,
  COMPRESSED,
  ENCRYPTED,
  type Attribute,
  type NonResidentAttribute,
  type Run,
} from './ntfs-record.ts';

/** Far above the 64 KiB that Windows makes. */
const COMPRESSION_UNIT_BYTES_MAX = 4 * 1024 * 1024;

export interface NtfsVolume {
  volume: Volume;
  clusterBytes: number;
  clusterCount: number;
}

/** The bytes of one attribute. */
export interface Stream {
  readonly sizeBytes: number;
  /** Exactly this range, within the size; holes and what was never written are zeros. */
  read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer>;
  /** Null where the bytes do not lie on the volume as they are. */
  readonly runs: readonly Run[] | null;
}

/**
 * @param pieces all pieces of one attribute, ascending
 * @throws FILESYSTEM_DAMAGED, FILESYSTEM_UNSUPPORTED for encrypted content
 */
export function openStream(ntfs: NtfsVolume, pieces: readonly Attribute[]): Stream {
  const first = pieces[0];
  if (first === undefined) throw damaged('ntfs', 'an attribute is missing');
  if ((first.flags & ENCRYPTED) !== 0) throw unsupported('ntfs', 'the file is encrypted (EFS)');
  if (first.resident) return residentStream(first.value);
  const runs: Run[] = [];
  for (const piece of pieces) {
    if (piece.resident) throw damaged('ntfs', 'an attribute is both inside and outside its record');
    appendRuns(runs, piece, ntfs.clusterCount);
  }
  return runStream(ntfs, first, runs);
}

function residentStream(value: Buffer): Stream {
  return {
    sizeBytes: value.length,
    runs: null,
    read: (offsetBytes, lengthBytes) => {
      assertWithin(value.length, offsetBytes, lengthBytes);
      return Promise.resolve(Buffer.from(value.subarray(offsetBytes, offsetBytes + lengthBytes)));
    },
  };
}

/** Runs may be appended later: the master file table finds the pieces of its own map that way. */
export function runStream(ntfs: NtfsVolume, first: NonResidentAttribute, runs: Run[]): Stream {
  const { sizeBytes } = first;
  const initializedBytes = Math.min(first.initializedBytes, sizeBytes);
  const compressed = (first.flags & COMPRESSED) !== 0 && first.compressionUnitLog > 0;
  const readPlain = compressed
    ? unitReader(ntfs, runs, first.compressionUnitLog)
    : (offsetBytes: number, lengthBytes: number, signal?: AbortSignal) =>
        readRuns(ntfs, runs, offsetBytes, lengthBytes, signal);
  return {
    sizeBytes,
    runs: compressed ? null : runs,
    async read(offsetBytes, lengthBytes, signal) {
      assertWithin(sizeBytes, offsetBytes, lengthBytes);
      const writtenBytes = Math.max(0, Math.min(lengthBytes, initializedBytes - offsetBytes));
      if (writtenBytes === 0) return Buffer.alloc(lengthBytes);
      const written = await readPlain(offsetBytes, writtenBytes, signal);
      return writtenBytes === lengthBytes ? written : Buffer.concat([written], lengthBytes);
    },
  };
}

/** Where the first `sizeBytes` bytes lie. */
export function* runExtents(ntfs: NtfsVolume, runs: readonly Run[], sizeBytes: number): Generator<Extent> {
  for (const run of runs) {
    const lengthBytes = Math.min(run.count * ntfs.clusterBytes, sizeBytes - run.vcn * ntfs.clusterBytes);
    if (run.lcn >= 0 && lengthBytes > 0) yield { offsetBytes: run.lcn * ntfs.clusterBytes, lengthBytes };
  }
}

function assertWithin(sizeBytes: number, offsetBytes: number, lengthBytes: number): void {
  if (offsetBytes < 0 || lengthBytes < 0 || offsetBytes + lengthBytes > sizeBytes)
    throw damaged('ntfs', 'something lies behind the end of its stream');
}

async function readRuns(
  ntfs: NtfsVolume,
  runs: readonly Run[],
  offsetBytes: number,
  lengthBytes: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const bytes = Buffer.alloc(lengthBytes);
  const endBytes = offsetBytes + lengthBytes;
  let at = offsetBytes;
  let index = runIndex(runs, Math.floor(offsetBytes / ntfs.clusterBytes));
  while (at < endBytes) {
    const run = runs[index];
    if (run === undefined) throw damaged('ntfs', 'a run list ends before its stream');
    const runStart = run.vcn * ntfs.clusterBytes;
    const pieceEnd = Math.min(endBytes, runStart + run.count * ntfs.clusterBytes);
    if (run.lcn >= 0) {
      const piece = await ntfs.volume.read(run.lcn * ntfs.clusterBytes + at - runStart, pieceEnd - at, signal);
      piece.copy(bytes, at - offsetBytes);
    }
    at = pieceEnd;
    index += 1;
  }
  return bytes;
}

/** The run that holds `vcn`, or one past the last. */
function runIndex(runs: readonly Run[], vcn: number): number {
  let low = 0;
  let high = runs.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const run = runs[middle] as Run;
    if (run.vcn + run.count <= vcn) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Compressed streams lie in units: a unit with all its clusters is plain, one with none is zeros, one with some
 * is compressed.
 */
function unitReader(ntfs: NtfsVolume, runs: readonly Run[], unitLog: number): Stream['read'] {
  const unitClusters = 2 ** unitLog;
  const unitBytes = unitClusters * ntfs.clusterBytes;
  if (unitBytes > COMPRESSION_UNIT_BYTES_MAX) throw damaged('ntfs', 'a compression unit of no real size');
  let lastUnit: { number: number; plain: Buffer } | null = null;

  async function readUnit(number: number, signal?: AbortSignal): Promise<Buffer> {
    if (lastUnit?.number === number) return lastUnit.plain;
    const clusters = allocatedClusters(runs, number * unitClusters, unitClusters);
    let plain = await readRuns(ntfs, runs, number * unitBytes, clusters * ntfs.clusterBytes, signal);
    if (clusters === 0) plain = Buffer.alloc(unitBytes);
    else if (clusters < unitClusters) plain = decompressLznt1(plain, unitBytes);
    lastUnit = { number, plain };
    return plain;
  }

  return async (offsetBytes, lengthBytes, signal) => {
    const bytes = Buffer.allocUnsafe(lengthBytes);
    for (let at = 0; at < lengthBytes;) {
      const number = Math.floor((offsetBytes + at) / unitBytes);
      const within = offsetBytes + at - number * unitBytes;
      const copied = (await readUnit(number, signal)).copy(bytes, at, within, within + lengthBytes - at);
      at += copied;
    }
    return bytes;
  };
}

/** How many clusters of a unit there are; they stand at its front. */
function allocatedClusters(runs: readonly Run[], firstVcn: number, unitClusters: number): number {
  let allocated = 0;
  let index = runIndex(runs, firstVcn);
  while (allocated < unitClusters) {
    const run = runs[index];
    if (run === undefined || run.lcn < 0) break;
    allocated = Math.min(unitClusters, run.vcn + run.count - firstVcn);
    index += 1;
  }
  return allocated;
}

import { webcrypto } from 'node:crypto';

import type { Extent } from '../disk/index.ts';
import { AppError } from '../errors/index.ts';
import type { PointDisk } from '../repository/index.ts';
import { MIB, formatBytes } from '../runtime/index.ts';

/** Chunks that follow each other are joined to writes of this size: a write costs a round trip. */
const WRITE_BYTES = 4 * MIB;
/** Writes under way at a time; with the one being gathered, 20 MiB of memory. */
const WRITES_AT_ONCE = 4;
/** The host is asked for the hashes of this much at a time: small enough for live progress. */
const HASHED_AT_ONCE_BYTES = 256 * MIB;

/** Where a disk is written: on a host, or into a file. */
export interface WritableDisk {
  /** What is never written reads as zero. Calls may overlap. */
  write(offsetBytes: number, data: Buffer, signal?: AbortSignal): Promise<void>;
  flush(signal?: AbortSignal): Promise<void>;
  /** SHA-256 of each range, lower-case hex, read back from where it was written. */
  hash(extents: readonly Extent[], signal?: AbortSignal): Promise<string[]>;
}

/** What was written, piece by piece, with the hash that it must have. Digests lie end to end. */
export interface WrittenDisk {
  extents: Extent[];
  digests: Buffer[];
  writtenBytes: number;
}

/** Bytes of a disk that are not zero: what a restore has to write. */
export async function countDataBytes(disk: PointDisk): Promise<number> {
  let bytes = 0;
  for await (const extent of disk.dataExtents()) bytes += extent.lengthBytes;
  return bytes;
}

/**
 * Writes all that is not zero of a disk, several writes at a time, and flushes. The store verifies
 * each chunk against its identity as it reads; the hash of each piece is taken of those bytes.
 */
export async function writeDisk(options: {
  disk: PointDisk;
  target: WritableDisk;
  signal: AbortSignal;
  wrote(bytes: number): void;
}): Promise<WrittenDisk> {
  const { disk, target, wrote } = options;
  // A failed write also ends the reading and the other writes.
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const written: WrittenDisk = { extents: [], digests: [], writtenBytes: 0 };
  const running = new Set<Promise<void>>();
  let failure: { cause: unknown } | null = null;
  const start = (piece: Piece): void => {
    const work = writePiece(piece, target, written, signal, wrote)
      .catch((error: unknown) => {
        failure ??= { cause: error };
        stop.abort(error);
      })
      .finally(() => running.delete(work));
    running.add(work);
  };
  try {
    for await (const piece of joinChunks(disk.stream({ signal }), WRITE_BYTES)) {
      while (running.size >= WRITES_AT_ONCE) await Promise.race(running);
      signal.throwIfAborted();
      start(piece);
    }
  } catch (error) {
    failure ??= { cause: error };
    stop.abort(error);
  }
  await Promise.all(running);
  throwFailure(failure);
  await target.flush(signal);
  return written;
}

// A function of its own, since the compiler does not see the assignments in the callbacks above.
function throwFailure(failure: { cause: unknown } | null): void {
  if (failure !== null) throw failure.cause;
}

async function writePiece(
  piece: Piece,
  target: WritableDisk,
  written: WrittenDisk,
  signal: AbortSignal,
  wrote: (bytes: number) => void,
): Promise<void> {
  const lengthBytes = piece.data.length;
  // WebCrypto hashes in the thread pool, so the event loop stays free for the channels to the host.
  const digest = Buffer.from(await webcrypto.subtle.digest('SHA-256', piece.data));
  await target.write(piece.offsetBytes, piece.data, signal);
  written.extents.push({ offsetBytes: piece.offsetBytes, lengthBytes });
  written.digests.push(digest);
  written.writtenBytes += lengthBytes;
  wrote(lengthBytes);
}

/**
 * Has everything that was written read back and hashed where it lies, and compares.
 * @throws DISK_VERIFY_FAILED at the first range that differs
 */
export async function verifyDisk(options: {
  target: WritableDisk;
  written: WrittenDisk;
  label: string;
  signal: AbortSignal;
  verified(bytes: number): void;
}): Promise<void> {
  const { target, written, label, signal, verified } = options;
  const order = written.extents.map((_, index) => index);
  order.sort((a, b) => offsetAt(written, a) - offsetAt(written, b));
  for (let from = 0; from < order.length;) {
    signal.throwIfAborted();
    let bytes = 0;
    let to = from;
    for (; to < order.length && bytes < HASHED_AT_ONCE_BYTES; to += 1) bytes += lengthAt(written, order[to] ?? 0);
    const batch = order.slice(from, to);
    const extents = batch.map((index) => ({
      offsetBytes: offsetAt(written, index),
      lengthBytes: lengthAt(written, index),
    }));
    const hashes = await target.hash(extents, signal);
    batch.forEach((index, position) => {
      if (written.digests[index]?.toString('hex') === hashes[position]?.toLowerCase()) return;
      const offsetBytes = offsetAt(written, index);
      throw new AppError('DISK_VERIFY_FAILED', `${label} reads back differently at ${formatBytes(offsetBytes)}.`, {
        hint: 'What was written is removed; the original is untouched. Check the datastore, then restore again.',
        details: { offsetBytes, lengthBytes: lengthAt(written, index) },
      });
    });
    verified(bytes);
    from = to;
  }
}

function offsetAt(written: WrittenDisk, index: number): number {
  return written.extents[index]?.offsetBytes ?? 0;
}

function lengthAt(written: WrittenDisk, index: number): number {
  return written.extents[index]?.lengthBytes ?? 0;
}

interface Piece {
  offsetBytes: number;
  data: Buffer;
}

/** Joins pieces that follow each other on the disk, up to a size; the order stays. */
export async function* joinChunks(chunks: AsyncIterable<Piece>, bytesMax: number): AsyncGenerator<Piece> {
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  let offsetBytes = 0;
  for await (const chunk of chunks) {
    const follows = gatheredBytes > 0 && chunk.offsetBytes === offsetBytes + gatheredBytes;
    if (gatheredBytes > 0 && (!follows || gatheredBytes + chunk.data.length > bytesMax)) {
      yield { offsetBytes, data: join(gathered) };
      gathered = [];
      gatheredBytes = 0;
    }
    if (gatheredBytes === 0) offsetBytes = chunk.offsetBytes;
    gathered.push(chunk.data);
    gatheredBytes += chunk.data.length;
  }
  if (gatheredBytes > 0) yield { offsetBytes, data: join(gathered) };
}

function join(parts: Buffer[]): Buffer {
  const [only] = parts;
  return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
}

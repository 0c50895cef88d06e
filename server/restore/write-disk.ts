import { createHash, type Hash } from 'node:crypto';

import { AppError } from '../errors/index.ts';
import type { PointDisk } from '../repository/index.ts';
import { MIB, formatBytes } from '../runtime/index.ts';
import type { Budget, HashedExtent } from '../source/index.ts';

/** Bytes that follow each other and are proven by one hash, asked of the host. */
const PIECE_BYTES_MAX = 4 * MIB;
/** Bytes given to the target and not taken yet. */
const UNDER_WAY_BYTES_MAX = 4 * MIB;
/** The host is asked for the hashes of this much at a time: small enough for live progress. */
const HASHED_AT_ONCE_BYTES = 256 * MIB;

/** Where a disk is written: on a host, or into a file. */
export interface WritableDisk {
  /** What is never written reads as zero. Calls may overlap. The bytes are given away: they may be empty after. */
  write(offsetBytes: number, data: Buffer, signal?: AbortSignal): Promise<void>;
  flush(signal?: AbortSignal): Promise<void>;
  /** Ranges with `chunkBytes` may be asked for. */
  readonly hashesChunks: boolean;
  /** SHA-256 of each range, lower-case hex, read back from where it was written. */
  hash(extents: readonly HashedExtent[], signal?: AbortSignal): Promise<string[]>;
}

/** What was written, piece by piece, with the hash that it must have. Digests lie end to end. */
export interface WrittenDisk {
  extents: HashedExtent[];
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
  /** Waited for before so much is given to the target. */
  budget?: Budget | undefined;
  wrote(bytes: number): void;
}): Promise<WrittenDisk> {
  const { disk, target, budget, wrote } = options;
  // A failed write also ends the reading and the other writes.
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const pieces = new PieceHasher(PIECE_BYTES_MAX);
  const running = new Set<Promise<void>>();
  let underWayBytes = 0;
  let failure: { cause: unknown } | null = null;
  const start = (offsetBytes: number, data: Buffer): void => {
    const lengthBytes = data.length;
    underWayBytes += lengthBytes;
    const work = target
      .write(offsetBytes, data, signal)
      .then(() => wrote(lengthBytes))
      .catch((error: unknown) => {
        failure ??= { cause: error };
        stop.abort(error);
      })
      .finally(() => {
        underWayBytes -= lengthBytes;
        running.delete(work);
      });
    running.add(work);
  };
  try {
    for await (const { offsetBytes, data, sha256 } of disk.stream({ signal })) {
      while (underWayBytes > UNDER_WAY_BYTES_MAX) await Promise.race(running);
      await budget?.(data.length);
      signal.throwIfAborted();
      pieces.add(offsetBytes, data, target.hashesChunks ? sha256 : null);
      start(offsetBytes, data);
    }
  } catch (error) {
    failure ??= { cause: error };
    stop.abort(error);
  }
  await Promise.all(running);
  throwFailure(failure);
  await target.flush(signal);
  return pieces.finish();
}

// A function of its own, since the compiler does not see the assignments in the callbacks above.
function throwFailure(failure: { cause: unknown } | null): void {
  if (failure !== null) throw failure.cause;
}

/**
 * Gives chunks that follow each other on the disk one hash, up to a size. Where a chunk comes with its own
 * hash, that of the piece is made of those: the store compared them with the bytes a moment ago. Else the
 * bytes are hashed, in this thread: handing them to another one costs more than hashing them.
 */
export class PieceHasher {
  readonly #bytesMax: number;
  readonly #written: WrittenDisk = { extents: [], digests: [], writtenBytes: 0 };
  #open: { extent: HashedExtent; hash: Hash; lastBytes: number } | null = null;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(offsetBytes: number, data: Buffer, sha256: Buffer | null): void {
    let open = this.#open;
    if (open === null || !this.#goesOn(open, offsetBytes, data.length, sha256 !== null)) {
      this.#close();
      const chunkBytes = sha256 === null ? null : data.length;
      open = { extent: { offsetBytes, lengthBytes: 0, chunkBytes }, hash: createHash('sha256'), lastBytes: 0 };
      this.#open = open;
    }
    open.hash.update(sha256 ?? data);
    open.extent.lengthBytes += data.length;
    open.lastBytes = data.length;
    this.#written.writtenBytes += data.length;
  }

  #goesOn(open: { extent: HashedExtent; lastBytes: number }, at: number, bytes: number, isByChunks: boolean): boolean {
    const { offsetBytes, lengthBytes, chunkBytes } = open.extent;
    const isNext = offsetBytes + lengthBytes === at && lengthBytes + bytes <= this.#bytesMax;
    // All chunks of a piece are of one size, but for a smaller one at its end.
    const fits = chunkBytes === null ? !isByChunks : isByChunks && open.lastBytes === chunkBytes && bytes <= chunkBytes;
    return isNext && fits;
  }

  finish(): WrittenDisk {
    this.#close();
    return this.#written;
  }

  #close(): void {
    const open = this.#open;
    if (open === null) return;
    this.#open = null;
    this.#written.extents.push(open.extent);
    this.#written.digests.push(open.hash.digest());
  }
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
    const extents = batch.flatMap((index) => written.extents[index] ?? []);
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

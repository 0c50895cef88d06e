import type { DiskReader } from '../disk/index.ts';
import { KIB, MIB } from '../runtime/index.ts';

/** What is read from below at a time: a chunk of a repository, as made by default. */
const BLOCK_BYTES = 256 * KIB;
const CACHE_BLOCKS_MAX = (16 * MIB) / BLOCK_BYTES;
/** Blocks read before they are asked for, once a reader has gone from one block into the next. */
const AHEAD_BLOCKS = 4;
/** Readers that go through the disk at once, each remembered by the block that it is expected at. */
const STREAMS_MAX = 16;

/** Reads whole blocks from below, keeps the latest, and reads ahead of whoever goes through in order. */
export class ReadAheadReader implements DiskReader {
  readonly sizeBytes: number;
  readonly #below: DiskReader;
  /** In the order of use. */
  readonly #blocks = new Map<number, Promise<Buffer>>();
  /** Blocks at which a sequential reader would arrive next. */
  readonly #expected = new Set<number>();

  constructor(below: DiskReader) {
    this.#below = below;
    this.sizeBytes = below.sizeBytes;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    const first = Math.floor(offsetBytes / BLOCK_BYTES);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / BLOCK_BYTES);
    const reads: Promise<Buffer>[] = [];
    for (let block = first; block <= last; block += 1) reads.push(this.#block(block));
    this.#readAhead(first, last);
    const start = offsetBytes - first * BLOCK_BYTES;
    if (first === last) return (await (reads[0] as Promise<Buffer>)).subarray(start, start + lengthBytes);
    return Buffer.concat(await Promise.all(reads)).subarray(start, start + lengthBytes);
  }

  /** Forgets what is cached of a range, since it is about to change below. */
  forget(offsetBytes: number, lengthBytes: number): void {
    const first = Math.floor(offsetBytes / BLOCK_BYTES);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / BLOCK_BYTES);
    for (const block of [...this.#blocks.keys()]) if (block >= first && block <= last) this.#blocks.delete(block);
  }

  #readAhead(first: number, last: number): void {
    const isSequential = this.#expected.delete(first) || last > first;
    this.#expected.delete(last + 1);
    this.#expected.add(last + 1);
    for (const oldest of this.#expected) {
      if (this.#expected.size <= STREAMS_MAX) break;
      this.#expected.delete(oldest);
    }
    if (!isSequential) return;
    const end = Math.min(last + 1 + AHEAD_BLOCKS, Math.ceil(this.sizeBytes / BLOCK_BYTES));
    // An error comes up again when the block is really asked for: it is not kept.
    for (let block = last + 1; block < end; block += 1) this.#block(block).catch(() => undefined);
  }

  #block(block: number): Promise<Buffer> {
    let reading = this.#blocks.get(block);
    if (reading !== undefined) {
      this.#blocks.delete(block);
    } else {
      const offsetBytes = block * BLOCK_BYTES;
      const started = this.#below.read(offsetBytes, Math.min(BLOCK_BYTES, this.sizeBytes - offsetBytes));
      started.catch(() => {
        if (this.#blocks.get(block) === started) this.#blocks.delete(block);
      });
      reading = started;
    }
    this.#blocks.set(block, reading);
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size <= CACHE_BLOCKS_MAX) break;
      this.#blocks.delete(oldest);
    }
    return reading;
  }
}

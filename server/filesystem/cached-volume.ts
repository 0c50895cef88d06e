import { KIB, MIB } from '../runtime/index.ts';

import type { Volume } from './filesystem.ts';

/** What is read at once for a small request: neighbours of a bitmap or an inode are asked for next. */
const BLOCK_BYTES = 64 * KIB;
const CACHE_BYTES = 8 * MIB;

/** A volume whose recently read blocks are kept; large reads pass by. For metadata, which is read in crumbs. */
export class CachedVolume implements Volume {
  readonly sizeBytes: number;
  readonly #inner: Volume;
  readonly #blocks = new Map<number, Promise<Buffer>>();

  constructor(inner: Volume) {
    this.#inner = inner;
    this.sizeBytes = inner.sizeBytes;
  }

  async read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    if (lengthBytes > BLOCK_BYTES) return this.#inner.read(offsetBytes, lengthBytes, signal);
    const first = Math.floor(offsetBytes / BLOCK_BYTES);
    const last = Math.floor((offsetBytes + Math.max(lengthBytes, 1) - 1) / BLOCK_BYTES);
    const parts: Buffer[] = [];
    for (let index = first; index <= last; index += 1) {
      const block = await this.#block(index, signal);
      const startBytes = Math.max(offsetBytes - index * BLOCK_BYTES, 0);
      const endBytes = Math.min(offsetBytes + lengthBytes - index * BLOCK_BYTES, block.length);
      parts.push(block.subarray(startBytes, endBytes));
    }
    // A copy: what a caller does to its bytes must not reach the next one.
    return Buffer.concat(parts);
  }

  #block(index: number, signal: AbortSignal | undefined): Promise<Buffer> {
    const known = this.#blocks.get(index);
    this.#blocks.delete(index);
    const offsetBytes = index * BLOCK_BYTES;
    const block = known ?? this.#inner.read(offsetBytes, Math.min(BLOCK_BYTES, this.sizeBytes - offsetBytes), signal);
    this.#blocks.set(index, block);
    if (known === undefined) {
      block.catch(() => {
        // Whoever asked hears of it; the next one asks anew.
        this.#blocks.delete(index);
      });
    }
    for (const oldest of this.#blocks.keys()) {
      if (this.#blocks.size * BLOCK_BYTES <= CACHE_BYTES) break;
      this.#blocks.delete(oldest);
    }
    return block;
  }
}

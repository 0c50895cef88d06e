import { KIB, MIB } from '../runtime/index.ts';

/** Smaller buffers cost less than looking after them. */
const POOLED_BYTES_MIN = 64 * KIB;
const IDLE_BYTES_MAX = 16 * MIB;

/**
 * Large buffers used again: fresh ones for every command are what a target of high throughput spends most time on, in
 * the collector and in the kernel's clearing of pages.
 */
export class BufferPool {
  /** By size, a power of two. */
  readonly #idle = new Map<number, ArrayBuffer[]>();
  #idleBytes = 0;

  /** A buffer of that length with any content. */
  take(lengthBytes: number): Buffer {
    if (lengthBytes < POOLED_BYTES_MIN) return Buffer.allocUnsafe(lengthBytes);
    const sizeBytes = 2 ** Math.ceil(Math.log2(lengthBytes));
    const known = this.#idle.get(sizeBytes)?.pop();
    if (known !== undefined) this.#idleBytes -= sizeBytes;
    return Buffer.from(known ?? new ArrayBuffer(sizeBytes), 0, lengthBytes);
  }

  /** Takes back what `take` gave, once nobody looks at it any more. */
  give(buffer: Buffer): void {
    if (buffer.length < POOLED_BYTES_MIN) return;
    const memory = buffer.buffer as ArrayBuffer;
    if (this.#idleBytes + memory.byteLength > IDLE_BYTES_MAX) return;
    const idle = this.#idle.get(memory.byteLength);
    if (idle === undefined) this.#idle.set(memory.byteLength, [memory]);
    else idle.push(memory);
    this.#idleBytes += memory.byteLength;
  }
}

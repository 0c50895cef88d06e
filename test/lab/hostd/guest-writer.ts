import { openSync, readSync, closeSync, statSync } from 'node:fs';
import type { WriterOptions } from './lab-options.ts';

const TICK_MS = 100;
const SAMPLE_BYTES = 8 * 1024 * 1024;

let sample: Buffer | undefined;

/** Bytes of a real program: they compress as programs do. */
function sampleBytes(): Buffer {
  if (sample === undefined) {
    const path = process.execPath;
    const size = Math.min(SAMPLE_BYTES, statSync(path).size);
    sample = Buffer.alloc(size);
    const file = openSync(path, 'r');
    readSync(file, sample, 0, size, 1024 * 1024);
    closeSync(file);
  }
  return sample;
}

export interface WritableDisk {
  node: string;
  sizeBytes: number;
  /** @throws when the datastore has no room */
  write(offsetBytes: number, data: Uint8Array): void;
}

/** Random numbers that repeat with the seed. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 4294967296;
  };
}

/** No two blocks are alike: each carries its number. */
export function blockOf(lengthBytes: number, random: () => number, number: number): Buffer {
  const source = sampleBytes();
  const start = Math.floor(random() * Math.max(1, source.length - lengthBytes));
  const block = Buffer.from(source.subarray(start, start + lengthBytes));
  if (block.length >= 16) block.writeBigUInt64LE(BigInt(number), 8 * Math.floor(random() * (block.length / 8 - 1)));
  return block;
}

/** A guest under load: writes blocks at random places of its disks at a steady rate. */
export class GuestWriter {
  readonly #disks: WritableDisk[];
  readonly #options: WriterOptions;
  readonly #random: () => number;
  readonly #blockBytes: number;
  readonly #isPaused: () => boolean;
  readonly #failed: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #credit = 0;
  #lastMs = 0;
  writtenBytes = 0;
  #blocks = 0;

  constructor(
    disks: WritableDisk[],
    options: WriterOptions,
    isPaused: () => boolean,
    failed: (error: unknown) => void,
  ) {
    this.#disks = disks;
    this.#options = options;
    this.#random = seededRandom((options.seed ?? 1) + Date.now());
    this.#blockBytes = options.blockBytes ?? 16384;
    this.#isPaused = isPaused;
    this.#failed = failed;
  }

  start(): void {
    this.#lastMs = performance.now();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #tick(): void {
    const nowMs = performance.now();
    const elapsedMs = Math.min(1000, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
    if (this.#isPaused()) return;
    this.#credit += (this.#options.bytesPerSecond * elapsedMs) / 1000;
    while (this.#credit >= this.#blockBytes) {
      this.#credit -= this.#blockBytes;
      const disk = this.#disks[Math.floor(this.#random() * this.#disks.length)];
      if (disk === undefined) return;
      const span = Math.floor((disk.sizeBytes * (this.#options.spanPercent ?? 100)) / 100);
      const places = Math.max(1, Math.floor((span - this.#blockBytes) / 4096));
      const offsetBytes = Math.floor(this.#random() * places) * 4096;
      const length = Math.min(this.#blockBytes, disk.sizeBytes - offsetBytes);
      try {
        disk.write(offsetBytes, blockOf(length, this.#random, ++this.#blocks));
        this.writtenBytes += length;
      } catch (error) {
        this.#failed(error);
        return;
      }
    }
  }
}

import { closeSync, openSync, readSync, readdirSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** What a new disk of the lab holds: files of this machine, laid out in pieces with holes between. */
export interface Fill {
  /** Share of the disk that is written. */
  percent: number;
  /** Other seeds give other places and other files. */
  seed?: number;
  /** Folders whose files are taken, in order. */
  folders?: string[];
}

const PIECE_BYTES = 4 * 1024 * 1024;
const CHUNK_BYTES = 1024 * 1024;

/** Endless stream of the bytes of real files; from the second round on each byte is changed by the round. */
class Corpus {
  readonly #files: { path: string; sizeBytes: number }[] = [];
  #index = 0;
  #file: number | null = null;
  #round = 0;

  constructor(folders: readonly string[], seed: number) {
    for (const folder of folders) collect(folder, this.#files);
    if (this.#files.length === 0) throw new Error('no files to fill a disk with');
    this.#index = (seed * 7919) % this.#files.length;
  }

  fill(buffer: Buffer): void {
    let done = 0;
    while (done < buffer.length) {
      if (this.#file === null) {
        const next = this.#files[this.#index];
        this.#index = (this.#index + 1) % this.#files.length;
        if (this.#index === 0) this.#round += 1;
        if (next === undefined) continue;
        try {
          this.#file = openSync(next.path, 'r');
        } catch {
          continue;
        }
      }
      const count = readSync(this.#file, buffer, done, buffer.length - done, null);
      if (count === 0) {
        closeSync(this.#file);
        this.#file = null;
        // Files begin on a block of their own, as in a file system.
        const blockEnd = Math.min(buffer.length, Math.ceil(done / 4096) * 4096);
        buffer.fill(0, done, blockEnd);
        done = blockEnd;
      } else {
        if (this.#round > 0) for (let i = done; i < done + count; i++) buffer[i] = (buffer[i] ?? 0) ^ this.#round;
        done += count;
      }
    }
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }
}

function collect(folder: string, found: { path: string; sizeBytes: number }[]): void {
  const waiting = [folder];
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    let entries;
    try {
      entries = readdirSync(next, { withFileTypes: true });
    } catch {
      continue;
    }
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const path = join(next, entry.name);
      if (entry.isDirectory()) waiting.push(path);
      else if (entry.isFile()) {
        const { size } = statSync(path);
        if (size > 0) found.push({ path, sizeBytes: size });
      }
    }
  }
}

/** Same seed, same machine: same content. The first piece is always written. */
export async function fillDisk(path: string, sizeBytes: number, fill: Fill): Promise<void> {
  const seed = fill.seed ?? 1;
  if (fill.percent <= 0) return;
  const corpus = new Corpus(fill.folders ?? ['/usr/bin', '/usr/lib', '/usr/share'], seed);
  const file = openSync(path, 'r+');
  try {
    const pieceBytes = Math.min(PIECE_BYTES, Math.max(65536, Math.ceil(sizeBytes / 64 / 65536) * 65536));
    const pieces = Math.ceil(sizeBytes / pieceBytes);
    const buffer = Buffer.alloc(Math.min(CHUNK_BYTES, pieceBytes));
    for (let piece = 0; piece < pieces; piece++) {
      if (piece > 0 && hash(seed * 65537 + piece) % 100 >= fill.percent) continue;
      const start = piece * pieceBytes;
      const end = Math.min(sizeBytes, start + pieceBytes);
      for (let at = start; at < end; at += buffer.length) {
        const part = buffer.subarray(0, Math.min(buffer.length, end - at));
        corpus.fill(part);
        writeSync(file, part, 0, part.length, at);
      }
      if (piece % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    corpus.close();
    closeSync(file);
  }
}

function hash(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x45d9f3b);
  x = Math.imul(x ^ (x >>> 16), 0x45d9f3b);
  return (x ^ (x >>> 16)) >>> 0;
}

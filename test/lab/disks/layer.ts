import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';

/** Where a piece of a disk lies. `parent`: in the layer below, or zero if there is none. */
export interface Piece {
  kind: 'data' | 'zero' | 'parent';
  /** On the disk. */
  offsetBytes: number;
  lengthBytes: number;
  /** For `data`: where in the layer's file. */
  file: number;
  positionBytes: number;
}

/** One file of a disk chain: a flat base or a layer of what was written since a snapshot. */
export interface Layer {
  readonly sizeBytes: number;
  /** Writes must cover whole grains (the disk's end excepted). */
  readonly grainBytes: number;
  /** Allocated grains as runs, or null when the file system alone knows (flat). */
  allocatedRuns(): { offsetBytes: number; lengthBytes: number }[] | null;
  locate(offsetBytes: number, lengthBytes: number): Piece[];
  write(offsetBytes: number, data: Uint8Array): void;
  close(): void;
}

export function readFully(file: number, buffer: Uint8Array, positionBytes: number): void {
  let done = 0;
  while (done < buffer.length) {
    const count = readSync(file, buffer, done, buffer.length - done, positionBytes + done);
    if (count === 0) {
      buffer.fill(0, done);
      return;
    }
    done += count;
  }
}

export function writeFully(file: number, buffer: Uint8Array, positionBytes: number): void {
  let done = 0;
  while (done < buffer.length) {
    done += writeSync(file, buffer, done, buffer.length - done, positionBytes + done);
  }
}

/** `x-flat.vmdk`: the disk's bytes at their own offsets. */
export class FlatLayer implements Layer {
  readonly sizeBytes: number;
  readonly grainBytes = 512;
  readonly path: string;
  readonly #file: number;
  readonly #baseBytes: number;

  constructor(path: string, sizeBytes: number, writable: boolean, baseBytes = 0) {
    this.path = path;
    this.sizeBytes = sizeBytes;
    this.#baseBytes = baseBytes;
    this.#file = openSync(path, writable ? 'r+' : 'r');
    if (!fstatSync(this.#file).isFile()) throw new Error(`${path} is not a file`);
  }

  allocatedRuns(): null {
    return null;
  }

  locate(offsetBytes: number, lengthBytes: number): Piece[] {
    const positionBytes = this.#baseBytes + offsetBytes;
    return [{ kind: 'data', offsetBytes, lengthBytes, file: this.#file, positionBytes }];
  }

  write(offsetBytes: number, data: Uint8Array): void {
    writeFully(this.#file, data, this.#baseBytes + offsetBytes);
  }

  close(): void {
    closeSync(this.#file);
  }
}

const PARENT = -1;
const ZERO = -2;

/**
 * What both snapshot formats share: grains found through tables that are made when first needed. The
 * formats differ in where tables and grains lie and how an entry is written.
 */
export abstract class SparseLayer implements Layer {
  readonly sizeBytes: number;
  abstract readonly grainBytes: number;
  protected readonly file: number;
  protected readonly tables = new Map<number, Int32Array>();
  protected static readonly entriesPerTable = 4096;

  protected constructor(path: string, sizeBytes: number, writable: boolean) {
    this.sizeBytes = sizeBytes;
    this.file = openSync(path, writable ? 'r+' : 'r');
  }

  /** Makes the table on disk; its entries say "see parent". */
  protected abstract addTable(index: number): void;
  /** Reserves `count` grains in a row; gives the first one's number. */
  protected abstract allocate(count: number): number;
  protected abstract positionOf(grain: number): number;
  /** Entries `from` to `to` of a table go to disk. */
  protected abstract storeEntries(index: number, from: number, to: number): void;
  protected abstract settle(): void;

  protected newTable(): Int32Array {
    return new Int32Array(SparseLayer.entriesPerTable).fill(PARENT);
  }

  static readonly parent = PARENT;
  static readonly zero = ZERO;

  allocatedRuns(): { offsetBytes: number; lengthBytes: number }[] {
    const runs: { offsetBytes: number; lengthBytes: number }[] = [];
    let last: { offsetBytes: number; lengthBytes: number } | undefined;
    for (const index of [...this.tables.keys()].sort((a, b) => a - b)) {
      const table = this.tables.get(index);
      if (table === undefined) continue;
      for (let entry = 0; entry < table.length; entry++) {
        if (table[entry] === PARENT) continue;
        const offsetBytes = (index * SparseLayer.entriesPerTable + entry) * this.grainBytes;
        const lengthBytes = Math.min(this.grainBytes, this.sizeBytes - offsetBytes);
        if (last !== undefined && last.offsetBytes + last.lengthBytes === offsetBytes) last.lengthBytes += lengthBytes;
        else runs.push((last = { offsetBytes, lengthBytes }));
      }
    }
    return runs;
  }

  locate(offsetBytes: number, lengthBytes: number): Piece[] {
    const pieces: Piece[] = [];
    let last: Piece | undefined;
    const end = offsetBytes + lengthBytes;
    for (let at = offsetBytes; at < end;) {
      const grain = Math.floor(at / this.grainBytes);
      const within = at - grain * this.grainBytes;
      const length = Math.min(this.grainBytes - within, end - at);
      const table = this.tables.get(Math.floor(grain / SparseLayer.entriesPerTable));
      const entry = table?.[grain % SparseLayer.entriesPerTable] ?? PARENT;
      const kind = entry === PARENT ? 'parent' : entry === ZERO ? 'zero' : 'data';
      const positionBytes = kind === 'data' ? this.positionOf(entry) + within : 0;
      if (
        last !== undefined &&
        last.kind === kind &&
        (kind !== 'data' || last.positionBytes + last.lengthBytes === positionBytes)
      ) {
        last.lengthBytes += length;
      } else {
        last = { kind, offsetBytes: at, lengthBytes: length, file: this.file, positionBytes };
        pieces.push(last);
      }
      at += length;
    }
    return pieces;
  }

  write(offsetBytes: number, data: Uint8Array): void {
    const isEnd = offsetBytes + data.length === this.sizeBytes;
    if (offsetBytes % this.grainBytes !== 0 || (data.length % this.grainBytes !== 0 && !isEnd)) {
      throw new Error('a layer takes whole grains');
    }
    const count = Math.ceil(data.length / this.grainBytes);
    const first = offsetBytes / this.grainBytes;
    for (let done = 0; done < count;) {
      const index = Math.floor((first + done) / SparseLayer.entriesPerTable);
      const from = (first + done) % SparseLayer.entriesPerTable;
      const to = Math.min(SparseLayer.entriesPerTable, from + count - done);
      this.#writeInTable(index, from, to, data.subarray(done * this.grainBytes, (done + to - from) * this.grainBytes));
      done += to - from;
    }
    this.settle();
  }

  #writeInTable(index: number, from: number, to: number, data: Uint8Array): void {
    let table = this.tables.get(index);
    if (table === undefined) {
      this.addTable(index);
      table = this.newTable();
      this.tables.set(index, table);
    }
    for (let entry = from; entry < to;) {
      const isNew = (table[entry] ?? PARENT) < 0;
      let next = entry + 1;
      while (
        next < to &&
        (isNew ? (table[next] ?? PARENT) < 0 : table[next] === (table[entry] ?? 0) + (next - entry))
      ) {
        next += 1;
      }
      const piece = data.subarray((entry - from) * this.grainBytes, (next - from) * this.grainBytes);
      if (isNew) {
        const grain = this.allocate(next - entry);
        writeFully(this.file, this.#padded(piece), this.positionOf(grain));
        for (let i = entry; i < next; i++) table[i] = grain + (i - entry);
        this.storeEntries(index, entry, next);
      } else {
        writeFully(this.file, piece, this.positionOf(table[entry] ?? 0));
      }
      entry = next;
    }
  }

  /** The disk's last grain may be short on the disk; in the file it is whole. */
  #padded(piece: Uint8Array): Uint8Array {
    const rest = piece.length % this.grainBytes;
    if (rest === 0) return piece;
    const whole = new Uint8Array(piece.length + this.grainBytes - rest);
    whole.set(piece);
    return whole;
  }

  close(): void {
    closeSync(this.file);
  }
}

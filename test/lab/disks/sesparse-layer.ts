import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { SparseLayer, readFully, writeFully } from './layer.ts';

const SECTOR = 512;
const GRAIN_SECTORS = 8;
const TABLE_SECTORS = 64;
const ENTRIES = 4096;
const TABLE_BYTES = ENTRIES * 8;
const CONST_MAGIC = 0xcafebaben;
const VOLATILE_MAGIC = 0xcafecafen;
const VERSION = 0x0000000200000001n;

/**
 * A `-sesparse.vmdk`: grains of 4 KiB, tables of 4096 64-bit entries. Layout after QEMU's block/vmdk.c,
 * which alone documents it; the journal stays empty and the backmap is not kept. Read by qemu-img in the
 * lab's acceptance test.
 */
export class SeSparseLayer extends SparseLayer {
  readonly grainBytes = GRAIN_SECTORS * SECTOR;
  readonly #directoryBytes: number;
  readonly #tablesBytes: number;
  readonly #grainsBytes: number;
  readonly #tableIndex = new Map<number, number>();
  #freeGrain = 0;
  #freeTable = 0;

  constructor(path: string, writable: boolean) {
    const header = Buffer.alloc(1024);
    const file = openSync(path, 'r');
    readFully(file, header, 0);
    closeSync(file);
    if (header.readBigUInt64LE(0) !== CONST_MAGIC || header.readBigUInt64LE(512) !== VOLATILE_MAGIC) {
      throw new Error(`${path} is no seSparse layer`);
    }
    if (header.readBigUInt64LE(512 + 24) !== 0n) throw new Error(`${path} has a journal to replay`);
    super(path, Number(header.readBigUInt64LE(16)) * SECTOR, writable);
    this.#directoryBytes = Number(header.readBigUInt64LE(128)) * SECTOR;
    this.#tablesBytes = Number(header.readBigUInt64LE(144)) * SECTOR;
    this.#grainsBytes = Number(header.readBigUInt64LE(192)) * SECTOR;
    const directory = Buffer.alloc(Number(header.readBigUInt64LE(136)) * SECTOR);
    readFully(this.file, directory, this.#directoryBytes);
    const bytes = Buffer.alloc(TABLE_BYTES);
    for (let index = 0; index < directory.length / 8; index++) {
      const value = directory.readBigUInt64LE(index * 8);
      if (value === 0n) continue;
      if (value >> 32n !== 0x10000000n) throw new Error(`${path} has a damaged grain directory`);
      const place = Number(value & 0xffffffffn);
      this.#tableIndex.set(index, place);
      this.#freeTable = Math.max(this.#freeTable, place + 1);
      readFully(this.file, bytes, this.#tablesBytes + place * TABLE_BYTES);
      const table = this.newTable();
      for (let entry = 0; entry < ENTRIES; entry++) table[entry] = this.#decode(bytes.readBigUInt64LE(entry * 8));
      this.tables.set(index, table);
    }
  }

  #decode(value: bigint): number {
    const kind = Number(value >> 60n);
    if (kind === 0) return SparseLayer.parent;
    if (kind === 1 || kind === 2) return SparseLayer.zero;
    const grain = Number(((value >> 48n) & 0xfffn) | ((value & 0xffffffffffffn) << 12n));
    this.#freeGrain = Math.max(this.#freeGrain, grain + 1);
    return grain;
  }

  static create(path: string, sectors: number): void {
    const entries = Math.ceil(sectors / (GRAIN_SECTORS * ENTRIES));
    const grains = Math.ceil(sectors / GRAIN_SECTORS);
    const journalHeader = 2;
    const journal = 2048;
    const directory = journal + 2048;
    const directorySectors = Math.ceil((entries * 8) / SECTOR);
    const tables = align(directory + directorySectors, 64);
    const bitmap = tables + entries * TABLE_SECTORS;
    const bitmapSectors = align(Math.ceil(grains / 8 / SECTOR), 8);
    const backmap = bitmap + bitmapSectors;
    const backmapSectors = align(Math.ceil((grains * 8) / SECTOR), 8);
    const first = align(backmap + backmapSectors, 2048);
    const fields: [number, number | bigint][] = [
      [0, CONST_MAGIC],
      [8, VERSION],
      [16, sectors],
      [24, GRAIN_SECTORS],
      [32, TABLE_SECTORS],
      [40, 0],
      [80, 1],
      [88, 1],
      [96, journalHeader],
      [104, 2],
      [112, journal],
      [120, 2048],
      [128, directory],
      [136, directorySectors],
      [144, tables],
      [152, entries * TABLE_SECTORS],
      [160, bitmap],
      [168, bitmapSectors],
      [176, backmap],
      [184, backmapSectors],
      [192, first],
      [200, align(grains, 1) * GRAIN_SECTORS],
    ];
    const header = Buffer.alloc(1024);
    for (const [offset, value] of fields) header.writeBigUInt64LE(BigInt(value), offset);
    header.writeBigUInt64LE(VOLATILE_MAGIC, 512);
    const file = openSync(path, 'wx', 0o600);
    writeFully(file, header, 0);
    ftruncateSync(file, first * SECTOR);
    closeSync(file);
  }

  protected addTable(index: number): void {
    const place = this.#freeTable++;
    this.#tableIndex.set(index, place);
    writeFully(this.file, Buffer.alloc(TABLE_BYTES), this.#tablesBytes + place * TABLE_BYTES);
    const entry = Buffer.alloc(8);
    entry.writeBigUInt64LE((0x10000000n << 32n) | BigInt(place));
    writeFully(this.file, entry, this.#directoryBytes + index * 8);
    const free = Buffer.alloc(8);
    free.writeBigUInt64LE(BigInt(this.#freeTable));
    writeFully(this.file, free, 512 + 8);
  }

  protected allocate(count: number): number {
    const first = this.#freeGrain;
    this.#freeGrain += count;
    return first;
  }

  protected positionOf(grain: number): number {
    return this.#grainsBytes + grain * this.grainBytes;
  }

  protected storeEntries(index: number, from: number, to: number): void {
    const table = this.tables.get(index);
    const place = this.#tableIndex.get(index);
    if (table === undefined || place === undefined) return;
    const bytes = Buffer.alloc((to - from) * 8);
    for (let entry = from; entry < to; entry++) {
      const grain = table[entry] ?? 0;
      // Bits 48 to 59 hold the low 12 bits of the grain's number, bits 0 to 47 the rest.
      bytes.writeUInt32LE(Math.floor(grain / 4096), (entry - from) * 8);
      bytes.writeUInt32LE(((3 << 28) | ((grain & 0xfff) << 16)) >>> 0, (entry - from) * 8 + 4);
    }
    writeFully(this.file, bytes, this.#tablesBytes + place * TABLE_BYTES + from * 8);
  }

  protected settle(): void {
    // Nothing is kept beside the tables.
  }
}

function align(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

import { closeSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { SparseLayer, readFully, writeFully } from './layer.ts';

const SECTOR = 512;
const GD_SECTOR = 4;
const ENTRIES = 4096;
const TABLE_SECTORS = (ENTRIES * 4) / SECTOR;
const STEP_BYTES = 16 * 1024 * 1024;

/**
 * A `-delta.vmdk` (vmfsSparse, "COWD"): grains of one sector, tables of 4096 32-bit sector numbers.
 * Layout after libvmdk's format document; read by qemu-img in the lab's acceptance test.
 */
export class CowdLayer extends SparseLayer {
  readonly grainBytes = SECTOR;
  readonly #tableSectors = new Map<number, number>();
  readonly #buffer = Buffer.alloc(ENTRIES * 4);
  #freeSector: number;
  #fileBytes: number;

  constructor(path: string, writable: boolean) {
    const header = Buffer.alloc(2048);
    const file = openSync(path, 'r');
    readFully(file, header, 0);
    closeSync(file);
    if (header.toString('latin1', 0, 4) !== 'COWD') throw new Error(`${path} is no COWD layer`);
    super(path, header.readUInt32LE(12) * SECTOR, writable);
    this.#freeSector = header.readUInt32LE(28);
    this.#fileBytes = fstatSync(this.file).size;
    const directory = Buffer.alloc(header.readUInt32LE(24) * 4);
    readFully(this.file, directory, header.readUInt32LE(20) * SECTOR);
    for (let index = 0; index < directory.length / 4; index++) {
      const sector = directory.readUInt32LE(index * 4);
      if (sector === 0) continue;
      readFully(this.file, this.#buffer, sector * SECTOR);
      const table = this.newTable();
      for (let entry = 0; entry < ENTRIES; entry++) {
        const value = this.#buffer.readUInt32LE(entry * 4);
        table[entry] = value === 0 ? SparseLayer.parent : value === 1 ? SparseLayer.zero : value;
      }
      this.tables.set(index, table);
      this.#tableSectors.set(index, sector);
    }
  }

  static create(path: string, sectors: number): void {
    const entries = Math.ceil(sectors / ENTRIES);
    const directorySectors = Math.ceil((entries * 4) / SECTOR);
    const header = Buffer.alloc(2048);
    header.write('COWD', 0, 'latin1');
    header.writeUInt32LE(1, 4);
    header.writeUInt32LE(3, 8);
    header.writeUInt32LE(sectors, 12);
    header.writeUInt32LE(1, 16);
    header.writeUInt32LE(GD_SECTOR, 20);
    header.writeUInt32LE(entries, 24);
    header.writeUInt32LE(GD_SECTOR + directorySectors, 28);
    const file = openSync(path, 'wx', 0o600);
    writeFully(file, header, 0);
    ftruncateSync(file, Math.max(24576, (GD_SECTOR + directorySectors) * SECTOR));
    closeSync(file);
  }

  protected addTable(index: number): void {
    const sector = this.#reserve(TABLE_SECTORS);
    writeFully(this.file, Buffer.alloc(ENTRIES * 4), sector * SECTOR);
    const entry = Buffer.alloc(4);
    entry.writeUInt32LE(sector);
    writeFully(this.file, entry, GD_SECTOR * SECTOR + index * 4);
    this.#tableSectors.set(index, sector);
  }

  protected allocate(count: number): number {
    return this.#reserve(count);
  }

  protected positionOf(grain: number): number {
    return grain * SECTOR;
  }

  protected storeEntries(index: number, from: number, to: number): void {
    const table = this.tables.get(index);
    const sector = this.#tableSectors.get(index);
    if (table === undefined || sector === undefined) return;
    const bytes = Buffer.alloc((to - from) * 4);
    for (let entry = from; entry < to; entry++) bytes.writeUInt32LE(table[entry] ?? 0, (entry - from) * 4);
    writeFully(this.file, bytes, sector * SECTOR + from * 4);
  }

  protected settle(): void {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(this.#freeSector);
    writeFully(this.file, bytes, 28);
  }

  #reserve(sectors: number): number {
    const first = this.#freeSector;
    this.#freeSector += sectors;
    if (this.#freeSector * SECTOR > this.#fileBytes) {
      this.#fileBytes = Math.ceil((this.#freeSector * SECTOR) / STEP_BYTES) * STEP_BYTES;
      ftruncateSync(this.file, this.#fileBytes);
    }
    return first;
  }
}

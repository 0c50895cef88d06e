import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';

import type { Extent } from '../disk/index.ts';
import { AppError } from '../errors/index.ts';
import { KIB, releaseMemory, SECTOR_BYTES } from '../runtime/index.ts';

import { readFully, writeFully } from './raw-file.ts';
import type { WritableDisk } from './write-disk.ts';

/*
 * A VMDK of one file, `monolithicSparse`, as "VMware Virtual Disk Format 1.1" describes hosted sparse
 * extents: header, descriptor, two copies of the grain directory with its tables, then the grains in
 * the order in which they arrived. All numbers are little-endian; places are counted in sectors.
 * Random order is why it is this one and not `streamOptimized`: the store delivers chunks by pack.
 */

const MAGIC = 0x564d444b;
/** Newline test valid, redundant grain directory in use. */
const FLAGS = 0b11;
const GRAIN_SECTORS = 128;
const GRAIN_BYTES = GRAIN_SECTORS * SECTOR_BYTES;
const TABLE_ENTRIES = 512;
const TABLE_SECTORS = (TABLE_ENTRIES * 4) / SECTOR_BYTES;
const DESCRIPTOR_SECTOR = 1;
const DESCRIPTOR_SECTORS = 20;
/** A grain's place has 32 bits. */
const FILE_SECTORS_MAX = 2 ** 32 - 1;

/** Where the parts of the file lie, in sectors. */
interface Layout {
  capacitySectors: number;
  tables: number;
  redundantDirectory: number;
  redundantTables: number;
  directory: number;
  directoryTables: number;
  grains: number;
}

/** @throws INPUT_INVALID when the disk is too large for the format */
export async function createSparseVmdk(
  file: FileHandle,
  options: { sizeBytes: number; name: string; adapter: string; contentId: string },
): Promise<WritableDisk> {
  const layout = planLayout(options.sizeBytes);
  await writeFully(file, encodeHeader(layout), 0);
  await writeFully(file, encodeDescriptor(options), DESCRIPTOR_SECTOR * SECTOR_BYTES);
  await writeFully(file, encodeDirectory(layout, layout.redundantTables), layout.redundantDirectory * SECTOR_BYTES);
  await writeFully(file, encodeDirectory(layout, layout.directoryTables), layout.directory * SECTOR_BYTES);
  await file.truncate(layout.grains * SECTOR_BYTES);
  return new SparseVmdk(file, layout);
}

class SparseVmdk implements WritableDisk {
  readonly #file: FileHandle;
  readonly #layout: Layout;
  /** Tables with at least one grain; a table not here has none. */
  readonly #tables = new Map<number, Uint32Array>();
  readonly #changed = new Set<number>();
  #nextSector: number;

  constructor(file: FileHandle, layout: Layout) {
    this.#file = file;
    this.#layout = layout;
    this.#nextSector = layout.grains;
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    // Places are given out before the first wait, so overlapping calls never share a grain's place.
    const parts: { at: number; data: Buffer }[] = [];
    for (let done = 0; done < data.length;) {
      const position = offsetBytes + done;
      const inside = position % GRAIN_BYTES;
      const length = Math.min(GRAIN_BYTES - inside, data.length - done);
      const at = this.#place(Math.floor(position / GRAIN_BYTES)) * SECTOR_BYTES + inside;
      const last = parts.at(-1);
      if (last !== undefined && last.at + last.data.length === at) {
        last.data = data.subarray(done - last.data.length, done + length);
      } else {
        parts.push({ at, data: data.subarray(done, done + length) });
      }
      done += length;
    }
    for (const part of parts) await writeFully(this.#file, part.data, part.at);
    releaseMemory(data);
  }

  /** Writes the tables and makes all durable. The file has whole grains, as readers expect. */
  async flush(): Promise<void> {
    await this.#file.truncate(this.#nextSector * SECTOR_BYTES);
    for (const index of this.#changed) {
      const table = this.#tables.get(index);
      if (table === undefined) continue;
      const encoded = encodeNumbers(table);
      for (const start of [this.#layout.redundantTables, this.#layout.directoryTables]) {
        await writeFully(this.#file, encoded, (start + index * TABLE_SECTORS) * SECTOR_BYTES);
      }
    }
    this.#changed.clear();
    await this.#file.sync();
  }

  /** Reads through the tables in the file, not through those in memory: they are verified as well. */
  readonly hashesChunks = false;

  async hash(extents: readonly Extent[], signal?: AbortSignal): Promise<string[]> {
    const hashes: string[] = [];
    for (const extent of extents) {
      signal?.throwIfAborted();
      const hash = createHash('sha256');
      for (let done = 0; done < extent.lengthBytes;) {
        const position = extent.offsetBytes + done;
        const inside = position % GRAIN_BYTES;
        const length = Math.min(GRAIN_BYTES - inside, extent.lengthBytes - done);
        hash.update(await this.#read(Math.floor(position / GRAIN_BYTES), inside, length));
        done += length;
      }
      hashes.push(hash.digest('hex'));
    }
    return hashes;
  }

  #place(grain: number): number {
    const index = Math.floor(grain / TABLE_ENTRIES);
    let table = this.#tables.get(index);
    if (table === undefined) {
      table = new Uint32Array(TABLE_ENTRIES);
      this.#tables.set(index, table);
    }
    const known = table[grain % TABLE_ENTRIES] ?? 0;
    if (known !== 0) return known;
    const sector = this.#nextSector;
    if (sector + GRAIN_SECTORS > FILE_SECTORS_MAX) throw tooLarge();
    table[grain % TABLE_ENTRIES] = sector;
    this.#changed.add(index);
    this.#nextSector += GRAIN_SECTORS;
    return sector;
  }

  async #read(grain: number, inside: number, lengthBytes: number): Promise<Buffer> {
    const entry = this.#layout.directoryTables * SECTOR_BYTES + grain * 4;
    const sector = (await readFully(this.#file, entry, 4)).readUInt32LE();
    if (sector === 0) return Buffer.alloc(lengthBytes);
    return readFully(this.#file, sector * SECTOR_BYTES + inside, lengthBytes);
  }
}

function planLayout(sizeBytes: number): Layout {
  const capacitySectors = Math.ceil(sizeBytes / SECTOR_BYTES);
  const tables = Math.ceil(capacitySectors / (GRAIN_SECTORS * TABLE_ENTRIES));
  const directorySectors = Math.ceil((tables * 4) / SECTOR_BYTES);
  const tablesSectors = tables * TABLE_SECTORS;
  const redundantDirectory = DESCRIPTOR_SECTOR + DESCRIPTOR_SECTORS;
  const redundantTables = redundantDirectory + directorySectors;
  const directory = redundantTables + tablesSectors;
  const directoryTables = directory + directorySectors;
  const grains = Math.ceil((directoryTables + tablesSectors) / GRAIN_SECTORS) * GRAIN_SECTORS;
  if (grains > FILE_SECTORS_MAX) throw tooLarge();
  return { capacitySectors, tables, redundantDirectory, redundantTables, directory, directoryTables, grains };
}

function encodeHeader(layout: Layout): Buffer {
  const header = Buffer.alloc(SECTOR_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(1, 4);
  header.writeUInt32LE(FLAGS, 8);
  header.writeBigUInt64LE(BigInt(layout.capacitySectors), 12);
  header.writeBigUInt64LE(BigInt(GRAIN_SECTORS), 20);
  header.writeBigUInt64LE(BigInt(DESCRIPTOR_SECTOR), 28);
  header.writeBigUInt64LE(BigInt(DESCRIPTOR_SECTORS), 36);
  header.writeUInt32LE(TABLE_ENTRIES, 44);
  header.writeBigUInt64LE(BigInt(layout.redundantDirectory), 48);
  header.writeBigUInt64LE(BigInt(layout.directory), 56);
  header.writeBigUInt64LE(BigInt(layout.grains), 64);
  // At 72: clean shutdown; then the four characters that show a transfer in text mode.
  header.write('\n \r\n', 73, 'latin1');
  return header;
}

function encodeDescriptor(options: { sizeBytes: number; name: string; adapter: string; contentId: string }): Buffer {
  const sectors = Math.ceil(options.sizeBytes / SECTOR_BYTES);
  const adapter = options.adapter.includes('ide') ? 'ide' : 'lsilogic';
  const [heads, sectorsOfTrack] = adapter === 'ide' ? [16, 63] : [255, 63];
  const cylinders = Math.min(65_535, Math.max(1, Math.floor(sectors / (heads * sectorsOfTrack))));
  const text = [
    '# Disk DescriptorFile',
    'version=1',
    'encoding="UTF-8"',
    `CID=${options.contentId}`,
    'parentCID=ffffffff',
    'createType="monolithicSparse"',
    '',
    '# Extent description',
    `RW ${String(sectors)} SPARSE "${options.name}"`,
    '',
    '# The Disk Data Base',
    '#DDB',
    '',
    'ddb.virtualHWVersion = "4"',
    `ddb.geometry.cylinders = "${String(cylinders)}"`,
    `ddb.geometry.heads = "${String(heads)}"`,
    `ddb.geometry.sectors = "${String(sectorsOfTrack)}"`,
    `ddb.adapterType = "${adapter}"`,
    '',
  ].join('\n');
  const encoded = Buffer.alloc(DESCRIPTOR_SECTORS * SECTOR_BYTES);
  if (Buffer.byteLength(text) > encoded.length) {
    const limit = String(DESCRIPTOR_SECTORS * SECTOR_BYTES - KIB);
    throw new AppError('INPUT_INVALID', `The file name is too long for a VMDK (more than ${limit} bytes).`);
  }
  encoded.write(text);
  return encoded;
}

function encodeDirectory(layout: Layout, firstTable: number): Buffer {
  const directory = Buffer.alloc(Math.ceil((layout.tables * 4) / SECTOR_BYTES) * SECTOR_BYTES);
  for (let table = 0; table < layout.tables; table += 1) {
    directory.writeUInt32LE(firstTable + table * TABLE_SECTORS, table * 4);
  }
  return directory;
}

function encodeNumbers(numbers: Uint32Array): Buffer {
  const encoded = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, index) => encoded.writeUInt32LE(number, index * 4));
  return encoded;
}

function tooLarge(): AppError {
  return new AppError('INPUT_INVALID', 'The disk holds more than a VMDK of one file can (2 TiB).', {
    hint: 'Export it as raw.',
  });
}

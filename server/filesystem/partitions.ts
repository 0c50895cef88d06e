import { crc32 } from 'node:zlib';

import type { DiskReader } from '../disk/index.ts';
import { SECTOR_BYTES } from '../runtime/index.ts';

/** A part of a disk by its partition table. */
export interface Partition {
  /** As the guest numbers it: 1 to 4, logical ones of MBR from 5. */
  number: number;
  offsetBytes: number;
  sizeBytes: number;
  /** Two hex digits of MBR, or the GUID of GPT in lower case. */
  type: string;
}

export interface PartitionTable {
  kind: 'mbr' | 'gpt';
  partitions: Partition[];
  /** Null: sound. Else an English clause; what could be read of it is in `partitions`. */
  trouble: string | null;
}

const MBR_ENTRIES_AT = 446;
const MBR_ENTRY_BYTES = 16;
const MBR_TYPES_EXTENDED = new Set([0x05, 0x0f, 0x85]);
const MBR_TYPE_GPT = 0xee;
/** A chain of logical partitions that is longer goes in a circle. */
const LOGICAL_MAX = 128;
const GPT_HEADER_BYTES = 92;
const GPT_ENTRIES_MAX = 1024;
const GPT_ENTRY_BYTES_MAX = 4096;

/**
 * The partition table of a disk; null where there is none. MBR with extended partitions, and GPT with its
 * checksums, from its copy at the end where the first is damaged (UEFI 2.10, chapter 5).
 */
export async function readPartitions(disk: DiskReader, signal?: AbortSignal): Promise<PartitionTable | null> {
  if (disk.sizeBytes < 2 * SECTOR_BYTES) return null;
  const sector = await disk.read(0, SECTOR_BYTES, signal);
  if (sector.readUInt16LE(510) !== 0xaa55) return null;
  const entries = parseMbrEntries(sector);
  // A boot sector of a file system ends as a partition table does; its text and code make no sound table.
  if (entries === null || entries.every((entry) => entry.type === 0)) return null;
  if (entries.some((entry) => entry.type === MBR_TYPE_GPT)) return readGpt(disk, signal);
  return readMbr(disk, entries, signal);
}

interface MbrEntry {
  number: number;
  type: number;
  firstSector: number;
  sectorCount: number;
}

function parseMbrEntries(sector: Buffer): MbrEntry[] | null {
  const entries: MbrEntry[] = [];
  for (let index = 0; index < 4; index += 1) {
    const at = MBR_ENTRIES_AT + index * MBR_ENTRY_BYTES;
    const status = sector.readUInt8(at);
    if (status !== 0 && status !== 0x80) return null;
    entries.push({
      number: index + 1,
      type: sector.readUInt8(at + 4),
      firstSector: sector.readUInt32LE(at + 8),
      sectorCount: sector.readUInt32LE(at + 12),
    });
  }
  return entries;
}

async function readMbr(
  disk: DiskReader,
  entries: readonly MbrEntry[],
  signal: AbortSignal | undefined,
): Promise<PartitionTable> {
  const table: PartitionTable = { kind: 'mbr', partitions: [], trouble: null };
  for (const entry of entries) {
    if (entry.type === 0 || entry.sectorCount === 0) continue;
    if (MBR_TYPES_EXTENDED.has(entry.type)) await addLogical(disk, entry, table, signal);
    else addPartition(disk, table, entry, 0);
  }
  return finished(table);
}

/** Each link of the chain names one partition, counted from itself, and the next link, counted from the first. */
async function addLogical(
  disk: DiskReader,
  extended: MbrEntry,
  table: PartitionTable,
  signal: AbortSignal | undefined,
): Promise<void> {
  let linkSector = extended.firstSector;
  for (let count = 0; ; count += 1) {
    const offsetBytes = linkSector * SECTOR_BYTES;
    if (count === LOGICAL_MAX || offsetBytes + SECTOR_BYTES > disk.sizeBytes) {
      table.trouble ??= 'its chain of logical partitions does not end';
      return;
    }
    const sector = await disk.read(offsetBytes, SECTOR_BYTES, signal);
    const entries = sector.readUInt16LE(510) === 0xaa55 ? parseMbrEntries(sector) : null;
    const [own, next] = entries ?? [];
    if (own === undefined || next === undefined) {
      table.trouble ??= 'its chain of logical partitions is broken';
      return;
    }
    if (own.type !== 0 && own.sectorCount !== 0) addPartition(disk, table, { ...own, number: 5 + count }, linkSector);
    if (next.type === 0 || next.sectorCount === 0) return;
    linkSector = extended.firstSector + next.firstSector;
  }
}

function addPartition(disk: DiskReader, table: PartitionTable, entry: MbrEntry, baseSector: number): void {
  const offsetBytes = (baseSector + entry.firstSector) * SECTOR_BYTES;
  const sizeBytes = entry.sectorCount * SECTOR_BYTES;
  if (entry.firstSector === 0 || offsetBytes + sizeBytes > disk.sizeBytes) {
    table.trouble ??= 'a partition lies outside the disk';
    return;
  }
  const type = entry.type.toString(16).padStart(2, '0');
  table.partitions.push({ number: entry.number, offsetBytes, sizeBytes, type });
}

async function readGpt(disk: DiskReader, signal: AbortSignal | undefined): Promise<PartitionTable> {
  const table: PartitionTable = { kind: 'gpt', partitions: [], trouble: null };
  const lastSector = Math.floor(disk.sizeBytes / SECTOR_BYTES) - 1;
  for (const headerSector of [1, lastSector]) {
    const entries = await readGptEntries(disk, headerSector, signal);
    if (entries === null) continue;
    for (const { number, firstSector, lastSector: last, type } of entries) {
      const offsetBytes = firstSector * SECTOR_BYTES;
      const sizeBytes = (last - firstSector + 1) * SECTOR_BYTES;
      if (firstSector < 2 || sizeBytes <= 0 || offsetBytes + sizeBytes > disk.sizeBytes) {
        table.trouble ??= 'a partition lies outside the disk';
      } else {
        table.partitions.push({ number, offsetBytes, sizeBytes, type });
      }
    }
    return finished(table);
  }
  return { ...table, trouble: 'both copies of its partition table are damaged' };
}

async function readGptEntries(
  disk: DiskReader,
  headerSector: number,
  signal: AbortSignal | undefined,
): Promise<{ number: number; firstSector: number; lastSector: number; type: string }[] | null> {
  const sector = await disk.read(headerSector * SECTOR_BYTES, SECTOR_BYTES, signal);
  const headerBytes = sector.readUInt32LE(12);
  if (sector.toString('latin1', 0, 8) !== 'EFI PART' || headerBytes < GPT_HEADER_BYTES || headerBytes > SECTOR_BYTES) {
    return null;
  }
  const blanked = Buffer.from(sector.subarray(0, headerBytes));
  blanked.writeUInt32LE(0, 16);
  if (crc32(blanked) !== sector.readUInt32LE(16)) return null;
  const entriesSector = Number(sector.readBigUInt64LE(72));
  const entryCount = sector.readUInt32LE(80);
  const entryBytes = sector.readUInt32LE(84);
  if (entryCount > GPT_ENTRIES_MAX || entryBytes < 128 || entryBytes > GPT_ENTRY_BYTES_MAX) return null;
  const offsetBytes = entriesSector * SECTOR_BYTES;
  if (!Number.isSafeInteger(offsetBytes) || offsetBytes + entryCount * entryBytes > disk.sizeBytes) return null;
  const bytes = await disk.read(offsetBytes, entryCount * entryBytes, signal);
  if (crc32(bytes) !== sector.readUInt32LE(88)) return null;
  const entries = [];
  for (let index = 0; index < entryCount; index += 1) {
    const entry = bytes.subarray(index * entryBytes, (index + 1) * entryBytes);
    const type = formatGuid(entry);
    if (/^[0-]+$/.test(type)) continue;
    const firstSector = Number(entry.readBigUInt64LE(32));
    const lastSector = Number(entry.readBigUInt64LE(40));
    entries.push({ number: index + 1, firstSector, lastSector, type });
  }
  return entries;
}

/** The first three parts are little endian. */
function formatGuid(bytes: Buffer): string {
  const hex = (from: number, to: number): string => bytes.subarray(from, to).toString('hex');
  const swapped = Buffer.from(bytes.subarray(0, 8));
  swapped.subarray(0, 4).reverse();
  swapped.subarray(4, 6).reverse();
  swapped.subarray(6, 8).reverse();
  const front = swapped.toString('hex');
  return `${front.slice(0, 8)}-${front.slice(8, 12)}-${front.slice(12)}-${hex(8, 10)}-${hex(10, 16)}`;
}

function finished(table: PartitionTable): PartitionTable {
  table.partitions.sort((a, b) => a.offsetBytes - b.offsetBytes);
  let endBytes = 0;
  for (const { offsetBytes, sizeBytes } of table.partitions) {
    if (offsetBytes < endBytes) table.trouble ??= 'its partitions overlap';
    endBytes = Math.max(endBytes, offsetBytes + sizeBytes);
  }
  return table;
}

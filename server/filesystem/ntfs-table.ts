import { CachedVolume } from './cached-volume.ts';
import { damaged, type Volume } from './filesystem.ts';
import {
  appendRuns,
  ATTRIBUTE_LIST,
  DATA,
  parseFileRecord,
  readSize,
  referenceRecord,
  type Attribute,
  type FileRecord,
  type Run,
} from './ntfs-record.ts';
import { openStream, runStream, type NtfsVolume, type Stream } from './ntfs-stream.ts';

/** Records of the table with a fixed number. */
export const MFT_RECORD = 0;
export const LOG_RECORD = 2;
export const VOLUME_RECORD = 3;
export const ROOT_RECORD = 5;
export const BITMAP_RECORD = 6;
/** Below it stand the file system's own files. */
export const FIRST_USER_RECORD = 16;

/** Windows makes 256 KiB at most. */
const ATTRIBUTE_LIST_BYTES_MAX = 1024 * 1024;

export interface BootSector extends NtfsVolume {
  sizeBytes: number;
  recordBytes: number;
  mftCluster: number;
}

/** @returns null where the volume does not begin as NTFS does */
export async function readBootSector(volume: Volume, signal?: AbortSignal): Promise<BootSector | null> {
  if (volume.sizeBytes < 4096) return null;
  const bytes = await volume.read(0, 512, signal);
  if (bytes.toString('latin1', 3, 11) !== 'NTFS    ' || bytes.readUInt16LE(510) !== 0xaa55) return null;
  const sectorBytes = bytes.readUInt16LE(0x0b);
  const clusterBytes = sectorBytes * clusterSectors(bytes[0x0d] as number);
  const recordBytes = unitBytes(bytes.readInt8(0x40), clusterBytes);
  const sizeBytes = readSize(bytes, 0x28) * sectorBytes;
  const clusterCount = Math.floor(sizeBytes / clusterBytes);
  const mftCluster = readSize(bytes, 0x30);
  if (
    !isPowerOfTwo(sectorBytes, 256, 4096) ||
    !isPowerOfTwo(clusterBytes, 512, 2 * 1024 * 1024) ||
    !isPowerOfTwo(recordBytes, 512, 4096) ||
    mftCluster >= clusterCount
  )
    throw damaged('ntfs', 'its boot sector holds impossible numbers');
  if (sizeBytes > volume.sizeBytes) throw damaged('ntfs', 'it is larger than its volume');
  return { volume: new CachedVolume(volume), clusterBytes, clusterCount, sizeBytes, recordBytes, mftCluster };
}

/** Large clusters are given as a negative power of two. */
function clusterSectors(raw: number): number {
  return raw > 0x80 ? 2 ** Math.min(256 - raw, 32) : raw;
}

/** Clusters where positive, a negative power of two in bytes else. */
function unitBytes(raw: number, clusterBytes: number): number {
  return raw > 0 ? raw * clusterBytes : 2 ** Math.min(-raw, 32);
}

function isPowerOfTwo(value: number, min: number, max: number): boolean {
  return value >= min && value <= max && (value & (value - 1)) === 0;
}

/** A file: its record, and what it takes to find the attributes that did not fit in. */
export interface NtfsFile {
  number: number;
  record: FileRecord;
}

/** The master file table: every file and folder is a record of it. */
export class MasterFileTable {
  readonly boot: BootSector;
  readonly #stream: Stream;

  private constructor(boot: BootSector, stream: Stream) {
    this.boot = boot;
    this.#stream = stream;
  }

  static async open(boot: BootSector, signal?: AbortSignal): Promise<MasterFileTable> {
    const bytes = await boot.volume.read(boot.mftCluster * boot.clusterBytes, boot.recordBytes, signal);
    const record = parseFileRecord(bytes, MFT_RECORD);
    const first = record.attributes.find((attribute) => isPiece(attribute, DATA, ''));
    if (first === undefined || first.resident) throw damaged('ntfs', 'the master file table has no map');
    const runs: Run[] = [];
    appendRuns(runs, first, boot.clusterCount);
    const table = new MasterFileTable(boot, runStream(boot, first, runs));
    // The table's own map may go on in records that its first piece already covers.
    let index = 0;
    for await (const piece of table.#pieces({ number: MFT_RECORD, record }, DATA, '', signal)) {
      if (piece.resident) throw damaged('ntfs', 'the master file table has no map');
      if (index > 0) appendRuns(runs, piece, boot.clusterCount);
      index += 1;
    }
    return table;
  }

  get recordCount(): number {
    return Math.floor(this.#stream.sizeBytes / this.boot.recordBytes);
  }

  /** Whole records as they lie on the disk. */
  readRaw(firstRecord: number, count: number, signal?: AbortSignal): Promise<Buffer> {
    return this.#stream.read(firstRecord * this.boot.recordBytes, count * this.boot.recordBytes, signal);
  }

  async readRecord(number: number, signal?: AbortSignal): Promise<FileRecord> {
    if (number >= this.recordCount) throw damaged('ntfs', `there is no record ${number}`);
    return parseFileRecord(await this.readRaw(number, 1, signal), number);
  }

  /** A file in use. With a sequence: that file, and not one that took its record later. */
  async readFile(number: number, sequence: number | null, signal?: AbortSignal): Promise<NtfsFile> {
    const record = await this.readRecord(number, signal);
    if (!record.inUse || record.baseRecord !== 0 || (sequence !== null && record.sequence !== sequence))
      throw damaged('ntfs', `record ${number} is not the file that a folder names`);
    return { number, record };
  }

  /** All pieces of an attribute, ascending; empty where the file has none. */
  async attribute(file: NtfsFile, type: number, name: string, signal?: AbortSignal): Promise<Attribute[]> {
    const pieces: Attribute[] = [];
    for await (const piece of this.#pieces(file, type, name, signal)) pieces.push(piece);
    return pieces;
  }

  /** The piece that holds the attribute's sizes. */
  async firstPiece(file: NtfsFile, type: number, name: string, signal?: AbortSignal): Promise<Attribute | null> {
    for await (const piece of this.#pieces(file, type, name, signal)) return piece;
    return null;
  }

  /** The value of a small attribute that stands in a record; null where the file has none. */
  async value(file: NtfsFile, type: number, name: string, signal?: AbortSignal): Promise<Buffer | null> {
    const piece = await this.firstPiece(file, type, name, signal);
    if (piece === null) return null;
    if (piece.resident) return piece.value;
    throw damaged('ntfs', `an attribute of record ${file.number} lies outside it`);
  }

  async *#pieces(file: NtfsFile, type: number, name: string, signal?: AbortSignal): AsyncGenerator<Attribute> {
    const { record, number } = file;
    const listAttribute = record.attributes.find((attribute) => attribute.type === ATTRIBUTE_LIST);
    if (listAttribute === undefined) {
      const own = record.attributes.filter((attribute) => isPiece(attribute, type, name));
      if (own.length > 1) throw damaged('ntfs', `record ${number} holds an attribute twice`);
      yield* own;
      return;
    }
    const list = openStream(this.boot, [listAttribute]);
    if (list.sizeBytes > ATTRIBUTE_LIST_BYTES_MAX) throw damaged('ntfs', 'an attribute list of no real size');
    const holders = new Map<number, FileRecord>([[number, record]]);
    for (const entry of parseAttributeList(await list.read(0, list.sizeBytes, signal))) {
      if (entry.type !== type || entry.name !== name) continue;
      let holder = holders.get(entry.record);
      if (holder === undefined) {
        holder = await this.readRecord(entry.record, signal);
        if (!holder.inUse || holder.baseRecord !== number)
          throw damaged('ntfs', `record ${entry.record} does not belong to record ${number}`);
        // One is enough: pieces of one attribute stand in records of their own.
        if (holders.size > 1) holders.delete([...holders.keys()][1] as number);
        holders.set(entry.record, holder);
      }
      const piece = holder.attributes.find(
        (attribute) => isPiece(attribute, type, name) && attribute.instance === entry.instance,
      );
      if (piece === undefined) throw damaged('ntfs', `an attribute of record ${number} is not where its list says`);
      yield piece;
    }
  }
}

function isPiece(attribute: Attribute, type: number, name: string): boolean {
  return attribute.type === type && attribute.name === name;
}

interface ListEntry {
  type: number;
  name: string;
  record: number;
  instance: number;
}

function* parseAttributeList(bytes: Buffer): Generator<ListEntry> {
  for (let at = 0; at + 26 <= bytes.length;) {
    const lengthBytes = bytes.readUInt16LE(at + 4);
    const nameAt = at + (bytes[at + 7] as number);
    const nameEnd = nameAt + (bytes[at + 6] as number) * 2;
    if (lengthBytes < 26 || at + lengthBytes > bytes.length || nameEnd > at + lengthBytes)
      throw damaged('ntfs', 'an attribute list that cannot be read');
    yield {
      type: bytes.readUInt32LE(at),
      name: bytes.toString('utf16le', nameAt, nameEnd),
      record: referenceRecord(bytes, at + 16),
      instance: bytes.readUInt16LE(at + 24),
    };
    at += lengthBytes;
  }
}

import { damaged } from './filesystem.ts';

/**
 * Records of the master file table and what stands in them: fix-ups, attributes, run lists. Pure; the layout is
 * the public one of NTFS 3.1 (all numbers little-endian).
 */

/** Attribute types. */
export const STANDARD_INFORMATION = 0x10;
export const ATTRIBUTE_LIST = 0x20;
export const VOLUME_NAME = 0x60;
export const VOLUME_INFORMATION = 0x70;
export const DATA = 0x80;
export const INDEX_ROOT = 0x90;
export const INDEX_ALLOCATION = 0xa0;
export const BITMAP = 0xb0;
export const REPARSE_POINT = 0xc0;
const ATTRIBUTES_END = 0xffffffff;

/** Flags of an attribute. */
export const COMPRESSED = 0x00ff;
export const ENCRYPTED = 0x4000;

/** Fix-ups protect strides of this size, whatever the sector of the disk. */
const FIXUP_STRIDE_BYTES = 512;
/** A run list that says more is no run list of a real disk: 2^53 bytes at the smallest cluster. */
const CLUSTERS_MAX = 2 ** 44;
/** Memory for a stream's map stays below some 50 MB; a disk in a million pieces is still read. */
const RUNS_MAX = 1_000_000;

export interface Run {
  vcn: number;
  /** -1: a hole. */
  lcn: number;
  count: number;
}

interface AttributeHead {
  type: number;
  name: string;
  flags: number;
  instance: number;
}

export interface ResidentAttribute extends AttributeHead {
  resident: true;
  value: Buffer;
}

export interface NonResidentAttribute extends AttributeHead {
  resident: false;
  lowestVcn: number;
  runList: Buffer;
  /** Clusters that are compressed together, as a power of two; 0 where nothing is compressed. */
  compressionUnitLog: number;
  /** These stand in the attribute's first piece alone. */
  sizeBytes: number;
  initializedBytes: number;
}

export type Attribute = ResidentAttribute | NonResidentAttribute;

export interface FileRecord {
  inUse: boolean;
  isFolder: boolean;
  sequence: number;
  /** Record number of the file this belongs to; 0 where it is itself the file. */
  baseRecord: number;
  attributes: Attribute[];
}

/** A reference's record number; the upper 16 bits are the sequence. */
export function referenceRecord(bytes: Buffer, at: number): number {
  return bytes.readUIntLE(at, 6);
}

export function referenceSequence(bytes: Buffer, at: number): number {
  return bytes.readUInt16LE(at + 6);
}

/** A whole number of 64 bits that fits. */
export function readSize(bytes: Buffer, at: number): number {
  const value = bytes.readBigUInt64LE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged('ntfs', 'a size beyond any disk');
  return Number(value);
}

/**
 * Puts back the last two bytes of every stride, in place. Every stride carries the update number of one write:
 * where they differ, the record was torn.
 */
export function applyFixups(bytes: Buffer, what: string): void {
  const arrayAt = bytes.readUInt16LE(4);
  const count = bytes.readUInt16LE(6);
  const strides = bytes.length / FIXUP_STRIDE_BYTES;
  if (count !== strides + 1 || arrayAt + count * 2 > FIXUP_STRIDE_BYTES - 2 || arrayAt < 8)
    throw damaged('ntfs', `${what} has no fix-ups`);
  const update = bytes.readUInt16LE(arrayAt);
  for (let stride = 1; stride <= strides; stride += 1) {
    const at = stride * FIXUP_STRIDE_BYTES - 2;
    if (bytes.readUInt16LE(at) !== update) throw damaged('ntfs', `${what} was written in part`);
    bytes.copyWithin(at, arrayAt + stride * 2, arrayAt + stride * 2 + 2);
  }
}

/**
 * @param bytes one whole record as it lies on the disk; changed in place
 * @throws FILESYSTEM_DAMAGED
 */
export function parseFileRecord(bytes: Buffer, number: number): FileRecord {
  const what = `record ${number} of the master file table`;
  if (bytes.toString('latin1', 0, 4) !== 'FILE') throw damaged('ntfs', `${what} is no record`);
  applyFixups(bytes, what);
  const flags = bytes.readUInt16LE(0x16);
  const usedBytes = Math.min(bytes.readUInt32LE(0x18), bytes.length);
  const attributes: Attribute[] = [];
  let at = bytes.readUInt16LE(0x14);
  for (;;) {
    if (at % 4 !== 0 || at + 4 > usedBytes) throw damaged('ntfs', `${what} has no end`);
    const type = bytes.readUInt32LE(at);
    if (type === ATTRIBUTES_END) break;
    if (at + 24 > usedBytes) throw damaged('ntfs', `${what} has no end`);
    const lengthBytes = bytes.readUInt32LE(at + 4);
    if (lengthBytes < 24 || at + lengthBytes > usedBytes) throw damaged('ntfs', `an attribute leaves ${what}`);
    attributes.push(parseAttribute(bytes.subarray(at, at + lengthBytes), what));
    at += lengthBytes;
  }
  return {
    inUse: (flags & 1) !== 0,
    isFolder: (flags & 2) !== 0,
    sequence: bytes.readUInt16LE(0x10),
    baseRecord: referenceRecord(bytes, 0x20),
    attributes,
  };
}

function parseAttribute(bytes: Buffer, what: string): Attribute {
  const outside = (): Error => damaged('ntfs', `an attribute of ${what} points outside itself`);
  const nameAt = bytes.readUInt16LE(10);
  const nameEnd = nameAt + (bytes[9] as number) * 2;
  if (nameEnd > bytes.length) throw outside();
  const head = {
    type: bytes.readUInt32LE(0),
    name: bytes.toString('utf16le', nameAt, nameEnd),
    flags: bytes.readUInt16LE(12),
    instance: bytes.readUInt16LE(14),
  };
  if (bytes[8] === 0) {
    const valueAt = bytes.readUInt16LE(20);
    const valueEnd = valueAt + bytes.readUInt32LE(16);
    if (valueEnd > bytes.length) throw outside();
    return { ...head, resident: true, value: bytes.subarray(valueAt, valueEnd) };
  }
  const runsAt = bytes.length >= 64 ? bytes.readUInt16LE(0x20) : 0;
  if (runsAt < 64 || runsAt > bytes.length) throw outside();
  const lowestVcn = readSize(bytes, 0x10);
  const first = lowestVcn === 0;
  return {
    ...head,
    resident: false,
    lowestVcn,
    runList: bytes.subarray(runsAt),
    compressionUnitLog: bytes.readUInt16LE(0x22) & 0xff,
    sizeBytes: first ? readSize(bytes, 0x30) : 0,
    initializedBytes: first ? readSize(bytes, 0x38) : 0,
  };
}

/**
 * Appends the runs of one piece of an attribute. A piece must begin where the one before ended.
 * @param clusterCount clusters of the volume; a run outside is damage
 */
export function appendRuns(runs: Run[], piece: NonResidentAttribute, clusterCount: number): void {
  const bytes = piece.runList;
  const last = runs.at(-1);
  let vcn = last === undefined ? 0 : last.vcn + last.count;
  if (vcn !== piece.lowestVcn) throw damaged('ntfs', 'a piece of a run list is missing');
  let lcn = 0;
  let at = 0;
  for (;;) {
    const head = bytes[at];
    if (head === undefined) throw damaged('ntfs', 'a run list has no end');
    if (head === 0) return;
    const countBytes = head & 0x0f;
    const offsetBytes = head >> 4;
    at += 1;
    if (countBytes === 0 || countBytes > 6 || offsetBytes > 6 || at + countBytes + offsetBytes > bytes.length)
      throw damaged('ntfs', 'a run list cannot be read');
    const count = bytes.readIntLE(at, countBytes);
    if (count <= 0 || vcn + count > CLUSTERS_MAX) throw damaged('ntfs', 'a run of no length');
    at += countBytes;
    if (offsetBytes === 0) {
      pushRun(runs, { vcn, lcn: -1, count });
    } else {
      lcn += bytes.readIntLE(at, offsetBytes);
      if (lcn < 0 || lcn + count > clusterCount) throw damaged('ntfs', 'a run outside the volume');
      pushRun(runs, { vcn, lcn, count });
      at += offsetBytes;
    }
    vcn += count;
  }
}

function pushRun(runs: Run[], run: Run): void {
  if (runs.length >= RUNS_MAX) throw damaged('ntfs', 'a file in more than a million pieces');
  runs.push(run);
}

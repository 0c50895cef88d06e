import type { Extent } from '../disk/index.ts';
import { damaged } from './filesystem.ts';
import type { XfsDisk } from './xfs-disk.ts';

export const FORMAT_LOCAL = 1;
export const FORMAT_EXTENTS = 2;
export const FORMAT_BTREE = 3;

const TYPE_MASK = 0o170000;
export const TYPE_FILE = 0o100000;
export const TYPE_FOLDER = 0o040000;
export const TYPE_LINK = 0o120000;

const FLAG_REALTIME = 1;
const FLAG2_BIGTIME = 0x08;
const FLAG2_MANY_EXTENTS = 0x10;
/** Big times count nanoseconds from 1901-12-13T20:45:52Z. */
const BIGTIME_START_S = 2 ** 31;
/** Memory for a map stays below some 100 MB. */
const EXTENTS_MAX = 1_000_000;
const EXTENT_BYTES = 16;
const DEPTH_MAX = 12;

export interface Inode {
  number: number;
  type: number;
  format: number;
  sizeBytes: number;
  modifiedAtMs: number;
  isRealtime: boolean;
  extentCount: number;
  /** The data fork within the inode. */
  fork: Buffer;
}

/** In blocks. */
export interface XfsExtent {
  fileBlock: number;
  /** Numbered by group and place. */
  block: number;
  count: number;
  /** Reads as zeros. */
  unwritten: boolean;
}

export function inodeOffsetBytes(disk: XfsDisk, number: number): number {
  const { inodesPerBlockLog, inodeBytes } = disk.superblock;
  const block = Math.floor(number / 2 ** inodesPerBlockLog);
  return disk.blockOffsetBytes(block) + (number - block * 2 ** inodesPerBlockLog) * inodeBytes;
}

/** Of the inode's beginning: what stands before the data fork. */
export function inodeCoreBytes(version: number): number {
  return version >= 3 ? 176 : 100;
}

export async function readInode(disk: XfsDisk, number: number, signal?: AbortSignal): Promise<Inode> {
  const what = `inode ${number}`;
  const offsetBytes = inodeOffsetBytes(disk, number);
  const { inodeBytes } = disk.superblock;
  // Two small inodes share a sector.
  const startBytes = offsetBytes - (offsetBytes % 512);
  const lengthBytes = Math.max(512, inodeBytes);
  const sectors =
    disk.superblock.version === 5
      ? await disk.readChecked(offsetBytes, inodeBytes, 100, what, signal)
      : await disk.read(startBytes, lengthBytes, signal);
  const bytes =
    disk.superblock.version === 5 ? sectors : sectors.subarray(offsetBytes - startBytes).subarray(0, inodeBytes);
  if (bytes.toString('latin1', 0, 2) !== 'IN') throw damaged('xfs', `${what} is none`);
  const mode = bytes.readUInt16BE(2);
  if (mode === 0) throw damaged('xfs', `${what} is not in use`);
  const version = bytes[4] as number;
  if (version >= 3 && bytes.readBigUInt64BE(152) !== BigInt(number)) throw damaged('xfs', `${what} is another one`);
  const flags2 = version >= 3 ? bytes.readBigUInt64BE(120) : 0n;
  const sizeBytes = bytes.readBigUInt64BE(56);
  if (sizeBytes > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged('xfs', `${what} has a size beyond any disk`);
  const manyExtents = (flags2 & BigInt(FLAG2_MANY_EXTENTS)) !== 0n;
  const forkAt = inodeCoreBytes(version);
  const attributesAt = (bytes[82] as number) * 8;
  const forkEnd = attributesAt === 0 ? inodeBytes : forkAt + attributesAt;
  if (forkEnd > inodeBytes) throw damaged('xfs', `a fork leaves ${what}`);
  return {
    number,
    type: mode & TYPE_MASK,
    format: bytes[5] as number,
    sizeBytes: Number(sizeBytes),
    modifiedAtMs: readTimeMs(bytes, 40, (flags2 & BigInt(FLAG2_BIGTIME)) !== 0n),
    isRealtime: (bytes.readUInt16BE(90) & FLAG_REALTIME) !== 0,
    extentCount: manyExtents ? Number(bytes.readBigUInt64BE(24)) : bytes.readUInt32BE(76),
    fork: bytes.subarray(forkAt, forkEnd),
  };
}

function readTimeMs(bytes: Buffer, at: number, isBigTime: boolean): number {
  if (isBigTime) return Number(bytes.readBigUInt64BE(at) / 1_000_000n) - BIGTIME_START_S * 1000;
  return bytes.readInt32BE(at) * 1000 + Math.floor(bytes.readUInt32BE(at + 4) / 1_000_000);
}

/** The map of the data fork, ascending, without overlap. */
export async function readExtents(disk: XfsDisk, inode: Inode, signal?: AbortSignal): Promise<XfsExtent[]> {
  const extents: XfsExtent[] = [];
  if (inode.format === FORMAT_EXTENTS) {
    if (inode.extentCount * EXTENT_BYTES > inode.fork.length)
      throw damaged('xfs', `inode ${inode.number} holds more extents than fit`);
    for (let index = 0; index < inode.extentCount; index += 1)
      pushExtent(disk, extents, parseExtent(inode.fork, index * EXTENT_BYTES));
  } else if (inode.format === FORMAT_BTREE) {
    const { fork } = inode;
    const level = fork.length < 4 ? 0 : fork.readUInt16BE(0);
    const count = fork.length < 4 ? 0 : fork.readUInt16BE(2);
    const countMax = Math.floor((fork.length - 4) / 16);
    if (level < 1 || level > DEPTH_MAX || count > countMax)
      throw damaged('xfs', `the extents of inode ${inode.number} cannot be read`);
    for (let index = 0; index < count; index += 1)
      await walkExtents(disk, inode, extents, fork.readBigUInt64BE(4 + countMax * 8 + index * 8), level - 1, signal);
  } else {
    throw damaged('xfs', `inode ${inode.number} has no extents`);
  }
  return extents;
}

async function walkExtents(
  disk: XfsDisk,
  inode: Inode,
  extents: XfsExtent[],
  block: bigint,
  level: number,
  signal?: AbortSignal,
): Promise<void> {
  const { version, blockBytes } = disk.superblock;
  const what = `the extents of inode ${inode.number}`;
  const bytes = await disk.readChecked(disk.blockOffsetBytes(Number(block)), blockBytes, 64, what, signal);
  const headBytes = version === 5 ? 72 : 24;
  if (bytes.toString('latin1', 0, 4) !== (version === 5 ? 'BMA3' : 'BMAP') || bytes.readUInt16BE(4) !== level)
    throw damaged('xfs', `${what} cannot be read`);
  if (version === 5 && bytes.readBigUInt64BE(56) !== BigInt(inode.number))
    throw damaged('xfs', `${what} belong to another`);
  const count = bytes.readUInt16BE(6);
  const countMax = Math.floor((blockBytes - headBytes) / 16);
  if (count > countMax) throw damaged('xfs', `${what} cannot be read`);
  for (let index = 0; index < count; index += 1) {
    if (level === 0) pushExtent(disk, extents, parseExtent(bytes, headBytes + index * EXTENT_BYTES));
    else {
      const child = bytes.readBigUInt64BE(headBytes + countMax * 8 + index * 8);
      await walkExtents(disk, inode, extents, child, level - 1, signal);
    }
  }
}

function parseExtent(bytes: Buffer, at: number): XfsExtent {
  const high = bytes.readBigUInt64BE(at);
  const low = bytes.readBigUInt64BE(at + 8);
  return {
    unwritten: high >> 63n === 1n,
    fileBlock: Number((high >> 9n) & 0x3f_ffff_ffff_ffffn),
    block: Number(((high & 0x1ffn) << 43n) | (low >> 21n)),
    count: Number(low & 0x1f_ffffn),
  };
}

/** Ascending order also ends a walk through a tree that loops. */
function pushExtent(disk: XfsDisk, extents: XfsExtent[], extent: XfsExtent): void {
  const last = extents.at(-1);
  if (extent.count === 0 || (last !== undefined && extent.fileBlock < last.fileBlock + last.count))
    throw damaged('xfs', 'extents out of order');
  disk.blockOffsetBytes(extent.block);
  disk.blockOffsetBytes(extent.block + extent.count - 1);
  if (extents.length >= EXTENTS_MAX) throw damaged('xfs', 'a file in more than a million pieces');
  extents.push(extent);
}

/** Content: holes and what was never written are zeros. */
export async function readMapped(
  disk: XfsDisk,
  extents: readonly XfsExtent[],
  offsetBytes: number,
  lengthBytes: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const { blockBytes } = disk.superblock;
  const bytes = Buffer.alloc(lengthBytes);
  const endBytes = offsetBytes + lengthBytes;
  for (let index = extentIndex(extents, Math.floor(offsetBytes / blockBytes)); index < extents.length; index += 1) {
    const extent = extents[index] as XfsExtent;
    const startBytes = Math.max(offsetBytes, extent.fileBlock * blockBytes);
    if (startBytes >= endBytes) break;
    const pieceEnd = Math.min(endBytes, (extent.fileBlock + extent.count) * blockBytes);
    if (extent.unwritten) continue;
    const diskBytes = disk.blockOffsetBytes(extent.block) + startBytes - extent.fileBlock * blockBytes;
    (await disk.volume.read(diskBytes, pieceEnd - startBytes, signal)).copy(bytes, startBytes - offsetBytes);
  }
  return bytes;
}

/** The first extent that ends behind `fileBlock`. */
export function extentIndex(extents: readonly XfsExtent[], fileBlock: number): number {
  let low = 0;
  let high = extents.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const extent = extents[middle] as XfsExtent;
    if (extent.fileBlock + extent.count <= fileBlock) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Where the first `sizeBytes` bytes of a file lie. */
export function* mappedExtents(disk: XfsDisk, extents: readonly XfsExtent[], sizeBytes: number): Generator<Extent> {
  const { blockBytes } = disk.superblock;
  for (const extent of extents) {
    const lengthBytes = Math.min(extent.count * blockBytes, sizeBytes - extent.fileBlock * blockBytes);
    if (lengthBytes > 0) yield { offsetBytes: disk.blockOffsetBytes(extent.block), lengthBytes };
  }
}

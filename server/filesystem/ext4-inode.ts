import type { BlockMapOptions } from './ext4-block-map.ts';
import { READ_ONLY, ext4Checksum, littleEndian32, type Superblock } from './ext4-superblock.ts';
import { damaged } from './filesystem.ts';

/** What stands in the table of inodes for one file, folder or link. */
export interface Inode {
  number: number;
  type: 'file' | 'folder' | 'link' | 'other';
  sizeBytes: number;
  modifiedAtMs: number;
  isEncrypted: boolean;
  /** Of the bytes that lie in the inode itself: its map, and what extended attributes add to it. Null: in blocks. */
  inline: Buffer | null;
  map: Pick<BlockMapOptions, 'root' | 'isExtentTree' | 'checksumSeed'>;
  isIndexed: boolean;
}

export const ROOT_INODE = 2;

const FLAG = { encrypted: 0x800, indexed: 0x1000, extents: 0x80000, inline: 0x10000000 };
const MODE_MASK = 0xf000;
const TYPES = new Map<number, Inode['type']>([
  [0x8000, 'file'],
  [0x4000, 'folder'],
  [0xa000, 'link'],
]);
const MAP_AT = 0x28;
const MAP_BYTES = 60;
const ATTRIBUTES_MAGIC = 0xea020000;
/** The attribute `system.data`: what of inline content does not fit the map. */
const ATTRIBUTE_INDEX_SYSTEM = 7;

/**
 * @param bytes as long as the superblock says inodes are
 * @throws FILESYSTEM_DAMAGED
 */
export function parseInode(superblock: Superblock, number: number, bytes: Buffer): Inode {
  const hasExtra = superblock.inodeBytes > 128;
  const extraBytes = hasExtra ? bytes.readUInt16LE(0x80) : 0;
  if (128 + extraBytes > bytes.length) throw damaged('ext4', `inode ${String(number)} is longer than it can be`);
  const seed = ext4Checksum(superblock.checksumSeed, littleEndian32(number), bytes.subarray(0x64, 0x68));
  const hasChecksums = (superblock.readOnlyCompatible & READ_ONLY.metadataChecksum) !== 0;
  if (hasChecksums) verifyInode(number, bytes, seed, extraBytes >= 4);
  const flags = bytes.readUInt32LE(0x20);
  const type = TYPES.get(bytes.readUInt16LE(0) & MODE_MASK) ?? 'other';
  const sizeBytes = bytes.readUInt32LE(0x4) + bytes.readUInt32LE(0x6c) * 2 ** 32;
  if (!Number.isSafeInteger(sizeBytes)) throw damaged('ext4', `the size of inode ${String(number)} is none`);
  const root = bytes.subarray(MAP_AT, MAP_AT + MAP_BYTES);
  const isInline = (flags & FLAG.inline) !== 0;
  const isExtentTree = (flags & FLAG.extents) !== 0;
  const isShortLink = type === 'link' && !isExtentTree && sizeBytes < MAP_BYTES;
  return {
    number,
    type,
    sizeBytes,
    modifiedAtMs: readTime(bytes, extraBytes),
    isEncrypted: (flags & FLAG.encrypted) !== 0,
    inline: isInline ? Buffer.concat([root, readInlineRest(bytes, extraBytes)]) : isShortLink ? root : null,
    map: { root, isExtentTree, checksumSeed: hasChecksums ? seed : null },
    isIndexed: (flags & FLAG.indexed) !== 0,
  };
}

function verifyInode(number: number, bytes: Buffer, seed: number, hasHigh: boolean): void {
  const blanked = Buffer.from(bytes);
  blanked.writeUInt16LE(0, 0x7c);
  if (hasHigh) blanked.writeUInt16LE(0, 0x82);
  const checksum = ext4Checksum(seed, blanked);
  const isRight =
    (checksum & 0xffff) === bytes.readUInt16LE(0x7c) && (!hasHigh || checksum >>> 16 === bytes.readUInt16LE(0x82));
  if (!isRight) throw damaged('ext4', `the checksum of inode ${String(number)} is wrong`);
}

function readTime(bytes: Buffer, extraBytes: number): number {
  const seconds = bytes.readInt32LE(0x10);
  // Two bits lengthen the seconds beyond 2038, thirty are nanoseconds.
  const extra = extraBytes >= 12 ? bytes.readUInt32LE(0x88) : 0;
  return (seconds + (extra & 3) * 2 ** 32) * 1000 + Math.floor((extra >>> 2) / 1_000_000);
}

function readInlineRest(bytes: Buffer, extraBytes: number): Buffer {
  const begin = 128 + extraBytes;
  const first = begin + 4;
  if (first > bytes.length || bytes.readUInt32LE(begin) !== ATTRIBUTES_MAGIC) return Buffer.alloc(0);
  for (let at = first; at + 16 <= bytes.length && bytes.readUInt32LE(at) !== 0;) {
    const nameBytes = bytes.readUInt8(at);
    const name = bytes.toString('latin1', at + 16, at + 16 + nameBytes);
    if (bytes.readUInt8(at + 1) === ATTRIBUTE_INDEX_SYSTEM && name === 'data') {
      const from = first + bytes.readUInt16LE(at + 2);
      const lengthBytes = bytes.readUInt32LE(at + 8);
      if (from + lengthBytes > bytes.length) throw damaged('ext4', 'a short file lies outside its inode');
      return bytes.subarray(from, from + lengthBytes);
    }
    at += 16 + Math.ceil(nameBytes / 4) * 4;
  }
  return Buffer.alloc(0);
}

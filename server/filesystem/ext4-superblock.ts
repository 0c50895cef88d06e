import { crc32c } from '../disk/index.ts';

import { damaged, printable, unsupported } from './filesystem.ts';

/**
 * The superblock of ext2, ext3 and ext4 (Linux, `fs/ext4/ext4.h` and Documentation/filesystems/ext4), as far as
 * reading needs it. All numbers little endian.
 */
export interface Superblock {
  blockBytes: number;
  blockCount: number;
  firstDataBlock: number;
  blocksPerGroup: number;
  inodesPerGroup: number;
  inodeCount: number;
  inodeBytes: number;
  groupCount: number;
  descriptorBytes: number;
  firstMetaGroup: number;
  reservedDescriptorBlocks: number;
  /** Two groups that hold copies of the superblock, where the feature SPARSE_SUPER2 is on. */
  backupGroups: [number, number];
  journalInode: number;
  state: number;
  label: string;
  uuid: Buffer;
  /** Where every checksum of metadata begins. */
  checksumSeed: number;
  compatible: number;
  incompatible: number;
  readOnlyCompatible: number;
}

export const SUPERBLOCK_OFFSET_BYTES = 1024;
export const SUPERBLOCK_BYTES = 1024;
const MAGIC = 0xef53;

export const COMPATIBLE = { journal: 0x4, sparseSuper2: 0x200 };
export const INCOMPATIBLE = { recover: 0x4, journalDevice: 0x8, metaGroups: 0x10, wide: 0x80, checksumSeed: 0x2000 };
export const READ_ONLY = { sparseSuper: 0x1, groupChecksum: 0x10, metadataChecksum: 0x400 };

/** What a reader of files must know, by name; others make the volume unreadable, as they do for Linux. */
const INCOMPATIBLE_READ = 0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x30000;
const INCOMPATIBLE_NAMES = new Map([
  [0x1, 'compressed files'],
  [0x1000, 'data in folder entries'],
]);
/** What leaves the meaning of the bitmaps as it is. */
const READ_ONLY_UNDERSTOOD =
  0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x400 | 0x1000 | 0x2000 | 0x8000 | 0x10000;
const READ_ONLY_NAMES = new Map([
  [0x80, 'snapshots'],
  [0x200, 'clusters of blocks (bigalloc)'],
  [0x800, 'replicas'],
  [0x4000, 'shared blocks'],
]);

const STATE_ERRORS = 2;
export const STATE_CLEAN = 1;
/** 64 TiB of 4 KiB blocks: more than a disk of a machine can have. */
const GROUP_COUNT_MAX = 512 * 1024;

/**
 * Null where these bytes are no superblock.
 * @throws FILESYSTEM_DAMAGED, FILESYSTEM_UNSUPPORTED
 */
export function parseSuperblock(bytes: Buffer, volumeSizeBytes: number): Superblock | null {
  if (bytes.length < SUPERBLOCK_BYTES || bytes.readUInt16LE(0x38) !== MAGIC) return null;
  const incompatible = bytes.readUInt32LE(0x60);
  const readOnlyCompatible = bytes.readUInt32LE(0x64);
  if ((incompatible & INCOMPATIBLE.journalDevice) !== 0) return null;
  const logBlockBytes = bytes.readUInt32LE(0x18);
  if (logBlockBytes > 6) throw damaged('ext4', 'its block size is none');
  if ((readOnlyCompatible & READ_ONLY.metadataChecksum) !== 0) {
    if (ext4Checksum(0xffffffff, bytes.subarray(0, 0x3fc)) !== bytes.readUInt32LE(0x3fc)) {
      throw damaged('ext4', 'the checksum of its superblock is wrong');
    }
  }
  refuseUnknown(incompatible);
  const revision = bytes.readUInt32LE(0x4c);
  const isWide = (incompatible & INCOMPATIBLE.wide) !== 0;
  const blockBytes = 1024 << logBlockBytes;
  const blockCount = bytes.readUInt32LE(0x4) + (isWide ? bytes.readUInt32LE(0x150) * 2 ** 32 : 0);
  const blocksPerGroup = bytes.readUInt32LE(0x20);
  const firstDataBlock = bytes.readUInt32LE(0x14);
  const inodesPerGroup = bytes.readUInt32LE(0x28);
  const inodeBytes = revision === 0 ? 128 : bytes.readUInt16LE(0x58);
  const descriptorBytes = isWide ? bytes.readUInt16LE(0xfe) : 32;
  const uuid = Buffer.from(bytes.subarray(0x68, 0x78));
  const superblock: Superblock = {
    blockBytes,
    blockCount,
    firstDataBlock,
    blocksPerGroup,
    inodesPerGroup,
    inodeCount: bytes.readUInt32LE(0x0),
    inodeBytes,
    groupCount: Math.ceil((blockCount - firstDataBlock) / blocksPerGroup),
    descriptorBytes,
    firstMetaGroup: (incompatible & INCOMPATIBLE.metaGroups) === 0 ? Infinity : bytes.readUInt32LE(0x104),
    reservedDescriptorBlocks: bytes.readUInt16LE(0xce),
    backupGroups: [bytes.readUInt32LE(0x24c), bytes.readUInt32LE(0x250)],
    journalInode: bytes.readUInt32LE(0xe0),
    state: bytes.readUInt16LE(0x3a),
    label: printable(
      bytes
        .subarray(0x78, 0x88)
        .toString('utf8')
        .replace(/\0[^]*$/, ''),
    ),
    uuid,
    checksumSeed:
      (incompatible & INCOMPATIBLE.checksumSeed) === 0 ? ext4Checksum(0xffffffff, uuid) : bytes.readUInt32LE(0x270),
    compatible: bytes.readUInt32LE(0x5c),
    incompatible,
    readOnlyCompatible,
  };
  assertSound(superblock, volumeSizeBytes);
  return superblock;
}

function refuseUnknown(incompatible: number): void {
  const unknown = incompatible & ~INCOMPATIBLE_READ;
  if (unknown !== 0) throw unsupported('ext4', nameFeatures(unknown, INCOMPATIBLE_NAMES));
}

function assertSound(superblock: Superblock, volumeSizeBytes: number): void {
  const { blockBytes, blockCount, blocksPerGroup, inodesPerGroup, inodeBytes, descriptorBytes } = superblock;
  const bitsMax = blockBytes * 8;
  const isSound =
    blockCount > superblock.firstDataBlock &&
    blockCount * blockBytes <= volumeSizeBytes &&
    superblock.firstDataBlock === (blockBytes === 1024 ? 1 : 0) &&
    blocksPerGroup >= 8 &&
    blocksPerGroup % 8 === 0 &&
    // Clusters have a bit each, so that a group of them is larger.
    (blocksPerGroup <= bitsMax || (superblock.readOnlyCompatible & 0x200) !== 0) &&
    inodesPerGroup >= 1 &&
    inodesPerGroup <= bitsMax &&
    inodeBytes >= 128 &&
    inodeBytes <= blockBytes &&
    isPowerOfTwo(inodeBytes) &&
    descriptorBytes >= 32 &&
    descriptorBytes <= blockBytes &&
    isPowerOfTwo(descriptorBytes) &&
    superblock.inodeCount <= superblock.groupCount * inodesPerGroup;
  if (!isSound) throw damaged('ext4', 'the sizes in its superblock do not fit each other or the volume');
  if (superblock.groupCount > GROUP_COUNT_MAX) throw unsupported('ext4', 'more groups of blocks than Dozo reads');
}

/** Why the bitmaps of this file system cannot be relied upon, whatever its journal says; null where they can. */
export function whyBitmapsAreUnsure(superblock: Superblock): string | null {
  const unknown = superblock.readOnlyCompatible & ~READ_ONLY_UNDERSTOOD;
  if (unknown !== 0) return `it uses ${nameFeatures(unknown, READ_ONLY_NAMES)}`;
  if ((superblock.state & STATE_ERRORS) !== 0) return 'it has noted errors of its own';
  return null;
}

function nameFeatures(bits: number, names: ReadonlyMap<number, string>): string {
  const known = [...names].filter(([bit]) => (bits & bit) !== 0).map(([, name]) => name);
  return known.length > 0 ? known.join(', ') : `a feature that Dozo does not know (0x${(bits >>> 0).toString(16)})`;
}

/** Whether a group begins with a copy of superblock and descriptors. */
export function hasSuperblockCopy(superblock: Superblock, group: number): boolean {
  if (group === 0) return true;
  if ((superblock.compatible & COMPATIBLE.sparseSuper2) !== 0) return superblock.backupGroups.includes(group);
  if (group === 1 || (superblock.readOnlyCompatible & READ_ONLY.sparseSuper) === 0) return true;
  return [3, 5, 7].some((base) => isPowerOf(group, base));
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}

/** CRC32C as ext4 and jbd2 chain it: begun with any number, not inverted at the end. */
export function ext4Checksum(seed: number, ...parts: Uint8Array[]): number {
  let state = seed;
  for (const part of parts) state = ~crc32c(part, ~state >>> 0) >>> 0;
  return state;
}

export function littleEndian32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

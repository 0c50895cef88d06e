import { crc32c } from '../disk/index.ts';
import { CachedVolume } from './cached-volume.ts';
import { damaged, printable, unsupported, type Volume } from './filesystem.ts';

/** What the log is counted in, and the grain of what is laid over the disk. */
export const SECTOR_BYTES = 512;
/** Of the log's newer truth in memory; more than this between two write-backs is not replayed. */
const LAID_OVER_BYTES_MAX = 96 * 1024 * 1024;

const VERSION_MASK = 0x000f;
/** Features of the superblock, `sb_versionnum` and `sb_features2`. */
const V4_DIR2 = 0x2000;
const V4_MORE = 0x8000;
const V4_FTYPE = 0x0200;
/** Features that whoever does not know them must not read: v5, `sb_features_incompat`. */
const INCOMPAT_FTYPE = 0x01;
const INCOMPAT_META_UUID = 0x04;
const INCOMPAT_NEEDS_REPAIR = 0x10;
/** ftype, sparse inodes, meta uuid, bigtime, needs repair, many extents, exchanged ranges, parent pointers. */
const INCOMPAT_READ = 0xff;
/** Features that change what is written alone: finobt, rmapbt, reflink, inode counters. */
const RO_COMPAT_READ = 0x0f;

export interface Superblock {
  /** 4 or 5; 5 has check sums. */
  version: 4 | 5;
  blockBytes: number;
  sectorBytes: number;
  inodeBytes: number;
  inodesPerBlockLog: number;
  blocks: number;
  groupBlocks: number;
  groupBlocksLog: number;
  groupCount: number;
  rootInode: number;
  folderBlockBytes: number;
  /** In blocks; the log lies within the volume. */
  logStart: number;
  logBlocks: number;
  /** Folders say what type their entries are. */
  hasTypes: boolean;
  needsRepair: boolean;
  hasUnknownReadOnlyFeatures: boolean;
  uuid: Buffer;
  /** Stands in every block of metadata. */
  metaUuid: Buffer;
  label: string;
}

/** @returns null where the volume does not begin as XFS does */
export async function readSuperblock(volume: Volume, signal?: AbortSignal): Promise<Superblock | null> {
  if (volume.sizeBytes < 65_536) return null;
  const bytes = await volume.read(0, SECTOR_BYTES, signal);
  if (bytes.toString('latin1', 0, 4) !== 'XFSB') return null;
  const superblock = parseSuperblock(bytes);
  if (superblock.blocks * superblock.blockBytes > volume.sizeBytes)
    throw damaged('xfs', 'it is larger than its volume');
  return superblock;
}

/** @throws FILESYSTEM_DAMAGED, FILESYSTEM_UNSUPPORTED */
export function parseSuperblock(bytes: Buffer): Superblock {
  const flags = bytes.readUInt16BE(100);
  const version = flags & VERSION_MASK;
  if (version !== 4 && version !== 5) throw unsupported('xfs', `its version ${version}`);
  const incompat = version === 5 ? bytes.readUInt32BE(216) : 0;
  if ((incompat & ~INCOMPAT_READ) !== 0) throw unsupported('xfs', `its features 0x${incompat.toString(16)}`);
  if (version === 4 && (flags & V4_DIR2) === 0) throw unsupported('xfs', 'folders of version 1');
  const features2 = version === 4 && (flags & V4_MORE) !== 0 ? bytes.readUInt32BE(200) : 0;
  const size = (at: number): number => {
    const value = bytes.readBigUInt64BE(at);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw damaged('xfs', 'a size beyond any disk');
    return Number(value);
  };
  const uuid = Buffer.from(bytes.subarray(32, 48));
  const superblock: Superblock = {
    version,
    blockBytes: bytes.readUInt32BE(4),
    sectorBytes: bytes.readUInt16BE(102),
    inodeBytes: bytes.readUInt16BE(104),
    inodesPerBlockLog: bytes[123] as number,
    blocks: size(8),
    groupBlocks: bytes.readUInt32BE(84),
    groupBlocksLog: bytes[124] as number,
    groupCount: bytes.readUInt32BE(88),
    rootInode: size(56),
    folderBlockBytes: bytes.readUInt32BE(4) * 2 ** Math.min(bytes[192] as number, 16),
    logStart: size(48),
    logBlocks: bytes.readUInt32BE(96),
    hasTypes: (incompat & INCOMPAT_FTYPE) !== 0 || (features2 & V4_FTYPE) !== 0,
    needsRepair: (incompat & INCOMPAT_NEEDS_REPAIR) !== 0 || bytes[126] !== 0,
    hasUnknownReadOnlyFeatures: version === 5 && (bytes.readUInt32BE(212) & ~RO_COMPAT_READ) !== 0,
    uuid,
    metaUuid: (incompat & INCOMPAT_META_UUID) === 0 ? uuid : Buffer.from(bytes.subarray(248, 264)),
    label: printable(bytes.toString('utf8', 108, 120).split('\0')[0] ?? ''),
  };
  assertGeometry(superblock);
  if (superblock.logStart === 0) throw unsupported('xfs', 'its log lies on another disk');
  return superblock;
}

function assertGeometry(superblock: Superblock): void {
  const { blockBytes, sectorBytes, inodeBytes, inodesPerBlockLog, blocks, groupBlocks, groupCount } = superblock;
  const good =
    isPowerOfTwo(blockBytes, 512, 65_536) &&
    isPowerOfTwo(sectorBytes, 512, 32_768) &&
    isPowerOfTwo(inodeBytes, 256, 2048) &&
    inodeBytes * 2 ** inodesPerBlockLog === blockBytes &&
    superblock.folderBlockBytes <= 65_536 &&
    groupBlocks >= 16 &&
    groupCount >= 1 &&
    2 ** superblock.groupBlocksLog >= groupBlocks &&
    2 ** superblock.groupBlocksLog < groupBlocks * 2 &&
    blocks > (groupCount - 1) * groupBlocks &&
    blocks <= groupCount * groupBlocks &&
    superblock.groupBlocksLog + inodesPerBlockLog <= 52 &&
    superblock.logBlocks > 0;
  if (!good) throw damaged('xfs', 'its superblock holds impossible numbers');
}

function isPowerOfTwo(value: number, min: number, max: number): boolean {
  return value >= min && value <= max && (value & (value - 1)) === 0;
}

/** The volume as its log leaves it: what the log knows better lies over what the disk holds. */
export class XfsDisk {
  readonly superblock: Superblock;
  /** For content: never laid over. */
  readonly volume: Volume;
  readonly #cached: Volume;
  readonly #over = new Map<number, Buffer>();

  constructor(superblock: Superblock, volume: Volume) {
    this.superblock = superblock;
    this.volume = volume;
    this.#cached = new CachedVolume(volume);
  }

  /** Metadata, in whole sectors. */
  async read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    if (offsetBytes < 0 || offsetBytes + lengthBytes > this.volume.sizeBytes)
      throw damaged('xfs', 'something points outside the volume');
    const bytes = await this.#cached.read(offsetBytes, lengthBytes, signal);
    if (this.#over.size > 0) {
      for (let at = 0; at < lengthBytes; at += SECTOR_BYTES)
        this.#over.get((offsetBytes + at) / SECTOR_BYTES)?.copy(bytes, at);
    }
    return bytes;
  }

  /** Lays sectors over the disk. */
  layOver(offsetBytes: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += SECTOR_BYTES)
      this.#over.set((offsetBytes + at) / SECTOR_BYTES, Buffer.from(bytes.subarray(at, at + SECTOR_BYTES)));
    if (this.#over.size * SECTOR_BYTES > LAID_OVER_BYTES_MAX)
      throw unsupported('xfs', 'a log that holds more than fits into memory');
  }

  /** Forgets what was laid over. */
  uncover(): void {
    this.#over.clear();
  }

  isLaidOver(offsetBytes: number, lengthBytes: number): boolean {
    if (this.#over.size === 0) return false;
    for (let at = 0; at < lengthBytes; at += SECTOR_BYTES)
      if (this.#over.has((offsetBytes + at) / SECTOR_BYTES)) return true;
    return false;
  }

  /**
   * A block of metadata with its check sum proven. What the log laid over has none: the log does not keep it, and
   * every record of the log was proven by itself.
   */
  async readChecked(
    offsetBytes: number,
    lengthBytes: number,
    crcAt: number,
    what: string,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    const bytes = await this.read(offsetBytes, lengthBytes, signal);
    if (this.superblock.version === 5 && !this.isLaidOver(offsetBytes, lengthBytes) && !isCrcRight(bytes, crcAt))
      throw damaged('xfs', `the check sum of ${what} is wrong`);
    return bytes;
  }

  /** Where a block begins that is numbered by group and place, as inodes and extents do. */
  blockOffsetBytes(block: number): number {
    const { groupBlocksLog, groupBlocks, groupCount, blockBytes } = this.superblock;
    const group = Math.floor(block / 2 ** groupBlocksLog);
    const within = block - group * 2 ** groupBlocksLog;
    if (group >= groupCount || within >= groupBlocks) throw damaged('xfs', 'something points outside the volume');
    return (group * groupBlocks + within) * blockBytes;
  }
}

/** CRC32C with its own place taken as zeros, kept in little-endian. */
export function isCrcRight(bytes: Buffer, crcAt: number): boolean {
  const before = crc32c(bytes.subarray(0, crcAt));
  const zeros = crc32c(Buffer.alloc(4), before);
  return crc32c(bytes.subarray(crcAt + 4), zeros) >>> 0 === bytes.readUInt32LE(crcAt);
}

import { ext4Checksum } from './ext4-superblock.ts';
import { damaged } from './filesystem.ts';

/** A run of blocks of a file. `block` is null for a hole or blocks that were reserved and never written. */
export interface MappedRun {
  block: number | null;
  /** At least 1. */
  count: number;
}

/** Where the blocks of one inode lie. */
export interface BlockMapOptions {
  /** The 60 bytes of the inode that begin the map. */
  root: Buffer;
  isExtentTree: boolean;
  blockBytes: number;
  blockCount: number;
  /** Where the checksums of this inode's blocks begin; null without checksums. */
  checksumSeed: number | null;
  readBlock(block: number): Promise<Buffer>;
}

const EXTENT_MAGIC = 0xf30a;
const EXTENT_DEPTH_MAX = 5;
const ENTRY_BYTES = 12;
/** A longer extent is one that was reserved and not written, by so much. */
const WRITTEN_LENGTH_MAX = 32_768;
const DIRECT_BLOCKS = 12;
/** One past the highest number a block of a file can have. */
const FILE_BLOCKS_MAX = 2 ** 32;

/**
 * The run that begins with a block of a file. Each call goes down from the root, by at most five reads, so that
 * no content can make it long.
 * @throws FILESYSTEM_DAMAGED
 */
export function mapRun(options: BlockMapOptions, index: number): Promise<MappedRun> {
  return options.isExtentTree ? mapByExtents(options, index) : mapByPointers(options, index);
}

async function mapByExtents(options: BlockMapOptions, index: number): Promise<MappedRun> {
  let node = options.root;
  let endBlock = FILE_BLOCKS_MAX;
  let depth: number | null = null;
  for (;;) {
    const header = readHeader(node, depth);
    const at = lastEntryAtOrBefore(node, header.entries, index);
    const next = at + 1 < header.entries ? node.readUInt32LE(ENTRY_BYTES * (at + 2)) : endBlock;
    endBlock = Math.min(endBlock, next);
    if (at < 0 || endBlock <= index) {
      if (endBlock <= index) throw damaged('ext4', 'the extents of a file are out of order');
      return { block: null, count: endBlock - index };
    }
    const entry = node.subarray(ENTRY_BYTES * (at + 1), ENTRY_BYTES * (at + 2));
    if (header.depth === 0) return readExtent(options, entry, index, endBlock);
    const child = entry.readUInt16LE(8) * 2 ** 32 + entry.readUInt32LE(4);
    node = await options.readBlock(checkBlock(options, child, 1));
    verifyNode(options, node);
    depth = header.depth - 1;
  }
}

function readHeader(node: Buffer, expectedDepth: number | null): { entries: number; depth: number } {
  const entries = node.readUInt16LE(2);
  const depth = node.readUInt16LE(6);
  const isSound =
    node.readUInt16LE(0) === EXTENT_MAGIC &&
    ENTRY_BYTES * (entries + 1) <= node.length &&
    depth <= EXTENT_DEPTH_MAX &&
    (expectedDepth === null || depth === expectedDepth);
  if (!isSound) throw damaged('ext4', 'the extents of a file are none');
  return { entries, depth };
}

function lastEntryAtOrBefore(node: Buffer, entries: number, index: number): number {
  let low = 0;
  let high = entries;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (node.readUInt32LE(ENTRY_BYTES * (middle + 1)) <= index) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function readExtent(options: BlockMapOptions, entry: Buffer, index: number, endBlock: number): MappedRun {
  const first = entry.readUInt32LE(0);
  const rawLength = entry.readUInt16LE(4);
  const isWritten = rawLength <= WRITTEN_LENGTH_MAX;
  const length = isWritten ? rawLength : rawLength - WRITTEN_LENGTH_MAX;
  if (index >= first + length) return { block: null, count: endBlock - index };
  const count = Math.min(first + length, endBlock) - index;
  if (!isWritten) return { block: null, count };
  const block = entry.readUInt16LE(6) * 2 ** 32 + entry.readUInt32LE(8) + (index - first);
  return { block: checkBlock(options, block, count), count };
}

function verifyNode(options: BlockMapOptions, node: Buffer): void {
  if (options.checksumSeed === null) return;
  const tailAt = ENTRY_BYTES * (node.readUInt16LE(4) + 1);
  if (
    tailAt + 4 > node.length ||
    ext4Checksum(options.checksumSeed, node.subarray(0, tailAt)) !== node.readUInt32LE(tailAt)
  ) {
    throw damaged('ext4', 'the checksum of a block of extents is wrong');
  }
}

async function mapByPointers(options: BlockMapOptions, index: number): Promise<MappedRun> {
  const perBlock = options.blockBytes / 4;
  if (index < DIRECT_BLOCKS) return readPointers(options, options.root.subarray(0, DIRECT_BLOCKS * 4), index);
  let within = index - DIRECT_BLOCKS;
  let span = perBlock;
  for (let level = 1; level <= 3; level += 1, span *= perBlock) {
    if (within >= span) {
      within -= span;
      continue;
    }
    let pointer = options.root.readUInt32LE((DIRECT_BLOCKS + level - 1) * 4);
    for (let below = span; below >= perBlock; below /= perBlock) {
      if (pointer === 0) return { block: null, count: below - within };
      const node = await options.readBlock(checkBlock(options, pointer, 1));
      if (below === perBlock) return readPointers(options, node, within);
      const slot = Math.floor(within / (below / perBlock));
      pointer = node.readUInt32LE(slot * 4);
      within -= slot * (below / perBlock);
    }
  }
  throw damaged('ext4', 'a file is longer than its map of blocks can be');
}

/** The pointers from `at` on that follow each other on the volume, or are all empty. */
function readPointers(options: BlockMapOptions, pointers: Buffer, at: number): MappedRun {
  const first = pointers.readUInt32LE(at * 4);
  let count = 1;
  for (; (at + count) * 4 < pointers.length; count += 1) {
    if (pointers.readUInt32LE((at + count) * 4) !== (first === 0 ? 0 : first + count)) break;
  }
  return first === 0 ? { block: null, count } : { block: checkBlock(options, first, count), count };
}

function checkBlock(options: BlockMapOptions, block: number, count: number): number {
  if (block < 1 || block + count > options.blockCount) throw damaged('ext4', 'a file lies outside the volume');
  return block;
}

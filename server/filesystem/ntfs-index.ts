import { damaged } from './filesystem.ts';
import { applyFixups, readSize, referenceRecord, referenceSequence } from './ntfs-record.ts';
import type { Stream } from './ntfs-stream.ts';

const HAS_CHILD = 1;
const IS_LAST = 2;
const DOS_NAME = 2;
const INDEX_HEADER_AT = 0x18;
/** A balanced tree of 4 KiB blocks holds more names than NTFS has records long before this. */
const DEPTH_MAX = 24;
/** More than 2^32 files of the longest names; bounds the memory for the blocks that were seen. */
const BLOCKS_MAX = 2 ** 29;
const FILE_NAME_BYTES = 0x42;

/** A name in a folder, as the folder knows it. */
export interface IndexEntry {
  record: number;
  sequence: number;
  /** May hold halves of surrogate pairs. */
  name: string;
  isFolder: boolean;
  sizeBytes: number;
  modifiedAtMs: number;
}

export interface FolderIndex {
  /** Value of $INDEX_ROOT. */
  root: Buffer;
  /** $INDEX_ALLOCATION; null in a small folder. */
  blocks: Stream | null;
  clusterBytes: number;
}

/** 100 ns since 1601 to ms since 1970. */
export function ntfsTimeMs(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64LE(at) / 10_000n) - 11_644_473_600_000;
}

/** All names of a folder but the short DOS ones, in the order of its tree. */
export async function* readFolderIndex(index: FolderIndex, signal?: AbortSignal): AsyncGenerator<IndexEntry> {
  if (index.root.length < 32) throw damaged('ntfs', 'a folder without an index');
  const blockBytes = index.root.readUInt32LE(8);
  if (blockBytes < 512 || blockBytes > 65_536 || (blockBytes & (blockBytes - 1)) !== 0)
    throw damaged('ntfs', 'a folder with blocks of no real size');
  const blockCount = index.blocks === null ? 0 : Math.floor(index.blocks.sizeBytes / blockBytes);
  if (blockCount > BLOCKS_MAX) throw damaged('ntfs', 'a folder of no real size');
  const walk: Walk = { index, blockBytes, seen: new Uint8Array(Math.ceil(blockCount / 8)), blockCount, signal };
  yield* walkNode(walk, index.root.subarray(16), 0);
}

interface Walk {
  index: FolderIndex;
  blockBytes: number;
  blockCount: number;
  /** One bit a block: a block that comes twice is a loop. */
  seen: Uint8Array;
  signal: AbortSignal | undefined;
}

async function* walkNode(walk: Walk, node: Buffer, depth: number): AsyncGenerator<IndexEntry> {
  let at = node.readUInt32LE(0);
  const end = Math.min(node.readUInt32LE(4), node.length);
  for (;;) {
    if (at < 16 || at + 16 > end) throw damaged('ntfs', 'a folder whose names have no end');
    const lengthBytes = node.readUInt16LE(at + 8);
    const flags = node.readUInt16LE(at + 12);
    if (lengthBytes < 16 || lengthBytes % 8 !== 0 || at + lengthBytes > end)
      throw damaged('ntfs', 'a folder whose names have no end');
    if ((flags & HAS_CHILD) !== 0) {
      if (lengthBytes < 24) throw damaged('ntfs', 'a folder that points nowhere');
      if (depth >= DEPTH_MAX) throw damaged('ntfs', 'a folder in a loop');
      const child = await readBlock(walk, readSize(node, at + lengthBytes - 8));
      yield* walkNode(walk, child, depth + 1);
    }
    if ((flags & IS_LAST) !== 0) return;
    const entry = parseEntry(node.subarray(at, at + lengthBytes));
    if (entry !== null) yield entry;
    at += lengthBytes;
  }
}

async function readBlock(walk: Walk, vcn: number): Promise<Buffer> {
  const { index, blockBytes, blockCount, seen } = walk;
  // Blocks below the size of a cluster are counted in units of 512 bytes.
  const unitBytes = blockBytes >= index.clusterBytes ? index.clusterBytes : 512;
  const number = (vcn * unitBytes) / blockBytes;
  if (index.blocks === null || !Number.isInteger(number) || number >= blockCount)
    throw damaged('ntfs', 'a folder that points outside itself');
  const bit = 1 << (number & 7);
  if (((seen[number >> 3] as number) & bit) !== 0) throw damaged('ntfs', 'a folder in a loop');
  seen[number >> 3] = (seen[number >> 3] as number) | bit;
  const block = await index.blocks.read(number * blockBytes, blockBytes, walk.signal);
  if (block.toString('latin1', 0, 4) !== 'INDX') throw damaged('ntfs', 'a block of a folder that is none');
  applyFixups(block, 'a block of a folder');
  if (readSize(block, 0x10) !== vcn) throw damaged('ntfs', 'a block of another folder');
  return block.subarray(INDEX_HEADER_AT);
}

function parseEntry(bytes: Buffer): IndexEntry | null {
  const keyEnd = 16 + bytes.readUInt16LE(10);
  const nameEnd = 16 + FILE_NAME_BYTES + (bytes[16 + 0x40] ?? 0) * 2;
  if (keyEnd > bytes.length || nameEnd > keyEnd) throw damaged('ntfs', 'a name that leaves its folder');
  if (bytes[16 + 0x41] === DOS_NAME) return null;
  return {
    record: referenceRecord(bytes, 0),
    sequence: referenceSequence(bytes, 0),
    name: bytes.toString('utf16le', 16 + FILE_NAME_BYTES, nameEnd),
    isFolder: (bytes.readUInt32LE(16 + 0x38) & 0x1000_0000) !== 0,
    sizeBytes: readSize(bytes, 16 + 0x30),
    modifiedAtMs: ntfsTimeMs(bytes, 16 + 0x10),
  };
}

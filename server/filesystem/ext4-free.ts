import type { Extent } from '../disk/index.ts';

import { descriptorLocation, readDescriptor, type GroupDescriptor } from './ext4-groups.ts';
import { READ_ONLY, ext4Checksum, hasSuperblockCopy, type Superblock } from './ext4-superblock.ts';
import { damaged, type Volume } from './filesystem.ts';

/**
 * Runs of blocks that the bitmaps call free, group by group. Where a bitmap was never written, and as a second
 * look where it was, all that the superblock and the descriptors lay claim to counts as used.
 * @throws FILESYSTEM_DAMAGED
 */
export async function* freeBlockRuns(
  superblock: Superblock,
  volume: Volume,
  signal?: AbortSignal,
): AsyncGenerator<Extent> {
  const claims = await collectClaims(superblock, volume, signal);
  const { blockBytes } = superblock;
  let pending: Extent | null = null;
  for (let group = 0; group < superblock.groupCount; group += 1) {
    signal?.throwIfAborted();
    for (const { first, end } of await freeRunsOfGroup(superblock, volume, group, signal)) {
      for (const run of claims.leaveFree(first, end)) {
        const offsetBytes = run.first * blockBytes;
        const lengthBytes = (run.end - run.first) * blockBytes;
        if (pending !== null && pending.offsetBytes + pending.lengthBytes === offsetBytes) {
          pending.lengthBytes += lengthBytes;
          continue;
        }
        if (pending !== null) yield pending;
        pending = { offsetBytes, lengthBytes };
      }
    }
  }
  if (pending !== null) yield pending;
}

/** Blocks from `first` up to, not including, `end`. */
interface BlockRun {
  first: number;
  end: number;
}

async function freeRunsOfGroup(
  superblock: Superblock,
  volume: Volume,
  group: number,
  signal: AbortSignal | undefined,
): Promise<BlockRun[]> {
  const first = superblock.firstDataBlock + group * superblock.blocksPerGroup;
  const count = Math.min(superblock.blocksPerGroup, superblock.blockCount - first);
  const descriptor = await readDescriptor(superblock, volume, group, signal);
  // The claims are taken off by the caller.
  if (descriptor.isBitmapUnwritten) return [{ first, end: first + count }];
  const bitmap = await volume.read(descriptor.blockBitmap * superblock.blockBytes, superblock.blockBytes, signal);
  verifyBitmap(superblock, descriptor, bitmap);
  const { runs, freeCount } = clearRuns(bitmap, first, count);
  if (freeCount !== descriptor.freeBlocks) {
    throw damaged(
      'ext4',
      `group ${String(group)} counts ${String(descriptor.freeBlocks)} free blocks, its bitmap ${String(freeCount)}`,
    );
  }
  return runs;
}

function verifyBitmap(superblock: Superblock, descriptor: GroupDescriptor, bitmap: Buffer): void {
  if ((superblock.readOnlyCompatible & READ_ONLY.metadataChecksum) === 0) return;
  const checksum = ext4Checksum(superblock.checksumSeed, bitmap.subarray(0, superblock.blocksPerGroup / 8));
  const isWide = superblock.descriptorBytes >= 64;
  if ((isWide ? checksum : checksum & 0xffff) !== descriptor.blockBitmapChecksum) {
    throw damaged('ext4', 'the checksum of a block bitmap is wrong');
  }
}

/** Runs of clear bits; words that are all set or all clear are taken at once. */
function clearRuns(bitmap: Buffer, firstBlock: number, count: number): { runs: BlockRun[]; freeCount: number } {
  const runs: BlockRun[] = [];
  let freeCount = 0;
  let runStart = -1;
  for (let bit = 0; bit < count;) {
    const byte = bitmap[bit >>> 3] as number;
    const isWhole = (bit & 7) === 0 && bit + 8 <= count && (byte === 0 || byte === 0xff);
    const isSet = isWhole ? byte === 0xff : ((byte >>> (bit & 7)) & 1) === 1;
    const width = isWhole ? 8 : 1;
    if (isSet && runStart >= 0) {
      runs.push({ first: firstBlock + runStart, end: firstBlock + bit });
      runStart = -1;
    }
    if (!isSet) {
      if (runStart < 0) runStart = bit;
      freeCount += width;
    }
    bit += width;
  }
  if (runStart >= 0) runs.push({ first: firstBlock + runStart, end: firstBlock + count });
  return { runs, freeCount };
}

/** What the file system itself stands on, in the order of the volume; asked for in that order. */
class Claims {
  readonly #firsts: Float64Array;
  readonly #ends: Float64Array;
  #at = 0;

  constructor(runs: BlockRun[]) {
    runs.sort((a, b) => a.first - b.first);
    this.#firsts = Float64Array.from(runs, ({ first }) => first);
    // Claims that overlap end where the longest of them does.
    let end = 0;
    this.#ends = Float64Array.from(runs, (run) => (end = Math.max(end, run.end)));
  }

  leaveFree(first: number, end: number): BlockRun[] {
    const free: BlockRun[] = [];
    let from = first;
    while (this.#at < this.#firsts.length && from < end) {
      const claimedFirst = this.#firsts[this.#at] as number;
      const claimedEnd = this.#ends[this.#at] as number;
      if (claimedEnd <= from) {
        this.#at += 1;
        continue;
      }
      if (claimedFirst >= end) break;
      if (claimedFirst > from) free.push({ first: from, end: Math.min(claimedFirst, end) });
      from = claimedEnd;
    }
    if (from < end) free.push({ first: from, end });
    return free;
  }
}

async function collectClaims(superblock: Superblock, volume: Volume, signal: AbortSignal | undefined): Promise<Claims> {
  const { blockBytes, descriptorBytes, groupCount, firstMetaGroup } = superblock;
  const perBlock = blockBytes / descriptorBytes;
  const descriptorBlocks = Math.ceil(groupCount / perBlock);
  const inodeTableBlocks = Math.ceil((superblock.inodesPerGroup * superblock.inodeBytes) / blockBytes);
  const runs: BlockRun[] = [];
  const claim = (first: number, count: number): void => {
    const last = runs.at(-1);
    if (last !== undefined && last.end === first) last.end += count;
    else runs.push({ first, end: first + count });
  };
  for (let group = 0; group < groupCount; group += 1) {
    if (!hasSuperblockCopy(superblock, group)) continue;
    const isOld = group < firstMetaGroup * perBlock;
    const oldBlocks = Math.min(descriptorBlocks, firstMetaGroup) + superblock.reservedDescriptorBlocks;
    claim(superblock.firstDataBlock + group * superblock.blocksPerGroup, 1 + (isOld ? oldBlocks : 0));
  }
  for (let meta = firstMetaGroup; meta < descriptorBlocks; meta += 1) {
    for (const group of [meta * perBlock, meta * perBlock + 1, (meta + 1) * perBlock - 1]) {
      const location = descriptorLocation(superblock, group);
      if (group < groupCount) claim(location.ownCopyBlock, 1);
    }
  }
  for (let group = 0; group < groupCount; group += 1) {
    const descriptor = await readDescriptor(superblock, volume, group, signal);
    claim(descriptor.blockBitmap, 1);
    claim(descriptor.inodeBitmap, 1);
    claim(descriptor.inodeTable, inodeTableBlocks);
  }
  return new Claims(runs);
}

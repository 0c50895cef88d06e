import type { Extent } from '../disk/index.ts';
import { damaged } from './filesystem.ts';
import { isCrcRight, type XfsDisk } from './xfs-disk.ts';

const DEPTH_MAX = 12;
const NO_BLOCK = 0xffffffff;
/** Memory for a group stays below some 300 MB. */
const RUNS_MAX = 2_000_000;

/** Places in the head of a group's free space (AGF). */
const AGF_CRC_AT = 216;
const AGF_SIZE_BYTES = 512;

interface FreeRun {
  start: number;
  count: number;
}

/**
 * Free space group by group, from the tree by place. The tree by size and the counters of the group must say the
 * same: they are logged together, so a log that was read wrongly shows here.
 */
export async function* xfsFreeExtents(disk: XfsDisk, signal?: AbortSignal): AsyncGenerator<Extent> {
  const { groupCount, groupBlocks, blockBytes } = disk.superblock;
  for (let group = 0; group < groupCount; group += 1) {
    for (const run of await readGroup(disk, group, signal)) {
      yield { offsetBytes: (group * groupBlocks + run.start) * blockBytes, lengthBytes: run.count * blockBytes };
    }
  }
}

async function readGroup(disk: XfsDisk, group: number, signal?: AbortSignal): Promise<FreeRun[]> {
  const { groupBlocks, blockBytes, sectorBytes, blocks, version, metaUuid } = disk.superblock;
  const what = `the free space of group ${group}`;
  const offsetBytes = group * groupBlocks * blockBytes + sectorBytes;
  const head = await disk.read(offsetBytes, Math.max(sectorBytes, AGF_SIZE_BYTES), signal);
  if (
    version === 5 &&
    !disk.isLaidOver(offsetBytes, sectorBytes) &&
    !isCrcRight(head.subarray(0, sectorBytes), AGF_CRC_AT)
  )
    throw damaged('xfs', `the check sum of ${what} is wrong`);
  const length = head.readUInt32BE(12);
  if (
    head.toString('latin1', 0, 4) !== 'XAGF' ||
    head.readUInt32BE(8) !== group ||
    length !== Math.min(groupBlocks, blocks - group * groupBlocks) ||
    (version === 5 && !head.subarray(64, 80).equals(metaUuid))
  )
    throw damaged('xfs', `${what} cannot be read`);
  const tree: Tree = { disk, group, length, what, blocksLeft: length, runsLeft: RUNS_MAX, signal };
  const byPlace: FreeRun[] = [];
  await walk(tree, 'AB3B', 'ABTB', head.readUInt32BE(16), head.readUInt32BE(28) - 1, (run) => {
    const last = byPlace.at(-1);
    if (last !== undefined && run.start <= last.start + last.count - 1) throw damaged('xfs', `${what} overlaps`);
    byPlace.push(run);
  });
  const bySize: FreeRun[] = [];
  await walk(tree, 'AB3C', 'ABTC', head.readUInt32BE(20), head.readUInt32BE(32) - 1, (run) => bySize.push(run));
  bySize.sort((a, b) => a.start - b.start);
  let total = 0;
  let longest = 0;
  for (const [index, run] of byPlace.entries()) {
    const same = bySize[index];
    if (same?.start !== run.start || same.count !== run.count) throw damaged('xfs', `${what} is told in two ways`);
    total += run.count;
    longest = Math.max(longest, run.count);
  }
  if (bySize.length !== byPlace.length || total !== head.readUInt32BE(52) || longest !== head.readUInt32BE(56))
    throw damaged('xfs', `${what} is told in two ways`);
  return byPlace;
}

interface Tree {
  disk: XfsDisk;
  group: number;
  /** Of the group, in blocks. */
  length: number;
  what: string;
  /** No tree has more blocks than its group: this ends one that loops. */
  blocksLeft: number;
  runsLeft: number;
  signal: AbortSignal | undefined;
}

async function walk(
  tree: Tree,
  magic5: string,
  magic4: string,
  block: number,
  level: number,
  take: (run: FreeRun) => void,
): Promise<void> {
  const { disk, what, length } = tree;
  const { version, blockBytes, groupBlocks, metaUuid } = disk.superblock;
  tree.blocksLeft -= 1;
  if (level < 0 || level > DEPTH_MAX || block === NO_BLOCK || block >= length || tree.blocksLeft < 0)
    throw damaged('xfs', `${what} points outside its group`);
  const offsetBytes = (tree.group * groupBlocks + block) * blockBytes;
  const bytes = await disk.readChecked(offsetBytes, blockBytes, 52, what, tree.signal);
  const headBytes = version === 5 ? 56 : 16;
  const count = bytes.readUInt16BE(6);
  // Node: keys of 8 bytes, then pointers of 4, both at places for as many as fit.
  const countMax = Math.floor((blockBytes - headBytes) / (level === 0 ? 8 : 12));
  if (
    bytes.toString('latin1', 0, 4) !== (version === 5 ? magic5 : magic4) ||
    bytes.readUInt16BE(4) !== level ||
    count > countMax ||
    (version === 5 && (bytes.readUInt32BE(48) !== tree.group || !bytes.subarray(32, 48).equals(metaUuid)))
  )
    throw damaged('xfs', `${what} cannot be read`);
  for (let index = 0; index < count; index += 1) {
    if (level > 0) {
      const child = bytes.readUInt32BE(headBytes + countMax * 8 + index * 4);
      await walk(tree, magic5, magic4, child, level - 1, take);
      continue;
    }
    const run = {
      start: bytes.readUInt32BE(headBytes + index * 8),
      count: bytes.readUInt32BE(headBytes + index * 8 + 4),
    };
    if (run.count === 0 || run.start + run.count > length) throw damaged('xfs', `${what} leaves its group`);
    tree.runsLeft -= 1;
    if (tree.runsLeft < 0) throw damaged('xfs', `${what} lies in more than a million pieces`);
    take(run);
  }
}

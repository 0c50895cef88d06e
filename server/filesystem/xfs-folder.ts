import { damaged } from './filesystem.ts';
import { isCrcRight, type XfsDisk } from './xfs-disk.ts';
import { extentIndex, FORMAT_LOCAL, readExtents, type Inode, type XfsExtent } from './xfs-inode.ts';

/** Behind it in a folder's file stand hashes and tables of free room, no names. */
const NAMES_END_BYTES = 32 * 2 ** 30;

export interface FolderEntry {
  name: string;
  inode: number;
}

/** All names of a folder but `.` and `..`, in the order of the disk. */
export async function* readFolder(disk: XfsDisk, inode: Inode, signal?: AbortSignal): AsyncGenerator<FolderEntry> {
  if (inode.format === FORMAT_LOCAL) {
    yield* parseShortFolder(disk, inode);
    return;
  }
  const { blockBytes, folderBlockBytes } = disk.superblock;
  const extents = await readExtents(disk, inode, signal);
  const blocksEach = folderBlockBytes / blockBytes;
  let next = 0;
  for (const extent of extents) {
    const end = Math.min(extent.fileBlock + extent.count, NAMES_END_BYTES / blockBytes);
    let at = Math.max(next, Math.ceil(extent.fileBlock / blocksEach) * blocksEach);
    for (; at < end; at += blocksEach) {
      const bytes = await readFolderBlock(disk, inode, extents, at, signal);
      yield* parseFolderBlock(disk, bytes);
    }
    next = at;
  }
}

/** One block of a folder may lie in pieces. */
async function readFolderBlock(
  disk: XfsDisk,
  inode: Inode,
  extents: readonly XfsExtent[],
  fileBlock: number,
  signal?: AbortSignal,
): Promise<Buffer> {
  const { blockBytes, folderBlockBytes, version } = disk.superblock;
  const what = `folder ${inode.number}`;
  const pieces: Buffer[] = [];
  let laidOver = false;
  for (let block = fileBlock; block < fileBlock + folderBlockBytes / blockBytes; block += 1) {
    const extent = extents[extentIndex(extents, block)];
    if (extent === undefined || extent.fileBlock > block || extent.unwritten)
      throw damaged('xfs', `${what} has a hole in a block`);
    const offsetBytes = disk.blockOffsetBytes(extent.block + block - extent.fileBlock);
    laidOver ||= disk.isLaidOver(offsetBytes, blockBytes);
    pieces.push(await disk.read(offsetBytes, blockBytes, signal));
  }
  const bytes = Buffer.concat(pieces);
  if (version === 5) {
    if (!laidOver && !isCrcRight(bytes, 4)) throw damaged('xfs', `the check sum of ${what} is wrong`);
    if (bytes.readBigUInt64BE(40) !== BigInt(inode.number)) throw damaged('xfs', `a block of another folder`);
  }
  return bytes;
}

function* parseFolderBlock(disk: XfsDisk, bytes: Buffer): Generator<FolderEntry> {
  const { version, hasTypes } = disk.superblock;
  const magic = bytes.toString('latin1', 0, 4);
  const isSingle = magic === (version === 5 ? 'XDB3' : 'XD2B');
  if (!isSingle && magic !== (version === 5 ? 'XDD3' : 'XD2D'))
    throw damaged('xfs', 'a block of a folder that is none');
  let end = bytes.length;
  if (isSingle) {
    // A folder of one block keeps its hashes at its end.
    const leaves = bytes.readUInt32BE(bytes.length - 8);
    end = bytes.length - 8 - leaves * 8;
  }
  let at = version === 5 ? 64 : 16;
  if (end < at) throw damaged('xfs', 'a folder whose names have no end');
  while (at + 8 <= end) {
    if (bytes.readUInt16BE(at) === 0xffff) {
      const freeBytes = bytes.readUInt16BE(at + 2);
      if (freeBytes < 8 || freeBytes % 8 !== 0 || at + freeBytes > end)
        throw damaged('xfs', 'a folder whose names have no end');
      at += freeBytes;
      continue;
    }
    const nameBytes = bytes[at + 8] ?? 0;
    const entryBytes = Math.ceil((9 + nameBytes + (hasTypes ? 1 : 0) + 2) / 8) * 8;
    if (nameBytes === 0 || at + entryBytes > end) throw damaged('xfs', 'a folder whose names have no end');
    const name = bytes.toString('utf8', at + 9, at + 9 + nameBytes);
    if (name !== '.' && name !== '..') yield { name, inode: readInodeNumber(bytes, at, 8) };
    at += entryBytes;
  }
}

function* parseShortFolder(disk: XfsDisk, inode: Inode): Generator<FolderEntry> {
  const bytes = inode.fork.subarray(0, inode.sizeBytes);
  const count = bytes[0] ?? 0;
  const numberBytes = (bytes[1] ?? 0) > 0 ? 8 : 4;
  let at = 2 + numberBytes;
  for (let index = 0; index < count; index += 1) {
    const nameBytes = bytes[at] ?? 0;
    const nameAt = at + 3;
    const numberAt = nameAt + nameBytes + (disk.superblock.hasTypes ? 1 : 0);
    if (nameBytes === 0 || numberAt + numberBytes > bytes.length)
      throw damaged('xfs', `folder ${inode.number} has no end`);
    yield {
      name: bytes.toString('utf8', nameAt, nameAt + nameBytes),
      inode: readInodeNumber(bytes, numberAt, numberBytes),
    };
    at = numberAt + numberBytes;
  }
}

function readInodeNumber(bytes: Buffer, at: number, lengthBytes: 4 | 8): number {
  const number = lengthBytes === 4 ? bytes.readUInt32BE(at) : Number(bytes.readBigUInt64BE(at));
  if (!Number.isSafeInteger(number)) throw damaged('xfs', 'an inode number beyond any disk');
  return number;
}

import { SECTOR_BYTES, type XfsDisk } from './xfs-disk.ts';
import { inodeCoreBytes } from './xfs-inode.ts';
import { UnsureLog } from './xfs-log-records.ts';

/** Inodes in the log: the fields in the order of the machine that wrote them, the forks as they lie on the disk. */

const FORK_DATA = 0x02;
const FORK_EXTENTS = 0x04;
const FORK_TREE = 0x08;
const FLAG2_BIGTIME = 0x08n;
const FLAG2_MANY_EXTENTS = 0x10n;
const NEXT_UNLINKED_AT = 96;
const CRC_AT = 100;
const TREE_HEAD_BYTES = 72;
const CORE_BYTES = inodeCoreBytes(3);

/** Fields of 8, 4 and 2 bytes, by place; the times and the counts of extents depend on flags. */
const FIELDS_8 = [56, 64, 104, 112, 120, 152];
const FIELDS_4 = [8, 12, 16, 72, 84, 92, 128];
const FIELDS_2 = [0, 2, 6, 20, 22, 88, 90];
const TIMES = [32, 40, 48, 144];

export async function replayInode(
  disk: XfsDisk,
  item: readonly Buffer[],
  lsn: bigint,
  cancelled: ReadonlyMap<number, number>,
  signal?: AbortSignal,
): Promise<void> {
  const [format, core, fork] = item;
  if (format === undefined || core === undefined || format.length < 52 || core.length < CORE_BYTES)
    throw new UnsureLog('an inode of its log cannot be read');
  const fields = format.readUInt32LE(4);
  // An older kernel left out four bytes that align the rest.
  const shift = format.length >= 56 ? 0 : -4;
  const sector = Number(format.readBigInt64LE(40 + shift));
  const within = format.readInt32LE(52 + shift);
  const { inodeBytes } = disk.superblock;
  if (sector < 0 || within < 0 || within % inodeBytes !== 0 || within > 65_536)
    throw new UnsureLog('an inode of its log cannot be read');
  if ((cancelled.get(sector) ?? 0) > 0) return;
  const offsetBytes = sector * SECTOR_BYTES + within;
  const startBytes = offsetBytes - (offsetBytes % SECTOR_BYTES);
  const sectors = await disk.read(startBytes, Math.max(SECTOR_BYTES, inodeBytes), signal);
  const inode = sectors.subarray(offsetBytes - startBytes, offsetBytes - startBytes + inodeBytes);
  if (inode.toString('latin1', 0, 2) === 'IN' && (inode[4] as number) >= 3) {
    const written = inode.readBigUInt64BE(112);
    if (written !== 0xffff_ffff_ffff_ffffn && written > lsn) return;
  }
  const kept = Buffer.from(inode.subarray(NEXT_UNLINKED_AT, CRC_AT + 4));
  toDiskOrder(core).copy(inode, 0, 0, CORE_BYTES);
  kept.copy(inode, NEXT_UNLINKED_AT);
  if ((fields & (FORK_DATA | FORK_EXTENTS | FORK_TREE)) !== 0) {
    const attributesAt = (inode[82] as number) * 8;
    const room = inode.subarray(CORE_BYTES, attributesAt === 0 ? inodeBytes : CORE_BYTES + attributesAt);
    if (fork === undefined) throw new UnsureLog('an inode of its log cannot be read');
    if ((fields & FORK_TREE) !== 0) replayTree(fork, room);
    else if (fork.length > room.length) throw new UnsureLog('an inode of its log cannot be read');
    else fork.copy(room);
  }
  disk.layOver(startBytes, sectors);
}

/** The root of a tree is logged as it stood in memory, with the head of a block; the inode keeps a shorter one. */
function replayTree(fork: Buffer, room: Buffer): void {
  const count = fork.length < TREE_HEAD_BYTES ? 0 : fork.readUInt16BE(6);
  const fromMax = Math.floor((fork.length - TREE_HEAD_BYTES) / 16);
  const toMax = Math.floor((room.length - 4) / 16);
  if (count === 0 || count > fromMax || count > toMax) throw new UnsureLog('an inode of its log cannot be read');
  fork.copy(room, 0, 4, 8);
  fork.copy(room, 4, TREE_HEAD_BYTES, TREE_HEAD_BYTES + count * 8);
  const pointersAt = TREE_HEAD_BYTES + fromMax * 8;
  fork.copy(room, 4 + toMax * 8, pointersAt, pointersAt + count * 8);
}

function toDiskOrder(core: Buffer): Buffer {
  const bytes = Buffer.from(core.subarray(0, CORE_BYTES));
  const flags2 = bytes.readBigUInt64LE(120);
  const swap = (at: number, lengthBytes: number): void => void bytes.subarray(at, at + lengthBytes).reverse();
  for (const at of FIELDS_8) swap(at, 8);
  for (const at of FIELDS_4) swap(at, 4);
  for (const at of FIELDS_2) swap(at, 2);
  for (const at of TIMES) {
    if ((flags2 & FLAG2_BIGTIME) !== 0n) {
      swap(at, 8);
    } else {
      swap(at, 4);
      swap(at + 4, 4);
    }
  }
  swap(76, 4);
  if ((flags2 & FLAG2_MANY_EXTENTS) !== 0n) swap(24, 8);
  else swap(80, 2);
  return bytes;
}

/** New inodes, not yet in use: the log says where, not what. */
export function replayIcreate(disk: XfsDisk, item: readonly Buffer[], cancelled: ReadonlyMap<number, number>): void {
  const format = item[0] as Buffer;
  if (format.length < 28) throw new UnsureLog('new inodes of its log cannot be read');
  const group = format.readUInt32BE(4);
  const place = format.readUInt32BE(8);
  const count = format.readUInt32BE(12);
  const blocks = format.readUInt32BE(20);
  const { inodeBytes, blockBytes, groupBlocksLog, inodesPerBlockLog, metaUuid } = disk.superblock;
  if (count * inodeBytes !== blocks * blockBytes || count > 4096 || format.readUInt32BE(16) !== inodeBytes)
    throw new UnsureLog('new inodes of its log cannot be read');
  const first = group * 2 ** groupBlocksLog + place;
  const offsetBytes = disk.blockOffsetBytes(first);
  for (let sector = 0; sector < (blocks * blockBytes) / SECTOR_BYTES; sector += 1)
    if ((cancelled.get(offsetBytes / SECTOR_BYTES + sector) ?? 0) > 0) return;
  const bytes = Buffer.alloc(count * inodeBytes);
  for (let index = 0; index < count; index += 1) {
    const inode = bytes.subarray(index * inodeBytes, (index + 1) * inodeBytes);
    inode.write('IN', 0, 'latin1');
    inode[4] = 3;
    format.copy(inode, 92, 24, 28);
    inode.writeUInt32BE(0xffffffff, NEXT_UNLINKED_AT);
    inode.writeBigUInt64BE(BigInt(first * 2 ** inodesPerBlockLog + index), 152);
    metaUuid.copy(inode, 160);
  }
  disk.layOver(offsetBytes, bytes);
}

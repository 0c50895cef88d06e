import { READ_ONLY, ext4Checksum, hasSuperblockCopy, littleEndian32, type Superblock } from './ext4-superblock.ts';
import { damaged, type Volume } from './filesystem.ts';

/** What stands about one group of blocks. */
export interface GroupDescriptor {
  blockBitmap: number;
  inodeBitmap: number;
  inodeTable: number;
  freeBlocks: number;
  blockBitmapChecksum: number;
  /** The group holds nothing but what the file system itself needs, and its bitmap was never written. */
  isBitmapUnwritten: boolean;
}

const CHECKSUM_AT = 0x1e;
const FLAG_BITMAP_UNWRITTEN = 2;

/** @throws FILESYSTEM_DAMAGED */
export async function readDescriptor(
  superblock: Superblock,
  volume: Volume,
  group: number,
  signal?: AbortSignal,
): Promise<GroupDescriptor> {
  const { block, within } = descriptorLocation(superblock, group);
  const offsetBytes = block * superblock.blockBytes + within * superblock.descriptorBytes;
  if (block >= superblock.blockCount) throw damaged('ext4', 'its group descriptors lie outside the volume');
  const bytes = await volume.read(offsetBytes, superblock.descriptorBytes, signal);
  verifyDescriptor(superblock, group, bytes);
  const isWide = superblock.descriptorBytes >= 64;
  const wide = (low: number, high: number): number =>
    bytes.readUInt32LE(low) + (isWide ? bytes.readUInt32LE(high) * 2 ** 32 : 0);
  const hasFlags = (superblock.readOnlyCompatible & (READ_ONLY.groupChecksum | READ_ONLY.metadataChecksum)) !== 0;
  const descriptor: GroupDescriptor = {
    blockBitmap: wide(0x0, 0x20),
    inodeBitmap: wide(0x4, 0x24),
    inodeTable: wide(0x8, 0x28),
    freeBlocks: bytes.readUInt16LE(0xc) + (isWide ? bytes.readUInt16LE(0x2c) * 65_536 : 0),
    blockBitmapChecksum: bytes.readUInt16LE(0x18) + (isWide ? bytes.readUInt16LE(0x38) * 65_536 : 0),
    isBitmapUnwritten: hasFlags && (bytes.readUInt16LE(0x12) & FLAG_BITMAP_UNWRITTEN) !== 0,
  };
  for (const claimed of [descriptor.blockBitmap, descriptor.inodeBitmap, descriptor.inodeTable]) {
    if (claimed < 1 || claimed >= superblock.blockCount) throw damaged('ext4', 'a group lies outside the volume');
  }
  return descriptor;
}

/**
 * Where the descriptor of a group lies: behind the superblock, or with meta groups in the first of the groups
 * that it describes. `ownCopyBlock` is where a group of a meta group keeps its copy.
 */
export function descriptorLocation(
  superblock: Superblock,
  group: number,
): { block: number; within: number; ownCopyBlock: number } {
  const perBlock = superblock.blockBytes / superblock.descriptorBytes;
  const index = Math.floor(group / perBlock);
  const startOf = (of: number): number =>
    superblock.firstDataBlock + of * superblock.blocksPerGroup + (hasSuperblockCopy(superblock, of) ? 1 : 0);
  const block = index < superblock.firstMetaGroup ? superblock.firstDataBlock + 1 + index : startOf(index * perBlock);
  return { block, within: group % perBlock, ownCopyBlock: startOf(group) };
}

function verifyDescriptor(superblock: Superblock, group: number, bytes: Buffer): void {
  const { readOnlyCompatible } = superblock;
  let checksum: number;
  if ((readOnlyCompatible & READ_ONLY.metadataChecksum) !== 0) {
    const blanked = Buffer.from(bytes);
    blanked.writeUInt16LE(0, CHECKSUM_AT);
    checksum = ext4Checksum(superblock.checksumSeed, littleEndian32(group), blanked) & 0xffff;
  } else if ((readOnlyCompatible & READ_ONLY.groupChecksum) !== 0) {
    const behind = bytes.subarray(CHECKSUM_AT + 2);
    checksum = crc16(superblock.uuid, littleEndian32(group), bytes.subarray(0, CHECKSUM_AT), behind);
  } else {
    return;
  }
  if (checksum !== bytes.readUInt16LE(CHECKSUM_AT)) throw damaged('ext4', 'the checksum of a group is wrong');
}

/** CRC-16 with the reversed polynomial 0xA001, begun with all ones (Linux, `lib/crc16.c`). */
function crc16(...parts: Uint8Array[]): number {
  let crc = 0xffff;
  for (const part of parts) {
    for (const byte of part) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xa001 : crc >>> 1;
    }
  }
  return crc;
}

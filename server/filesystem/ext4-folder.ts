import { ext4Checksum } from './ext4-superblock.ts';
import { damaged } from './filesystem.ts';

/** A name in a folder and the inode that it stands for. */
export interface FolderRecord {
  name: Buffer;
  inode: number;
}

const HEADER_BYTES = 8;
const TAIL_BYTES = 12;
const TAIL_TYPE = 0xde;

/**
 * The names in one block of a folder, `.` and `..` left out. Blocks of the index of a large folder look like a
 * single unused record, so that reading a folder block by block finds every name.
 * @param checksumSeed null without checksums
 * @throws FILESYSTEM_DAMAGED
 */
export function parseFolderBlock(block: Buffer, checksumSeed: number | null): FolderRecord[] {
  if (checksumSeed !== null && !isIndex(block)) verifyTail(block, checksumSeed);
  return parseRecords(block);
}

/** The names of a folder that lies within its inode: the parent's number, then records in two parts. */
export function parseInlineFolder(inline: Buffer, sizeBytes: number): FolderRecord[] {
  const PARENT_BYTES = 4;
  const FIRST_PART_BYTES = 60;
  const endBytes = Math.min(sizeBytes, inline.length);
  const records = parseRecords(inline.subarray(PARENT_BYTES, Math.min(FIRST_PART_BYTES, endBytes)));
  return endBytes > FIRST_PART_BYTES
    ? [...records, ...parseRecords(inline.subarray(FIRST_PART_BYTES, endBytes))]
    : records;
}

function parseRecords(bytes: Buffer): FolderRecord[] {
  const records: FolderRecord[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length;) {
    const inode = bytes.readUInt32LE(at);
    const lengthBytes = recordBytes(bytes, at);
    const nameBytes = bytes.readUInt8(at + 6);
    if (lengthBytes < HEADER_BYTES + nameBytes || lengthBytes % 4 !== 0 || at + lengthBytes > bytes.length) {
      throw damaged('ext4', 'the entries of a folder do not fit its block');
    }
    const name = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + nameBytes);
    if (inode !== 0 && nameBytes > 0 && !isDots(name)) records.push({ name, inode });
    at += lengthBytes;
  }
  return records;
}

function isDots(name: Buffer): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** A record that is stretched over all of a block, or all behind `.`, hides a part of the index behind it. */
function isIndex(block: Buffer): boolean {
  const isNode = block.readUInt32LE(0) === 0 && recordBytes(block, 0) === block.length;
  const isRoot = recordBytes(block, 0) === 12 && recordBytes(block, 12) === block.length - 12;
  return isNode || isRoot;
}

/** 64 KiB does not fit the field. */
function recordBytes(bytes: Buffer, at: number): number {
  const raw = bytes.readUInt16LE(at + 4);
  return raw === 0xffff || raw === 0 ? 65_536 : raw;
}

function verifyTail(block: Buffer, seed: number): void {
  const tail = block.subarray(block.length - TAIL_BYTES);
  const isTail = tail.readUInt32LE(0) === 0 && tail.readUInt16LE(4) === TAIL_BYTES && tail[7] === TAIL_TYPE;
  if (isTail && ext4Checksum(seed, block.subarray(0, block.length - TAIL_BYTES)) !== tail.readUInt32LE(8)) {
    throw damaged('ext4', 'the checksum of a folder is wrong');
  }
}

import { crc32 } from 'node:zlib';

const SECTOR_BYTES = 512;

/** A sector with a partition table as MBR and its extended partitions have it. */
export function mbrSector(entries: { type: number; firstSector: number; sectorCount: number }[]): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  for (const [index, { type, firstSector, sectorCount }] of entries.entries()) {
    const at = 446 + index * 16;
    sector.writeUInt8(type, at + 4);
    sector.writeUInt32LE(firstSector, at + 8);
    sector.writeUInt32LE(sectorCount, at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** The pieces of a GPT: the MBR that guards it, the table and its copy at the end. */
export function writeGpt(
  sizeBytes: number,
  partitions: { type: string; firstSector: number; lastSector: number }[],
): { atBytes: number; bytes: Buffer }[] {
  const lastSector = sizeBytes / SECTOR_BYTES - 1;
  const entries = Buffer.alloc(128 * 128);
  for (const [index, { type, firstSector, lastSector: last }] of partitions.entries()) {
    const guid = Buffer.from(type.replaceAll('-', ''), 'hex');
    guid.subarray(0, 4).reverse();
    guid.subarray(4, 6).reverse();
    guid.subarray(6, 8).reverse();
    guid.copy(entries, index * 128);
    entries.fill(index + 1, index * 128 + 16, index * 128 + 32);
    entries.writeBigUInt64LE(BigInt(firstSector), index * 128 + 32);
    entries.writeBigUInt64LE(BigInt(last), index * 128 + 40);
  }
  const header = (own: number, other: number, entriesAt: number): Buffer => {
    const sector = Buffer.alloc(SECTOR_BYTES);
    sector.write('EFI PART', 0, 'latin1');
    sector.writeUInt32LE(0x10000, 8);
    sector.writeUInt32LE(92, 12);
    sector.writeBigUInt64LE(BigInt(own), 24);
    sector.writeBigUInt64LE(BigInt(other), 32);
    sector.writeBigUInt64LE(34n, 40);
    sector.writeBigUInt64LE(BigInt(lastSector - 33), 48);
    sector.fill(0x11, 56, 72);
    sector.writeBigUInt64LE(BigInt(entriesAt), 72);
    sector.writeUInt32LE(128, 80);
    sector.writeUInt32LE(128, 84);
    sector.writeUInt32LE(crc32(entries), 88);
    sector.writeUInt32LE(crc32(sector.subarray(0, 92)), 16);
    return sector;
  };
  return [
    { atBytes: 0, bytes: mbrSector([{ type: 0xee, firstSector: 1, sectorCount: lastSector }]) },
    { atBytes: SECTOR_BYTES, bytes: header(1, lastSector, 2) },
    { atBytes: 2 * SECTOR_BYTES, bytes: entries },
    { atBytes: (lastSector - 32) * SECTOR_BYTES, bytes: entries },
    { atBytes: lastSector * SECTOR_BYTES, bytes: header(lastSector, 1, lastSector - 32) },
  ];
}

import { crc32 } from 'node:zlib';

import { KIB, MIB, SECTOR_BYTES } from '../runtime/index.ts';

import type { Volume } from './filesystem.ts';

/** A physical volume of LVM2, as far as its own label and metadata areas speak. */
export interface PhysicalVolume {
  /** 32 characters, as in the group's description without its dashes. */
  uuid: string;
  /** The sound copies of the group's description that lie here; none where they lie on other volumes. */
  texts: string[];
  /** Null: all that is here is sound and at rest. Else an English clause. */
  trouble: string | null;
}

/** The label lies in one of the first four sectors. */
const LABEL_SECTORS = 4;
const CHECKED_FROM = 20;
const UUID_BYTES = 32;
const AREAS_MAX = 16;
const AREA_HEADER_BYTES = 512;
const AREA_MAGIC = Buffer.from(' LVM2 x[5A%r0N*>', 'latin1');
/** Of the copies that a header can name: the one in force, and the one that is about to be. */
const COPIES_AT = 40;
const COPY_BYTES = 24;
const COPY_IGNORED = 1;
/** By default LVM keeps 1 MiB, of which one copy takes less than half. */
const TEXT_BYTES_MAX = 4 * MIB;

/**
 * Reads the label of a physical volume and its copies of the group's description, each with its checksum
 * (lvm2, `lib/format_text/layout.h`, `lib/label/label.c`). Null: the volume is none.
 */
export async function readPhysicalVolume(volume: Volume, signal?: AbortSignal): Promise<PhysicalVolume | null> {
  if (volume.sizeBytes < 64 * KIB) return null;
  const head = await volume.read(0, LABEL_SECTORS * SECTOR_BYTES, signal);
  for (let index = 0; index < LABEL_SECTORS; index += 1) {
    const sector = head.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES);
    if (sector.toString('latin1', 0, 8) !== 'LABELONE') continue;
    const headerAt = sector.readUInt32LE(20);
    const isSound =
      sector.readBigUInt64LE(8) === BigInt(index) &&
      sector.readUInt32LE(16) === lvmChecksum(sector.subarray(CHECKED_FROM)) &&
      sector.toString('latin1', 24, 32) === 'LVM2 001' &&
      headerAt >= 32 &&
      headerAt + UUID_BYTES + 8 <= SECTOR_BYTES;
    if (!isSound) return { uuid: '', texts: [], trouble: 'its label is damaged' };
    return readAreas(volume, sector.subarray(headerAt), signal);
  }
  return null;
}

async function readAreas(volume: Volume, header: Buffer, signal: AbortSignal | undefined): Promise<PhysicalVolume> {
  const found: PhysicalVolume = { uuid: header.toString('latin1', 0, UUID_BYTES), texts: [], trouble: null };
  // Two lists, each ended by an empty entry: areas of data, then areas of metadata.
  let isMetadata = false;
  for (let index = 0, at = UUID_BYTES + 8; ; index += 1, at += 16) {
    if (index === AREAS_MAX || at + 16 > header.length) {
      found.trouble = 'its label is damaged';
      return found;
    }
    const offsetBytes = Number(header.readBigUInt64LE(at));
    const sizeBytes = Number(header.readBigUInt64LE(at + 8));
    if (offsetBytes === 0) {
      if (isMetadata) return found;
      isMetadata = true;
    } else if (isMetadata) await readArea(volume, { offsetBytes, sizeBytes }, found, signal);
  }
}

/** A ring of texts behind a header that names the one in force. */
async function readArea(
  volume: Volume,
  area: { offsetBytes: number; sizeBytes: number },
  found: PhysicalVolume,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { offsetBytes, sizeBytes } = area;
  const isWithin = sizeBytes > AREA_HEADER_BYTES && offsetBytes + sizeBytes <= volume.sizeBytes;
  const header = isWithin ? await volume.read(offsetBytes, AREA_HEADER_BYTES, signal) : Buffer.alloc(AREA_HEADER_BYTES);
  const isSound =
    header.readUInt32LE(0) === lvmChecksum(header.subarray(4)) &&
    header.subarray(4, 20).equals(AREA_MAGIC) &&
    header.readUInt32LE(20) === 1 &&
    header.readBigUInt64LE(24) === BigInt(offsetBytes);
  if (!isSound) {
    found.trouble ??= 'a metadata area of it is damaged';
    return;
  }
  if (header.readBigUInt64LE(COPIES_AT + COPY_BYTES) !== 0n) found.trouble ??= 'its volume group was being changed';
  const startBytes = Number(header.readBigUInt64LE(COPIES_AT));
  const lengthBytes = Number(header.readBigUInt64LE(COPIES_AT + 8));
  if (startBytes === 0 || (header.readUInt32LE(COPIES_AT + 20) & COPY_IGNORED) !== 0) return;
  const ringBytes = sizeBytes - AREA_HEADER_BYTES;
  const isText = startBytes >= AREA_HEADER_BYTES && startBytes < sizeBytes && lengthBytes <= ringBytes;
  if (!isText || lengthBytes > TEXT_BYTES_MAX) {
    found.trouble ??= 'a metadata area of it is damaged';
    return;
  }
  const untilEndBytes = Math.min(lengthBytes, sizeBytes - startBytes);
  const text = Buffer.concat([
    await volume.read(offsetBytes + startBytes, untilEndBytes, signal),
    await volume.read(offsetBytes + AREA_HEADER_BYTES, lengthBytes - untilEndBytes, signal),
  ]);
  if (lvmChecksum(text) !== header.readUInt32LE(COPIES_AT + 16)) {
    found.trouble ??= 'a metadata area of it is damaged';
    return;
  }
  const endAt = text.indexOf(0);
  found.texts.push(text.toString('latin1', 0, endAt < 0 ? text.length : endAt));
}

/** CRC-32 that begins with a number of LVM's own and is not inverted (lvm2, `lib/misc/crc.c`). */
function lvmChecksum(bytes: Buffer): number {
  return ~crc32(bytes, ~0xf597a6cf >>> 0) >>> 0;
}

import { createHash } from 'node:crypto';
import { AppError } from '../errors/index.ts';
import { TAG_BYTES } from './chunk-codec.ts';
import { CHUNK_SIZE_BYTES_MAX, FORMAT_VERSION, ID_BYTES, PACK_ROWS_MAX } from './layout.ts';
import { formatUnknown } from './sealed-file.ts';

/** Bytes of a pack file: section "Pack" of the format. All numbers little-endian. */
export const PACK_HEADER_BYTES = 64;
export const PACK_ROW_BYTES = 52;
export const PACK_TRAILER_BYTES = 64;

const HEADER_MAGIC = 'DOZOPACK';
const TRAILER_MAGIC = 'DOZOPEND';
const FLAG_ENCRYPTED = 2;

/** What a pack holds: chunks of disks, or pages and files, so that pages lie close together. */
export type PackKind = 'data' | 'meta';

export interface PackRow {
  id: Buffer;
  offsetBytes: number;
  storedLength: number;
  plainLength: number;
  crc: number;
  codec: number;
}

/** A verified table. Rows are parsed on demand: a table of a million rows costs its bytes alone. */
export class PackTable {
  readonly packId: string;
  readonly kind: PackKind;
  /** Where the table begins in the pack. */
  readonly offsetBytes: number;
  readonly bytes: Buffer;

  constructor(packId: string, kind: PackKind, offsetBytes: number, bytes: Buffer) {
    this.packId = packId;
    this.kind = kind;
    this.offsetBytes = offsetBytes;
    this.bytes = bytes;
  }

  get rowCount(): number {
    return this.bytes.length / PACK_ROW_BYTES;
  }

  get fileBytes(): number {
    return this.offsetBytes + this.bytes.length + PACK_TRAILER_BYTES;
  }

  hasId(row: number, id: Buffer): boolean {
    const start = row * PACK_ROW_BYTES;
    return this.bytes.compare(id, 0, ID_BYTES, start, start + ID_BYTES) === 0;
  }

  row(row: number): PackRow {
    const start = row * PACK_ROW_BYTES;
    return {
      id: this.bytes.subarray(start, start + ID_BYTES),
      offsetBytes: this.bytes.readUInt32LE(start + 32),
      storedLength: this.bytes.readUInt32LE(start + 36),
      plainLength: this.bytes.readUInt32LE(start + 40),
      crc: this.bytes.readUInt32LE(start + 44),
      codec: this.bytes.readUInt8(start + 48),
    };
  }
}

export function encodePackHeader(packId: string, kind: PackKind, keyId: Buffer | null): Buffer {
  const header = Buffer.alloc(PACK_HEADER_BYTES);
  header.write(HEADER_MAGIC, 0, 'latin1');
  header.writeUInt16LE(FORMAT_VERSION, 8);
  header.writeUInt16LE(keyId === null ? 0 : FLAG_ENCRYPTED, 10);
  header.writeUInt32LE(kindNumber(kind), 12);
  header.write(packId, 16, 'hex');
  keyId?.copy(header, 32);
  return header;
}

export function encodePackRow(row: PackRow, table: Buffer, index: number): void {
  const start = index * PACK_ROW_BYTES;
  row.id.copy(table, start);
  table.writeUInt32LE(row.offsetBytes, start + 32);
  table.writeUInt32LE(row.storedLength, start + 36);
  table.writeUInt32LE(row.plainLength, start + 40);
  table.writeUInt32LE(row.crc, start + 44);
  table.writeUInt8(row.codec, start + 48);
}

export function encodePackTrailer(table: PackTable): Buffer {
  const trailer = Buffer.alloc(PACK_TRAILER_BYTES);
  trailer.writeBigUInt64LE(BigInt(table.offsetBytes), 0);
  trailer.writeUInt32LE(table.rowCount, 8);
  trailer.writeUInt32LE(kindNumber(table.kind), 12);
  tableHash(table.packId, table.bytes, trailer).copy(trailer, 16);
  trailer.write(TRAILER_MAGIC, 56, 'latin1');
  return trailer;
}

/**
 * Where the table lies, from the last bytes of the file.
 * @throws REPOSITORY_PACK_DAMAGED, REPOSITORY_FORMAT_UNKNOWN
 */
export function locatePackTable(
  trailer: Buffer,
  fileBytes: number,
  name: string,
): { offsetBytes: number; lengthBytes: number } {
  if (trailer.toString('latin1', 56, 64) !== TRAILER_MAGIC) throw packDamaged(name, 'its end is not the end of a pack');
  const offsetBytes = Number(trailer.readBigUInt64LE(0));
  const lengthBytes = trailer.readUInt32LE(8) * PACK_ROW_BYTES;
  if (offsetBytes < PACK_HEADER_BYTES || offsetBytes + lengthBytes + PACK_TRAILER_BYTES !== fileBytes) {
    throw packDamaged(name, 'its table does not fit into its size');
  }
  return { offsetBytes, lengthBytes };
}

/** Read of a pack's end at first: its trailer, and nearly always all of its table. */
const END_BYTES = 32 * 1024;

/**
 * The table of a pack by one look at the end of its file; by two where it is long.
 * @throws REPOSITORY_PACK_DAMAGED, REPOSITORY_FORMAT_UNKNOWN, what `read` throws
 */
export async function readPackTable(
  { packId, name, fileBytes }: { packId: string; name: string; fileBytes: number },
  read: (range: { offsetBytes: number; lengthBytes: number }) => Promise<Buffer>,
): Promise<PackTable> {
  if (fileBytes < PACK_HEADER_BYTES + PACK_TRAILER_BYTES) throw packDamaged(name, `it is only ${fileBytes} bytes long`);
  const from = Math.max(0, fileBytes - END_BYTES);
  const end = await read({ offsetBytes: from, lengthBytes: fileBytes - from });
  const { offsetBytes } = locatePackTable(end.subarray(-PACK_TRAILER_BYTES), fileBytes, name);
  const tail =
    offsetBytes >= from
      ? end.subarray(offsetBytes - from)
      : await read({ offsetBytes, lengthBytes: fileBytes - offsetBytes });
  return parsePackTable(packId, tail, name);
}

/**
 * A table and the trailer after it, verified: hash, row count, and rows of possible lengths that lie one after the
 * other from the header to the table, in file order, without gap or overlap.
 * @throws REPOSITORY_PACK_DAMAGED, REPOSITORY_FORMAT_UNKNOWN
 */
export function parsePackTable(packId: string, tail: Buffer, name: string): PackTable {
  const bytes = tail.subarray(0, tail.length - PACK_TRAILER_BYTES);
  const trailer = tail.subarray(tail.length - PACK_TRAILER_BYTES);
  if (!tableHash(packId, bytes, trailer).equals(trailer.subarray(16, 48))) {
    throw packDamaged(name, 'its table does not match its check sum');
  }
  if (trailer.readBigUInt64LE(48) !== 0n) throw packDamaged(name, 'its trailer has bytes where none belong');
  const kind = trailer.readUInt32LE(12);
  if (kind > 1) throw formatUnknown(name, `pack kind ${kind}`);
  const table = new PackTable(packId, kind === 0 ? 'data' : 'meta', Number(trailer.readBigUInt64LE(0)), bytes);
  if (
    bytes.length % PACK_ROW_BYTES !== 0 ||
    table.rowCount > PACK_ROWS_MAX ||
    table.rowCount !== trailer.readUInt32LE(8)
  ) {
    throw packDamaged(name, 'its table has an impossible length');
  }
  if (!areLengthsPossible(table)) throw packDamaged(name, 'its table names a chunk of an impossible length');
  if (!tiles(table)) throw packDamaged(name, 'the chunks of its table do not lie one after the other');
  return table;
}

/** What a row names is made room for before it is read, and anybody can compute a table's hash. */
function areLengthsPossible({ bytes, rowCount }: PackTable): boolean {
  for (let row = 0; row < rowCount; row += 1) {
    const plainLength = bytes.readUInt32LE(row * PACK_ROW_BYTES + 40);
    if (plainLength > CHUNK_SIZE_BYTES_MAX) return false;
    if (storedLengthOf(bytes, row) > plainLength + TAG_BYTES) return false;
  }
  return true;
}

function tiles({ bytes, rowCount, offsetBytes }: PackTable): boolean {
  let at = PACK_HEADER_BYTES;
  let row = 0;
  while (row < rowCount && offsetOf(bytes, row) === at) {
    const length = storedLengthOf(bytes, row);
    if (length === 0) return false;
    at += length;
    row += 1;
  }
  // Threads finish batches in any order: what is left is looked at in the order of the file.
  const rest = Array.from({ length: rowCount - row }, (_, index) => row + index);
  rest.sort((a, b) => offsetOf(bytes, a) - offsetOf(bytes, b));
  for (const next of rest) {
    const length = storedLengthOf(bytes, next);
    if (length === 0 || offsetOf(bytes, next) !== at) return false;
    at += length;
  }
  return at === offsetBytes;
}

function offsetOf(bytes: Buffer, row: number): number {
  return bytes.readUInt32LE(row * PACK_ROW_BYTES + 32);
}

function storedLengthOf(bytes: Buffer, row: number): number {
  return bytes.readUInt32LE(row * PACK_ROW_BYTES + 36);
}

export function packDamaged(name: string, why: string): AppError {
  return new AppError('REPOSITORY_PACK_DAMAGED', `${name} is damaged: ${why}.`, {
    hint: 'Run a check of the repository: it names the versions that need this file.',
    details: { name },
  });
}

function kindNumber(kind: PackKind): number {
  return kind === 'data' ? 0 : 1;
}

function tableHash(packId: string, table: Buffer, trailer: Buffer): Buffer {
  return createHash('sha256').update(Buffer.from(packId, 'hex')).update(table).update(trailer.subarray(0, 16)).digest();
}

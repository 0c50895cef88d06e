import { AppError } from '../errors/index.ts';
import { PACK_ID_BYTES } from './layout.ts';
import { encodePackTrailer, parsePackTable, type PackTable } from './pack-format.ts';
import { decodeSealed, encodeSealed, SEALED_HEADER_BYTES, type SealedSource } from './sealed-file.ts';

/**
 * An index segment, section "Index": copies of the ends (table and trailer) of packs, so that a
 * repository opens without a seek to every pack, and so that a damaged table has a second copy.
 */

/** Beyond this a segment is closed and another begun: it is held in memory while it is read. */
export const SEGMENT_TARGET_BYTES = 16 * 1024 * 1024;

export interface SegmentEntry {
  table: PackTable;
  /** Where the copy of the pack's end lies in the segment's file. */
  offsetBytes: number;
  lengthBytes: number;
}

export function encodeSegment(tables: readonly PackTable[]): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32LE(tables.length);
  const parts: Buffer[] = [count];
  for (const table of tables) {
    const head = Buffer.alloc(PACK_ID_BYTES + 4);
    const trailer = encodePackTrailer(table);
    head.write(table.packId, 0, 'hex');
    head.writeUInt32LE(table.bytes.length + trailer.length, PACK_ID_BYTES);
    parts.push(head, table.bytes, trailer);
  }
  return encodeSealed('DOZOINDX', Buffer.concat(parts), { compress: false, keys: null });
}

/** @throws REPOSITORY_INDEX_DAMAGED, REPOSITORY_FORMAT_UNKNOWN */
export function parseSegment(bytes: Buffer, name: string): SegmentEntry[] {
  const source: SealedSource = {
    name,
    code: 'REPOSITORY_INDEX_DAMAGED',
    hint: 'Nothing is lost: the index is rebuilt from the packs each time the repository is opened.',
  };
  const body = decodeSealed('DOZOINDX', bytes, source, null);
  const cut = (): AppError =>
    new AppError(source.code, `${name} is damaged: it is cut off.`, { hint: source.hint, details: { name } });
  if (body.length < 4) throw cut();
  const entries: SegmentEntry[] = [];
  let at = 4;
  for (let left = body.readUInt32LE(0); left > 0; left -= 1) {
    if (at + PACK_ID_BYTES + 4 > body.length) throw cut();
    const packId = body.toString('hex', at, at + PACK_ID_BYTES);
    const lengthBytes = body.readUInt32LE(at + PACK_ID_BYTES);
    at += PACK_ID_BYTES + 4;
    if (lengthBytes < 64 || at + lengthBytes > body.length) throw cut();
    const table = parsePackTable(packId, body.subarray(at, at + lengthBytes), name);
    entries.push({ table, offsetBytes: SEALED_HEADER_BYTES + at, lengthBytes });
    at += lengthBytes;
  }
  if (at !== body.length) throw cut();
  return entries;
}

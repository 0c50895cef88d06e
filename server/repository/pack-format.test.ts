import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { isAppError } from '../errors/index.ts';
import {
  encodePackHeader,
  encodePackRow,
  encodePackTrailer,
  PACK_ROW_BYTES,
  PackTable,
  readPackTable,
} from './pack-format.ts';

const PACK_ID = 'cd'.repeat(16);
const STORED_BYTES = 10;

function packOf(rows: number): Buffer {
  const header = encodePackHeader(PACK_ID, 'data', null);
  const chunks = Buffer.alloc(rows * STORED_BYTES, 7);
  const bytes = Buffer.alloc(rows * PACK_ROW_BYTES);
  for (let row = 0; row < rows; row += 1) {
    const id = createHash('sha256').update(String(row)).digest();
    const offsetBytes = header.length + row * STORED_BYTES;
    encodePackRow({ id, offsetBytes, storedLength: STORED_BYTES, plainLength: 20, crc: row, codec: 0 }, bytes, row);
  }
  const table = new PackTable(PACK_ID, 'data', header.length + chunks.length, bytes);
  return Buffer.concat([header, chunks, bytes, encodePackTrailer(table)]);
}

function look(file: Buffer): { looks: number; table: Promise<PackTable> } {
  const result = { looks: 0, table: Promise.resolve() as unknown as Promise<PackTable> };
  result.table = readPackTable({ packId: PACK_ID, name: 'packs/x', fileBytes: file.length }, async (range) => {
    result.looks += 1;
    assert.ok(range.offsetBytes >= 0 && range.offsetBytes + range.lengthBytes <= file.length, JSON.stringify(range));
    return Promise.resolve(file.subarray(range.offsetBytes, range.offsetBytes + range.lengthBytes));
  });
  return result;
}

test('a table is read by one look at the end of its pack, a long one by two', async () => {
  // 628 rows and the trailer are 48 bytes less than the 32 KiB of a look.
  for (const [rows, looks] of [
    [1, 1],
    [200, 1],
    [628, 1],
    [629, 2],
    [5000, 2],
  ] as const) {
    const found = look(packOf(rows));
    const table = await found.table;
    assert.equal(table.rowCount, rows);
    assert.equal(table.row(rows - 1).crc, rows - 1);
    assert.equal(found.looks, looks, `${rows} rows`);
  }
});

test('a pack that was cut off or changed at its end is told to be damaged, whatever its length', async () => {
  for (const rows of [1, 200, 629, 5000]) {
    const file = packOf(rows);
    const changed = Buffer.from(file);
    const at = file.length - 65;
    changed[at] = (changed[at] ?? 0) ^ 1;
    for (const bad of [file.subarray(0, -1), file.subarray(0, 60), file.subarray(0, 0), changed]) {
      await assert.rejects(
        look(bad).table,
        (error) => isAppError(error) && error.code === 'REPOSITORY_PACK_DAMAGED',
        `${bad.length} of ${file.length} bytes`,
      );
    }
  }
});

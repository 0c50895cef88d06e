import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { alignExtents, normalizeExtents, subtractExtents, totalBytes, type Extent } from './index.ts';

const DISK_BYTES = 200;
const extents = fc.array(
  fc
    .record({ offsetBytes: fc.integer({ min: 0, max: DISK_BYTES - 1 }), lengthBytes: fc.integer({ min: 1, max: 40 }) })
    .map((extent) => ({
      ...extent,
      lengthBytes: Math.min(extent.lengthBytes, DISK_BYTES - extent.offsetBytes),
    })),
);

function bytesOf(list: readonly Extent[]): Set<number> {
  const bytes = new Set<number>();
  for (const { offsetBytes, lengthBytes } of list) for (let i = 0; i < lengthBytes; i += 1) bytes.add(offsetBytes + i);
  return bytes;
}

test('normalizing keeps every byte, sorts, and leaves gaps between neighbours', () => {
  fc.assert(
    fc.property(extents, (list) => {
      const normal = normalizeExtents(list);

      assert.deepEqual(
        [...bytesOf(normal)].sort((a, b) => a - b),
        [...bytesOf(list)].sort((a, b) => a - b),
      );
      assert.equal(totalBytes(normal), bytesOf(list).size);
      for (let i = 1; i < normal.length; i += 1) {
        const before = normal[i - 1];
        const here = normal[i];
        assert.ok(
          before !== undefined && here !== undefined && before.offsetBytes + before.lengthBytes < here.offsetBytes,
        );
      }
    }),
  );
});

test('subtracting leaves exactly the bytes that are in the first and not in the second', () => {
  fc.assert(
    fc.property(extents, extents, (from, minus) => {
      const rest = subtractExtents(normalizeExtents(from), normalizeExtents(minus));

      const expected = bytesOf(from);
      for (const byte of bytesOf(minus)) expected.delete(byte);
      assert.deepEqual(
        [...bytesOf(rest)].sort((a, b) => a - b),
        [...expected].sort((a, b) => a - b),
      );
    }),
  );
});

test('aligning covers every byte with whole blocks and never leaves the disk', () => {
  fc.assert(
    fc.property(extents, fc.integer({ min: 1, max: 64 }), (list, blockBytes) => {
      const aligned = alignExtents(list, blockBytes, DISK_BYTES);

      const covered = bytesOf(aligned);
      for (const byte of bytesOf(list)) assert.ok(covered.has(byte));
      for (const { offsetBytes, lengthBytes } of aligned) {
        assert.equal(offsetBytes % blockBytes, 0);
        const end = offsetBytes + lengthBytes;
        assert.ok(end <= DISK_BYTES && (end % blockBytes === 0 || end === DISK_BYTES));
      }
    }),
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { ExtentSet } from './extent-set.ts';

const SIZE = 64;

function bits(extents: Iterable<{ offsetBytes: number; lengthBytes: number }>): string {
  const cells = Array.from({ length: SIZE }, () => '.');
  for (const { offsetBytes, lengthBytes } of extents) cells.fill('#', offsetBytes, offsetBytes + lengthBytes);
  return cells.join('');
}

const extent = fc
  .tuple(fc.nat({ max: SIZE - 1 }), fc.nat({ max: 12 }))
  .map(([offsetBytes, length]) => ({ offsetBytes, lengthBytes: Math.min(length, SIZE - offsetBytes) }));

test('holds exactly the bytes that were added, in any order, with overlaps', () => {
  fc.assert(
    fc.property(fc.array(extent, { maxLength: 40 }), (added) => {
      const set = new ExtentSet();
      for (const { offsetBytes, lengthBytes } of added) set.add(offsetBytes, lengthBytes);

      const runs = set.extents();
      assert.equal(bits(runs), bits(added));
      assert.equal(set.totalBytes, bits(added).replaceAll('.', '').length);
      runs.slice(1).forEach((run, index) => {
        const before = runs[index];
        assert.ok(before !== undefined && before.offsetBytes + before.lengthBytes < run.offsetBytes);
      });
      const missing = bits(set.missingFrom([{ offsetBytes: 0, lengthBytes: SIZE }]));
      assert.equal(missing, [...bits(added)].map((cell) => (cell === '#' ? '.' : '#')).join(''));
      assert.deepEqual(new ExtentSet(added).extents(), runs);
    }),
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { totalBytes } from '../disk/index.ts';
import { GIB, KIB, MIB } from '../runtime/index.ts';

import { ComparingSink, DEFAULT_VERIFY_SAMPLE, grownReader, pickSample, zeroReader } from './sample-verification.ts';

test('picks within the areas said to be unchanged, about as much as asked for', () => {
  const areas = fc.array(fc.tuple(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: 400 })), {
    minLength: 1,
    maxLength: 30,
  });
  fc.assert(
    fc.property(areas, fc.double({ min: 0.001, max: 0.99, noNaN: true }), (pairs, share) => {
      let at = 0;
      const unchanged = pairs.map(([gap, length]) => {
        const offsetBytes = at + gap * 16 * KIB;
        at = offsetBytes + length * 16 * KIB;
        return { offsetBytes, lengthBytes: length * 16 * KIB };
      });
      const sample = pickSample(unchanged, share);

      assert.ok(sample.length > 0);
      for (const piece of sample) {
        const inside = unchanged.some(
          (area) =>
            piece.offsetBytes >= area.offsetBytes &&
            piece.offsetBytes + piece.lengthBytes <= area.offsetBytes + area.lengthBytes,
        );
        assert.ok(inside);
      }
      assert.ok(totalBytes(sample) <= totalBytes(unchanged) * share + 64 * KIB);
    }),
  );
});

test('reaches every region of the disk, so that a lost region is seen', () => {
  const sample = pickSample([{ offsetBytes: 0, lengthBytes: 4 * GIB }], DEFAULT_VERIFY_SAMPLE);

  assert.ok(totalBytes(sample) <= 2 * MIB + 64 * KIB);
  for (let region = 0; region < 16; region += 1) {
    const start = (region * 4 * GIB) / 16;
    assert.ok(sample.some((piece) => piece.offsetBytes >= start && piece.offsetBytes < start + (4 * GIB) / 16));
  }
});

test('all or nothing where that is asked for, and a bound for huge disks', () => {
  const whole = [{ offsetBytes: 0, lengthBytes: 8 * GIB * 1024 }];
  assert.deepEqual(pickSample(whole, 1), whole);
  assert.deepEqual(pickSample(whole, 0), []);
  assert.deepEqual(pickSample([], 0.5), []);
  assert.ok(totalBytes(pickSample(whole, DEFAULT_VERIFY_SAMPLE)) <= 256 * MIB + 64 * KIB);
});

test('finds the first difference, in data and in zeros, and past the end of a version that was smaller', async () => {
  const stored = Buffer.alloc(100, 7);
  const base = grownReader(
    { sizeBytes: 100, read: (offset, length) => Promise.resolve(stored.subarray(offset, offset + length)) },
    200,
  );
  const equal = new ComparingSink(base);
  await equal.write(90, Buffer.concat([Buffer.alloc(10, 7), Buffer.alloc(10)]));
  await equal.zero(100, 100);
  assert.equal(equal.differsAtBytes, null);

  const different = new ComparingSink(base);
  await different.write(100, Buffer.alloc(10, 1));
  await different.zero(50, 10);
  assert.equal(different.differsAtBytes, 50);

  const zeros = new ComparingSink(zeroReader(50));
  await zeros.write(0, Buffer.alloc(50));
  assert.equal(zeros.differsAtBytes, null);
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { crc32, decompressZstd } from './zlib.ts';

const bytes = fc
  .array(fc.tuple(fc.uint8Array({ maxLength: 400 }), fc.integer({ min: 1, max: 300 })), { maxLength: 12 })
  .map((parts) => Buffer.concat(parts.flatMap(([part, times]) => Array.from({ length: times }, () => part))));

describe('what stands in for the zlib of a newer Node', () => {
  it('gives what zstd packed', () => {
    fc.assert(
      fc.property(bytes, fc.constantFrom(1, 3, 9), (content, level) => {
        const params = { [zlib.constants.ZSTD_c_compressionLevel]: level };
        const packed = zlib.zstdCompressSync(content, { params });
        assert.ok(decompressZstd(packed, { maxOutputLength: content.length }).equals(content));
      }),
      { numRuns: 150 },
    );
  });

  it('ends, in the room that it was given, whatever it is fed', () => {
    const packed = zlib.zstdCompressSync(Buffer.from('some text of which there is more than once '.repeat(60)));
    const bomb = zlib.zstdCompressSync(Buffer.alloc(100_000_000));
    const inputs = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((one) => Buffer.from(one)),
      fc
        .tuple(fc.nat(packed.length - 1), fc.nat(255))
        .map(([at, value]) => Buffer.from(packed).fill(value, at, at + 1)),
      fc.nat(packed.length).map((length) => packed.subarray(0, length)),
      fc.constant(bomb),
    );
    fc.assert(
      fc.property(inputs, (input) => {
        try {
          assert.equal(decompressZstd(input, { maxOutputLength: 2_000 }).length <= 2_000, true);
        } catch (error) {
          assert.ok(error instanceof Error && error.name !== 'AssertionError', String(error));
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('has the same check sum', () => {
    fc.assert(
      fc.property(bytes, fc.nat(0xffffffff), (content, before) => {
        assert.equal(crc32(content), zlib.crc32(content));
        assert.equal(crc32(content, before), zlib.crc32(content, before));
      }),
      { numRuns: 50 },
    );
    assert.equal(crc32(Buffer.from('123456789')), 0xcbf43926);
  });
});

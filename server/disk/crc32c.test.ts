import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { crc32c } from './crc32c.ts';

describe('CRC32C', () => {
  it('gives the examples of RFC 7143, appendix A.4', () => {
    assert.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
    assert.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43);
    assert.equal(crc32c(Buffer.from(Array.from({ length: 32 }, (_, index) => index))), 0x46dd794e);
    assert.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  });

  it('goes on from an earlier result, whatever the lengths', () => {
    const data = Buffer.from(Array.from({ length: 61 }, (_, index) => (index * 7) & 0xff));
    for (let cut = 0; cut <= data.length; cut += 1)
      assert.equal(crc32c(data.subarray(cut), crc32c(data.subarray(0, cut))), crc32c(data));
  });
});

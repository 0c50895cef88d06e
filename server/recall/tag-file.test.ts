import assert from 'node:assert/strict';
import { createCipheriv, createSecretKey } from 'node:crypto';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  encodeHeader,
  encodeRecord,
  HEADER_BYTES,
  parseHeader,
  parseRecord,
  RECORD_BYTES,
  RECORD_TAGS,
  TAG_BYTES,
  tagOf,
  type TagSubject,
} from './tag-file.ts';

const KEY = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
const SALT = Buffer.alloc(16, 7);
const SUBJECT: TagSubject = {
  repositoryId: 'a'.repeat(32),
  machineId: 'machine-1',
  diskKey: 'scsi0:0',
  pointId: '20260101t000000z-0123456789abcdef',
  rootHash: 'b'.repeat(64),
  sizeBytes: 4096,
  chunkSizeBytes: 1024,
};
const TAGS = Buffer.from(Array.from({ length: RECORD_TAGS * TAG_BYTES }, (_, index) => index % 251));

function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
  return copy;
}

describe('a tag', () => {
  const key = createSecretKey(KEY);

  it('is the authenticator of ChaCha20-Poly1305 over the content alone', () => {
    const content = Buffer.from('a chunk');
    const cipher = createCipheriv('chacha20-poly1305', KEY, Buffer.alloc(12), { authTagLength: 16 });
    cipher.setAAD(content, { plaintextLength: 0 }).final();

    assert.deepEqual(tagOf(key, content), cipher.getAuthTag());
  });

  it('is another one for every changed bit, every other length and every other key', () => {
    const content = Buffer.alloc(70_000, 'text ');
    const tag = tagOf(key, content);
    const bit = fc.nat(content.length * 8 - 1);

    fc.assert(fc.property(bit, (at) => !tagOf(key, flipped(content, at)).equals(tag)));
    assert.ok(!tagOf(key, content.subarray(1)).equals(tag));
    assert.ok(!tagOf(key, Buffer.concat([content, Buffer.alloc(1)])).equals(tag));
    assert.ok(!tagOf(createSecretKey(flipped(KEY, 9)), content).equals(tag));
    assert.deepEqual(tagOf(key, Buffer.from(content)), tag);
  });
});

describe('the header of a tag file', () => {
  const header = encodeHeader({ key: KEY, salt: SALT, subject: SUBJECT });

  it('gives key and salt to who names what its tags are of', () => {
    assert.equal(header.length, HEADER_BYTES);
    assert.deepEqual(parseHeader(header, { ...SUBJECT }), { key: KEY, salt: SALT });
  });

  it('says nothing of anything else', () => {
    for (const name of Object.keys(SUBJECT) as (keyof TagSubject)[]) {
      const value = SUBJECT[name];
      const other = { ...SUBJECT, [name]: typeof value === 'number' ? value + 1 : `${value}0` };
      assert.equal(parseHeader(header, other), null, name);
    }
  });

  it('says nothing with any bit changed, or cut anywhere', () => {
    for (let bit = 0; bit < header.length * 8; bit += 1) assert.equal(parseHeader(flipped(header, bit), SUBJECT), null);
    for (let end = 0; end < header.length; end += 1) assert.equal(parseHeader(header.subarray(0, end), SUBJECT), null);
  });
});

describe('a record of a tag file', () => {
  const record = encodeRecord(SALT, 3, TAGS);

  it('gives the tags at its place in its file', () => {
    assert.equal(record.length, RECORD_BYTES);
    assert.deepEqual(parseRecord(SALT, 3, record), TAGS);
    assert.equal(parseRecord(SALT, 2, record), null);
    assert.equal(parseRecord(flipped(SALT, 0), 3, record), null);
  });

  it('has none with any bit changed, cut anywhere, or never written', () => {
    for (let bit = 0; bit < record.length * 8; bit += 1) assert.equal(parseRecord(SALT, 3, flipped(record, bit)), null);
    for (let end = 0; end < record.length; end += 97) assert.equal(parseRecord(SALT, 3, record.subarray(0, end)), null);
    assert.equal(parseRecord(SALT, 0, Buffer.alloc(RECORD_BYTES)), null);
  });

  it('is a value or nothing for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => parseHeader(Buffer.from(bytes), SUBJECT) === null),
    );
    const bytes = fc.uint8Array({ minLength: RECORD_BYTES, maxLength: RECORD_BYTES });
    fc.assert(
      fc.property(bytes, (some) => parseRecord(SALT, 0, Buffer.from(some)) === null),
      { numRuns: 20 },
    );
  });
});

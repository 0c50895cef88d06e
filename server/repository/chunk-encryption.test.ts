import assert from 'node:assert/strict';
import { createSecretKey, randomBytes, webcrypto } from 'node:crypto';
import { describe, it } from 'node:test';
import zlib from 'node:zlib';
import { CODEC_PLAIN, CODEC_ZSTD, decodeChunk, encodeChunk, TAG_BYTES, type StoredForm } from './chunk-codec.ts';
import { identify } from './keys.ts';

const PACK_KEY = Buffer.alloc(32, 0x5a);
const IDENTITY_KEY = Buffer.alloc(32, 0xa5);
const packKey = createSecretKey(PACK_KEY);
const identity = { algorithm: 'sha256' as const, identityKey: createSecretKey(IDENTITY_KEY) };

/** Around the pieces in which a cipher is fed, as well as a whole chunk. */
const LENGTHS = [1, 100, 65_535, 65_536, 65_537, 131_072, 262_144, 300_001];

function encoded(content: Buffer, row: number): { form: StoredForm; stored: Buffer } {
  const id = identify(content, identity.algorithm, identity.identityKey);
  const { codec, stored, crc } = encodeChunk(content, id, packKey, row);
  return { form: { id, codec, plainLength: content.length, crc, row }, stored };
}

/** By another implementation, in one go: the document's words. */
async function sealedByDocument(bytes: Uint8Array, id: Buffer, row: number): Promise<Buffer> {
  const key = await webcrypto.subtle.importKey('raw', PACK_KEY, 'AES-GCM', false, ['encrypt']);
  const iv = new Uint8Array(12);
  new DataView(iv.buffer).setUint32(0, row, true);
  const algorithm = { name: 'AES-GCM', iv, additionalData: id, tagLength: TAG_BYTES * 8 };
  return Buffer.from(await webcrypto.subtle.encrypt(algorithm, key, bytes));
}

async function identityByDocument(content: Buffer): Promise<Buffer> {
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const key = await webcrypto.subtle.importKey('raw', IDENTITY_KEY, algorithm, false, ['sign']);
  return Buffer.from(await webcrypto.subtle.sign('HMAC', key, content));
}

describe('a chunk of an encrypted repository', () => {
  for (const length of LENGTHS) {
    it(`lies there as the document says, ${length} bytes`, async () => {
      for (const content of [randomBytes(length), Buffer.alloc(length, 'compressible ')]) {
        const { form, stored } = encoded(content, 70_000);

        assert.deepEqual(form.id, await identityByDocument(content));
        // What the cipher was given is what a plain repository would store.
        const given = form.codec === CODEC_ZSTD ? encodeChunk(content, form.id, null, 0).stored : content;
        assert.ok(stored.equals(await sealedByDocument(given, form.id, 70_000)));
        assert.equal(form.crc, zlib.crc32(stored));
        const decoded = decodeChunk(stored, form, packKey, identity);
        assert.ok(Buffer.isBuffer(decoded) && decoded.equals(content));
      }
    });
  }

  it('is put where there is room, and nowhere else', () => {
    for (const content of [randomBytes(70_000), Buffer.alloc(70_000, 'compressible ')]) {
      const { form, stored } = encoded(content, 3);
      const shared = Buffer.from(new SharedArrayBuffer(80_000)).fill(7);
      const placed = encodeChunk(content, form.id, packKey, 3, { room: shared.subarray(100) });

      assert.ok(placed.stored.equals(stored));
      assert.ok(shared.subarray(100, 100 + stored.length).equals(stored));
      assert.equal(placed.crc, form.crc);
      for (const around of [shared.subarray(0, 100), shared.subarray(100 + stored.length)])
        assert.ok(around.equals(Buffer.alloc(around.length, 7)));
    }
  });

  it('is decrypted where there is room, and leaves there when it is given out', () => {
    const room = Buffer.allocUnsafeSlow(300_000);
    const contents = [randomBytes(70_000), Buffer.alloc(70_000, 'compressible '), randomBytes(200_000)];
    const chunks = [...contents, Buffer.concat([randomBytes(150_000), Buffer.alloc(150_000)])].map((content) => {
      const { form, stored } = encoded(content, 5);
      return { content, decoded: decodeChunk(stored, form, packKey, identity, room) };
    });

    assert.equal(room.length, 300_000, 'room is not given back');
    room.fill(0);
    for (const { content, decoded } of chunks) assert.ok(Buffer.isBuffer(decoded) && decoded.equals(content));
  });

  it('is refused when a bit, its row, its identity, its key or its length is another', () => {
    for (const content of [randomBytes(200_000), Buffer.concat([randomBytes(150_000), Buffer.alloc(150_000)])]) {
      const { form, stored } = encoded(content, 9);
      const attempt = (bytes: Buffer, changed: Partial<StoredForm> = {}, key = packKey): Buffer | string =>
        decodeChunk(bytes, { ...form, crc: zlib.crc32(bytes), ...changed }, key, identity);
      assert.ok(Buffer.isBuffer(attempt(stored)));

      const tagAt = stored.length - TAG_BYTES;
      for (const place of [0, 65_535, 65_536, tagAt - 1, tagAt, stored.length - 1]) {
        const changed = Buffer.from(stored);
        changed[place] = (changed[place] as number) ^ 1;
        assert.equal(attempt(changed), 'it fails its authentication', `byte ${place}`);
        assert.equal(decodeChunk(changed, form, packKey, identity), 'its stored bytes have changed');
      }
      assert.equal(attempt(stored, { row: 10 }), 'it fails its authentication');
      assert.equal(attempt(stored, { id: randomBytes(32) }), 'it fails its authentication');
      assert.equal(attempt(stored, {}, createSecretKey(randomBytes(32))), 'it fails its authentication');
      assert.equal(attempt(stored.subarray(0, stored.length - 1)), 'it fails its authentication');
      assert.equal(attempt(Buffer.concat([stored, Buffer.alloc(1)])), 'it fails its authentication');
      assert.equal(attempt(stored.subarray(0, TAG_BYTES)), 'it fails its authentication');
      assert.equal(attempt(stored.subarray(0, TAG_BYTES - 1)), 'it is too short to be encrypted');
    }
  });

  it('is refused when who has the key names it falsely', () => {
    const content = randomBytes(1000);
    const foreign = identify(Buffer.from('another content'), identity.algorithm, identity.identityKey);
    const { stored, crc, codec } = encodeChunk(content, foreign, packKey, 0);
    const form = { id: foreign, codec, plainLength: content.length, crc, row: 0 };

    assert.equal(codec, CODEC_PLAIN);
    assert.equal(decodeChunk(stored, form, packKey, identity), 'its content is not what its identity names');
  });
});

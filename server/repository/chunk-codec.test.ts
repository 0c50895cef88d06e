import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { releaseMemory } from '../runtime/index.ts';
import { decodeChunk, encodeChunk } from './chunk-codec.ts';
import { identify } from './keys.ts';

const CHUNK_BYTES = 256 * 1024;
const identity = { algorithm: 'sha256' as const, identityKey: null };

describe('the form of a chunk in a pack', () => {
  it('leaves no memory behind once a decompressed content is given back', () => {
    // Half of it at random, so that it is worth compressing and not next to nothing when it is.
    const content = Buffer.concat([randomBytes(CHUNK_BYTES / 2), Buffer.alloc(CHUNK_BYTES / 2)]);
    const id = identify(content, identity.algorithm, identity.identityKey);
    const { codec, stored, crc } = encodeChunk(content, id, null, 0);
    const form = { id, codec, crc, plainLength: CHUNK_BYTES, row: 0 };
    const before = process.memoryUsage().arrayBuffers;

    for (let turn = 0; turn < 64; turn += 1) {
      const decoded = decodeChunk(stored, form, null, identity);
      assert.ok(Buffer.isBuffer(decoded) && decoded.equals(content));
      releaseMemory(decoded);
    }

    const leftBytes = process.memoryUsage().arrayBuffers - before;
    assert.ok(leftBytes < 4 * CHUNK_BYTES, `${leftBytes} bytes are left of 64 chunks`);
  });
});

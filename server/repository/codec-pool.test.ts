import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, createSecretKey } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { systemClock } from '../runtime/index.ts';
import { CodecPool } from './codec-pool.ts';

const identity = { algorithm: 'sha256' as const, identityKey: null };

describe('the codec pool', () => {
  for (const threads of [0, 2]) {
    it(`hashes, encodes and decodes with ${threads} threads`, async () => {
      const pool = new CodecPool({ threads, chunkSizeBytes: 65_536, identity });
      const slot = await pool.acquireSlot();
      slot.input.fill('compressible ', 0, 5000);
      for (let at = 5000; at < 6000; at += 1) slot.input[at] = (at * 7919) & 255;
      const ids = await pool.hash(slot, [5000, 1000]);
      assert.deepEqual(ids.subarray(32), createHash('sha256').update(slot.input.subarray(5000, 6000)).digest());
      const packKey = createSecretKey(Buffer.alloc(32, 9));
      const parts = [0, 1].map((row) => ({
        offset: row * 5000,
        length: row === 0 ? 5000 : 1000,
        id: ids.subarray(row * 32, row * 32 + 32),
        row,
      }));
      const encoded = await pool.encode(slot, packKey, parts);
      const stored = encoded.map((part) =>
        Buffer.from(slot[part.area].subarray(part.offset, part.offset + part.length)),
      );
      const range = Buffer.concat(stored);
      let offset = 0;
      const wanted = encoded.map((part, row) => {
        const one = {
          ...(parts[row] as (typeof parts)[number]),
          offset,
          storedLength: part.length,
          codec: part.codec,
          crc: part.crc,
          plainLength: row === 0 ? 5000 : 1000,
        };
        offset += part.length;
        return one;
      });
      assert.deepEqual(await pool.verify(Buffer.from(range), packKey, wanted, 'hash'), [null, null]);
      const contents = await pool.decode(Buffer.from(range), packKey, wanted);
      assert.ok(Buffer.isBuffer(contents[0]) && contents[0].equals(slot.input.subarray(0, 5000)));
      assert.ok(Buffer.isBuffer(contents[1]) && contents[1].equals(slot.input.subarray(5000, 6000)));
      const swapped = wanted.map((part, row) => ({ ...part, row: 1 - row }));
      for (const result of await pool.decode(Buffer.from(range), packKey, swapped))
        assert.equal(typeof result, 'string');
      pool.releaseSlot(slot);
      await pool.close();
    });
  }

  it('does not keep a process alive that forgot to close it', async () => {
    const module = JSON.stringify(new URL('./codec-pool.ts', import.meta.url).href);
    const script = `import(${module}).then(async ({ CodecPool }) => {
      const pool = new CodecPool({ threads: 2, chunkSizeBytes: 65536, identity: { algorithm: 'sha256', identityKey: null } });
      const slot = await pool.acquireSlot();
      await pool.hash(slot, [10]);
      });`;
    const child = spawn(process.execPath, ['--eval', script], {
      stdio: 'inherit',
      timeout: 300_000,
    });
    const [status, signal] = (await once(child, 'exit')) as [number | null, string | null];

    assert.deepEqual({ status, signal }, { status: 0, signal: null });
  });

  it('starts another thread when those before it have enough to do, or when it is told to', async () => {
    const pool = new CodecPool({ threads: 3, chunkSizeBytes: 65_536, identity });
    const slot = await pool.acquireSlot();
    for (let turn = 0; turn < 3; turn += 1) await pool.hash(slot, [10]);
    assert.equal(pool.threadsForTest().length, 1);
    await Promise.all([pool.hash(slot, [10]), pool.hash(slot, [10]), pool.hash(slot, [10])]);
    assert.equal(pool.threadsForTest().length, 2);
    pool.prepare(1);
    assert.equal(pool.threadsForTest().length, 2);
    pool.prepare();
    assert.equal(pool.threadsForTest().length, 3);
    await pool.close();
    pool.prepare();
    assert.equal(pool.threadsForTest().length, 0);
  });

  it('compresses more where its threads have time', async () => {
    let nowMs = 0;
    const clock = { ...systemClock, monotonicMs: () => nowMs };
    const text = readFileSync(new URL('../../package-lock.json', import.meta.url)).subarray(0, 262_144);
    const pool = new CodecPool({ threads: 1, chunkSizeBytes: 262_144, identity, clock });
    const slot = await pool.acquireSlot();
    for (let at = 0; at < 262_144; at += text.length) text.copy(slot.input, at);
    const parts = [{ offset: 0, length: 262_144, id: await pool.hash(slot, [262_144]), row: 0 }];
    const storedBytes = async (): Promise<number> => (await pool.encode(slot, null, parts))[0]?.length ?? 0;
    const first = await storedBytes();
    for (let turn = 0; turn < 3; turn += 1) {
      nowMs += 20_000;
      await pool.hash(slot, [10]);
    }
    const later = await storedBytes();
    await pool.close();
    assert.ok(later < first * 0.99, `${later} of ${first}`);
  });

  it('fails the work of a thread that dies, and goes on with another', async () => {
    const pool = new CodecPool({ threads: 1, chunkSizeBytes: 65_536, identity });
    const slot = await pool.acquireSlot();
    await pool.hash(slot, [10]);
    // From here on the thread runs no more script, so that it cannot be done with the work before it ends.
    const ending = pool.threadsForTest()[0]?.terminate();
    await assert.rejects(pool.hash(slot, [10]), { code: 'INTERNAL' });
    await ending;
    assert.deepEqual(await pool.hash(slot, [10]), createHash('sha256').update(Buffer.alloc(10)).digest());
    await pool.close();
    await assert.rejects(pool.hash(slot, [10]), { code: 'CANCELLED' });
  });
});

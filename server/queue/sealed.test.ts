import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '../errors/index.ts';
import { createSealer, loadKeyFile } from './sealed.ts';

const folder = await mkdtemp(join(tmpdir(), 'dozo-sealed-'));
after(() => rm(folder, { recursive: true, force: true }));

const key = Buffer.alloc(32, 7);
const isUnreadable = (error: unknown): boolean => isAppError(error) && error.code === 'SECRET_UNREADABLE';

describe('sealed secrets', () => {
  it('come back as they were', () => {
    const sealer = createSealer(key);
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        assert.deepEqual(sealer.open('purpose', sealer.seal('purpose', value)), JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it('never look the same twice, and show nothing', () => {
    const sealer = createSealer(key);
    const one = sealer.seal('p', { password: 'hunter2 hunter2' });
    assert.notEqual(one, sealer.seal('p', { password: 'hunter2 hunter2' }));
    assert.ok(!Buffer.from(one, 'base64').toString('latin1').includes('hunter'));
  });

  it('do not open with another key, for another purpose, or after any change', () => {
    const sealer = createSealer(key);
    const sealed = sealer.seal('host-secret 1', 'secret');
    assert.throws(() => createSealer(Buffer.alloc(32, 8)).open('host-secret 1', sealed), isUnreadable);
    assert.throws(() => sealer.open('host-secret 2', sealed), isUnreadable);
    const bytes = Buffer.from(sealed, 'base64');
    for (let index = 0; index < bytes.length; index += 1) {
      const changed = Buffer.from(bytes);
      changed[index] = (changed[index] ?? 0) ^ 1;
      assert.throws(() => sealer.open('host-secret 1', changed.toString('base64')), isUnreadable, `byte ${index}`);
    }
    for (let length = 0; length < bytes.length; length += 1) {
      assert.throws(() => sealer.open('host-secret 1', bytes.subarray(0, length).toString('base64')), isUnreadable);
    }
    assert.throws(() => sealer.open('host-secret 1', 'no base64 at all!'), isUnreadable);
  });
});

describe('key file', () => {
  it('is made once, for its owner alone, also when many come at the same time', async () => {
    const path = join(folder, 'secret.key');
    const keys = await Promise.all(Array.from({ length: 8 }, () => loadKeyFile(path)));
    for (const one of keys) assert.deepEqual(one, keys[0]);
    assert.equal(keys[0]?.length, 32);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.deepEqual(await readdir(folder), ['secret.key']);
    assert.deepEqual(await loadKeyFile(path), keys[0]);
  });

  it('is not made anew when what is there is no key', async () => {
    const path = join(folder, 'broken.key');
    await writeFile(path, 'abc');
    await assert.rejects(loadKeyFile(path), isUnreadable);
  });
});

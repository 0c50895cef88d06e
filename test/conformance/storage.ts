import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import type { ErrorCode } from '../../server/contract/error-codes.ts';
import { isAppError } from '../../server/errors/index.ts';
import type { Storage } from '../../server/storage/index.ts';

/** What the suite needs: a new, empty store a test, and a second door to the same bytes. */
export interface StorageSubject {
  storage: Storage;
  /** The same store as another process would open it. */
  reopen(): Promise<Storage>;
  /** Takes the whole store away, as an unmounted share would. */
  takeAway?(): Promise<void>;
  close(): Promise<void>;
}

/** Holds for every implementation of `Storage`, now and later. */
export function storageConformance(label: string, open: () => Promise<StorageSubject>): void {
  const test = (name: string, body: (subject: StorageSubject) => Promise<void>): void => {
    it(name, async () => {
      const subject = await open();
      try {
        await body(subject);
      } finally {
        await subject.close();
      }
    });
  };

  describe(`${label} as a storage`, () => {
    test('gives back what was published, whole and in ranges', async ({ storage, reopen }) => {
      const data = randomBytes(300_000);
      await storage.publish('packs/ab/one.pack', data);

      assert.deepEqual(await storage.read('packs/ab/one.pack'), data);
      assert.equal(await storage.sizeBytes('packs/ab/one.pack'), data.length);
      const other = await reopen();
      assert.deepEqual(
        await other.read('packs/ab/one.pack', { offsetBytes: 1000, lengthBytes: 777 }),
        data.subarray(1000, 1777),
      );
      assert.equal((await other.read('packs/ab/one.pack', { offsetBytes: 5, lengthBytes: 0 })).length, 0);
    });

    test('joins several buffers, empty ones among them', async ({ storage }) => {
      const parts = [Buffer.from('one'), Buffer.alloc(0), Buffer.from('two'), Buffer.alloc(70_000, 7)];
      await storage.publish('a', parts);

      assert.deepEqual(await storage.read('a'), Buffer.concat(parts));
    });

    test('persists what another has published, and leaves it as it is', async ({ storage, reopen }) => {
      await (await reopen()).publish('packs/ab/one.pack', Buffer.from('one'));
      await storage.persist('packs/ab/one.pack');

      assert.equal((await storage.read('packs/ab/one.pack')).toString(), 'one');
    });

    test('publishes an empty file', async ({ storage }) => {
      await storage.publish('empty', Buffer.alloc(0));

      assert.equal(await storage.sizeBytes('empty'), 0);
      assert.equal((await storage.read('empty')).length, 0);
    });

    test('takes more buffers at once than one system call does', async ({ storage }) => {
      const parts = Array.from({ length: 3000 }, (_, index) => Buffer.from([index & 255, index >> 8]));
      await storage.publish('many', parts);

      assert.deepEqual(await storage.read('many'), Buffer.concat(parts));
    });

    test('never publishes over an existing name, and leaves that file as it was', async ({ storage, reopen }) => {
      await storage.publish('points/one.point', Buffer.from('first'));

      await rejectsWith('STORAGE_EXISTS', storage.publish('points/one.point', Buffer.from('second')));
      const writer = await (await reopen()).create('points/one.point');
      await writer.append(Buffer.from('third'));
      await rejectsWith('STORAGE_EXISTS', writer.publish());
      assert.equal((await storage.read('points/one.point')).toString(), 'first');
    });

    test('lets exactly one of many simultaneous publishers of a name win', async ({ storage, reopen }) => {
      const doors = [storage, await reopen(), await reopen()];
      const tries = Array.from({ length: 24 }, (_, index) =>
        (doors[index % 3] as Storage).publish('race', Buffer.from(`writer ${index}`)).then(() => index),
      );
      const settled = await Promise.allSettled(tries);

      const winners = settled.filter((one) => one.status === 'fulfilled');
      assert.equal(winners.length, 1);
      assert.equal((await storage.read('race')).toString(), `writer ${winners[0]?.value}`);
      for (const one of settled) {
        if (one.status === 'rejected') assert.ok(isAppError(one.reason) && one.reason.code === 'STORAGE_EXISTS');
      }
    });

    test('shows nothing of a file before it is published, nor after it was discarded', async ({ storage, reopen }) => {
      const other = await reopen();
      const writer = await storage.create('packs/aa/big.pack');
      await writer.append(Buffer.from('half'));

      assert.equal(writer.lengthBytes, 4);
      assert.equal(await other.exists('packs/aa/big.pack'), false);
      assert.deepEqual(await namesOf(other, 'packs'), []);
      await writer.append([Buffer.from('-'), Buffer.from('done')]);
      await writer.publish();
      assert.equal((await other.read('packs/aa/big.pack')).toString(), 'half-done');

      const dropped = await storage.create('packs/aa/dropped.pack');
      await dropped.append(Buffer.from('x'));
      await dropped.discard();
      await dropped.discard();
      assert.equal(await other.exists('packs/aa/dropped.pack'), false);
      assert.deepEqual(await namesOf(other, '.'), ['packs/aa/big.pack']);
    });

    test('lets a buffer be changed after append has resolved', async ({ storage }) => {
      const writer = await storage.create('reused');
      const buffer = Buffer.from('aaaa');
      await writer.append(buffer);
      buffer.fill('b');
      await writer.append(buffer);
      await writer.publish();

      assert.equal((await storage.read('reused')).toString(), 'aaaabbbb');
    });

    test('lists all files below a folder with their sizes', async ({ storage, reopen }) => {
      const expected = new Map<string, number>();
      for (let index = 0; index < 300; index += 1) {
        const name = `packs/${(index % 7).toString(16)}/${index}.pack`;
        expected.set(name, index);
        await storage.publish(name, Buffer.alloc(index));
      }
      await storage.publish('packs-of-others/x', Buffer.alloc(1));
      const other = await reopen();

      const seen = new Map<string, number>();
      for await (const { name, sizeBytes, modifiedAtMs } of other.list('packs')) {
        seen.set(name, sizeBytes);
        assert.ok(Number.isFinite(modifiedAtMs));
      }
      assert.deepEqual(new Map([...seen].sort()), new Map([...expected].sort()));
      assert.deepEqual(await namesOf(other, 'packs'), [...expected.keys()].sort());
      assert.deepEqual(
        await namesOf(other, 'packs/3'),
        [...expected.keys()].filter((name) => name.startsWith('packs/3/')).sort(),
      );
      assert.deepEqual(await namesOf(other, 'nothing-here'), []);
    });

    test('removes a file, once', async ({ storage, reopen }) => {
      await storage.publish('gone', Buffer.from('x'));
      await storage.remove('gone');

      assert.equal(await (await reopen()).exists('gone'), false);
      await rejectsWith('NOT_FOUND', storage.remove('gone'));
      await storage.publish('gone', Buffer.from('again'));
      assert.equal((await storage.read('gone')).toString(), 'again');
    });

    test('removes several files, and tells which of them were there', async ({ storage, reopen }) => {
      for (const name of ['index/a', 'index/b', 'index/c', 'packs/ab/d', 'packs/cd/e']) {
        await storage.publish(name, Buffer.from(name));
      }
      const removed = await storage.removeAll(['index/a', 'packs/ab/d', 'index/none', 'none/x', 'index/c']);

      assert.deepEqual(removed.sort(), ['index/a', 'index/c', 'packs/ab/d']);
      assert.deepEqual(await namesOf(await reopen(), '.'), ['index/b', 'packs/cd/e']);
      assert.deepEqual(await storage.removeAll(removed), []);
      assert.deepEqual(await storage.removeAll([]), []);
      await storage.publish('packs/ab/d', Buffer.from('again'));
      assert.equal((await storage.read('packs/ab/d')).toString(), 'again');
      await rejectsWith('INVARIANT_BROKEN', storage.removeAll(['index/b', '../x']));
      assert.equal(await storage.exists('index/b'), true);
    });

    test('refuses to read what is not there, and more than is there', async ({ storage }) => {
      await rejectsWith('NOT_FOUND', storage.read('no/such/file'));
      await rejectsWith('NOT_FOUND', storage.sizeBytes('no-such-file'));
      await storage.publish('ten', Buffer.alloc(10));
      await rejectsWith('STORAGE_FAILED', storage.read('ten', { offsetBytes: 5, lengthBytes: 6 }));
      await rejectsWith('STORAGE_FAILED', storage.read('ten', { offsetBytes: 11, lengthBytes: 1 }));
    });

    test('refuses names that lead elsewhere', async ({ storage }) => {
      for (const name of ['../x', 'a/../b', '/etc/x', 'A', 'a//b', '', '.', 'a b', 'a/.hidden', 'é']) {
        await rejectsWith('INVARIANT_BROKEN', storage.publish(name, Buffer.alloc(1)));
      }
    });

    test('holds names as long as an encrypted share takes them, and refuses longer ones', async ({
      storage,
      reopen,
    }) => {
      const longest = 'n'.repeat(143);
      await storage.publish(`${longest}/${longest}`, Buffer.alloc(1));
      assert.deepEqual(await namesOf(await reopen(), longest), [`${longest}/${longest}`]);
      for (const name of [`${longest}n`, `${longest}n/a`, `a/${longest}n`]) {
        await rejectsWith('INVARIANT_BROKEN', storage.publish(name, Buffer.alloc(1)));
      }
    });

    test('tells the free space', async ({ storage }) => {
      assert.ok((await storage.freeBytes()) > 0);
    });

    test('says that the whole store is missing rather than that a file is', async ({ storage, takeAway }) => {
      if (takeAway === undefined) return;
      await storage.publish('a/b', Buffer.from('x'));
      await takeAway();

      await rejectsWith('STORAGE_MISSING', storage.read('a/b'));
      await rejectsWith('STORAGE_MISSING', storage.removeAll(['a/b']));
      await rejectsWith('STORAGE_MISSING', storage.exists('a/b'));
      await rejectsWith('STORAGE_MISSING', storage.publish('a/c', Buffer.from('y')));
      await rejectsWith('STORAGE_MISSING', namesOf(storage, 'a'));
      await rejectsWith('STORAGE_MISSING', namesOf(storage, 'never-was'));
    });
  });
}

export async function namesOf(storage: Storage, folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const name of storage.listNames(folder)) names.push(name);
  return names.sort();
}

export async function rejectsWith(code: ErrorCode, promise: Promise<unknown>): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(isAppError(error), `not an AppError: ${String(error)}`);
    assert.equal(error.code, code, error.message);
    return true;
  });
}

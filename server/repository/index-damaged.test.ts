import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { CHUNK, commitDisk, readByStream, request } from '../../test/fakes/small-repository.ts';
import { isAppError } from '../errors/index.ts';
import { createRepository, openRepository, type KeptRepository } from './index.ts';

interface Scene {
  storage: MemoryStorage;
  content: Buffer;
  pointId: string;
  /** As another process that has just started sees it. */
  open(): Promise<KeptRepository>;
}

/** A version that stays, one in the trash whose packs are announced to go, and a session that this waits for. */
async function withScene(body: (scene: Scene) => Promise<void>): Promise<void> {
  const storage = new MemoryStorage();
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
  const opened = [repository];
  const open = async (): Promise<KeptRepository> => {
    const one = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
    opened.push(one);
    return one;
  };
  try {
    const content = noise(1);
    const { pointId } = await commitDisk(repository, 'one', content);
    const { pointId: goneId } = await commitDisk(repository, 'two', noise(2));
    const session = await (await open()).startWrite({ sessionId: 'three' });
    const writer = await session.openDisk({ key: 'd0', sizeBytes: CHUNK, base: null });
    await writer.write(0, noise(3).subarray(0, CHUNK));
    await session.checkpoint({ delivered: CHUNK });
    await repository.deletePoint(goneId, { keepUntilMs: 0, reason: 'test' });
    assert.equal((await (await open()).collect({ patienceMs: 0 })).state, 'waiting');
    await body({ storage, content, pointId, open });
  } finally {
    for (const one of opened) await one.close();
  }
}

function noise(seed: number): Buffer {
  return createHash('shake256', { outputLength: 8 * CHUNK })
    .update(String(seed))
    .digest();
}

/** Changes a bit in the middle of each file of a folder; gives their names. */
function damage(storage: MemoryStorage, folder: string): string[] {
  const names = [...storage.disk.files.keys()].filter((name) => name.startsWith(`${folder}/`));
  assert.ok(names.length > 0, `there is something in ${folder}`);
  for (const name of names) {
    const data = storage.disk.files.get(name)?.data ?? Buffer.alloc(0);
    const middle = data.length >> 1;
    data[middle] = (data[middle] ?? 0) ^ 0x10;
  }
  return names;
}

async function contentOf(repository: KeptRepository, pointId: string): Promise<Buffer> {
  return readByStream(await (await repository.openPoint(pointId)).openDisk('d0'));
}

/** What all must hold, whatever is damaged: it is found by name, and what there is can be restored. */
async function assertReadable({ content, pointId, open }: Scene, names: readonly string[]): Promise<void> {
  const repository = await open();
  const { damages } = await repository.check({ depth: 'hashes' });
  assert.deepEqual(
    damages.map(({ code, name }) => [code, name]).sort(),
    names.map((name) => ['REPOSITORY_INDEX_DAMAGED', name]).sort(),
  );
  assert.deepEqual(
    (await repository.listPoints()).map((point) => point.pointId),
    [pointId],
  );
  assert.ok((await contentOf(repository, pointId)).equals(content));
  assert.equal((await repository.stats()).points, 1);
}

function names(code: string, name: string | undefined): (error: unknown) => boolean {
  return (error) =>
    isAppError(error) && error.code === code && error.details['name'] === name && error.hint !== undefined;
}

describe('a small file that cannot be read', () => {
  it('of the index is done without: packs tell the same', async () => {
    await withScene(async (scene) => {
      const damaged = damage(scene.storage, 'index');
      await assertReadable(scene, damaged);

      const writer = await scene.open();
      const before = (await writer.stats()).chunks;
      const { pointId } = await commitDisk(writer, 'four', scene.content);
      assert.equal((await writer.stats()).chunks, before, 'what is there is found, and not stored again');
      assert.ok((await contentOf(await scene.open(), pointId)).equals(scene.content));
    });
  });

  it('of a session stops the collector, which cannot tell what it needs', async () => {
    await withScene(async (scene) => {
      const damaged = damage(scene.storage, 'sessions');
      await assertReadable(scene, damaged);

      const files = new Set([...scene.storage.disk.files.keys()].filter((name) => name.startsWith('packs/')));
      const collector = await scene.open();
      await assert.rejects(collector.collect({ patienceMs: 0 }), names('REPOSITORY_INDEX_DAMAGED', damaged[0]));
      for (const name of files) assert.ok(scene.storage.disk.files.has(name), `${name} is still there`);
      const { pointId } = await commitDisk(await scene.open(), 'four', noise(4));
      assert.ok((await contentOf(await scene.open(), pointId)).equals(noise(4)));
    });
  });

  it('about what is to be removed stops backups and the collector, and no restore', async () => {
    await withScene(async (scene) => {
      const damaged = damage(scene.storage, 'condemned');
      await assertReadable(scene, damaged);

      const refused = names('REPOSITORY_INDEX_DAMAGED', damaged[0]);
      const before = [...scene.storage.disk.files.keys()].sort();
      await assert.rejects((await scene.open()).startWrite({ sessionId: 'four' }), refused);
      await assert.rejects((await scene.open()).collect({ patienceMs: 0 }), refused);
      assert.deepEqual([...scene.storage.disk.files.keys()].sort(), before, 'nothing was written or removed');

      // As the hint says: nothing was decided yet, so the list may go.
      scene.storage.disk.files.delete(damaged[0] ?? '');
      const { pointId } = await commitDisk(await scene.open(), 'four', noise(2));
      assert.ok((await contentOf(await scene.open(), pointId)).equals(noise(2)));
      await assertReadableAfter(scene, pointId);
    });
  });

  it('about a decision shows the version rather than hides it, keeps no other from anything, and stops the collector', async () => {
    await withScene(async (scene) => {
      const { storage, content, pointId, open } = scene;
      const { pointId: goneId } = await commitDisk(await open(), 'five', noise(5));
      await (await open()).deletePoint(goneId, { keepUntilMs: Number.MAX_SAFE_INTEGER, reason: 'test' });
      const [name = ''] = damage(storage, 'marks');
      const repository = await open();

      const listings = await repository.listPoints();
      assert.deepEqual(
        new Map(listings.map(({ pointId: id, manifest, damage }) => [id, [manifest !== null, damage?.includes(name)]])),
        new Map([
          [pointId, [true, undefined]],
          [goneId, [true, true]],
        ]),
      );
      assert.deepEqual(await repository.listTrash(), []);
      assert.ok((await contentOf(repository, goneId)).equals(noise(5)), 'its data is there, so it can be restored');
      assert.ok((await contentOf(repository, pointId)).equals(content));
      assert.deepEqual(
        (await repository.check({ depth: 'hashes' })).damages.map(({ code, name: file }) => [code, file]),
        [['REPOSITORY_INDEX_DAMAGED', name]],
      );

      const refused = names('REPOSITORY_INDEX_DAMAGED', name);
      const before = [...storage.disk.files.keys()].sort();
      await assert.rejects((await open()).collect({ patienceMs: 0 }), refused);
      for (const decide of [
        () => repository.deletePoint(goneId, { keepUntilMs: 0, reason: 'test' }),
        () => repository.restorePoint(goneId),
        () => repository.lockPoint(goneId, 1),
      ])
        await assert.rejects(decide(), refused);
      assert.deepEqual([...storage.disk.files.keys()].sort(), before, 'nothing was written or removed');

      assert.ok((await repository.lockPoint(pointId, 1)).lockedUntilMs, 'others are decided about as ever');
      const added = await commitDisk(await open(), 'four', noise(4));
      assert.equal((await (await open()).listPoints()).length, 3);
      assert.ok((await contentOf(await open(), added.pointId)).equals(noise(4)));
    });
  });

  it('about what is to be removed stops a session that began before at its commit', async () => {
    await withScene(async (scene) => {
      const writer = await scene.open();
      const session = await writer.startWrite({ sessionId: 'four' });
      const disk = await session.openDisk({ key: 'd0', sizeBytes: 8 * CHUNK, base: null });
      await disk.write(0, noise(5));
      await disk.finish();
      const damaged = damage(scene.storage, 'condemned');

      await assert.rejects(session.commit(request({})), names('REPOSITORY_INDEX_DAMAGED', damaged[0]));
      await assertReadable(scene, damaged);
    });
  });
});

async function assertReadableAfter({ content, pointId, open }: Scene, added: string): Promise<void> {
  const repository = await open();
  assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
  assert.deepEqual((await repository.listPoints()).map((point) => point.pointId).sort(), [pointId, added].sort());
  assert.ok((await contentOf(repository, pointId)).equals(content));
}

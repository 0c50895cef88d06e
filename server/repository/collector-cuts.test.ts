import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import {
  createMemoryDisk,
  errnoError,
  KilledError,
  MemoryStorage,
  type MemoryDisk,
} from '../../test/fakes/memory-storage.ts';
import { CHUNK, commitDisk, readByStream, request } from '../../test/fakes/small-repository.ts';
import { isAppError } from '../errors/index.ts';
import { createRepository, openRepository, type CollectOptions, type KeptRepository } from './index.ts';

/**
 * A collection that ends deletions, moves chunks and removes packs: cut at every single operation on the store
 * in turn, and at work beside writers that find what it wants to remove.
 */

const SIZE_BYTES = 8 * CHUNK + 99;
const NOW: CollectOptions = { patienceMs: 0 };
const AT_ONCE = { keepUntilMs: 0, reason: 'test' };

function noise(seed: number): Buffer {
  return createHash('shake256', { outputLength: SIZE_BYTES }).update(String(seed)).digest();
}

const FIRST = noise(1);
const SECOND = Buffer.concat([FIRST.subarray(0, 2 * CHUNK), noise(2).subarray(2 * CHUNK)]);
const THIRD = noise(3);

/** Three versions, of which two are to go; what the one that stays needs lies between what goes. */
async function makeDisk(): Promise<{ disk: MemoryDisk; stays: string }> {
  const disk = createMemoryDisk();
  const repository = await createRepository({ storage: new MemoryStorage(disk), chunkSizeBytes: CHUNK, threads: 0 });
  const first = await commitDisk(repository, 'one', FIRST);
  const second = await commitDisk(repository, 'two', SECOND);
  const third = await commitDisk(repository, 'three', THIRD);
  await repository.collect(NOW);
  await repository.deletePoint(first.pointId, AT_ONCE);
  await repository.deletePoint(third.pointId, AT_ONCE);
  await repository.close();
  return { disk, stays: second.pointId };
}

function copyOf(disk: MemoryDisk): MemoryDisk {
  return { ...disk, files: new Map([...disk.files].map(([name, file]) => [name, { ...file }])) };
}

async function withOpen<T>(disk: MemoryDisk, body: (repository: KeptRepository) => Promise<T>): Promise<T> {
  const repository = await openRepository({ storage: new MemoryStorage(disk), threads: 0 });
  try {
    return await body(repository);
  } finally {
    await repository.close();
  }
}

async function assertWhole(disk: MemoryDisk, stays: string): Promise<void> {
  await withOpen(disk, async (repository) => {
    assert.deepEqual(
      (await repository.listPoints()).map(({ pointId }) => pointId),
      [stays],
    );
    assert.ok((await readByStream(await (await repository.openPoint(stays)).openDisk('d0'))).equals(SECOND));
    assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
  });
}

function packBytes(disk: MemoryDisk): number {
  let bytes = 0;
  for (const [name, { data }] of disk.files) if (name.startsWith('packs/')) bytes += data.length;
  return bytes;
}

for (const [what, when, error, step] of [
  ['killed before any operation', 'before', null, 1],
  ['killed after every third operation', 'after', null, 3],
  ['told of a full disk at every third operation', 'before', 'ENOSPC', 3],
  ['told of an input/output error at every third operation', 'before', 'EIO', 3],
] as const) {
  describe(`a collection ${what}`, () => {
    it('loses nothing, and the next one brings it to its end', { timeout: 600_000 }, async () => {
      const { disk, stays } = await makeDisk();
      const whole = copyOf(disk);
      await withOpen(whole, (repository) => repository.collect(NOW));
      const goal = packBytes(whole);
      assert.ok(goal < packBytes(disk) / 2);
      let isOver = false;
      let cuts = 0;
      for (let cut = 0; !isOver; cut += step) {
        const victim = copyOf(disk);
        const storage = new MemoryStorage(victim);
        const repository = await openRepository({ storage, threads: 0 });
        const begin = storage.log.length;
        let isHit = false;
        storage.fault = (_operation, _name, count) => {
          if (count !== begin + cut) return null;
          isHit = true;
          // Dead from the next operation on; this one still has its effect when the cut is after it.
          if (error === null && when === 'after') queueMicrotask(() => storage.kill());
          else if (error === null) storage.kill();
          return error === null ? null : { when, error: errnoError(error) };
        };
        await repository.collect(NOW).catch((failure: unknown) => {
          assert.ok(failure instanceof KilledError || isAppError(failure), String(failure));
        });
        await repository.close();
        isOver = !isHit;
        cuts += 1;
        if (cut % 7 === 0) await assertWhole(victim, stays);
        await withOpen(victim, (next) => next.collect(NOW));
        await assertWhole(victim, stays);
        assert.equal(packBytes(victim), goal, `cut ${cut}`);
        assert.ok(
          [...victim.files.keys()].every((name) => !/^(condemned|marks)\//.test(name)),
          `cut ${cut}: nothing of the collection is left`,
        );
      }
      assert.ok(cuts > 50 / step, `${cuts} operations`);
    });
  });
}

describe('writers beside collections', () => {
  it('commit versions that are whole, whatever was removed meanwhile', { timeout: 600_000 }, async () => {
    const disk = createMemoryDisk();
    await (await createRepository({ storage: new MemoryStorage(disk), chunkSizeBytes: CHUNK, threads: 0 })).close();
    const expected = new Map<string, Buffer>();
    let isWriting = true;

    const write = async (writer: number): Promise<void> => {
      for (let version = 0; version < 12; version += 1) {
        await withOpen(disk, async (repository) => {
          // Few contents: each finds chunks of versions that others delete.
          const content = Buffer.concat([
            noise(100 + ((version + writer) % 3)).subarray(0, 4 * CHUNK),
            noise(200 + (version % 2)).subarray(4 * CHUNK),
          ]);
          const base = (await repository.listPoints()).at(-1);
          const from =
            version % 2 === 0 || base === undefined ? null : await repository.openPoint(base.pointId).catch(() => null);
          const session = await repository.startWrite({ sessionId: `w${writer}-${version}` });
          try {
            const disk0 = await session.openDisk({
              key: 'd0',
              sizeBytes: content.length,
              base: from === null ? null : await from.openDisk('d0'),
            });
            await disk0.write(0, Buffer.from(content.subarray(0, 3 * CHUNK)));
            await session.checkpoint({});
            await disk0.write(3 * CHUNK, Buffer.from(content.subarray(3 * CHUNK)));
            await disk0.finish();
            const { pointId } = await session.commit(request({ createdAtMs: version }));
            expected.set(pointId, content);
          } catch (error) {
            await session.abort();
            // A base that went under its hands: the engine would read everything.
            if (!isAppError(error) || !error.code.startsWith('REPOSITORY_C')) throw error;
          }
        });
      }
    };
    const collect = async (): Promise<void> => {
      while (isWriting) {
        await withOpen(disk, async (repository) => {
          const points = await repository.listPoints();
          for (const { pointId } of points.slice(0, Math.max(0, points.length - 2))) {
            expected.delete(pointId);
            await repository.deletePoint(pointId, AT_ONCE);
          }
          await repository.collect({ patienceMs: 200 });
        });
      }
    };
    const collecting = Promise.all([collect(), collect()].map((one) => one.catch((error: unknown) => error)));
    await Promise.all([write(1), write(2)]);
    isWriting = false;
    for (const error of await collecting) {
      // Of two, one may leave the rest to the other.
      assert.ok(error === undefined || (isAppError(error) && error.code === 'CONFLICT'), String(error));
    }

    assert.ok(expected.size > 0);
    await withOpen(disk, async (repository) => {
      for (const { pointId } of await repository.listPoints()) {
        const content = expected.get(pointId);
        const found = await readByStream(await (await repository.openPoint(pointId)).openDisk('d0'));
        if (content !== undefined) assert.ok(found.equals(content), pointId);
      }
      assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
      const report = await repository.collect(NOW);
      assert.equal(report.state, 'done');
    });
  });
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { errnoError, MemoryStorage, type StorageOperation } from '../../test/fakes/memory-storage.ts';
import { isAppError } from '../errors/index.ts';
import { createRepository, openRepository, type PointManifest, type Repository } from './index.ts';
import { CHUNK, commitDisk, readByStream, request, sparseContent } from '../../test/fakes/small-repository.ts';

/**
 * One write as a backup makes it (base, checkpoint, resume, files, commit), cut at every single storage
 * operation in turn. After each cut: what was committed is there, the next try ends well, what it
 * restores is right, and a check finds nothing.
 */

const SIZE_BYTES = 9 * CHUNK + 500;
const OLD = sparseContent(SIZE_BYTES, 1);
const NEW = Buffer.concat([sparseContent(6 * CHUNK, 2), OLD.subarray(6 * CHUNK)]);

interface Scene {
  storage: MemoryStorage;
  first: PointManifest;
}

async function makeScene(): Promise<Scene> {
  const storage = new MemoryStorage();
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
  const first = await commitDisk(repository, 'first', OLD);
  await repository.close();
  return { storage, first };
}

async function backup(repository: Repository, first: PointManifest): Promise<PointManifest> {
  const base = await (await repository.openPoint(first.pointId)).openDisk('d0');
  const session = await repository.startWrite({ sessionId: 'second' });
  try {
    const writer = await session.openDisk({ key: 'd0', sizeBytes: SIZE_BYTES, base });
    const delivered = writer.resumed ? (session.checkpointFacts as { delivered: number }).delivered : 0;
    const half = 3 * CHUNK + 77;
    if (delivered < half) {
      await writer.write(0, Buffer.from(NEW.subarray(0, half)));
      await session.checkpoint({ delivered: half });
    }
    await writer.write(half, Buffer.from(NEW.subarray(half, 6 * CHUNK)));
    await writer.finish();
    const files = [{ name: 'vm.vmx', kind: 'vmx', content: Buffer.from('memsize = "512"') }];
    return await session.commit(request({ previousPointId: first.pointId, files, createdAtMs: 1_800_000_000_000 }));
  } catch (error) {
    await session.abort();
    throw error;
  }
}

/** The bytes of every listed point that is complete, and that no other point is listed. */
async function assertWhole(storage: MemoryStorage, expectNew: boolean): Promise<void> {
  const repository = await openRepository({ storage, threads: 0 });
  try {
    const contents: Buffer[] = [];
    for (const { manifest, damage } of await repository.listPoints()) {
      assert.equal(damage, null);
      assert.ok(manifest !== null);
      contents.push(await readByStream(await (await repository.openPoint(manifest.pointId)).openDisk('d0')));
    }
    assert.ok(contents[0]?.equals(OLD), 'the committed version is as it was');
    for (const content of contents.slice(1)) assert.ok(content.equals(NEW));
    if (expectNew) assert.ok(contents.length >= 2);
    const report = await repository.check({ depth: 'hashes' });
    assert.deepEqual(report.damages, []);
  } finally {
    await repository.close();
  }
}

async function operationsOfOneBackup(): Promise<StorageOperation[]> {
  const { storage, first } = await makeScene();
  const door = new MemoryStorage(storage.disk);
  const repository = await openRepository({ storage: door, threads: 0 });
  await backup(repository, first);
  await repository.close();
  return door.log.map(({ operation }) => operation);
}

const FAULTS = {
  'its process is killed before': { kill: 'before' },
  'its process is killed right after': { kill: 'after' },
  'the disk reports an error': { errno: 'EIO', when: 'before' },
  'the answer is lost': { errno: 'EIO', when: 'after' },
  'the volume is full': { errno: 'ENOSPC', when: 'before' },
} as const;

describe('a backup that is cut at any storage operation', () => {
  for (const [label, fault] of Object.entries(FAULTS)) {
    it(`loses nothing and goes on when ${label}`, async () => {
      const operations = await operationsOfOneBackup();
      assert.ok(operations.length > 20);
      let failures = 0;
      for (let cut = 0; cut < operations.length; cut += 1) {
        const { storage, first } = await makeScene();
        const door = new MemoryStorage(storage.disk);
        door.fault = (operation, _, count) => {
          if (count !== cut) return null;
          if ('errno' in fault) {
            const isWrite = operation !== 'read' && operation !== 'list';
            return fault.errno === 'ENOSPC' && !isWrite ? null : { when: fault.when, error: errnoError(fault.errno) };
          }
          if (fault.kill === 'before') {
            door.kill();
            return null;
          }
          return { when: 'after', error: killAfter(door) };
        };
        const outcome = await tryBackup(door, first);
        if (outcome instanceof Error) {
          failures += 1;
          if (!('kill' in fault)) assert.ok(isAppError(outcome), `operation ${cut}: ${String(outcome)}`);
          if ('errno' in fault && fault.errno === 'ENOSPC')
            assert.equal((outcome as { code?: string }).code, 'STORAGE_FULL');
        }

        await assertWhole(storage, !(outcome instanceof Error));
        const again = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
        await backup(again, first);
        await again.close();
        await assertWhole(storage, true);
      }
      assert.ok(failures > 5, `${failures} of ${operations.length} cuts were felt`);
    });
  }
});

async function tryBackup(door: MemoryStorage, first: PointManifest): Promise<PointManifest | Error> {
  let repository: Repository | null = null;
  try {
    repository = await openRepository({ storage: door, threads: 0 });
    return await backup(repository, first);
  } catch (error) {
    assert.ok(error instanceof Error);
    return error;
  } finally {
    await repository?.close();
  }
}

function killAfter(door: MemoryStorage): Error {
  door.kill();
  return new Error('killed');
}

describe('a volume that fills up', () => {
  it('ends the run with STORAGE_FULL, and the next one goes on once there is room', async () => {
    const { storage, first } = await makeScene();
    let used = 0;
    for (const { data } of storage.disk.files.values()) used += data.length;
    storage.disk.capacityBytes = used + 3_000;
    const full = await tryBackup(new MemoryStorage(storage.disk), first);

    assert.ok(isAppError(full));
    assert.equal(full.code, 'STORAGE_FULL');
    assert.ok((full.hint ?? '').length > 0);
    await assertWhole(storage, false);

    storage.disk.capacityBytes = Number.MAX_SAFE_INTEGER;
    const done = await tryBackup(new MemoryStorage(storage.disk), first);
    assert.ok(!(done instanceof Error));
    await assertWhole(storage, true);
  });
});

describe('a store on which nothing can be removed', () => {
  it('takes points all the same', async () => {
    const { storage, first } = await makeScene();
    const door = new MemoryStorage(storage.disk);
    door.fault = (operation) => (operation === 'remove' ? { when: 'before', error: errnoError('EPERM') } : null);
    for (let count = 0; count < 2; count += 1) assert.ok(!((await tryBackup(door, first)) instanceof Error));

    await assertWhole(storage, true);
  });
});

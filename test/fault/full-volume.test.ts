import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { appendFile, mkdir, mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { isAppError } from '../../server/errors/index.ts';
import { createRepository } from '../../server/repository/index.ts';
import { MIB } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { CHUNK, commitDisk, readByStream } from '../fakes/small-repository.ts';

const run = promisify(execFile);
const skip = process.getuid?.() === 0 ? false : 'mounting takes root';
const NOW = { patienceMs: 0 };

function noise(seed: number): Buffer {
  return createHash('shake256', { outputLength: 3 * MIB })
    .update(String(seed))
    .digest();
}

/** As another program fills the volume that the repository lies on, to the last byte. */
async function fillUp(file: string): Promise<void> {
  try {
    for (;;) await appendFile(file, Buffer.alloc(4096, 1));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
  }
}

test('on a volume without a byte left, versions can be deleted and the clean-up makes room', { skip }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'dozo-full-'));
  await run('mount', ['-t', 'tmpfs', '-o', 'size=40m', 'dozo-full', folder]);
  try {
    const path = join(folder, 'repository');
    await mkdir(path);
    const freeBytes = async (): Promise<number> => {
      const { bavail, bsize } = await statfs(path);
      return bavail * bsize;
    };
    const storage = await openLocalStorage({ folder: path });
    const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
    const pointIds: string[] = [];
    for (let version = 0; version < 4; version += 1) {
      const { pointId } = await commitDisk(repository, `v${version}`, noise(version), { createdAtMs: version });
      pointIds.push(pointId);
    }
    await repository.collect(NOW);
    await fillUp(join(folder, 'foreign'));
    assert.equal(await freeBytes(), 0);

    await assert.rejects(
      commitDisk(repository, 'more', noise(9)),
      (error) => isAppError(error) && error.code === 'STORAGE_FULL',
    );
    for (const pointId of pointIds.slice(1)) await repository.deletePoint(pointId, { keepUntilMs: 0, reason: 'room' });
    const { purgedPoints } = await repository.collect({ ...NOW, sessionSilenceMs: 0 });

    assert.deepEqual(purgedPoints.sort(), pointIds.slice(1).sort());
    assert.ok((await freeBytes()) > 8 * MIB, `${await freeBytes()} bytes free`);
    const disk = await (await repository.openPoint(pointIds[0] ?? '')).openDisk('d0');
    assert.ok((await readByStream(disk)).equals(noise(0)));
    assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
    await repository.close();
  } finally {
    await run('umount', ['-l', folder]);
    await rm(folder, { recursive: true });
  }
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { CHUNK, commitDisk, sparseContent } from '../../test/fakes/small-repository.ts';
import { createSealer } from '../queue/index.ts';
import { createRepository } from '../repository/index.ts';
import { silentLogger, systemClock } from '../runtime/index.ts';
import { openLocalStorage } from '../storage/index.ts';
import { createDiskDownloads } from './disk-downloads.ts';

it('tells which versions are being read, for as long as they are', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'dozo-downloads-'));
  try {
    const storage = await openLocalStorage({ folder });
    const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
    const content = sparseContent(20 * CHUNK, 4);
    const { pointId } = await commitDisk(repository, 'one', content);
    await repository.close();
    const downloads = createDiskDownloads({
      sealer: createSealer(randomBytes(32)),
      clock: systemClock,
      logger: silentLogger,
    });
    const download = await downloads.open({ path: folder }, pointId, 'd0');
    assert.deepEqual([downloads.readPoints(folder), downloads.readPoints('/elsewhere')], [[pointId], []]);
    const pieces: Buffer[] = [];
    for await (const piece of download.bytes(new AbortController().signal)) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(content));
    await download.close();
    assert.deepEqual(downloads.readPoints(folder), []);
    await assert.rejects(downloads.open({ path: folder }, pointId, 'no such disk'));
    assert.deepEqual(downloads.readPoints(folder), []);
  } finally {
    await rm(folder, { recursive: true });
  }
});

it('opens a repository once for all who read from it, with one index in memory', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'dozo-downloads-'));
  try {
    const storage = await openLocalStorage({ folder });
    const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
    const { pointId } = await commitDisk(repository, 'one', sparseContent(20 * CHUNK, 4));
    const sealer = createSealer(randomBytes(32));
    const downloads = createDiskDownloads({ sealer, clock: systemClock, logger: silentLogger });
    const first = await downloads.open({ path: folder }, pointId, 'd0');
    // Made since it was opened.
    const content = sparseContent(20 * CHUNK, 5);
    const later = await commitDisk(repository, 'two', content);
    await repository.close();

    // Without its header a repository can be opened by nobody.
    await rename(join(folder, 'repository.dozo'), join(folder, 'away'));
    const second = await downloads.open({ path: folder }, later.pointId, 'd0');
    await first.close();
    const pieces: Buffer[] = [];
    for await (const piece of second.bytes(new AbortController().signal)) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(content));
    await second.close();
    await assert.rejects(downloads.open({ path: folder }, pointId, 'd0'), { code: 'REPOSITORY_NOT_FOUND' });
  } finally {
    await rm(folder, { recursive: true });
  }
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { createSealer } from '../queue/index.ts';
import { createRepository } from '../repository/index.ts';
import { silentLogger, systemClock } from '../runtime/index.ts';
import { openLocalStorage } from '../storage/index.ts';
import { createDiskDownloads } from './disk-downloads.ts';
import { SharedRepositories } from './shared-repositories.ts';

const folder = await mkdtemp(join(tmpdir(), 'dozo-shared-'));
after(() => rm(folder, { recursive: true, force: true }));

const parts = { sealer: createSealer(randomBytes(32)), clock: systemClock, logger: silentLogger };

async function make(name: string): Promise<string> {
  const path = await mkdtemp(join(folder, name));
  const repository = await createRepository({ storage: await openLocalStorage({ folder: path }), threads: 0 });
  await repository.close();
  return path;
}

it('does nothing to another repository at the path of the one that is meant', async () => {
  const [path, other] = [await make('first'), await make('second')];
  const shared = new SharedRepositories(parts);
  const formatId = await shared.use({ path }, (repository) => Promise.resolve(repository.id));
  assert.equal(await shared.use({ path, formatId }, (repository) => Promise.resolve(repository.id)), formatId);

  // Two USB disks that take turns.
  await rename(path, `${path}-unplugged`);
  await rename(other, path);
  let wasUsed = false;
  const use = shared.use({ path, formatId }, () => {
    wasUsed = true;
    return Promise.resolve();
  });
  await assert.rejects(use, { code: 'REPOSITORY_EXCHANGED' });
  assert.equal(wasUsed, false);
  const download = createDiskDownloads(parts).open({ path, formatId }, '20260101t000000z-0000000000000000', 'scsi0:0');
  await assert.rejects(download, { code: 'REPOSITORY_EXCHANGED' });

  // A task of the other one, which is open already for somebody, and of the one that is meant, at once.
  await shared.use({ path }, async () => {
    await assert.rejects(
      shared.use({ path, formatId }, () => Promise.resolve()),
      { code: 'REPOSITORY_EXCHANGED' },
    );
  });
});

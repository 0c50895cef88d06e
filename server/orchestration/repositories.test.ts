import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import type { PointsResult } from '../contract/task-result.ts';
import type { WorkerTask } from '../contract/task.ts';
import { openCatalogue, type Catalogue } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { createSealer, type TaskQueue } from '../queue/index.ts';
import { silentLogger, systemClock } from '../runtime/index.ts';
import { EventHub } from './event-hub.ts';
import { RepositoryKeyService } from './repository-keys.ts';
import { RepositoryService } from './repositories.ts';

const ID = '00000000000000c1';
const CONTENT: PointsResult = {
  formatId: 'f0',
  chunkSizeBytes: 262_144,
  stats: { points: 0, packs: 0, chunks: 0, storedBytes: 0, nominalBytes: 0 },
  points: [],
};

const folder = await mkdtemp(join(tmpdir(), 'dozo-repositories-'));
after(() => rm(folder, { recursive: true, force: true }));

/** A repository that is known, and a worker that answers as `work` says. */
async function openScene(
  work: (task: WorkerTask) => Promise<PointsResult>,
): Promise<{ catalogue: Catalogue; repositories: RepositoryService }> {
  const catalogue = await openCatalogue(join(folder, `${randomBytes(6).toString('hex')}.sqlite`));
  await catalogue.repositories.save({
    ...{ id: ID, name: 'main', path: '/volumeUSB1/dozo', formatId: 'f0', chunkSizeBytes: 262_144 },
    ...{ stats: null, error: null, seenAtMs: null, createdAtMs: 0 },
  });
  const context = {
    catalogue,
    queue: { request: work } as unknown as TaskQueue,
    sealer: createSealer(randomBytes(32)),
    events: new EventHub(),
    clock: systemClock,
    logger: silentLogger,
  };
  return { catalogue, repositories: new RepositoryService(context, new RepositoryKeyService(context)) };
}

const MISSING = new AppError('STORAGE_MISSING', 'The folder /volumeUSB1/dozo is not there.');

for (const [how, answer] of [
  ['fails', () => Promise.reject(MISSING)],
  ['ends', () => Promise.resolve(CONTENT)],
] as const) {
  it(`keeps a path that was set right while the look at the old one ${how}`, async () => {
    let change = (): Promise<void> => Promise.resolve();
    const { catalogue, repositories } = await openScene(async () => {
      await change();
      return answer();
    });
    change = () => repositories.change(ID, { path: '/volume1/dozo' });

    await repositories.refresh(ID).catch((error: unknown) => assert.equal(error, MISSING));
    const now = await catalogue.repositories.load(ID);
    assert.equal(now?.path, '/volume1/dozo');
    // Neither what is missing there nor what was seen there says anything of the new place.
    assert.deepEqual([now.error, now.seenAtMs], [null, null]);
  });

  it(`leaves a repository forgotten that was removed while a look at it ${how}`, async () => {
    let remove = (): Promise<void> => Promise.resolve();
    const { catalogue, repositories } = await openScene(async () => {
      await remove();
      return answer();
    });
    remove = () => repositories.remove(ID);

    await repositories.refresh(ID).catch((error: unknown) => assert.equal(error, MISSING));
    assert.deepEqual(await catalogue.repositories.list(), []);
  });
}

it('has the repository that was added looked at, and no other one at its path', async () => {
  const tasks: WorkerTask[] = [];
  const { repositories } = await openScene(async (task) => {
    tasks.push(task);
    return CONTENT;
  });
  await repositories.refresh(ID);
  assert.deepEqual(tasks, [{ kind: 'points', repository: { path: '/volumeUSB1/dozo', formatId: 'f0' } }]);
});

it('looks once more for all who asked during a look, and anew for whoever asks after that has begun', async () => {
  let looks = 0;
  let ask = (): void => undefined;
  const { repositories } = await openScene(async () => {
    looks += 1;
    if (looks < 3) ask();
    return { ...CONTENT, formatId: `look ${looks}` };
  });
  const asked: Promise<PointsResult>[] = [];
  ask = () => void asked.push(...Array.from({ length: 20 }, () => repositories.refresh(ID)));
  const first = await repositories.refresh(ID);
  while (asked.length < 40) await asked.at(-1);
  const seen = [first, ...(await Promise.all(asked))].map(({ formatId }) => formatId);
  assert.equal(looks, 3);
  assert.deepEqual(seen, ['look 1', ...Array(20).fill('look 2'), ...Array(20).fill('look 3')]);
});

it('looks anew after a look that failed, for those who asked meanwhile too', async () => {
  let looks = 0;
  const { repositories } = await openScene(() => {
    looks += 1;
    return looks === 1 ? Promise.reject(MISSING) : Promise.resolve(CONTENT);
  });
  const [first, ...later] = await Promise.allSettled([1, 2, 3].map(() => repositories.refresh(ID)));
  assert.equal(first?.status, 'rejected');
  assert.deepEqual(
    later.map(({ status }) => status),
    ['fulfilled', 'fulfilled'],
  );
  assert.equal(looks, 2);
});

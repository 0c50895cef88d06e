import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createRepository, openRepository, type Repository } from '../../server/repository/index.ts';
import type { Clock } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { CHUNK, commitDisk, readByStream, sparseContent } from '../fakes/small-repository.ts';
import { fingerprint, PowerCutLife, type LifeTally } from './power-cut-life.ts';
import { PowerCutFileSystem } from './power-cut-file-system.ts';
import { RandomSource } from './random-source.ts';

/**
 * Replay: DOZO_SEED=<the seed printed> DOZO_POWER_CUTS=10 node --test test/fault/power-cut.test.ts
 * Long: DOZO_POWER_CUTS=100000
 */
const CUTS = Number(process.env['DOZO_POWER_CUTS'] ?? 1_000);
const FIRST_SEED = Number(process.env['DOZO_SEED'] ?? 1);
const CUTS_A_LIFE = 10;

const CLOCK: Clock = { nowMs: () => 1_000_000, monotonicMs: () => 0, sleep: async () => undefined };

const files = new PowerCutFileSystem('/nas/share', new RandomSource(0));

async function liveOnce(seed: number, tally: LifeTally): Promise<void> {
  const random = new RandomSource(seed);
  files.format(new RandomSource(seed + 0x5eed));
  await new PowerCutLife(files, random, tally).live(CUTS_A_LIFE);
}

describe('a repository whose power fails again and again', () => {
  before(() => files.install());
  after(() => files.uninstall());

  it('is the same for the same seed, so that a failure can be replayed', async () => {
    const runs: string[] = [];
    for (let turn = 0; turn < 2; turn += 1) {
      await liveOnce(FIRST_SEED + 77, { cuts: 0, errors: 0, lies: 0, commits: 0, resumed: 0 });
      runs.push(fingerprint(files));
    }
    assert.equal(runs[0], runs[1]);
  });

  it('takes several files away for good, with one sync a folder', async () => {
    files.format(new RandomSource(4));
    const storage = await openLocalStorage({ folder: files.root, clock: CLOCK });
    const names = ['index/a', 'index/b', 'index/c', 'packs/aa/d', 'packs/bb/e', 'packs/bb/f'];
    for (const name of names) await storage.publish(name, Buffer.from(name));
    let syncs = 0;
    files.plan = (operation) => {
      if (operation === 'sync') syncs += 1;
      return null;
    };

    assert.deepEqual(await storage.removeAll(names.slice(1)), names.slice(1));

    files.plan = () => null;
    assert.equal(syncs, 3);
    files.cutPower('none');
    const left = [...files.files().keys()].filter((name) => !name.startsWith('tmp/'));
    assert.deepEqual(left, ['index/a']);
  });

  it('keeps what is built on names that a killed process had not synced', async () => {
    for (const folder of ['packs/', 'points']) {
      files.format(new RandomSource(3));
      const open = async (): Promise<Repository> =>
        openRepository({
          storage: await openLocalStorage({ folder: files.root, clock: CLOCK }),
          clock: CLOCK,
          threads: 0,
        });
      const storage = await openLocalStorage({ folder: files.root, clock: CLOCK });
      const killed = await createRepository({ storage, clock: CLOCK, threads: 0, chunkSizeBytes: CHUNK });
      // The name is there; the process dies before it syncs the folder.
      let isDead = false;
      files.plan = (operation, _count, name) => {
        isDead ||= operation === 'open' && name.startsWith(folder) && !name.includes('.');
        return isDead ? 'EIO' : null;
      };
      const content = sparseContent(6 * CHUNK, 5);
      await assert.rejects(commitDisk(killed, 'same', content), { code: 'STORAGE_FAILED' });
      assert.ok(
        [...files.files().keys()].some((name) => name.startsWith(folder)),
        'the name is seen',
      );
      files.powerOn();

      const next = await open();
      const there = (await next.listPoints())[0]?.pointId;
      const { pointId } = there === undefined ? await commitDisk(next, 'same', content) : { pointId: there };
      await next.close();
      files.cutPower('none');
      files.powerOn();

      const after = await open();
      const disk = await (await after.openPoint(pointId)).openDisk('d0');
      assert.ok((await readByStream(disk)).equals(content), `after a cut beyond ${folder}`);
      assert.deepEqual((await after.check({ depth: 'hashes' })).damages, []);
      await after.close();
    }
  });

  it(`loses nothing that was committed in ${CUTS} failures`, async (t) => {
    const tally: LifeTally = { cuts: 0, errors: 0, lies: 0, commits: 0, resumed: 0 };
    for (let seed = FIRST_SEED; tally.cuts < CUTS; seed += 1) {
      // A long run is looked at from time to time.
      if (CUTS > 10_000 && tally.cuts % 500 === 0) process.stderr.write(`${JSON.stringify({ seed, ...tally })}\n`);
      try {
        await liveOnce(seed, tally);
      } catch (error) {
        throw new Error(`DOZO_SEED=${seed} DOZO_POWER_CUTS=${CUTS_A_LIFE} finds it again`, { cause: error });
      }
    }
    t.diagnostic(JSON.stringify(tally));
    assert.ok(tally.commits > tally.cuts / 10, 'versions were committed between the failures');
    assert.ok(tally.errors > 0 && tally.resumed > 0, 'faults and resumed sessions were among them');
  });
});

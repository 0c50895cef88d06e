/**
 * Goal: what two repositories hold of each other survives whatever people, rules and disks do to them in any order:
 * versions committed, deleted, brought back and locked, clean-ups (also with a clock that was set forward), copies in
 * both directions, packs lost or damaged, checks that note it.
 *
 * Method: random steps over two repositories in memory. Only one of them is harmed, until a copy back has healed it. In
 * the end every version that was not deleted for good is there and is compared. `DOZO_SEED` replays a failure,
 * `DOZO_SEQUENCES` sets how many are tried.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { copyPoints, createRepository, openRepository, type KeptRepository } from '../../server/repository/index.ts';
import { isAppError } from '../../server/errors/index.ts';
import type { Clock } from '../../server/runtime/index.ts';
import { MemoryStorage } from '../fakes/memory-storage.ts';
import { CHUNK, commitDisk, readByStream, sparseContent } from '../fakes/small-repository.ts';

const SEQUENCES = Number(process.env['DOZO_SEQUENCES'] ?? 6);
const SEED = Number(process.env['DOZO_SEED'] ?? 1);
const STEPS = 25;
const DAY_MS = 86_400_000;
const SIZE = 9 * CHUNK + 321;

class HandClock implements Clock {
  atMs = Date.parse('2026-03-01T00:00:00Z');
  nowMs = (): number => this.atMs;
  monotonicMs = (): number => this.atMs;
  sleep(ms: number): Promise<void> {
    this.atMs += ms;
    return Promise.resolve();
  }
}

/** A small generator with a seed (mulberry32). */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) % below;
  };
}

class Sequence {
  readonly #random: (below: number) => number;
  readonly #clock = new HandClock();
  readonly #storages = [new MemoryStorage(), new MemoryStorage()] as const;
  /** By what the version shows: its time. */
  readonly #contents = new Map<number, Buffer>();
  /** Versions whose time in the trash may have ended, by repository; nobody asks for those. */
  readonly #given = [new Set<number>(), new Set<number>()] as const;
  readonly told: string[] = [];
  #harmed = false;
  #count = 0;

  constructor(seed: number) {
    this.#random = generator(seed);
  }

  async run(): Promise<void> {
    for (const [index, storage] of this.#storages.entries()) {
      const passphrase = index === 1 && this.#random(2) === 0 ? { passphrase: 'the second one' } : {};
      const clock = this.#clock;
      await (await createRepository({ storage, clock, chunkSizeBytes: CHUNK, threads: 0, ...passphrase })).close();
      this.#secrets.push(passphrase);
    }
    await this.#with(0, (main) => this.#commit(main));
    for (let step = 0; step < STEPS; step += 1) await this.#step();
    await this.#copy(0, 1);
    await this.#heal();
    for (const which of [0, 1] as const) await this.#assertWhole(which);
  }

  readonly #secrets: { passphrase?: string }[] = [];

  async #with<T>(which: 0 | 1, work: (repository: KeptRepository) => Promise<T>): Promise<T> {
    const storage = new MemoryStorage(this.#storages[which].disk);
    const repository = await openRepository({ storage, clock: this.#clock, threads: 0, ...this.#secrets[which] });
    try {
      return await work(repository);
    } finally {
      await repository.close();
    }
  }

  async #step(): Promise<void> {
    this.#clock.atMs += this.#random(20) * 3_600_000;
    const which = this.#random(2) as 0 | 1;
    const kind = this.#random(10);
    this.told.push(`${kind} in ${which}`);
    // A version that lacks something is not to be built on by this test's own commits.
    if (kind < 2) return this.#harmed ? undefined : this.#with(0, (main) => this.#commit(main));
    // The one that heals is not emptied by hand meanwhile.
    if (kind === 2)
      return this.#harmed && which !== this.#harmedOne
        ? undefined
        : this.#with(which, (repository) => this.#delete(which, repository));
    if (kind === 3) return this.#with(which, (repository) => this.#bringBack(repository));
    if (kind === 4) return this.#with(which, (repository) => this.#lock(repository));
    if (kind === 5) return this.#with(which, (repository) => this.#collect(repository));
    if (kind === 6) return this.#copy(0, 1);
    if (kind === 7) return this.#heal();
    if (kind === 8) return this.#harm(which);
    await this.#with(which, (repository) => repository.check({ depth: 'hashes', noteDamage: true }));
  }

  async #commit(main: KeptRepository): Promise<void> {
    this.#count += 1;
    const listed = (await main.listPoints()).filter(({ manifest }) => manifest !== null);
    const former = listed.at(-1)?.manifest ?? null;
    const content = Buffer.from(this.#contents.get(former?.createdAtMs ?? 0) ?? sparseContent(SIZE, 1));
    sparseContent(2 * CHUNK, this.#count % 5).copy(content, this.#random(7) * CHUNK);
    const createdAtMs = 1000 + this.#count;
    const base = former === null ? null : await (await main.openPoint(former.pointId)).openDisk('d0');
    const part = { createdAtMs, previousPointId: former?.pointId ?? null };
    await commitDisk(main, `session-${this.#count}`, content, part, base);
    this.#contents.set(createdAtMs, content);
  }

  async #delete(which: 0 | 1, repository: KeptRepository): Promise<void> {
    const listed = await repository.listPoints();
    const chosen = listed[this.#random(Math.max(1, listed.length))];
    if (chosen === undefined || chosen.manifest === null) return;
    const keepDays = this.#random(3);
    try {
      await repository.deletePoint(chosen.pointId, {
        keepUntilMs: this.#clock.atMs + keepDays * DAY_MS,
        reason: 'a step',
      });
      this.#given[which].add(chosen.manifest.createdAtMs);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'POINT_LOCKED') throw error;
    }
  }

  async #bringBack(repository: KeptRepository): Promise<void> {
    const trash = await repository.listTrash();
    const chosen = trash[this.#random(Math.max(1, trash.length))];
    if (chosen !== undefined) await repository.restorePoint(chosen.pointId);
  }

  async #lock(repository: KeptRepository): Promise<void> {
    const listed = await repository.listPoints();
    const chosen = listed[this.#random(Math.max(1, listed.length))];
    if (chosen !== undefined) await repository.lockPoint(chosen.pointId, this.#clock.atMs + DAY_MS);
  }

  async #collect(repository: KeptRepository): Promise<void> {
    const clockAheadMs = this.#random(2) * 50 * DAY_MS;
    this.#clock.atMs += clockAheadMs;
    try {
      await repository.collect({ patienceMs: 0, liveShareMin: this.#random(2), clockAheadMs });
    } catch (error) {
      // A page is lost: nothing is removed then.
      if (!this.#harmed || !isAppError(error) || !error.code.startsWith('REPOSITORY_')) throw error;
    }
    this.#clock.atMs -= clockAheadMs;
  }

  async #copy(from: 0 | 1, to: 0 | 1): Promise<void> {
    await this.#with(from, (source) =>
      this.#with(to, async (target) => {
        const report = await copyPoints({
          ...{ source, target, pointIds: null, signal: new AbortController().signal },
          ...{ begin: () => undefined, progress: () => undefined },
        });
        if (!this.#harmed) assert.deepEqual(report.failed, []);
      }),
    );
  }

  /** The other one has all that the harmed one lacks. */
  async #heal(): Promise<void> {
    const harmed = this.#harmedOne;
    if (harmed === null) return;
    await this.#copy(harmed === 0 ? 1 : 0, harmed);
    this.#harmedOne = null;
    this.#harmed = false;
    await this.#with(harmed, async (repository) => {
      const broken = await repository.findBroken((await repository.listPoints()).map(({ pointId }) => pointId));
      assert.deepEqual([...broken], [], 'the copy has healed what it could');
    });
  }

  #harmedOne: 0 | 1 | null = null;

  /** Both have everything before one of them loses some. */
  async #harm(which: 0 | 1): Promise<void> {
    if (this.#harmed) return;
    for (const one of [0, 1] as const) {
      await this.#with(one, async (repository) => {
        for (const { pointId } of await repository.listTrash()) await repository.restorePoint(pointId);
      });
    }
    await this.#copy(0, 1);
    await this.#copy(1, 0);
    const { files } = this.#storages[which].disk;
    const packs = [...files.keys()].filter((name) => name.endsWith('.pack'));
    const name = packs[this.#random(packs.length)];
    if (name === undefined) return;
    this.#harmed = true;
    this.#harmedOne = which;
    const file = files.get(name);
    if (this.#random(2) === 0) files.delete(name);
    else if (file !== undefined) {
      file.data[70] = (file.data[70] as number) ^ 1;
      await this.#with(which, (repository) => repository.check({ depth: 'hashes', noteDamage: true }));
    }
  }

  async #assertWhole(which: 0 | 1): Promise<void> {
    await this.#with(which, async (repository) => {
      const there = new Set<number>();
      for (const { pointId, manifest, damage } of await repository.listPoints()) {
        assert.equal(damage, null);
        assert.ok(manifest !== null);
        there.add(manifest.createdAtMs);
        const content = this.#contents.get(manifest.createdAtMs);
        assert.ok(content !== undefined);
        const point = await repository.openPoint(pointId);
        assert.ok((await readByStream(await point.openDisk('d0'))).equals(content), `${pointId} differs`);
      }
      if (which === 0) {
        for (const createdAtMs of this.#contents.keys()) {
          assert.ok(there.has(createdAtMs) || this.#given[0].has(createdAtMs), `version ${createdAtMs} is lost`);
        }
      }
      this.#clock.atMs += 100 * DAY_MS;
      assert.equal((await repository.collect({ patienceMs: 0 })).state, 'done');
      assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
    });
  }
}

test(`${SEQUENCES} random lives of two repositories lose nothing (from seed ${SEED})`, async () => {
  for (let seed = SEED; seed < SEED + SEQUENCES; seed += 1) {
    const sequence = new Sequence(seed);
    try {
      await sequence.run();
    } catch (error) {
      console.error(`DOZO_SEED=${seed} DOZO_SEQUENCES=1 replays: ${sequence.told.join(', ')}`);
      throw error;
    }
  }
});

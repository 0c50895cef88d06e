import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { errnoError, MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { CHUNK, commitDisk, readByStream, request, sparseContent } from '../../test/fakes/small-repository.ts';
import { isAppError } from '../errors/index.ts';
import type { Clock } from '../runtime/index.ts';
import { createRepository, openRepository, type CollectOptions, type KeptRepository } from './index.ts';

const DAY_MS = 86_400_000;
const SIZE_BYTES = 20 * CHUNK + 77;

class HandClock implements Clock {
  atMs = Date.parse('2026-03-01T00:00:00Z');
  nowMs = (): number => this.atMs;
  monotonicMs = (): number => this.atMs;
  sleep(ms: number): Promise<void> {
    this.atMs += ms;
    return Promise.resolve();
  }
}

interface Scene {
  storage: MemoryStorage;
  clock: HandClock;
  repository: KeptRepository;
  open(): Promise<KeptRepository>;
}

async function withScene(body: (scene: Scene) => Promise<void>): Promise<void> {
  const storage = new MemoryStorage();
  const clock = new HandClock();
  const repository = await createRepository({ storage, clock, chunkSizeBytes: CHUNK, threads: 0 });
  const opened = [repository];
  const open = async (): Promise<KeptRepository> => {
    const another = await openRepository({ storage: new MemoryStorage(storage.disk), clock, threads: 0 });
    opened.push(another);
    return another;
  };
  try {
    await body({ storage, clock, repository, open });
    assert.deepEqual((await (await open()).check({ depth: 'hashes' })).damages, []);
  } finally {
    for (const one of opened) await one.close();
  }
}

const NOW: CollectOptions = { patienceMs: 0 };
const AT_ONCE = { keepUntilMs: 0, reason: 'test' };

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => isAppError(error) && error.code === code;
}

function packBytes(storage: MemoryStorage): number {
  let bytes = 0;
  for (const [name, { data }] of storage.disk.files) if (name.startsWith('packs/')) bytes += data.length;
  return bytes;
}

/** Noise: what a version of it stores is its own, and takes its room. */
function ownContent(seed: number): Buffer {
  return createHash('shake256', { outputLength: SIZE_BYTES }).update(String(seed)).digest();
}

async function contentOf(repository: KeptRepository, pointId: string): Promise<Buffer> {
  return readByStream(await (await repository.openPoint(pointId)).openDisk('d0'));
}

describe('a deleted version', () => {
  it('is collected with small files read several at a time, and not too many', async () => {
    await withScene(async ({ storage, clock, repository }) => {
      const points: string[] = [];
      for (let seed = 0; seed < 12; seed += 1) {
        points.push((await commitDisk(repository, `v${seed}`, ownContent(seed))).pointId);
      }
      await repository.deletePoint(points[5] ?? '', AT_ONCE);

      const slow = new MemoryStorage(storage.disk);
      const read = slow.read.bind(slow);
      const running = new Map<string, number>();
      const most = new Map<string, number>();
      slow.read = async (name, range) => {
        const folder = name.split('/')[0] ?? '';
        const now = (running.get(folder) ?? 0) + 1;
        running.set(folder, now);
        most.set(folder, Math.max(now, most.get(folder) ?? 0));
        await turn();
        running.set(folder, (running.get(folder) ?? 0) - 1);
        return read(name, range);
      };
      const other = await openRepository({ storage: slow, clock, threads: 0 });
      try {
        assert.deepEqual((await other.collect(NOW)).purgedPoints, [points[5]]);
      } finally {
        await other.close();
      }
      for (const folder of ['index', 'points']) {
        const count = most.get(folder) ?? 0;
        assert.ok(count > 1 && count <= 8, `${count} files of ${folder} at a time`);
      }
      assert.deepEqual(await contentOf(repository, points[11] ?? ''), ownContent(11));
    });
  });

  it('is hidden at once and can be brought back until its time is over', async () => {
    await withScene(async ({ clock, repository, open }) => {
      const content = sparseContent(SIZE_BYTES, 1);
      const { pointId } = await commitDisk(repository, 'one', content);
      const keepUntilMs = clock.nowMs() + 7 * DAY_MS;
      await repository.deletePoint(pointId, { keepUntilMs, reason: 'no longer needed' });

      assert.deepEqual(await repository.listPoints(), []);
      await assert.rejects(repository.openPoint(pointId), hasCode('POINT_NOT_FOUND'));
      const other = await open();
      const [trashed] = await other.listTrash();
      assert.equal(trashed?.pointId, pointId);
      assert.equal(trashed.keepUntilMs, keepUntilMs);
      assert.equal(trashed.reason, 'no longer needed');

      clock.atMs += 6 * DAY_MS;
      assert.deepEqual((await other.collect(NOW)).purgedPoints, []);
      await other.restorePoint(pointId);
      assert.ok((await contentOf(repository, pointId)).equals(content));
      assert.deepEqual(await repository.listTrash(), []);
    });
  });

  it('frees what it alone needed in the collection after its time, and leaves the rest byte for byte', async () => {
    await withScene(async ({ storage, repository, open }) => {
      const kept = ownContent(1);
      const { pointId: first } = await commitDisk(repository, 'one', kept);
      const bytesOfOne = packBytes(storage);
      const statsOfOne = await repository.stats();
      assert.equal(statsOfOne.storedBytes, bytesOfOne);
      const { pointId: second } = await commitDisk(repository, 'two', ownContent(2));
      assert.ok(packBytes(storage) > 1.9 * bytesOfOne);

      await repository.deletePoint(second, AT_ONCE);
      const report = await (await open()).collect(NOW);

      assert.deepEqual(report.purgedPoints, [second]);
      assert.equal(report.state, 'done');
      assert.equal(packBytes(storage), bytesOfOne);
      // As one tells that had it open before.
      assert.deepEqual(await repository.stats(), statsOfOne);
      assert.ok((await contentOf(repository, first)).equals(kept));
      assert.ok(![...storage.disk.files.keys()].some((name) => name.includes(second)), 'no file of it is left');
      await assert.rejects(repository.restorePoint(second), hasCode('POINT_NOT_FOUND'));
    });
  });

  it('frees what it alone needed also where that lies between chunks that stay', async () => {
    await withScene(async ({ storage, repository, open }) => {
      const old = ownContent(1);
      const { pointId: first } = await commitDisk(repository, 'one', old);
      // Most of it changes; what stays lies in the pack of the version that goes.
      const changed = Buffer.concat([old.subarray(0, 4 * CHUNK), ownContent(2).subarray(4 * CHUNK)]);
      const { pointId: second } = await commitDisk(repository, 'two', changed);
      const before = packBytes(storage);
      await repository.deletePoint(first, AT_ONCE);

      const report = await (await open()).collect(NOW);

      assert.ok(report.writtenBytes > 0);
      assert.ok(before - packBytes(storage) > 7 * CHUNK, `${before - packBytes(storage)} bytes came free`);
      // The one that was opened before finds what was moved under its hands.
      assert.ok((await contentOf(repository, second)).equals(changed));
    });
  });

  it('frees what it alone needed also where nearly all of its pack stays', async () => {
    await withScene(async ({ storage, repository, open }) => {
      const ids: string[] = [];
      let content = ownContent(1);
      for (const [from, to] of [
        [0, 20],
        [2, 12],
        [11, 13],
      ] as const) {
        content = Buffer.from(content);
        ownContent(ids.length + 1).copy(content, from * CHUNK, from * CHUNK, to * CHUNK);
        const before = ids.length === 0 ? null : await (await repository.openPoint(ids.at(-1) ?? '')).openDisk('d0');
        ids.push(
          (await commitDisk(repository, `v${ids.length}`, content, { createdAtMs: ids.length }, before)).pointId,
        );
      }
      const [, middle, last] = ids as [string, string, string];
      const before = packBytes(storage);
      await repository.deletePoint(middle, AT_ONCE);

      // One of the ten chunks that the second version brought was changed by the third.
      assert.equal((await (await open()).collect(NOW)).state, 'done');
      assert.ok(before - packBytes(storage) > CHUNK, `${before - packBytes(storage)} bytes came free`);
      assert.ok((await contentOf(repository, last)).equals(content));
    });
  });

  it('that is being read stays until the reading is over, however long its time is', async () => {
    await withScene(async ({ repository, open }) => {
      const content = ownContent(1);
      const { pointId } = await commitDisk(repository, 'one', content);
      const reader = await open();
      const disk = await (await reader.openPoint(pointId)).openDisk('d0');
      assert.ok((await disk.read(0, CHUNK)).equals(content.subarray(0, CHUNK)));
      await repository.deletePoint(pointId, AT_ONCE);
      const { spared, purgedPoints } = await repository.collect({ ...NOW, readPoints: [pointId] });
      assert.deepEqual([spared, purgedPoints], [[pointId], []]);
      assert.ok((await readByStream(disk)).equals(content));
      const over = await repository.collect(NOW);
      assert.deepEqual([over.spared, over.purgedPoints], [[], [pointId]]);
      await assert.rejects(readByStream(disk), hasCode('REPOSITORY_CHUNK_MISSING'));
    });
  });

  it('is not brought back by a lock, nor locked', async () => {
    await withScene(async ({ clock, repository }) => {
      const { pointId } = await commitDisk(repository, 'one', ownContent(1));
      await repository.deletePoint(pointId, AT_ONCE);
      await assert.rejects(repository.lockPoint(pointId, clock.nowMs() + DAY_MS), hasCode('CONFLICT'));
      await repository.restorePoint(pointId);
    });
  });
});

describe('a lock', () => {
  it('keeps a version from every path until its time, and is only lengthened', async () => {
    await withScene(async ({ clock, repository, open }) => {
      const { pointId } = await commitDisk(repository, 'one', ownContent(1));
      const untilMs = clock.nowMs() + 10 * DAY_MS;
      await repository.lockPoint(pointId, untilMs);
      assert.equal((await repository.lockPoint(pointId, untilMs - DAY_MS)).lockedUntilMs, untilMs);

      await assert.rejects(repository.deletePoint(pointId, AT_ONCE), hasCode('POINT_LOCKED'));
      await assert.rejects((await open()).deletePoint(pointId, AT_ONCE), hasCode('POINT_LOCKED'));
      clock.atMs = untilMs;
      await repository.deletePoint(pointId, AT_ONCE);
      assert.deepEqual((await repository.collect(NOW)).purgedPoints, [pointId]);
    });
  });

  it('and a purge at the same moment cannot both win', async () => {
    for (let delay = 0; delay < 12; delay += 1) {
      await withScene(async ({ clock, repository, open }) => {
        const content = ownContent(1);
        const { pointId } = await commitDisk(repository, 'one', content);
        await repository.deletePoint(pointId, AT_ONCE);
        const other = await open();
        const saving = (async () => {
          for (let turn = 0; turn < delay * 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
          await other.restorePoint(pointId);
          await other.lockPoint(pointId, clock.nowMs() + DAY_MS);
        })();
        const [report, saved] = await Promise.allSettled([repository.collect(NOW), saving]);
        assert.equal(report.status, 'fulfilled', String((report as PromiseRejectedResult).reason));
        if (saved.status === 'fulfilled') assert.ok((await contentOf(other, pointId)).equals(content));
        else assert.ok(hasCode('POINT_NOT_FOUND')(saved.reason), String(saved.reason));
      });
    }
  });
});

describe('a collection', () => {
  it('removes nothing while everything is needed, and says so', async () => {
    await withScene(async ({ storage, repository }) => {
      await commitDisk(repository, 'one', ownContent(1));
      const before = [...storage.disk.files.keys()].filter((name) => /^(packs|points)/.test(name));
      const report = await repository.collect(NOW);
      assert.deepEqual([report.removedPacks, report.writtenBytes, report.keptPoints], [0, 0, 1]);
      for (const name of before) assert.ok(storage.disk.files.has(name));
    });
  });

  for (const [what, code, harm] of [
    [
      'a version that is not listed',
      'REPOSITORY_EVIDENCE_MISSING',
      ({ storage }: Scene, pointId: string) => void storage.disk.files.delete(`points/${pointId}.point`),
    ],
    [
      'a version that cannot be read',
      'REPOSITORY_MANIFEST_DAMAGED',
      ({ storage }: Scene, pointId: string) => flip(storage, `points/${pointId}.point`, 100),
    ],
    [
      'a version of a newer program',
      'REPOSITORY_FORMAT_UNKNOWN',
      ({ storage }: Scene, pointId: string) => renumber(storage, `points/${pointId}.point`),
    ],
    [
      'another repository in the folder',
      'REPOSITORY_EVIDENCE_MISSING',
      async ({ storage, clock }: Scene) => {
        const other = new MemoryStorage();
        await (await createRepository({ storage: other, clock, chunkSizeBytes: CHUNK, threads: 0 })).close();
        const header = other.disk.files.get('repository.dozo');
        if (header !== undefined) storage.disk.files.set('repository.dozo', header);
      },
    ],
    [
      'an empty folder',
      'REPOSITORY_NOT_FOUND',
      ({ storage }: Scene) => void storage.disk.files.delete('repository.dozo'),
    ],
    [
      'a clock that was set back',
      'REPOSITORY_CLOCK_BACK',
      ({ clock }: Scene) => {
        clock.atMs -= 3 * DAY_MS;
      },
    ],
    [
      'a page that cannot be read',
      'REPOSITORY_CHUNK_DAMAGED',
      ({ storage }: Scene) => {
        for (const [name, { data }] of storage.disk.files) {
          if (name.startsWith('packs/') && data.readUInt32LE(12) === 1) flip(storage, name, 70);
        }
      },
    ],
  ] as const) {
    it(`stops at ${what} before it removes anything`, async () => {
      const storage = new MemoryStorage();
      const clock = new HandClock();
      const repository = await createRepository({ storage, clock, chunkSizeBytes: CHUNK, threads: 0 });
      const { pointId: kept } = await commitDisk(repository, 'one', ownContent(1));
      const { pointId: going } = await commitDisk(repository, 'two', ownContent(2));
      await repository.collect(NOW);
      await repository.deletePoint(going, AT_ONCE);
      await harm({ storage, clock, repository, open: () => Promise.reject(new Error('unused')) }, kept);
      const packs = [...storage.disk.files.keys()].filter((name) => name.startsWith('packs/'));

      const fresh = what.includes('folder') ? repository : await openRepository({ storage, clock, threads: 0 });
      await assert.rejects(fresh.collect(NOW), hasCode(code));

      for (const name of packs) assert.ok(storage.disk.files.has(name), name);
      await repository.close();
    });
  }

  it('says what to do when the clock is right and ran ahead before, and goes on then', async () => {
    const storage = new MemoryStorage();
    const clock = new HandClock();
    const repository = await createRepository({ storage, clock, chunkSizeBytes: CHUNK, threads: 0 });
    const { pointId: kept } = await commitDisk(repository, 'one', ownContent(1));
    const { pointId: going } = await commitDisk(repository, 'two', ownContent(2));
    clock.atMs += 4000 * DAY_MS;
    await repository.collect(NOW);
    await repository.deletePoint(going, { keepUntilMs: clock.atMs + DAY_MS, reason: 'rule' });
    clock.atMs -= 3999 * DAY_MS;

    const inTheWay = async (): Promise<string> => {
      const error: unknown = await repository.collect(NOW).catch((caught: unknown) => caught);
      assert.ok(isAppError(error) && error.code === 'REPOSITORY_CLOCK_BACK', String(error));
      return String(error.details['name']);
    };
    assert.equal(await inTheWay(), `marks/${going}`);
    await repository.restorePoint(going);
    const evidence = await inTheWay();
    assert.match(evidence, /^evidence\//);
    storage.disk.files.delete(evidence);
    assert.equal((await repository.collect(NOW)).state, 'done');

    await repository.deletePoint(going, AT_ONCE);
    assert.deepEqual((await repository.collect(NOW)).purgedPoints, [going]);
    assert.deepEqual(
      (await repository.listPoints()).map(({ pointId }) => pointId),
      [kept],
    );
    assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
    await repository.close();
  });

  it('lets no time for bringing back and no lock end early by a clock that was set forward', async () => {
    const storage = new MemoryStorage();
    const clock = new HandClock();
    const repository = await createRepository({ storage, clock, chunkSizeBytes: CHUNK, threads: 0 });
    const { pointId: trashed } = await commitDisk(repository, 'one', ownContent(1));
    const { pointId: locked } = await commitDisk(repository, 'two', ownContent(2));
    await repository.deletePoint(trashed, { keepUntilMs: clock.atMs + 30 * DAY_MS, reason: 'rule' });
    await repository.lockPoint(locked, clock.atMs + 300 * DAY_MS);
    const abandoned = await repository.startWrite({ sessionId: 'at work' });
    clock.atMs += 4000 * DAY_MS;
    // By the clock the lock is over; what was locked can be brought back all the same.
    await repository.deletePoint(locked, AT_ONCE);

    const report = await repository.collect({ ...NOW, clockAheadMs: 4000 * DAY_MS });
    assert.deepEqual([report.purgedPoints, report.fencedSessions], [[], []]);
    for (const pointId of [trashed, locked]) await repository.restorePoint(pointId);
    clock.atMs -= 4000 * DAY_MS;
    await repository.collect(NOW).catch((error: unknown) => {
      assert.ok(isAppError(error));
      // Of what was decided meanwhile, not of the collection.
      assert.match(String(error.details['name']), /^marks/);
    });
    assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);

    await repository.deletePoint(trashed, { keepUntilMs: clock.atMs + 30 * DAY_MS, reason: 'rule' });
    await abandoned.abort();
    clock.atMs += 40 * DAY_MS;
    assert.deepEqual((await repository.collect({ ...NOW, clockAheadMs: 5 * DAY_MS })).purgedPoints, [trashed]);
    await repository.close();
  });

  it('goes on once a version that cannot be read was deleted', async () => {
    await withScene(async ({ storage, repository, open }) => {
      const { pointId } = await commitDisk(repository, 'one', ownContent(1));
      flip(storage, `points/${pointId}.point`, 100);
      const other = await open();
      await assert.rejects(other.collect(NOW), hasCode('REPOSITORY_MANIFEST_DAMAGED'));
      await other.deletePoint(pointId, AT_ONCE);
      assert.deepEqual((await other.collect(NOW)).purgedPoints, [pointId]);
      assert.equal(packBytes(storage), 0);
    });
  });

  it('does not take a version for gone because a mark of it that is listed cannot be found', async () => {
    await withScene(async ({ storage, clock, repository }) => {
      const { pointId } = await commitDisk(repository, 'one', ownContent(1));
      await repository.lockPoint(pointId, clock.nowMs() + DAY_MS);
      const forgetful = new MemoryStorage(storage.disk);
      forgetful.fault = (operation, name) =>
        operation === 'read' && name.startsWith('marks/') ? { when: 'before', error: errnoError('ENOENT') } : null;
      const collector = await openRepository({ storage: forgetful, clock, threads: 0 });

      await assert.rejects(collector.collect(NOW), hasCode('REPOSITORY_INDEX_DAMAGED'));
      const [listed] = await collector.listPoints();
      assert.ok(listed?.pointId === pointId && listed.damage !== null, 'shown, with its trouble');
      await collector.close();

      assert.ok(storage.disk.files.has(`points/${pointId}.point`), 'it is locked, and there');
    });
  });

  it('ends when a record of a session is listed and never there', { timeout: 90_000 }, async () => {
    await withScene(async ({ storage, clock, repository }) => {
      await (await repository.startWrite({ sessionId: 'one' })).abort();
      const lying = new MemoryStorage(storage.disk);
      lying.fault = (operation, name) =>
        operation === 'read' && name.startsWith('sessions/') ? { when: 'before', error: errnoError('ENOENT') } : null;
      const collector = await openRepository({ storage: lying, clock, threads: 0 });
      await assert.rejects(collector.collect(NOW), hasCode('STORAGE_FAILED'));
      await collector.close();
    });
  });

  it('waits for a session that began before, and takes up where it left', async () => {
    await withScene(async ({ storage, repository, open }) => {
      const content = ownContent(1);
      const { pointId } = await commitDisk(repository, 'one', content);
      const writer = await open();
      const session = await writer.startWrite({ sessionId: 'two' });
      await repository.deletePoint(pointId, AT_ONCE);

      const first = await repository.collect(NOW);
      assert.deepEqual([first.state, first.waitingFor], ['waiting', ['two']]);
      // It had looked before the announcement: it builds on what was to go.
      const disk = await session.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      await disk.write(0, Buffer.from(content));
      await disk.finish();
      const { pointId: again } = await session.commit(request({ createdAtMs: 1 }));
      const second = await repository.collect(NOW);

      assert.equal(second.state, 'done');
      assert.ok((await contentOf(await open(), again)).equals(content));
      assert.ok([...storage.disk.files.keys()].every((name) => !name.startsWith('condemned/')));
    });
  });

  it('keeps a session that was silent for too long from committing', async () => {
    await withScene(async ({ clock, repository, open }) => {
      const content = ownContent(1);
      const { pointId } = await commitDisk(repository, 'one', content);
      const writer = await open();
      const session = await writer.startWrite({ sessionId: 'two' });
      const disk = await session.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      await disk.write(0, Buffer.from(content));
      await repository.deletePoint(pointId, AT_ONCE);
      clock.atMs += 8 * DAY_MS;

      const report = await repository.collect(NOW);
      assert.deepEqual([report.state, report.fencedSessions], ['done', ['two']]);
      await disk.finish();
      await assert.rejects(session.commit(request({})), hasCode('REPOSITORY_COLLECTED'));
      await session.abort();

      assert.deepEqual(await repository.listPoints(), []);
      // The next try of the same run begins anew and ends well.
      const next = await commitDisk(writer, 'two', content);
      assert.ok((await contentOf(await open(), next.pointId)).equals(content));
    });
  });

  it('does not remove what a session needs that it could not see', async () => {
    await withScene(async ({ storage, repository, open }) => {
      const content = ownContent(1);
      const { pointId } = await commitDisk(repository, 'one', content);
      const writer = await open();
      const session = await writer.startWrite({ sessionId: 'two' });
      const disk = await session.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      await disk.write(0, Buffer.from(content));
      await disk.finish();
      await repository.deletePoint(pointId, AT_ONCE);

      const blind = new MemoryStorage(storage.disk);
      let committed: Promise<unknown> = Promise.reject(new Error('the collector never decided'));
      committed.catch(() => undefined);
      const list = blind.listNames.bind(blind);
      blind.listNames = async function* (folder) {
        for await (const name of list(folder)) if (!name.startsWith('sessions/')) yield name;
      };
      blind.fault = (operation, name) => {
        // The session commits right before the collector decides.
        if (operation === 'create' && name.endsWith('.verdict')) {
          committed = session.commit(request({})).catch((error: unknown) => error);
        }
        return null;
      };
      const collector = await openRepository({ storage: blind, clock: new HandClock(), threads: 0 });
      await collector.collect(NOW);
      await collector.close();

      const outcome = await committed;
      if (outcome instanceof Error) assert.ok(hasCode('REPOSITORY_COLLECTED')(outcome), String(outcome));
      else assert.ok((await contentOf(await open(), (outcome as { pointId: string }).pointId)).equals(content));
    });
  });

  for (const what of ['disks', 'files'] as const) {
    it(`lets no session commit without what its ${what} need and another collector removed unseen`, async () => {
      const storage = new MemoryStorage();
      const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
      const content = ownContent(1);
      const vmx = { name: 'web.vmx', kind: 'vmx', content: Buffer.from('memsize = "4096"') };
      await commitDisk(repository, 'one', content, { files: [vmx] });
      const old = [...storage.disk.files].filter(([name]) => name.startsWith('packs/'));

      const session = await repository.startWrite({ sessionId: 'two' });
      const disk = await session.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      await disk.write(0, what === 'disks' ? Buffer.from(content) : ownContent(2));
      await disk.finish();
      // Before the last look of the session: it built on what it found.
      storage.fault = (operation, name) => {
        if (operation === 'list' && name === 'condemned') for (const [pack] of old) storage.disk.files.delete(pack);
        return null;
      };
      await assert.rejects(
        session.commit(request({ createdAtMs: 1, files: what === 'files' ? [vmx] : [] })),
        hasCode('REPOSITORY_COLLECTED'),
      );
      await session.abort();
      await repository.close();
    });
  }

  it('comes to its end wherever another one is faster, and tells what it did itself', async () => {
    const content = (seed: number): Buffer => ownContent(seed).subarray(0, 2 * CHUNK);
    for (let moment = 0, isOver = false; !isOver; moment += 1) {
      await withScene(async ({ storage, clock, repository, open }) => {
        const stays = await commitDisk(repository, 'stays', content(1));
        const isDue = await commitDisk(repository, 'due', content(2));
        const soon = await commitDisk(repository, 'soon', content(3));
        await repository.deletePoint(isDue.pointId, AT_ONCE);
        await repository.deletePoint(soon.pointId, { keepUntilMs: clock.nowMs() + 3_600_000, reason: 'test' });
        await repository.collect(NOW);
        const late = await commitDisk(repository, 'late', content(4));
        await repository.deletePoint(late.pointId, AT_ONCE);

        // Its clock is two hours ahead: what stays for the one has had its time for the other.
        const ahead = new HandClock();
        ahead.atMs = clock.atMs + 7_200_000;
        const faster = await openRepository({ storage: new MemoryStorage(storage.disk), clock: ahead, threads: 0 });
        const purged: string[] = [];
        let looks = 0;
        const door = new MemoryStorage(storage.disk);
        const interrupt = async (): Promise<void> => {
          looks += 1;
          if (looks === moment) purged.push(...(await faster.collect(NOW)).purgedPoints);
        };
        const [list, read] = [door.listNames.bind(door), door.read.bind(door)];
        door.listNames = async function* (folder) {
          await interrupt();
          yield* list(folder);
        };
        door.read = async (...args) => {
          await interrupt();
          return read(...args);
        };
        const slower = await openRepository({ storage: door, clock, threads: 0 });
        looks = 0;
        const report = await slower.collect(NOW);
        await slower.close();
        await faster.close();

        isOver = moment > looks;
        assert.equal(report.state, 'done', `at look ${moment}`);
        purged.push(...report.purgedPoints);
        const gone = isOver || moment === 0 ? [late.pointId] : [soon.pointId, late.pointId];
        assert.deepEqual(purged.sort(), gone.sort(), `at look ${moment}`);
        assert.ok((await contentOf(await open(), stays.pointId)).equals(content(1)));
      });
    }
  });

  it('stops when it is asked to, and the next one goes on', async () => {
    await withScene(async ({ storage, repository, open }) => {
      const { pointId } = await commitDisk(repository, 'one', ownContent(1));
      await repository.deletePoint(pointId, AT_ONCE);
      const stop = new AbortController();
      const progress: CollectOptions['progress'] = ({ stage }) => {
        if (stage === 'removing') stop.abort();
      };
      await assert.rejects((await open()).collect({ ...NOW, signal: stop.signal, progress }), { name: 'AbortError' });
      const report = await repository.collect(NOW);
      assert.equal(report.state, 'done');
      assert.equal(packBytes(storage), 0);
    });
  });

  it('removes what nobody needs also when there is no room to write anything anew', async () => {
    await withScene(async ({ storage, repository }) => {
      const old = ownContent(1);
      await commitDisk(repository, 'one', old);
      const changed = Buffer.concat([old.subarray(0, 4 * CHUNK), ownContent(2).subarray(4 * CHUNK)]);
      const { pointId: second } = await commitDisk(repository, 'two', changed);
      await commitDisk(repository, 'three', ownContent(3));
      for (const { pointId } of await repository.listPoints()) {
        if (pointId !== second) await repository.deletePoint(pointId, AT_ONCE);
      }
      const before = packBytes(storage);
      let used = 0;
      for (const { data } of storage.disk.files.values()) used += data.length;
      storage.disk.capacityBytes = used + 4000;

      await repository.collect(NOW);

      assert.ok(before - packBytes(storage) > 19 * CHUNK, `${before - packBytes(storage)} bytes came free`);
      assert.ok((await contentOf(repository, second)).equals(changed));
      storage.disk.capacityBytes = Number.MAX_SAFE_INTEGER;
    });
  });

  it('lists the packs twice, and reads a version that stays and its pages once', async () => {
    await withScene(async ({ storage, clock, repository }) => {
      const points: string[] = [];
      for (let seed = 0; seed < 4; seed += 1) {
        points.push((await commitDisk(repository, `v${seed}`, ownContent(seed))).pointId);
      }
      const [first = '', ...staying] = points;
      await repository.deletePoint(first, AT_ONCE);
      const door = new MemoryStorage(storage.disk);
      const other = await openRepository({ storage: door, clock, threads: 0 });
      const opened = door.log.length;
      const report = await other.collect(NOW);
      const log = door.log.slice(opened);
      await other.close();

      assert.equal(report.removedPacks, 2);
      const count = (operation: string, name: string): number =>
        log.filter((one) => one.operation === operation && one.name === name).length;
      assert.equal(count('list', 'packs'), 2);
      // Names are looked at again: one that is missing stops a collection.
      assert.ok(count('list', 'points') >= 6);
      for (const pointId of staying) assert.equal(count('read', `points/${pointId}.point`), 1);
      const read = log.filter(({ operation, name }) => operation === 'read' && name.startsWith('packs/'));
      // Of each version that stays: the table of the pack with its page, and the page.
      assert.equal(read.length, 2 * staying.length);
    });
  });

  it('makes few index segments of many', async () => {
    await withScene(async ({ storage, repository, open }) => {
      const segments = (): number => [...storage.disk.files.keys()].filter((name) => name.startsWith('index/')).length;
      for (let version = 0; version < 36; version += 1) {
        await commitDisk(repository, `v${version}`, ownContent(version % 3).subarray(0, CHUNK + version + 1));
      }
      assert.ok(segments() > 33);
      await repository.collect(NOW);
      assert.ok(segments() <= 2, `${segments()} segments`);
      assert.equal((await (await open()).listPoints()).length, 36);
    });
  });
});

function flip(storage: MemoryStorage, name: string, at: number): void {
  const file = storage.disk.files.get(name);
  assert.ok(file !== undefined);
  file.data[at] = (file.data[at] ?? 0) ^ 1;
}

/** As a newer program would have written it: another version, and a right check sum over it. */
function renumber(storage: MemoryStorage, name: string): void {
  const file = storage.disk.files.get(name);
  assert.ok(file !== undefined);
  file.data.writeUInt16LE(2, 8);
  const end = file.data.length - 32;
  createHash('sha256').update(file.data.subarray(0, end)).digest().copy(file.data, end);
}

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import {
  createRepository,
  openRepository,
  type KeptRepository,
  type PointManifest,
} from '../../server/repository/index.ts';
import { systemClock, type Clock } from '../../server/runtime/index.ts';
import { openLocalStorage, type Storage } from '../../server/storage/index.ts';
import { CHUNK, commitDisk, readByStream, sparseContent } from '../fakes/small-repository.ts';
import { PowerCutFileSystem } from './power-cut-file-system.ts';
import { RandomSource } from './random-source.ts';

/**
 * A share that takes new files and refuses to change, rename or remove those that are there: what WriteOnce shares do
 * once a file is locked. Once by immutable attributes of a real file system, which only root may set, once by a file
 * system in memory, where files are locked in the moment in which they get their name.
 */
const run = promisify(execFile);
const DAY_MS = 86_400_000;
const SIZE = 40 * CHUNK + 99;

interface Share {
  folder: string;
  /** From now on what is there stays. */
  lock(): Promise<void>;
  unlock(): Promise<void>;
  files(): Promise<string[]>;
  remove(): Promise<void>;
}

async function openAttributeShare(): Promise<Share | string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'dozo-worm-'));
  const files = async (): Promise<string[]> => {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  };
  const change = async (how: '+i' | '-i'): Promise<void> => {
    const names = await files();
    if (names.length > 0) await run('chattr', [how, ...names]);
  };
  try {
    const probe = path.join(folder, 'probe');
    await writeFile(probe, '');
    await change('+i');
    await assert.rejects(rm(probe));
    await change('-i');
    await rm(probe);
  } catch (error) {
    await rm(folder, { recursive: true });
    return `no file can be made immutable here: ${String(error)}`;
  }
  return {
    folder,
    lock: () => change('+i'),
    unlock: () => change('-i'),
    files: async () => (await files()).map((file) => path.relative(folder, file)),
    remove: async () => {
      await change('-i');
      await rm(folder, { recursive: true });
    },
  };
}

function openMemoryShare(): Share {
  const memory = new PowerCutFileSystem('/nas/write-once', new RandomSource(5));
  memory.install();
  const keep = (operation: string, _count: number, name: string): string | null => {
    // A name is given by a link: what is under a temporary name is locked with it.
    const isChange = operation === 'unlink' || operation === 'rename';
    return isChange && memory.files().has(name) ? 'EPERM' : null;
  };
  return {
    folder: memory.root,
    lock: async () => {
      memory.plan = keep;
    },
    unlock: async () => {
      memory.plan = () => null;
    },
    files: async () => [...memory.files().keys()],
    remove: async () => memory.uninstall(),
  };
}

/** Contents of a machine's disk, each with little of its own. */
function contentOf(version: number): Buffer {
  const content = sparseContent(SIZE, 1);
  sparseContent(6 * CHUNK, version + 50).copy(content, version * 7 * CHUNK);
  return content;
}

async function assertWhole(repository: KeptRepository, expected: ReadonlyMap<string, Buffer>): Promise<void> {
  const listed = (await repository.listPoints()).map(({ pointId }) => pointId).sort();
  assert.deepEqual(listed, [...expected.keys()].sort());
  for (const [pointId, content] of expected) {
    const disk = await (await repository.openPoint(pointId)).openDisk('d0');
    assert.ok((await readByStream(disk)).equals(content), pointId);
  }
  assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
}

async function live(share: Share): Promise<void> {
  let aheadMs = 0;
  const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + aheadMs, sleep: async () => undefined };
  const openStorage = (): Promise<Storage> => openLocalStorage({ folder: share.folder, clock });
  await (await createRepository({ storage: await openStorage(), clock, chunkSizeBytes: CHUNK, threads: 0 })).close();
  await share.lock();

  const expected = new Map<string, Buffer>();
  const points: PointManifest[] = [];
  let repository = await openRepository({ storage: await openStorage(), clock, threads: 0 });
  const backUp = async (version: number): Promise<void> => {
    const base = points.at(-1);
    const disk = base === undefined ? null : await (await repository.openPoint(base.pointId)).openDisk('d0');
    const part = { createdAtMs: 1000 + version, previousPointId: base?.pointId ?? null };
    // Interrupted once: its records stay where nothing can be removed, and the next attempt goes on with them.
    const session = await repository.startWrite({ sessionId: `v${version}` });
    const writer = await session.openDisk({ key: 'd0', sizeBytes: SIZE, base: disk });
    await writer.write(0, contentOf(version).subarray(0, 9 * CHUNK));
    await session.checkpoint({ at: 9 });
    await session.abort();
    const point = await commitDisk(repository, `v${version}`, contentOf(version), part, disk);
    points.push(point);
    expected.set(point.pointId, contentOf(version));
    await share.lock();
  };
  for (let version = 0; version < 3; version += 1) await backUp(version);
  await assertWhole(repository, expected);

  // What was decided is a file of its own: deleting, bringing back and locking edit nothing.
  const [first, second, third] = points.map(({ pointId }) => pointId) as [string, string, string];
  await repository.deletePoint(first, { keepUntilMs: clock.nowMs() + DAY_MS, reason: 'rule' });
  await repository.restorePoint(first);
  await repository.lockPoint(third, clock.nowMs() + 30 * DAY_MS);
  await assert.rejects(repository.deletePoint(third, { keepUntilMs: 0, reason: 'rule' }), { code: 'POINT_LOCKED' });
  await repository.deletePoint(second, { keepUntilMs: clock.nowMs() + DAY_MS, reason: 'rule' });
  expected.delete(second);
  await share.lock();
  aheadMs = 2 * DAY_MS;

  // A collection says that nothing can be removed, and leaves all as it is, however often it is begun.
  for (let turn = 0; turn < 3; turn += 1) {
    const before = (await share.files()).filter((name) => !name.startsWith('tmp/'));
    await assert.rejects(repository.collect({ patienceMs: 0 }), { code: 'STORAGE_WRITE_ONCE', hint: /WriteOnce/ });
    await share.lock();
    const after = new Set(await share.files());
    assert.ok(before.every((name) => after.has(name)));
    if (turn > 0) assert.equal([...after].filter((name) => !name.startsWith('tmp/')).length, before.length);
    await repository.close();
    repository = await openRepository({ storage: await openStorage(), clock, threads: 0 });
    await assertWhole(repository, expected);
  }
  await backUp(3);
  await assertWhole(repository, expected);

  // The share's time to keep files is over.
  await share.unlock();
  const report = await repository.collect({ patienceMs: 0, liveShareMin: 1 });
  assert.equal(report.state, 'done');
  const names = await share.files();
  assert.ok(!names.includes(`points/${second}.point`));
  assert.deepEqual(
    names.filter((name) => name.startsWith('sessions/')),
    [],
  );
  await assertWhole(repository, expected);
  await repository.close();
}

describe('a repository on a share that keeps its files', () => {
  it('backs up, checks, restores, and collects once it may (a share that locks at once)', async () => {
    const share = openMemoryShare();
    try {
      await live(share);
    } finally {
      await share.remove();
    }
  });

  it('does the same with immutable attributes', async (t) => {
    const share = await openAttributeShare();
    if (typeof share === 'string') return t.skip(share);
    try {
      await live(share);
    } finally {
      await share.remove();
    }
  });
});

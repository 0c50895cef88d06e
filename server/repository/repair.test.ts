import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { CHUNK, commitDisk, readByStream, request, withRepository } from '../../test/fakes/small-repository.ts';
import { systemClock } from '../runtime/index.ts';
import { openLocalStorage } from '../storage/index.ts';
import { createRepository, openRepository, type CheckOptions } from './index.ts';

const SIZE_BYTES = 10 * CHUNK + 5;
const NOW = { patienceMs: 0 };
const NOTED: CheckOptions = { depth: 'hashes', noteDamage: true };

function noise(seed: string): Buffer {
  return createHash('shake256', { outputLength: SIZE_BYTES }).update(seed).digest();
}

function dataPack(storage: MemoryStorage): string {
  for (const [name, { data }] of storage.disk.files) {
    if (name.startsWith('packs/') && data.readUInt32LE(12) === 0) return name;
  }
  throw new Error('there is no data pack');
}

/** Changes one byte within the chunks of a data pack. */
function rot(storage: MemoryStorage): string {
  const name = dataPack(storage);
  const data = storage.disk.files.get(name)?.data ?? Buffer.alloc(0);
  data[64 + 3 * CHUNK] = (data[64 + 3 * CHUNK] ?? 0) ^ 1;
  return name;
}

describe('a chunk that a check found damaged', () => {
  it('is named to disk, range and version, stored again by the next backup, and gone after a collection', async () => {
    await withRepository(async ({ storage }) => {
      const open = () => openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
      const content = noise('one');
      const writer = await open();
      const { pointId } = await commitDisk(writer, 'one', content);
      await writer.close();
      rot(storage);

      const checker = await open();
      const [damage, ...others] = (await checker.check(NOTED)).damages;
      assert.deepEqual(others, []);
      assert.equal(damage?.code, 'REPOSITORY_CHUNK_DAMAGED');
      assert.deepEqual(damage.affects, [
        { pointId, machineName: 'web', diskKey: 'd0', extents: [{ offsetBytes: 3 * CHUNK, lengthBytes: CHUNK }] },
      ]);
      // Without reading anything again it is known, and noted once.
      assert.equal((await checker.check({ depth: 'structure' })).damages.length, 1);
      await checker.check(NOTED);
      const notes = (): string[] => [...storage.disk.files.keys()].filter((name) => name.startsWith('damaged/'));
      assert.equal(notes().length, 1);
      await checker.close();

      // The machine still has it: the next full read brings it, and both versions are whole.
      const backup = await open();
      const next = await commitDisk(backup, 'two', content, { createdAtMs: 1_800_000_000_000 });
      assert.ok(next.disks[0]?.stats.newBytes === CHUNK, 'the damaged chunk alone is stored again');
      for (const id of [pointId, next.pointId]) {
        assert.ok((await readByStream(await (await backup.openPoint(id)).openDisk('d0'))).equals(content));
      }
      await backup.collect(NOW);
      assert.deepEqual(notes(), []);
      assert.deepEqual((await backup.check({ depth: 'hashes' })).damages, []);
      await backup.close();
    });
  });

  it('is not taken over from a base', async () => {
    await withRepository(async ({ storage }) => {
      const repository = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
      const { pointId } = await commitDisk(repository, 'one', noise('one'));
      rot(storage);
      await repository.check(NOTED);
      const fresh = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
      const base = await (await fresh.openPoint(pointId)).openDisk('d0');
      const session = await fresh.startWrite({ sessionId: 'two' });
      await assert.rejects(session.openDisk({ key: 'd0', sizeBytes: SIZE_BYTES, base }), {
        code: 'REPOSITORY_CHUNK_DAMAGED',
      });
      await session.abort();
      await fresh.close();
      await repository.close();
    });
  });
});

describe('a rotating check', () => {
  it('reads all packs in portions, and finds damage in the portion that it is in', async () => {
    await withRepository(async ({ storage }) => {
      const repository = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
      for (const name of ['one', 'two', 'three']) await commitDisk(repository, name, noise(name));
      const rotten = rot(storage);
      const packs = [...storage.disk.files.keys()].filter((name) => name.startsWith('packs/'));
      let after: string | null = null;
      let rounds = 0;
      let verifiedBytes = 0;
      const found: string[] = [];
      do {
        const report = await repository.check({ ...NOTED, part: { after, bytesMax: 1, timeMs: 60_000 } });
        assert.equal(report.packs, 1);
        found.push(...report.damages.map(({ name }) => name));
        verifiedBytes += report.part?.verifiedBytes ?? 0;
        after = report.part?.nextAfter ?? null;
        if (after === null) assert.equal(verifiedBytes, report.part?.totalBytes);
        rounds += 1;
      } while (after !== null);
      assert.equal(rounds, packs.length);
      assert.ok(found.includes(rotten));
      await repository.close();
    });
  });

  it('stops when its time is over and says where it goes on', async () => {
    await withRepository(async ({ storage }) => {
      const repository = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
      for (const name of ['one', 'two', 'three']) await commitDisk(repository, name, noise(name));
      const { part } = await repository.check({ ...NOTED, part: { after: null, bytesMax: 1e12, timeMs: 0 } });
      assert.notEqual(part?.nextAfter, null);
      assert.ok((part?.verifiedBytes ?? 0) < (part?.totalBytes ?? 0));
      await repository.close();
    });
  });
});

describe('a folder that was copied in the middle of a run', () => {
  it('opens with all versions of before, and the run goes on in it', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'dozo-copied-'));
    try {
      const from = path.join(folder, 'from');
      const to = path.join(folder, 'to');
      await mkdir(from);
      const repository = await createRepository({
        storage: await openLocalStorage({ folder: from }),
        chunkSizeBytes: CHUNK,
        threads: 0,
      });
      const { pointId } = await commitDisk(repository, 'one', noise('one'));
      const session = await repository.startWrite({ sessionId: 'two' });
      const disk = await session.openDisk({ key: 'd0', sizeBytes: SIZE_BYTES, base: null });
      await disk.write(0, noise('two').subarray(0, 5 * CHUNK));
      await session.checkpoint({ delivered: 5 * CHUNK });
      await disk.write(5 * CHUNK, noise('two').subarray(5 * CHUNK));

      // As rsync does: folder by folder, while the run goes on and commits.
      const copying = cp(from, to, { recursive: true, filter: (name) => path.basename(name) !== 'tmp' });
      await disk.finish();
      await copying;
      const { pointId: second } = await session.commit(request({ createdAtMs: 1_800_000_000_000 }));
      await repository.close();

      const copy = await openRepository({ storage: await openLocalStorage({ folder: to }), threads: 0 });
      assert.deepEqual(
        (await copy.listPoints()).map((point) => point.pointId),
        [pointId],
      );
      assert.ok((await readByStream(await (await copy.openPoint(pointId)).openDisk('d0'))).equals(noise('one')));
      assert.deepEqual((await copy.check({ depth: 'hashes' })).damages, []);
      const resumed = await copy.startWrite({ sessionId: 'two' });
      const again = await resumed.openDisk({ key: 'd0', sizeBytes: SIZE_BYTES, base: null });
      assert.equal(again.resumed, true);
      await again.write(5 * CHUNK, noise('two').subarray(5 * CHUNK));
      await again.finish();
      const manifest = await resumed.commit(request({ createdAtMs: 1_800_000_000_000 }));
      assert.equal(manifest.pointId, second);
      assert.ok((await readByStream(await (await copy.openPoint(second)).openDisk('d0'))).equals(noise('two')));
      assert.equal((await copy.collect({ patienceMs: 0 })).state, 'done');
      assert.deepEqual((await copy.check({ depth: 'hashes' })).damages, []);
      await copy.close();
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('names what a version lacks that was committed between the folders, until it is copied again or backed up', async () => {
    const from = new MemoryStorage();
    const repository = await createRepository({ storage: from, chunkSizeBytes: CHUNK, threads: 0 });
    const { pointId: first } = await commitDisk(repository, 'one', noise('one'));
    const copied = new MemoryStorage();
    const copyFolder = (isWanted: (name: string) => boolean): void => {
      for (const [name, { data }] of from.disk.files) {
        if (isWanted(name)) copied.disk.files.set(name, { data: Buffer.from(data), modifiedAtMs: 0 });
      }
    };
    // The packs are listed before the run publishes its own, the points after its commit.
    copyFolder((name) => name.startsWith('packs/'));
    const { pointId: second } = await commitDisk(repository, 'two', noise('two'), { createdAtMs: 1_800_000_000_000 });
    copyFolder((name) => !name.startsWith('packs/'));
    const reader = new MemoryStorage(copied.disk);
    const again = new MemoryStorage();
    for (const [name, file] of copied.disk.files) again.disk.files.set(name, file);

    const copy = await openRepository({ storage: reader, threads: 0 });
    assert.deepEqual(
      (await copy.listPoints()).map((point) => point.pointId),
      [first, second],
    );
    assert.ok((await readByStream(await (await copy.openPoint(first)).openDisk('d0'))).equals(noise('one')));
    await assert.rejects(async () => readByStream(await (await copy.openPoint(second)).openDisk('d0')), {
      code: 'REPOSITORY_CHUNK_MISSING',
    });
    const { damages } = await copy.check(NOTED);
    assert.ok(damages.length > 0);
    for (const { affects } of damages) assert.deepEqual([...new Set(affects.map((one) => one.pointId))], [second]);
    // Nothing is removed while it cannot be known what the version needs.
    const before = [...reader.disk.files.keys()].filter((name) => name.startsWith('packs/'));
    await assert.rejects(copy.collect(NOW), { code: 'REPOSITORY_CHUNK_MISSING' });
    for (const name of before) assert.ok(reader.disk.files.has(name));
    // The machine still has it: whatever is delivered is stored, and both versions are whole.
    const { pointId: third } = await commitDisk(copy, 'three', noise('two'), { createdAtMs: 1_900_000_000_000 });
    for (const pointId of [second, third]) {
      assert.ok((await readByStream(await (await copy.openPoint(pointId)).openDisk('d0'))).equals(noise('two')));
    }
    assert.deepEqual((await copy.check(NOTED)).damages, []);
    await copy.close();

    for (const [name, { data }] of from.disk.files) again.disk.files.set(name, { data, modifiedAtMs: 0 });
    const whole = await openRepository({ storage: again, threads: 0 });
    assert.ok((await readByStream(await (await whole.openPoint(second)).openDisk('d0'))).equals(noise('two')));
    assert.deepEqual((await whole.check(NOTED)).damages, []);
    await whole.close();
    await repository.close();
  });
});

describe('a pack whose own table cannot be read', () => {
  /** Changes a byte of what a pack itself needs, as opposed to the chunks in it. */
  const breakages: Record<string, (data: Buffer) => Buffer> = {
    'its first bytes': (data) => Buffer.concat([Buffer.from([data.readUInt8(0) ^ 1]), data.subarray(1)]),
    'its table': (data) => {
      const changed = Buffer.from(data);
      changed.writeUInt8(changed.readUInt8(changed.length - 80) ^ 1, changed.length - 80);
      return changed;
    },
    'its last bytes': (data) => Buffer.concat([data.subarray(0, -1), Buffer.from('x')]),
  };
  for (const [what, broken] of Object.entries(breakages)) {
    it(`is written anew by the next collection where the index tells what lies in it (${what})`, async () => {
      await withRepository(async ({ storage }) => {
        const open = () => openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
        const writer = await open();
        const { pointId } = await commitDisk(writer, 'one', noise('one'));
        await writer.close();
        const packs = [...storage.disk.files].filter(([name]) => name.startsWith('packs/'));
        for (const [, file] of packs) file.data = broken(file.data);

        const repository = await open();
        const { damages } = await repository.check({ depth: 'structure', noteDamage: true });
        assert.deepEqual(damages.map(({ name }) => name).sort(), packs.map(([name]) => name).sort());
        assert.ok(damages.every(({ affects }) => affects.length === 0));
        // Noted once.
        await repository.check(NOTED);
        assert.equal([...storage.disk.files.keys()].filter((name) => name.startsWith('damaged/')).length, 1);

        assert.equal((await repository.collect(NOW)).removedPacks, packs.length);
        const fresh = await open();
        assert.deepEqual((await fresh.check(NOTED)).damages, []);
        assert.ok((await readByStream(await (await fresh.openPoint(pointId)).openDisk('d0'))).equals(noise('one')));
        assert.equal([...storage.disk.files.keys()].filter((name) => name.startsWith('damaged/')).length, 0);
        await fresh.close();
        await repository.close();
      });
    });
  }

  it('names the versions that need what was cut off, without reading it', async () => {
    await withRepository(async ({ storage }) => {
      const open = () => openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
      const writer = await open();
      const { pointId } = await commitDisk(writer, 'one', noise('one'));
      await writer.close();
      const file = storage.disk.files.get(dataPack(storage)) as { data: Buffer };
      for (const lengthBytes of [0, 64 + 4 * CHUNK]) {
        const whole = file.data;
        file.data = Buffer.from(whole.subarray(0, lengthBytes));
        const repository = await open();
        const { damages } = await repository.check({ depth: 'structure' });
        const places = damages.flatMap(({ affects }) => affects);
        assert.ok(places.length > 0 && places.every((place) => place.pointId === pointId));
        const lost = places.flatMap(({ extents }) => extents).reduce((sum, one) => sum + one.lengthBytes, 0);
        assert.equal(lost, lengthBytes === 0 ? SIZE_BYTES : SIZE_BYTES - 4 * CHUNK);
        await repository.close();
        file.data = whole;
      }
    });
  });

  it('goes when nothing tells what lay in it, once no version lacks anything and it was noted long ago', async () => {
    let nowMs = Date.now();
    const clock = { ...systemClock, nowMs: () => nowMs };
    await withRepository(async ({ storage }) => {
      const { files } = storage.disk;
      const open = () => openRepository({ storage: new MemoryStorage(storage.disk), threads: 0, clock });
      const collect = async (): Promise<void> => {
        const repository = await open();
        assert.equal((await repository.collect(NOW)).state, 'done');
        await repository.close();
      };
      const deliver = async (sessionId: string): Promise<string> => {
        const repository = await open();
        const { pointId } = await commitDisk(repository, sessionId, noise('one'), { createdAtMs: nowMs });
        await repository.close();
        return pointId;
      };
      const first = await deliver('one');
      for (const name of [...files.keys()]) if (name.startsWith('index/')) files.delete(name);
      const lost = dataPack(storage);
      const whole = files.get(lost)?.data ?? Buffer.alloc(0);
      const table = Buffer.from(whole);
      table.writeUInt8(table.readUInt8(table.length - 80) ^ 1, table.length - 80);
      files.set(lost, { data: table, modifiedAtMs: 0 });
      const checker = await open();
      assert.ok((await checker.check(NOTED)).damages.some(({ name }) => name === lost));
      await checker.check(NOTED);
      await checker.close();
      assert.equal([...files.keys()].filter((name) => name.startsWith('damaged/')).length, 1);

      nowMs += 30 * 24 * 3600 * 1000;
      await collect();
      assert.ok(files.has(lost), 'a version lacks what lies in it');
      const second = await deliver('two');

      // Put back after this process had seen it damaged: it is looked at again, and counts.
      const late = await open();
      files.set(lost, { data: whole, modifiedAtMs: 0 });
      await late.collect(NOW);
      assert.ok(files.has(lost));
      await late.close();
      files.set(lost, { data: table, modifiedAtMs: 0 });
      await collect();
      assert.ok(!files.has(lost));
      assert.equal([...files.keys()].filter((name) => name.startsWith('damaged/')).length, 0);
      const reader = await open();
      assert.deepEqual((await reader.check(NOTED)).damages, []);
      for (const pointId of [first, second]) {
        assert.ok((await readByStream(await (await reader.openPoint(pointId)).openDisk('d0'))).equals(noise('one')));
      }
      await reader.close();
    });
  });

  it('stays for a week when nothing tells what lay in it: it may be on its way here', async () => {
    let nowMs = Date.now();
    const clock = { ...systemClock, nowMs: () => nowMs };
    await withRepository(async ({ storage }) => {
      const { files } = storage.disk;
      const repository = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0, clock });
      await commitDisk(repository, 'one', noise('one'));
      // The beginning of a pack, as a copy that is under way leaves it. Nobody needs it yet.
      const halfName = dataPack(storage).replace(/[0-9a-f]{8}\.pack$/, '00000000.pack');
      files.set(halfName, { data: Buffer.from('DOZOPACK and so on'), modifiedAtMs: 0 });
      assert.deepEqual(
        (await repository.check(NOTED)).damages.map(({ name }) => name),
        [halfName],
      );
      for (const days of [0, 1, 5]) {
        nowMs += days * 24 * 3600 * 1000;
        await repository.collect(NOW);
        assert.ok(files.has(halfName));
      }
      nowMs += 2 * 24 * 3600 * 1000;
      await repository.collect(NOW);
      assert.ok(!files.has(halfName));
      assert.deepEqual((await repository.check(NOTED)).damages, []);
      await repository.close();
    });
  });
});

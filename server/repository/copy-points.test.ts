import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createMemoryDisk, errnoError, MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { CHUNK, commitDisk, readByStream, sparseContent } from '../../test/fakes/small-repository.ts';
import { copyPoints, createRepository, openRepository, type CopyReport } from './index.ts';
import type { KeptRepository, PointManifest } from './index.ts';

const PASSPHRASE = 'a passphrase for the copy';
const SIZE = 60 * CHUNK + 777;

interface Scene {
  source: KeptRepository;
  sourceStorage: MemoryStorage;
  contents: Map<string, Buffer>;
}

/** Three versions of one machine, each on the one before, and one of another machine with the same content. */
async function makeSource(): Promise<Scene> {
  const sourceStorage = new MemoryStorage();
  const source = await createRepository({ storage: sourceStorage, chunkSizeBytes: CHUNK, threads: 0 });
  const contents = new Map<string, Buffer>();
  let former: PointManifest | null = null;
  let content = sparseContent(SIZE, 1);
  for (let version = 0; version < 3; version += 1) {
    content = Buffer.from(content);
    if (version > 0) sparseContent(4 * CHUNK, version + 10).copy(content, version * 7 * CHUNK);
    // What had data becomes zero.
    if (version === 2) content.fill(0, 30 * CHUNK, 40 * CHUNK);
    const base = former === null ? null : await (await source.openPoint(former.pointId)).openDisk('d0');
    const files = [{ name: 'web.vmx', kind: 'vmx', content: Buffer.from(`version ${version}`) }];
    const part = { files, createdAtMs: 1000 + version, previousPointId: former?.pointId ?? null };
    former = await commitDisk(source, `v${version}`, content, part, base);
    contents.set(former.pointId, content);
  }
  const other = await commitDisk(source, 'other', sparseContent(SIZE, 1), { machineId: 'm2', createdAtMs: 2000 });
  contents.set(other.pointId, sparseContent(SIZE, 1));
  return { source, sourceStorage, contents };
}

async function copy(source: KeptRepository, target: KeptRepository, signal?: AbortSignal): Promise<CopyReport> {
  return copyPoints({
    source,
    target,
    pointIds: null,
    signal: signal ?? new AbortController().signal,
    begin: () => undefined,
    progress: () => undefined,
  });
}

async function assertCopied(target: KeptRepository, contents: ReadonlyMap<string, Buffer>): Promise<void> {
  const listings = await target.listPoints();
  assert.equal(listings.length, contents.size);
  for (const { pointId, manifest } of listings) {
    const { copiedFrom, quiesced } = manifest?.evidence as { copiedFrom: { pointId: string }; quiesced: boolean };
    assert.equal(quiesced, false, 'the evidence of the source stays');
    const point = await target.openPoint(pointId);
    const expected = contents.get(copiedFrom.pointId);
    assert.ok(expected !== undefined);
    assert.ok((await readByStream(await point.openDisk('d0'))).equals(expected), copiedFrom.pointId);
  }
  assert.deepEqual((await target.check({ depth: 'hashes' })).damages, []);
}

for (const [what, options] of Object.entries({
  'a plain one of the same chunk size': { chunkSizeBytes: CHUNK },
  'an encrypted one': { chunkSizeBytes: CHUNK, passphrase: PASSPHRASE },
  'one of larger chunks': { chunkSizeBytes: 4 * CHUNK },
  'one that hashes in another way': { chunkSizeBytes: CHUNK, identity: 'sha512-256' as const },
})) {
  describe(`a copy into ${what}`, () => {
    it('has every version, its files and its chain, and takes only what is new the next time', async () => {
      const { source, contents } = await makeSource();
      const storage = new MemoryStorage();
      const target = await createRepository({ storage, threads: 0, ...options });

      const first = await copy(source, target);
      assert.equal(first.copied.length, 4);
      assert.deepEqual(first.failed, []);
      await assertCopied(target, contents);
      const [one, two, three, other] = first.copied as [
        unknown,
        { readBytes: number },
        unknown,
        { storedBytes: number },
      ];
      assert.ok(one !== undefined && three !== undefined);
      assert.ok(two.readBytes <= 5 * CHUNK, 'only the difference to the version before is read');
      assert.ok(other.storedBytes < CHUNK, 'what is there from another machine is not stored again');
      const points = await target.listPoints();
      assert.equal(points[1]?.manifest?.previousPointId, points[0]?.pointId);
      assert.equal(points[1]?.manifest?.previousRootHash, points[0]?.manifest?.rootHash);
      const copied = await target.openPoint(points[1]?.pointId ?? '');
      assert.equal((await copied.readFile('web.vmx')).toString(), 'version 1');

      const writes = storage.log.filter(({ operation }) => operation === 'create').length;
      const again = await copy(source, target);
      assert.deepEqual(again, { copied: [], present: 4, repaired: [], failed: [] });
      assert.equal(storage.log.filter(({ operation }) => operation === 'create').length, writes, 'nothing is written');
      await source.close();
      await target.close();
    });
  });
}

describe('a copy', () => {
  it('that is interrupted anywhere goes on, without storing again what had arrived', async () => {
    const { source, contents } = await makeSource();
    const whole = new MemoryStorage();
    // Named in another way, so that everything is read back.
    const make = { chunkSizeBytes: CHUNK, threads: 0, identity: 'sha512-256' as const };
    const reference = await createRepository({ storage: whole, ...make });
    const from = whole.log.length;
    await copy(source, reference);
    const operations = whole.log.length - from;
    await reference.close();
    for (let at = 3; at < operations; at += Math.ceil(operations / 6)) {
      const disk = createMemoryDisk();
      await (await createRepository({ storage: new MemoryStorage(disk), ...make })).close();
      const dying = new MemoryStorage(disk);
      let count = 0;
      const target = await openRepository({ storage: dying, threads: 0 });
      dying.fault = () => {
        count += 1;
        return count >= at ? { when: 'before', error: errnoError('EIO') } : null;
      };
      await assert.rejects(copy(source, target), { code: 'STORAGE_FAILED' });
      await target.close();

      const next = await openRepository({ storage: new MemoryStorage(disk), threads: 0 });
      assert.deepEqual((await copy(source, next)).failed, []);
      await assertCopied(next, contents);
      await next.close();
    }
    await source.close();
  });

  it('ends when it is cancelled and has published nothing that is not whole', async () => {
    const { source } = await makeSource();
    const target = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: CHUNK, threads: 0 });
    const stop = new AbortController();
    const copying = copyPoints({
      source,
      target,
      pointIds: null,
      signal: stop.signal,
      begin: (_point, { number }) => {
        if (number === 2) stop.abort();
      },
      progress: () => undefined,
    });
    await assert.rejects(copying, { name: 'AbortError' });
    assert.equal((await target.listPoints()).length, 1);
    assert.deepEqual((await target.check({ depth: 'hashes' })).damages, []);
    await source.close();
    await target.close();
  });

  it('leaves a damaged version out, names it, and copies the others', async () => {
    const { source, sourceStorage } = await makeSource();
    await source.close();
    // In the order in which they were published: the second holds what the second version brought.
    const packs = [...sourceStorage.disk.files].filter(
      ([name, { data }]) => name.endsWith('.pack') && data.readUInt32LE(12) === 0,
    );
    const pack = packs[1]?.[1].data;
    assert.ok(pack !== undefined);
    pack[100] = (pack[100] as number) ^ 1;
    const target = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: CHUNK, threads: 0 });
    const source2 = await openRepository({ storage: sourceStorage, threads: 0 });
    const report = await copy(source2, target);
    assert.equal(report.copied.length + report.failed.length, 4);
    for (const { code, text } of report.failed) {
      assert.match(code, /^REPOSITORY_CHUNK/);
      assert.match(text, /Chunk [0-9a-f]{64}/);
    }
    assert.ok(report.failed.length > 0, 'a version was damaged');
    assert.deepEqual((await target.check({ depth: 'hashes' })).damages, []);
    await source2.close();
    await target.close();
  });

  it('sends again what was damaged at the target, and what is built on it', async () => {
    const { source, contents } = await makeSource();
    const [first] = await source.listPoints();
    const storage = new MemoryStorage();
    const make = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
    await copyPoints({
      ...{ source, target: make, pointIds: [first?.pointId ?? ''], signal: new AbortController().signal },
      ...{ begin: () => undefined, progress: () => undefined },
    });
    await make.close();
    for (const [name, { data }] of storage.disk.files) {
      if (name.endsWith('.pack') && data.readUInt32LE(12) === 0) data[100] = (data[100] as number) ^ 1;
    }
    const target = await openRepository({ storage, threads: 0 });
    const { damages } = await target.check({ depth: 'hashes', noteDamage: true });
    assert.deepEqual([...new Set(damages.map(({ code }) => code))], ['REPOSITORY_CHUNK_DAMAGED']);

    const report = await copy(source, target);
    assert.deepEqual(report.failed, []);
    assert.equal(report.copied.length, 3);
    await target.collect({ patienceMs: 0 });
    await assertCopied(target, contents);
    await source.close();
    await target.close();
  });

  for (const [what, other] of Object.entries({
    'of the same kind': { chunkSizeBytes: CHUNK },
    'encrypted, of other chunks': { chunkSizeBytes: 2 * CHUNK, passphrase: PASSPHRASE },
  })) {
    it(`comes back to make whole what was damaged, without a twin of any version (${what})`, async () => {
      const { source, sourceStorage, contents } = await makeSource();
      const second = await createRepository({ storage: new MemoryStorage(), threads: 0, ...other });
      await copy(source, second);
      await source.close();
      const ids = async (repository: KeptRepository): Promise<string[]> =>
        (await repository.listPoints()).map(({ pointId }) => pointId);
      const [copiesBefore, idsBefore] = [await ids(second), [...contents.keys()].sort()];
      // Of data and of pages; and a pack that is gone.
      const packs = [...sourceStorage.disk.files].filter(([name]) => name.startsWith('packs/'));
      for (const [, { data }] of packs) data[3000] = (data[3000] ?? 0) ^ 4;
      sourceStorage.disk.files.delete(packs[0]?.[0] ?? '');
      const damaged = await openRepository({ storage: new MemoryStorage(sourceStorage.disk), threads: 0 });
      assert.ok((await damaged.check({ depth: 'hashes', noteDamage: true })).damages.length > 0);

      const back = await copy(second, damaged);
      assert.deepEqual([back.copied, back.failed], [[], []]);
      assert.ok(back.repaired.length > 0);
      assert.equal(back.repaired.length + back.present, contents.size);
      assert.deepEqual((await ids(damaged)).sort(), idsBefore);
      // The other machine has the content of the first version, so what was sent for that made it whole.
      assert.equal((await damaged.listTrash()).length, back.repaired.length - 1);
      for (const [pointId, content] of contents) {
        const point = await damaged.openPoint(pointId);
        assert.ok((await readByStream(await point.openDisk('d0'))).equals(content));
        if (point.listFiles().length > 0) assert.match((await point.readFile('web.vmx')).toString(), /^version \d$/);
      }
      assert.equal((await damaged.collect({ patienceMs: 0 })).state, 'done');
      assert.deepEqual((await damaged.check({ depth: 'hashes' })).damages, []);
      assert.equal((await damaged.listTrash()).length, 0);

      // There and back again: nothing multiplies, also by way of a third.
      const third = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: CHUNK, threads: 0 });
      await copy(second, third);
      for (const [from, to] of [
        [second, damaged],
        [damaged, second],
        [damaged, third],
        [third, damaged],
        [third, second],
        [second, third],
      ] as const) {
        assert.deepEqual(await copy(from, to), { copied: [], present: contents.size, repaired: [], failed: [] });
      }
      assert.deepEqual((await ids(damaged)).sort(), idsBefore);
      assert.deepEqual(await ids(second), copiesBefore);
      for (const repository of [second, third, damaged]) await repository.close();
    });
  }

  for (const [what, other] of Object.entries({
    'of the same kind': { chunkSizeBytes: CHUNK },
    'encrypted, of other chunks': { chunkSizeBytes: 2 * CHUNK, passphrase: PASSPHRASE },
  })) {
    for (const lost of ['data', 'pages', 'data and the index'] as const) {
      it(`makes whole what the target has lost, unasked: ${lost} (${what})`, async () => {
        const { source, contents } = await makeSource();
        const storage = new MemoryStorage();
        const before = await createRepository({ storage, threads: 0, ...other });
        await copy(source, before);
        const ids = (await before.listPoints()).map(({ pointId }) => pointId);
        await before.close();
        const isOfPages = (data: Buffer): boolean => data.readUInt32LE(12) === 1;
        const [pack] = [...storage.disk.files].find(
          ([name, { data }]) => name.endsWith('.pack') && isOfPages(data) === (lost === 'pages'),
        ) as [string, unknown];
        storage.disk.files.delete(pack);
        if (lost === 'data and the index') {
          for (const name of [...storage.disk.files.keys()]) {
            if (name.startsWith('index/')) storage.disk.files.delete(name);
          }
        }
        const options = { threads: 0, ...('passphrase' in other ? { passphrase: other.passphrase } : {}) };
        const target = await openRepository({ storage: new MemoryStorage(storage.disk), ...options });
        assert.ok((await target.check({ depth: 'structure' })).damages.length > 0, 'a version lacks something');

        const report = await copy(source, target);
        assert.deepEqual([report.copied, report.failed], [[], []]);
        assert.ok(report.repaired.length > 0);
        assert.equal(report.repaired.length + report.present, contents.size);
        assert.deepEqual(
          (await target.listPoints()).map(({ pointId }) => pointId),
          ids,
        );
        await assertCopied(target, contents);
        assert.equal((await target.collect({ patienceMs: 0 })).state, 'done');
        await assertCopied(target, contents);
        assert.deepEqual(await copy(source, target), { copied: [], present: 4, repaired: [], failed: [] });
        await source.close();
        await target.close();
      });
    }
  }

  it('refuses to copy a repository into itself, and takes only the versions that were named', async () => {
    const { source } = await makeSource();
    await assert.rejects(copy(source, source), { code: 'CONFLICT' });
    const target = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: CHUNK, threads: 0 });
    const last = (await source.listPoints()).at(-1)?.pointId ?? '';
    const report = await copyPoints({
      source,
      target,
      pointIds: [last],
      signal: new AbortController().signal,
      begin: () => undefined,
      progress: () => undefined,
    });
    assert.deepEqual(
      report.copied.map((one) => one.pointId),
      [last],
    );
    await source.close();
    await target.close();
  });

  it('does not bring back what lies in the trash of the target', async () => {
    const { source } = await makeSource();
    const target = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: CHUNK, threads: 0 });
    await copy(source, target);
    const newest = (await target.listPoints()).at(-2)?.pointId ?? '';
    await target.deletePoint(newest, { keepUntilMs: Date.now() + 86_400_000, reason: 'not needed here' });
    const again = await copy(source, target);
    assert.deepEqual([again.copied.length, again.present], [0, 4]);
    await target.restorePoint(newest);
    assert.equal((await target.listPoints()).length, 4);
    assert.deepEqual((await target.check({ depth: 'hashes' })).damages, []);
    await source.close();
    await target.close();
  });

  it('goes on without a version that is deleted at the source meanwhile', async () => {
    const { source, contents } = await makeSource();
    const target = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: CHUNK, threads: 0 });
    const ids = [...contents.keys()];
    let deleting = Promise.resolve<unknown>(null);
    const openPoint = source.openPoint.bind(source);
    source.openPoint = async (pointId) => {
      await deleting;
      return openPoint(pointId);
    };
    const report = await copyPoints({
      source,
      target,
      pointIds: null,
      signal: new AbortController().signal,
      begin: ({ pointId }) => {
        if (pointId === ids[0]) deleting = source.deletePoint(ids[1] ?? '', { keepUntilMs: 2 ** 45, reason: 'rule' });
      },
      progress: () => undefined,
    });
    const sent = ids.filter((pointId) => pointId !== ids[1]);
    assert.deepEqual([report.copied.map(({ pointId }) => pointId), report.failed], [sent, []]);
    for (const { pointId, targetPointId } of report.copied) {
      const disk = await (await target.openPoint(targetPointId)).openDisk('d0');
      assert.ok((await readByStream(disk)).equals(contents.get(pointId) ?? Buffer.alloc(0)));
    }
    assert.deepEqual((await target.check({ depth: 'hashes' })).damages, []);
    for (const repository of [source, target]) await repository.close();
  });

  it('notices when the target gives back other bytes, and commits nothing', async () => {
    const { source } = await makeSource();
    const storage = new MemoryStorage();
    const target = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0, passphrase: PASSPHRASE });
    const create = storage.create.bind(storage);
    storage.create = async (name) => {
      const writer = await create(name);
      const { append } = writer;
      // Memory or cable that flips a bit on the way to the disk.
      writer.append = async (data) => {
        const all = Buffer.concat(Array.isArray(data) ? (data as Buffer[]) : [data as Buffer]);
        if (name.startsWith('packs/') && all.length > 2000) all[1500] = (all[1500] as number) ^ 2;
        await append.call(writer, all);
      };
      return writer;
    };
    const report = await copy(source, target);
    assert.ok(report.failed.length > 0);
    for (const { pointId } of report.copied) assert.ok(pointId !== '');
    const listed = (await target.listPoints()).length;
    assert.equal(listed, report.copied.length);
    await source.close();
    await target.close();
  });
});

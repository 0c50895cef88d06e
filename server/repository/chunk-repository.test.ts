import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import type { Extent } from '../disk/index.ts';
import { createRepository, openRepository, type PointManifest, type Repository, type WriteSession } from './index.ts';
import {
  CHUNK,
  commitDisk,
  readByStream,
  request,
  sparseContent,
  withRepository,
} from '../../test/fakes/small-repository.ts';

describe('a repository', () => {
  it('gives back a disk byte for byte, by reads and by the stream', async () => {
    await withRepository(async ({ repository }) => {
      const content = sparseContent(11 * CHUNK + 12_345, 1);
      const manifest = await commitDisk(repository, 's1', content);

      const disk = await (await repository.openPoint(manifest.pointId)).openDisk('d0');
      assert.ok(content.equals(await disk.read(0, content.length)));
      assert.ok(content.equals(await readByStream(disk)));
      const part = await disk.read(CHUNK - 7, 2 * CHUNK + 14);
      assert.ok(part.equals(content.subarray(CHUNK - 7, 3 * CHUNK + 7)));
      await assert.rejects(disk.read(content.length - 1, 2), { code: 'INVARIANT_BROKEN' });
      const report = await repository.check({ depth: 'hashes' });
      assert.deepEqual(report.damages, []);
    }, 2);
  });

  it('lists points oldest first, from another opening as well', async () => {
    await withRepository(async ({ repository, storage }) => {
      const first = await commitDisk(repository, 'a', sparseContent(3 * CHUNK, 1), { createdAtMs: 1_000 });
      const second = await commitDisk(repository, 'b', sparseContent(3 * CHUNK, 2), {
        createdAtMs: 2_000,
        previousPointId: first.pointId,
      });

      const other = await openRepository({ storage, threads: 0 });
      const points = await other.listPoints();
      assert.deepEqual(
        points.map((point) => point.manifest),
        [first, second],
      );
      assert.equal(second.previousRootHash, first.rootHash);
      await other.close();
    });
  });

  it('keeps the files of the machine, also those longer than a chunk', async () => {
    await withRepository(async ({ repository }) => {
      const big = randomBytes(2 * CHUNK + 99);
      big.fill(0, CHUNK, 2 * CHUNK);
      const files = [
        { name: 'vm.vmx', kind: 'vmx', content: Buffer.from('guestOS = "other"\n') },
        { name: 'vm.nvram', kind: 'nvram', content: big },
        { name: 'empty', kind: 'other', content: Buffer.alloc(0) },
      ];
      const manifest = await commitDisk(repository, 's', sparseContent(CHUNK, 5), { files });

      const point = await repository.openPoint(manifest.pointId);
      assert.deepEqual(
        point.listFiles(),
        files.map(({ name, kind, content }) => ({ name, kind, sizeBytes: content.length })),
      );
      for (const { name, content } of files) assert.ok(content.equals(await point.readFile(name)));
      await assert.rejects(point.readFile('none'), { code: 'NOT_FOUND' });
    });
  });

  it('refuses to be made where one is, and to be opened where none is', async () => {
    const storage = new MemoryStorage();
    await assert.rejects(openRepository({ storage }), { code: 'REPOSITORY_NOT_FOUND' });
    await (await createRepository({ storage })).close();
    await assert.rejects(createRepository({ storage }), { code: 'REPOSITORY_EXISTS' });
    await assert.rejects(createRepository({ storage: new MemoryStorage(), chunkSizeBytes: 100_000 }), {
      code: 'INPUT_INVALID',
    });
    const readme = await storage.read('readme.txt');
    assert.match(readme.toString(), /backup repository of Dozo/);
  });
});

describe('an incremental write', () => {
  it('costs only a manifest when nothing is delivered', async () => {
    await withRepository(async ({ repository, storage }) => {
      const content = sparseContent(40 * CHUNK, 3);
      const first = await commitDisk(repository, 'a', content);
      const base = await (await repository.openPoint(first.pointId)).openDisk('d0');
      const before = storage.disk.files.size;
      const session = await repository.startWrite({ sessionId: 'b' });
      const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base });
      const { rootHash } = await writer.finish();
      const second = await session.commit(request({ previousPointId: first.pointId }));

      assert.equal(rootHash, first.disks[0]?.rootHash);
      assert.equal(storage.disk.files.size, before + 1);
      const disk = await (await repository.openPoint(second.pointId)).openDisk('d0');
      assert.ok(content.equals(await readByStream(disk)));
    });
  });

  it('stores nothing new when the same content is delivered again', async () => {
    await withRepository(async ({ repository }) => {
      const content = sparseContent(40 * CHUNK, 3);
      const first = await commitDisk(repository, 'a', content);
      const base = await (await repository.openPoint(first.pointId)).openDisk('d0');

      const again = await commitDisk(repository, 'b', content, {}, base);
      const elsewhere = await commitDisk(repository, 'c', content);

      for (const { disks } of [again, elsewhere]) {
        assert.equal(disks[0]?.rootHash, first.disks[0]?.rootHash);
        assert.equal(disks[0]?.stats.newBytes, 0);
        assert.equal(disks[0]?.stats.storedBytes, 0);
      }
    });
  });

  it('completes partly delivered chunks from the base, in whatever order pieces come', async () => {
    await withRepository(async ({ repository }) => {
      const content = sparseContent(9 * CHUNK + 100, 7);
      const first = await commitDisk(repository, 'a', content);
      const base = await (await repository.openPoint(first.pointId)).openDisk('d0');
      const session = await repository.startWrite({ sessionId: 'b' });
      const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base });
      const expected = Buffer.from(content);
      for (const [at, length] of [
        [8 * CHUNK + 50, 200],
        [10, 5],
        [CHUNK - 3, 6],
        [5 * CHUNK, CHUNK],
        [12, 30],
        [9 * CHUNK + 1, 99],
      ] as const) {
        const data = randomBytes(length);
        data.copy(expected, at);
        await writer.write(at, data);
      }
      expected.fill(0, 3 * CHUNK - 10, 4 * CHUNK + 10);
      await writer.zero(3 * CHUNK - 10, CHUNK + 20);
      await writer.finish();
      const second = await session.commit(request({ previousPointId: first.pointId }));

      const disk = await (await repository.openPoint(second.pointId)).openDisk('d0');
      assert.ok(expected.equals(await readByStream(disk)));
      const different: Extent[] = [];
      for await (const extent of disk.differentExtents(base)) different.push(extent);
      for (let at = 0; at < content.length; at += CHUNK) {
        const end = Math.min(at + CHUNK, content.length);
        const equal = content.subarray(at, end).equals(expected.subarray(at, end));
        const named: boolean = different.some(
          (one) => one.offsetBytes <= at && one.offsetBytes + one.lengthBytes >= end,
        );
        assert.equal(named, !equal, `chunk at ${at}`);
      }
    });
  });

  for (const [label, from, to] of [
    ['grown', 5 * CHUNK + 777, 700 * CHUNK + 5],
    ['shrunk', 700 * CHUNK + 5, 5 * CHUNK + 777],
    ['grown within its last chunk', 5 * CHUNK + 777, 5 * CHUNK + 1024],
    ['grown by whole chunks', 256 * CHUNK, 257 * CHUNK],
    ['shrunk by whole chunks', 257 * CHUNK, 256 * CHUNK],
    ['emptied', 5 * CHUNK, 0],
  ] as const) {
    it(`takes over a disk that was ${label}`, async () => {
      await withRepository(async ({ repository }) => {
        const content = sparseContent(from, 9);
        content[from - 1] = 1;
        const first = await commitDisk(repository, 'a', content);
        const base = await (await repository.openPoint(first.pointId)).openDisk('d0');
        const session = await repository.startWrite({ sessionId: 'b' });
        const writer = await session.openDisk({ key: 'd0', sizeBytes: to, base });
        await writer.finish();
        const second = await session.commit(request({}));

        const disk = await (await repository.openPoint(second.pointId)).openDisk('d0');
        const expected = Buffer.alloc(to);
        content.copy(expected);
        assert.ok(expected.equals(await readByStream(disk)));
        const tail: Extent[] = [];
        for await (const extent of disk.differentExtents(base)) tail.push(extent);
        const comparable = Math.floor(Math.min(from, to) / CHUNK) * CHUNK;
        assert.deepEqual(tail, to > comparable ? [{ offsetBytes: comparable, lengthBytes: to - comparable }] : []);
        assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
      });
    });
  }
});

describe('an interrupted write', () => {
  it('goes on from its last checkpoint', async () => {
    await withRepository(async ({ repository, storage }) => {
      const content = sparseContent(30 * CHUNK, 11);
      const session = await repository.startWrite({ sessionId: 'run-1' });
      const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      assert.equal(session.checkpointFacts, null);
      assert.equal(writer.resumed, false);
      await writer.write(0, Buffer.from(content.subarray(0, 10 * CHUNK + 500)));
      await session.checkpoint({ delivered: 10 * CHUNK + 500 });
      await writer.write(10 * CHUNK + 500, Buffer.from(content.subarray(10 * CHUNK + 500, 20 * CHUNK)));

      const other = await openRepository({ storage, threads: 0 });
      const next = await other.startWrite({ sessionId: 'run-1' });
      assert.deepEqual(next.checkpointFacts, { delivered: 10 * CHUNK + 500 });
      const resumed = await next.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      assert.equal(resumed.resumed, true);
      await resumed.write(10 * CHUNK + 500, Buffer.from(content.subarray(10 * CHUNK + 500)));
      await resumed.finish();
      const manifest = await next.commit(request({}));
      const disk = await (await other.openPoint(manifest.pointId)).openDisk('d0');
      assert.ok(content.equals(await readByStream(disk)));

      const third = await other.startWrite({ sessionId: 'run-1' });
      assert.equal(third.checkpointFacts, null);
      const fresh = await third.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      assert.equal(fresh.resumed, false);
      await third.abort();
      await other.close();
      await session.abort();
    });
  });

  it('starts over when the base is another one than at the checkpoint', async () => {
    await withRepository(async ({ repository }) => {
      const one = sparseContent(10 * CHUNK, 1);
      const first = await commitDisk(repository, 'a', one);
      const second = await commitDisk(repository, 'b', sparseContent(10 * CHUNK, 2));
      const session = await repository.startWrite({ sessionId: 'c' });
      const baseOf = async (manifest: PointManifest) => (await repository.openPoint(manifest.pointId)).openDisk('d0');
      const writer = await session.openDisk({ key: 'd0', sizeBytes: 10 * CHUNK, base: await baseOf(first) });
      await writer.write(0, Buffer.alloc(CHUNK, 1));
      await session.checkpoint(null);
      await session.abort();

      const next = await repository.startWrite({ sessionId: 'c' });
      const again = await next.openDisk({ key: 'd0', sizeBytes: 10 * CHUNK, base: await baseOf(second) });
      assert.equal(again.resumed, false);
      await again.finish();
      const manifest = await next.commit(request({}));
      assert.equal(manifest.disks[0]?.rootHash, second.disks[0]?.rootHash);
    });
  });

  it('re-uses what arrived, even without a checkpoint', async () => {
    await withRepository(async ({ repository, storage }) => {
      const content = randomBytes(20 * CHUNK);
      const session = await repository.startWrite({ sessionId: 'a' });
      const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      await writer.write(0, Buffer.from(content));
      await session.abort();
      await session.abort();

      const other = await openRepository({ storage, threads: 0 });
      const manifest = await commitDisk(other, 'b', content);
      assert.equal(manifest.disks[0]?.stats.newBytes, 0);
      await other.close();
    });
  });

  it('refuses a commit of a disk that is not finished or not there, and one after the end', async () => {
    await withRepository(async ({ repository }) => {
      const open = async (): Promise<WriteSession> => {
        const session = await repository.startWrite({ sessionId: 'x' });
        const writer = await session.openDisk({ key: 'd0', sizeBytes: CHUNK, base: null });
        await writer.write(0, Buffer.alloc(CHUNK, 1));
        return session;
      };
      const unfinished = await open();
      await assert.rejects(unfinished.commit(request({})), { code: 'INVARIANT_BROKEN' });
      const stranger = [{ key: 'd1', changeToken: null, facts: null }];
      await assert.rejects(unfinished.commit(request({ disks: stranger })), { code: 'INVARIANT_BROKEN' });
      await unfinished.abort();
      await assert.rejects(unfinished.commit(request({})), { code: 'CONFLICT' });
      assert.deepEqual(await repository.listPoints(), []);
    });
  });
});

describe('two writers at once', () => {
  it('each commit a complete point, whoever stores what both have', async () => {
    await withRepository(async ({ repository, storage }) => {
      const other = await openRepository({ storage, threads: 0 });
      const shared = sparseContent(30 * CHUNK, 21);
      const manifests = await Promise.all([
        commitDisk(repository, 'a', shared),
        commitDisk(repository, 'b', shared),
        commitDisk(other, 'c', shared),
      ]);

      assert.equal(new Set(manifests.map((manifest) => manifest.pointId)).size, 3);
      const third: Repository = await openRepository({ storage, threads: 0 });
      for (const { pointId } of manifests) {
        for (const reader of [repository, other, third]) {
          const disk = await (await reader.openPoint(pointId)).openDisk('d0');
          assert.equal(hashOf(await readByStream(disk)), hashOf(shared));
        }
      }
      assert.deepEqual((await third.check({ depth: 'hashes' })).damages, []);
      await other.close();
      await third.close();
    }, 2);
  });
});

function hashOf(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { openRepository, type ChunkRecall, type PointDisk, type PointManifest, type Repository } from './index.ts';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import {
  CHUNK,
  commitDisk,
  readByStream,
  request,
  sparseContent,
  withRepository,
} from '../../test/fakes/small-repository.ts';

const SIZE = 40 * CHUNK + 100;
const A = noisy(1);
const B = noisy(2);

function noisy(seed: number): Buffer {
  const content = sparseContent(SIZE, seed);
  // No chunk is all zero, and no two are alike.
  for (let at = 0; at < SIZE; at += CHUNK) content.write(`${String(seed)} ${String(at)}`, at);
  return content;
}

/** Says that every content is the former one: what then comes out was not hashed. */
function lying(former: PointDisk | null): ChunkRecall & { kept: Map<number, Buffer | null> } {
  const kept = new Map<number, Buffer | null>();
  return {
    former,
    kept,
    tagOf: () => Buffer.alloc(16, 1),
    matches: () => true,
    keep: (chunk, tag) => void kept.set(chunk, tag),
    forget: (from, to) => {
      for (let chunk = from; chunk < to; chunk += 1) kept.delete(chunk);
    },
  };
}

async function diskOf(repository: Repository, { pointId }: PointManifest): Promise<PointDisk> {
  return (await repository.openPoint(pointId)).openDisk('d0');
}

async function write(
  repository: Repository,
  content: Buffer,
  options: { base: PointDisk | null; recall: ChunkRecall },
): Promise<PointManifest> {
  const session = await repository.startWrite({ sessionId: `after-${String((await repository.listPoints()).length)}` });
  const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, ...options });
  for (let at = 0; at < content.length; at += 3 * CHUNK) await writer.write(at, content.subarray(at, at + 3 * CHUNK));
  await writer.finish();
  return session.commit(request({}));
}

describe('a content that is recognised', () => {
  for (const hasBase of [true, false]) {
    it(`takes the identity that the former version has there, unhashed, ${hasBase ? 'on it' : 'on nothing'}`, async () => {
      await withRepository(async ({ repository }) => {
        const former = await diskOf(repository, await commitDisk(repository, 'first', A));
        const recall = lying(former);

        const point = await write(repository, B, { base: hasBase ? former : null, recall });

        assert.ok((await readByStream(await diskOf(repository, point))).equals(A));
        assert.equal(point.disks[0]?.stats.newBytes, 0);
        assert.equal(point.disks[0].stats.duplicateBytes, SIZE);
        assert.equal(recall.kept.size, 41);
        assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
      });
    });
  }

  it('is hashed where there is no former version, or the former one has zeros', async () => {
    await withRepository(async ({ repository }) => {
      const empty = await diskOf(repository, await commitDisk(repository, 'zeros', Buffer.alloc(SIZE)));

      for (const former of [null, empty]) {
        const point = await write(repository, B, { base: null, recall: lying(former) });
        assert.ok((await readByStream(await diskOf(repository, point))).equals(B));
      }
    });
  });

  it('is stored again where no sound copy of the former chunk is known', async () => {
    for (const damage of [rot, (storage: MemoryStorage) => storage.disk.files.delete(packOf(storage, 0))]) {
      await withRepository(async ({ storage }) => {
        const open = () => openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
        const writer = await open();
        const first = await commitDisk(writer, 'first', A);
        await writer.close();
        damage(storage);
        const checker = await open();
        const { damages } = await checker.check({ depth: 'hashes', noteDamage: true });
        assert.ok(damages.length > 0);
        await checker.close();

        const repository = await open();
        const point = await write(repository, B, { base: null, recall: lying(await diskOf(repository, first)) });

        const chunks = damages.flatMap(({ affects }) => affects.flatMap(({ extents }) => extents));
        const expected = Buffer.from(A);
        for (const { offsetBytes, lengthBytes } of chunks)
          B.copy(expected, offsetBytes, offsetBytes, offsetBytes + lengthBytes);
        assert.ok(!expected.equals(A));
        assert.ok((await readByStream(await diskOf(repository, point))).equals(expected));
        assert.equal(
          point.disks[0]?.stats.newBytes,
          chunks.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
        );
        await repository.close();
      });
    }
  });

  it('is hashed where pages of the former version cannot be read', async () => {
    await withRepository(async ({ repository, storage }) => {
      const former = await diskOf(repository, await commitDisk(repository, 'first', A));
      storage.disk.files.delete(packOf(storage, 1));

      const point = await write(repository, B, { base: null, recall: lying(former) });

      assert.ok((await readByStream(await diskOf(repository, point))).equals(B));
    });
  });

  it('keeps no tag where zeros, or an older delivery, were the last', async () => {
    await withRepository(async ({ repository }) => {
      const recall = lying(null);
      const session = await repository.startWrite({ sessionId: 's' });
      const writer = await session.openDisk({ key: 'd0', sizeBytes: SIZE, base: null, recall });

      await writer.write(0, A);
      // All of it has its tags by then.
      await session.checkpoint({});
      assert.equal(recall.kept.size, 41);
      await writer.zero(CHUNK, 5 * CHUNK);
      await writer.write(8 * CHUNK, Buffer.alloc(CHUNK));
      await writer.write(10 * CHUNK, B.subarray(10 * CHUNK, 10 * CHUNK + 5));
      await writer.finish();
      const point = await session.commit(request({}));

      const expected = Buffer.from(A)
        .fill(0, CHUNK, 6 * CHUNK)
        .fill(0, 8 * CHUNK, 9 * CHUNK);
      B.copy(expected, 10 * CHUNK, 10 * CHUNK, 10 * CHUNK + 5);
      assert.ok((await readByStream(await diskOf(repository, point))).equals(expected));
      const none = [...Array(41).keys()].filter((chunk) => (recall.kept.get(chunk) ?? null) === null);
      assert.deepEqual(none, [1, 2, 3, 4, 5, 8]);
    });
  });
});

/** The pack of one kind: 0 holds chunks, 1 pages. */
function packOf(storage: MemoryStorage, kind: number): string {
  for (const [name, { data }] of storage.disk.files) {
    if (name.startsWith('packs/') && data.readUInt32LE(12) === kind) return name;
  }
  throw new Error('there is no such pack');
}

/** Changes one byte within the chunks. */
function rot(storage: MemoryStorage): void {
  const data = storage.disk.files.get(packOf(storage, 0))?.data ?? Buffer.alloc(0);
  data[2000] = (data[2000] ?? 0) ^ 1;
}

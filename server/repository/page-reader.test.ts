import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { CHUNK, request } from '../../test/fakes/small-repository.ts';
import { isAppError } from '../errors/index.ts';
import { createRepository, openRepository } from './index.ts';
import { PAGE_BYTES, PAGE_IDS } from './layout.ts';

const PAGES = 12;
const PAGE_OF_DISK_BYTES = PAGE_IDS * CHUNK;

/** A disk of the same chunks below each of its pages, in another order each: so no page compresses. */
async function makePages(storage: MemoryStorage, passphrase?: string): Promise<string> {
  const secret = passphrase === undefined ? {} : { passphrase };
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0, ...secret });
  const session = await repository.startWrite({ sessionId: 'pages' });
  const writer = await session.openDisk({ key: 'd0', sizeBytes: PAGES * PAGE_OF_DISK_BYTES, base: null });
  const chunks = Array.from({ length: PAGE_IDS }, (_, number) => Buffer.alloc(CHUNK, `chunk ${number}`));
  for (let page = 0; page < PAGES; page += 1) {
    const turned = Buffer.concat([...chunks.slice(page), ...chunks.slice(0, page)]);
    await writer.write(page * PAGE_OF_DISK_BYTES, turned);
  }
  await writer.finish();
  const { pointId } = await session.commit(request({ disks: [{ key: 'd0', changeToken: null, facts: null }] }));
  await repository.close();
  return pointId;
}

/** Walks all pages. @returns how often it read */
async function walk(storage: MemoryStorage, pointId: string, passphrase?: string): Promise<number> {
  const secret = passphrase === undefined ? {} : { passphrase };
  const repository = await openRepository({ storage, threads: 0, ...secret });
  try {
    const disk = await (await repository.openPoint(pointId)).openDisk('d0');
    const begin = storage.log.length;
    const extents = [];
    for await (const extent of disk.dataExtents()) extents.push(extent);
    assert.deepEqual(extents, [{ offsetBytes: 0, lengthBytes: PAGES * PAGE_OF_DISK_BYTES }]);
    return storage.log.slice(begin).filter(({ operation }) => operation === 'read').length;
  } finally {
    await repository.close();
  }
}

describe('the pages of a disk', () => {
  for (const [kind, passphrase] of [
    ['plain', undefined],
    ['encrypted', 'open sesame'],
  ] as const) {
    it(`are read several at a time from a repository that is ${kind}`, async () => {
      const storage = new MemoryStorage();
      const pointId = await makePages(storage, passphrase);

      const reads = await walk(storage, pointId, passphrase);

      // The pack's table, the root behind all others, and twelve pages in two pieces and what lies across.
      assert.ok(reads <= 6, `${reads} reads for ${PAGES + 1} pages`);
    });
  }

  it('are not given out when one of them is damaged', async () => {
    const storage = new MemoryStorage();
    const pointId = await makePages(storage);
    const packs = [...storage.disk.files].filter(([name]) => name.startsWith('packs/')).map(([, { data }]) => data);
    const pack = packs.find((data) => data.readUInt32LE(12) === 1 && data.length > PAGES * PAGE_BYTES);
    assert.ok(pack !== undefined);
    pack[3 * PAGE_BYTES] = (pack[3 * PAGE_BYTES] as number) ^ 1;

    await assert.rejects(
      walk(storage, pointId),
      (error) => isAppError(error) && error.code === 'REPOSITORY_CHUNK_DAMAGED',
    );
  });
});

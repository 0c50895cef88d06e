import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { describe, it } from 'node:test';
import {
  CHUNK,
  commitDisk,
  readByStream,
  request,
  sparseContent,
  withRepository,
} from '../../test/fakes/small-repository.ts';

/** More than are kept in memory while they are only partly there. */
const MANY = 320;

describe('chunks delivered in part', () => {
  it('are completed beside further deliveries, each with the latest bytes of every place', async () => {
    await withRepository(async ({ repository }) => {
      const content = sparseContent(MANY * CHUNK, 1);
      const first = await commitDisk(repository, 'a', content);
      const base = await (await repository.openPoint(first.pointId)).openDisk('d0');
      const session = await repository.startWrite({ sessionId: 'b' });
      const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base });
      const expected = Buffer.from(content);
      const write = async (at: number, length: number): Promise<void> => {
        const data = randomBytes(length);
        data.copy(expected, at);
        await writer.write(at, data);
      };

      const channels = Array.from({ length: 4 }, async (_, channel) => {
        // Each its own chunks, which come several times: in part, whole, as zeros, and in part again.
        for (let turn = 0; turn < 2 * MANY; turn += 1) {
          const chunk = 4 * randomInt(turn % 9 === 0 ? 3 : MANY / 4) + channel;
          if (turn % 7 === 5) await write(chunk * CHUNK, CHUNK);
          else if (turn % 11 === 10) {
            expected.fill(0, chunk * CHUNK, (chunk + 1) * CHUNK);
            await writer.zero(chunk * CHUNK, CHUNK);
          } else await write(chunk * CHUNK + 4096 * randomInt(12), 4096 * randomInt(1, 5));
          if (turn % 200 === 199) await session.checkpoint({ turn });
        }
      });
      await Promise.all(channels);
      await writer.finish();
      const second = await session.commit(request({ previousPointId: first.pointId }));

      const disk = await (await repository.openPoint(second.pointId)).openDisk('d0');
      assert.ok(expected.equals(await readByStream(disk)));
      assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
    }, 2);
  });

  it('are missed by no checkpoint when what stood there cannot be read, until all is delivered anew', async () => {
    await withRepository(async ({ repository, storage }) => {
      const content = Buffer.concat(Array.from({ length: 4 }, () => randomBytes(CHUNK)));
      const first = await commitDisk(repository, 'a', content);
      const base = await (await repository.openPoint(first.pointId)).openDisk('d0');
      const session = await repository.startWrite({ sessionId: 'b' });
      const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base });
      for (const [name, { data }] of storage.disk.files) {
        const at = name.endsWith('.pack') ? data.indexOf(content.subarray(CHUNK, CHUNK + 64)) : -1;
        if (at >= 0) data.fill(0, at, at + 64);
      }

      await writer.write(CHUNK + 5, Buffer.alloc(100, 7));

      for (let attempt = 0; attempt < 2; attempt += 1) {
        await assert.rejects(session.checkpoint({ attempt }), { code: 'REPOSITORY_CHUNK_DAMAGED' });
      }
      await assert.rejects(writer.write(3 * CHUNK, Buffer.alloc(100, 8)), { code: 'REPOSITORY_CHUNK_DAMAGED' });
      await assert.rejects(writer.finish(), { code: 'REPOSITORY_CHUNK_DAMAGED' });

      writer.beginAnew();
      const today = randomBytes(content.length);
      await writer.write(0, today);
      await session.checkpoint({});
      await writer.finish();
      const second = await session.commit(request({ previousPointId: first.pointId }));
      const disk = await (await repository.openPoint(second.pointId)).openDisk('d0');
      assert.ok(today.equals(await readByStream(disk)));
    });
  });
});

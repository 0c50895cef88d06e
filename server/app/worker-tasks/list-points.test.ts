import assert from 'node:assert/strict';
import { it } from 'node:test';
import { MemoryStorage } from '../../../test/fakes/memory-storage.ts';
import { CHUNK, request } from '../../../test/fakes/small-repository.ts';
import { createRepository } from '../../repository/index.ts';
import { listPoints } from './list-points.ts';

it('splits what takes no room into zeros, what was left out, what is stored twice, and compression', async () => {
  const repository = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: CHUNK, threads: 0 });
  const disks = [{ key: 'd0', changeToken: null, facts: null }];
  const deliver = async (sessionId: string, skippedChunks: number): Promise<void> => {
    const session = await repository.startWrite({ sessionId });
    const disk = await session.openDisk({ key: 'd0', sizeBytes: 20 * CHUNK, base: null });
    // Two of zeros, three that compress well; what is left out is delivered as zeros.
    await disk.write(0, Buffer.alloc(2 * CHUNK));
    await disk.zero(10 * CHUNK, skippedChunks * CHUNK);
    for (const at of [2, 3, 4]) await disk.write(at * CHUNK, Buffer.alloc(CHUNK, `text ${at}, again and again. `));
    await disk.finish();
    const skipped = { bytes: skippedChunks * CHUNK, volumes: [] };
    const evidence = { disks: [{ key: 'd0', ...(skippedChunks === 0 ? {} : { skipped }) }] };
    await session.commit(request({ disks, evidence, createdAtMs: 1 }));
  };
  await deliver('one', 4);
  await deliver('two', 0);

  const { stats } = await listPoints(repository);
  const { reduction } = stats;
  assert.ok(reduction !== undefined);
  const { compressedBytes, ...others } = reduction;
  assert.deepEqual(others, {
    unreadBytes: (20 - 5 - 4 + 20 - 5) * CHUNK,
    skippedBytes: 4 * CHUNK,
    zeroBytes: 4 * CHUNK,
    duplicateBytes: 3 * CHUNK,
  });
  assert.ok(compressedBytes > 2.5 * CHUNK && compressedBytes < 3 * CHUNK);
  assert.equal(stats.nominalBytes, 40 * CHUNK);
  await repository.close();
});

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { MemoryStorage } from '../../../test/fakes/memory-storage.ts';
import { CHUNK, commitDisk, sparseContent } from '../../../test/fakes/small-repository.ts';
import { AppError } from '../../errors/index.ts';
import type { TaskContext } from '../../queue/index.ts';
import { createRepository } from '../../repository/index.ts';
import { systemClock } from '../../runtime/index.ts';
import { maintainFolder } from './maintain-folder.ts';

it('says that a write-once share keeps all, and reads the store again all the same', async () => {
  const storage = new MemoryStorage();
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
  const content = sparseContent(20 * CHUNK, 4);
  const old = await commitDisk(repository, 'old', content);
  await commitDisk(repository, 'new', content, { createdAtMs: 2 });
  await repository.deletePoint(old.pointId, { keepUntilMs: Date.now() - 1, reason: 'rule' });
  const { remove } = storage;
  storage.remove = () => Promise.reject(new AppError('STORAGE_WRITE_ONCE', 'The share keeps its files.'));
  const codes: string[] = [];
  const context: TaskContext = {
    signal: new AbortController().signal,
    report: (event) => void (event.kind === 'log' && codes.push(`${event.line.level} ${event.line.code}`)),
  } as TaskContext;
  const task = {
    kind: 'maintenance' as const,
    runId: 'r',
    repository: { path: '/x' },
    patienceMs: 0,
    verify: { after: null, bytesMax: 2 ** 40, timeMs: 600_000 },
  };

  const kept = await maintainFolder(repository, task, context, systemClock);
  assert.equal(kept.removedPacks, 0);
  assert.deepEqual(kept.purgedPoints, []);
  assert.ok((kept.verification?.verifiedBytes ?? 0) > 0);
  assert.equal(kept.verification?.nextAfter, null);
  assert.ok(codes.includes('warning MAINTENANCE_WRITE_ONCE'));

  // The share's time to keep files is over; any other trouble of the storage ends a maintenance.
  storage.remove = () => Promise.reject(new AppError('STORAGE_READ_ONLY', 'No.'));
  await assert.rejects(maintainFolder(repository, task, context, systemClock), { code: 'STORAGE_READ_ONLY' });
  storage.remove = remove.bind(storage);
  codes.length = 0;
  const freed = await maintainFolder(repository, task, context, systemClock);
  assert.deepEqual(freed.purgedPoints, [old.pointId]);
  assert.ok(!codes.includes('warning MAINTENANCE_WRITE_ONCE'));
  await repository.close();
});

it('removes nothing early by a clock that was set forward, and says what to do', async () => {
  const repository = await createRepository({ storage: new MemoryStorage(), chunkSizeBytes: CHUNK, threads: 0 });
  const { pointId } = await commitDisk(repository, 'old', sparseContent(20 * CHUNK, 4));
  await repository.deletePoint(pointId, { keepUntilMs: Date.now() - 1, reason: 'rule' });
  const lines: string[] = [];
  const context: TaskContext = {
    signal: new AbortController().signal,
    report: (event) => void (event.kind === 'log' && lines.push(`${event.line.level}: ${event.line.text}`)),
  } as TaskContext;
  const task = { kind: 'maintenance' as const, runId: 'r', repository: { path: '/x' }, patienceMs: 0, verify: null };
  const doubt = { aheadMs: 9.6 * 86_400_000, settlesInMs: 40.2 * 3_600_000 };

  const kept = await maintainFolder(repository, { ...task, clockDoubt: doubt }, context, systemClock);
  assert.deepEqual(kept.purgedPoints, []);
  assert.match(lines[0] ?? '', /^warning: The clock was set forward by 10 days\..* 41 hours/);

  const freed = await maintainFolder(repository, { ...task, clockDoubt: null }, context, systemClock);
  assert.deepEqual(freed.purgedPoints, [pointId]);
  await repository.close();
});

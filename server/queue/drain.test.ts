import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { silentLogger, systemClock } from '../runtime/index.ts';
import { startEmbeddedRedis, startWorker, TaskQueue, type Processors } from './index.ts';

const PARTS = { prefix: 'dozo', clock: systemClock, logger: silentLogger };

test('a worker whose server is gone waits for takers of a run, not of an answer', { timeout: 300_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'dozo-drain-'));
  const server = await startEmbeddedRedis({ ...PARTS, folder, binary: null });
  const redis = { kind: 'socket', path: server.socketPath } as const;
  const queue = new TaskQueue({ ...PARTS, redis, onEvent: () => undefined, onEnd: () => undefined });
  const answers = { probe: async () => 'an answer', check: async () => 'a result' };
  const worker = startWorker({ ...PARTS, redis, concurrency: 2, processors: answers as unknown as Processors });
  try {
    await queue.enqueue('asked', { kind: 'probe', address: 'sealed' });
    await queue.enqueue('owed', { kind: 'check', runId: 'run', repository: { path: '/r' }, depth: 'structure' });
    while ((await queue.look('asked', ['requests'])).state !== 'ended') await sleep(50);
    while ((await queue.look('owed')).state !== 'ended') await sleep(50);

    let isDrained = false;
    const draining = worker.drain(3_600_000).then(() => (isDrained = true));
    await sleep(1_500);
    assert.equal(isDrained, false, 'it ended before anybody had taken the result');
    await queue.forget('owed');
    await draining;
  } finally {
    await worker.close(60_000);
    await queue.close();
    await server.stop();
    await rm(folder, { recursive: true });
  }
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Redis } from 'ioredis';
import { silentLogger, systemClock } from '../runtime/index.ts';
import { startEmbeddedRedis } from './embedded-redis.ts';
import { createKeys } from './keys.ts';
import { NO_LIMITS, type WorkerLimits } from './limits.ts';
import { SharedBudget } from './shared-budget.ts';

const MIB = 1024 * 1024;

const TICK_MS = 50;
/** So much of the time of the last measurement this process was not let run. */
let stoodStillShare = 0;

/** Takes as fast as it may until told to stop, as a reader does; gives how much that was. */
async function readFor(budget: SharedBudget, runId: string, ms: number): Promise<number> {
  const endMs = performance.now() + ms;
  stoodStillShare = 0;
  let tickedMs = performance.now();
  const ticking = setInterval(() => {
    const nowMs = performance.now();
    if (nowMs - tickedMs > 4 * TICK_MS) stoodStillShare = Math.max(stoodStillShare, (nowMs - tickedMs) / ms);
    tickedMs = nowMs;
  }, TICK_MS);
  try {
    return await readUntil(budget, runId, endMs);
  } finally {
    clearInterval(ticking);
  }
}

async function readUntil(budget: SharedBudget, runId: string, endMs: number): Promise<number> {
  let bytes = 0;
  while (performance.now() < endMs) {
    await budget.take(runId, MIB / 4, AbortSignal.timeout(60_000));
    if (performance.now() < endMs) bytes += MIB / 4;
  }
  return bytes;
}

/** Never more than a share above; a machine that is busy with other things, or stood still, may be further below. */
function assertNear(actual: number, wanted: number, share: number, what: string): void {
  const off = (actual - wanted) / wanted;
  const text = `${what}: ${(actual / 1e6).toFixed(2)} MB instead of ${(wanted / 1e6).toFixed(2)} MB`;
  assert.ok(off <= share && (off >= -0.7 || stoodStillShare > 0.1), text);
}

describe('a budget that workers share', { timeout: 900_000 }, () => {
  let folder: string;
  let server: Awaited<ReturnType<typeof startEmbeddedRedis>>;
  const opened: Redis[] = [];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dozo-budget-'));
    server = await startEmbeddedRedis({ folder, binary: null, clock: systemClock, logger: silentLogger });
  });
  after(async () => {
    for (const redis of opened) redis.disconnect();
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  });

  /** Each a worker of its own, with a connection of its own. */
  async function makeWorkers(count: number, limits: Partial<WorkerLimits>): Promise<SharedBudget[]> {
    const prefix = randomBytes(4).toString('hex');
    const budgets: SharedBudget[] = [];
    for (let index = 0; index < count; index += 1) {
      const redis = new Redis({ path: server.socketPath, lazyConnect: true, retryStrategy: () => null });
      redis.on('error', () => undefined);
      opened.push(redis);
      await redis.connect();
      const budget = new SharedBudget(redis, createKeys(prefix), systemClock);
      budget.update({ ...NO_LIMITS, ...limits }, count);
      budgets.push(budget);
    }
    return budgets;
  }

  it('holds three tasks of two workers to the limit within a tenth, and gives each a third', async () => {
    const [one, two] = (await makeWorkers(2, { bytesPerSecond: 12e6 })) as [SharedBudget, SharedBudget];
    const bytes = await Promise.all([readFor(one, 'a', 4000), readFor(two, 'b', 4000), readFor(two, 'c', 4000)]);

    const total = bytes.reduce((sum, each) => sum + each, 0);
    assertNear(total, 48e6, 0.1, 'in total');
    for (const each of bytes) assertNear(each, 16e6, 0.2, 'each');
  });

  it('holds a run to its own limit and leaves the rest of the common one to others', async () => {
    const limits = { bytesPerSecond: 12e6, runBytesPerSecond: { slow: 3e6 } };
    const [one, two] = (await makeWorkers(2, limits)) as [SharedBudget, SharedBudget];
    const [slow = 0, fast = 0] = await Promise.all([readFor(one, 'slow', 4000), readFor(two, 'fast', 4000)]);

    assertNear(slow, 12e6, 0.15, 'the run with a limit of its own');
    assertNear(fast, 36e6, 0.15, 'the other');
    assert.equal(one.allowedBytesPerSecond('slow'), 3e6);
    assert.equal(one.allowedBytesPerSecond('fast'), 12e6);
  });

  it('does not save up what was not used', async () => {
    const [budget] = (await makeWorkers(1, { bytesPerSecond: 4e6 })) as [SharedBudget];
    await readFor(budget, 'a', 200);
    await systemClock.sleep(1500);
    assertNear(await readFor(budget, 'a', 3000), 12e6, 0.12, 'after a pause');
  });

  it('lets everything through at once while there is no limit', async () => {
    const [budget] = (await makeWorkers(1, {})) as [SharedBudget];
    const startedMs = performance.now();
    for (let index = 0; index < 10_000; index += 1) await budget.take('a', MIB, AbortSignal.timeout(60_000));
    assert.ok(performance.now() - startedMs < 60_000);
    assert.equal(budget.allowedBytesPerSecond('a'), null);
  });

  it('ends its waiting when the task is cancelled', async () => {
    const [budget] = (await makeWorkers(1, { bytesPerSecond: 1e5 })) as [SharedBudget];
    const stop = new AbortController();
    const waiting = budget.take('a', 100 * MIB, stop.signal);
    setTimeout(() => stop.abort(), 300);
    const startedMs = performance.now();
    await assert.rejects(waiting);
    assert.ok(performance.now() - startedMs < 60_000);
  });

  it('keeps to its share of the limit while Redis is away', async () => {
    const budgets = await makeWorkers(2, { bytesPerSecond: 12e6 });
    for (const redis of opened) redis.disconnect();
    const bytes = await Promise.all(budgets.map((budget) => readFor(budget, 'a', 3000)));
    for (const each of bytes) assertNear(each, 18e6, 0.12, 'each');
  });
});

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WorkerTask } from '../../server/contract/task.ts';
import { openCatalogue } from '../../server/database/index.ts';
import { type Answer, ServerLab, fakeMachine } from './server-lab.ts';

/** What must hold after any fault: everything ended, nothing left, nothing done twice at the same time. */
async function assertAllWell(lab: ServerLab, run: Answer): Promise<void> {
  await lab.until(async () => ((await lab.call('GET', '/system')).openHolds === 0 ? true : null), 'no open holds');
  for (const part of run.parts) {
    const log = await lab.call('GET', `/runs/${run.id}/log`);
    const keys = log.lines.map((line: { atMs: number; code: string; text: string }) => JSON.stringify(line));
    assert.equal(new Set(keys).size, keys.length, 'no line twice');
    assert.ok(part.finishedAtMs !== null);
  }
}

describe('faults in the middle of runs', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
  });
  after(() => lab.destroy());
  afterEach(() => lab.script({}));

  /** A run whose machines are both at work, and stay so until the script says otherwise. */
  async function startHeldRun(): Promise<string> {
    lab.script({ hold: true });
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    await lab.until(async () => {
      const run = await lab.call('GET', `/runs/${started.id}`);
      return run.parts.every((part: Answer) => part.state === 'running' && part.progress !== null) ? true : null;
    }, 'both machines to run');
    return started.id as string;
  }

  async function untilStarted(runId: string, times: number): Promise<void> {
    const run = await lab.call('GET', `/runs/${runId}`);
    await lab.until(async () => (startsOf(run) >= times ? true : null), `${times} starts`);
  }

  function startsOf(run: Answer): number {
    const tasks = new Set(run.parts.map((part: Answer) => part.id));
    return lab.journal('backup-start').filter((entry) => tasks.has(entry['task'])).length;
  }

  it('goes on when Redis is killed: nothing is done twice, no line is lost', async () => {
    const runId = await startHeldRun();
    const { redis } = await lab.pids();
    lab.kill(redis);
    lab.script({});

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'success');
    assert.equal(startsOf(run), 2);
    assert.notEqual((await lab.pids()).redis, redis);
    const log = await lab.call('GET', `/runs/${runId}/log`);
    assert.equal(log.lines.filter((line: Answer) => line.code === 'FAKE_ENDED').length, 2);
    await assertAllWell(lab, run);
  });

  it('goes on when Redis forgets everything: the worker keeps its tasks, the results arrive', async () => {
    const runId = await startHeldRun();
    await lab.tellRedis('FLUSHALL');
    lab.script({});

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'success');
    assert.equal(startsOf(run), 2);
    await assertAllWell(lab, run);
  });

  it('goes on when Redis forgets everything while tasks wait for their turn', async () => {
    await lab.call('PATCH', '/settings', { tasksPerHost: 16, tasksPerDatastore: 16 });
    const machines = [1, 2, 3, 4, 5].map((number) => fakeMachine(`many ${number}`, 100 + number));
    lab.script({ hold: true, machines });
    await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
    const known = await lab.call('GET', '/machines?search=many');
    const job = await lab.call('POST', '/jobs', {
      name: 'many',
      machineIds: known.map((machine: Answer) => machine.id),
      repositoryId: ids.repositoryId,
    });
    const started = await lab.call('POST', `/jobs/${job.id}/run`, {});
    await lab.until(async () => {
      const run = await lab.call('GET', `/runs/${started.id}`);
      return startsOf(run) === 2 && (await lab.countQueued()) === 3 ? true : null;
    }, 'two machines at work and three that wait');
    await lab.tellRedis('FLUSHALL');
    lab.script({ machines });

    const run = await lab.waitForRun(started.id);

    assert.equal(run.state, 'success');
    assert.equal(startsOf(run), 5);
    const log = await lab.call('GET', `/runs/${run.id}/log`);
    assert.ok(log.lines.some((line: Answer) => line.code === 'QUEUE_FORGOT_TASK'));
    await assertAllWell(lab, run);
    await lab.call('PATCH', '/settings', { tasksPerHost: 2, tasksPerDatastore: 4 });
  });

  it('takes a task up again, with the same hold, when its worker is killed', async () => {
    const runId = await startHeldRun();
    lab.kill(...(await lab.pids()).workers);
    await untilStarted(runId, 4);
    lab.script({});

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'success');
    const tasks = new Set(run.parts.map((part: Answer) => part.id));
    const starts = lab.journal('backup-start').filter((entry) => tasks.has(entry['task']));
    assert.equal(starts.length, 4);
    assert.equal(new Set(starts.map((entry) => entry['hold'])).size, 2);
    assert.deepEqual(
      run.parts.map((part: Answer) => part.attempts),
      [2, 2],
    );
    await assertAllWell(lab, run);
  });

  it('forgives a worker that dies once, and ends a run whose worker dies again and again', async () => {
    lab.script({ backupMs: 300, crashOnce: ['one'] });
    const forgiven = await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
    assert.equal(forgiven.state, 'success');
    await assertAllWell(lab, forgiven);

    lab.script({ backupMs: 300, crashAlways: ['one'] });
    const [machineId] = ids.machineIds;
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, { machineIds: [machineId] });
    const ended = await lab.waitForRun(started.id);
    assert.equal(ended.state, 'failed');
    assert.equal(ended.error.code, 'WORKER_LOST');
    assert.ok(startsOf(ended) >= 2 && startsOf(ended) <= 5, `${startsOf(ended)} attempts`);
    await assertAllWell(lab, ended);
    const holds = lab.journal('backup-start').filter((entry) => entry['task'] === ended.parts[0].id);
    const swept = lab.journal('sweep').flatMap((entry) => entry['holds'] as string[]);
    assert.ok(swept.includes(holds[0]?.['hold'] as string));
  });

  it('takes runs up again when the server is killed; its worker brings them to their end', async () => {
    const runId = await startHeldRun();
    await lab.killServer();
    await sleep(500);
    await lab.start();
    lab.script({});

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'success');
    assert.equal(startsOf(run), 2);
    await assertAllWell(lab, run);
  });

  it('finds the result of a run that ended while no server was there', async () => {
    const ends = lab.journal('backup-end').length;
    const runId = await startHeldRun();
    await lab.killServer();
    lab.script({});
    await lab.until(async () => (lab.journal('backup-end').length === ends + 2 ? true : null), 'both machines to end');
    await lab.start();

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'success');
    assert.equal(startsOf(run), 2);
    await assertAllWell(lab, run);
  });

  it('leaves no worker behind that was just starting when its server was killed', async () => {
    const [worker] = (await lab.pids()).workers;
    lab.kill(worker);
    let next = 0;
    await lab.until(async () => {
      next = (await lab.pids()).workers[0] ?? 0;
      return next !== 0 && next !== worker ? true : null;
    }, 'the next worker');
    await lab.killServer();
    await lab.until(async () => (existsSync(`/proc/${next}/exe`) ? null : true), 'the worker to end');
    await lab.until(
      async () => ((await lab.tellRedis('PING').catch(() => 'gone')) === 'gone' ? true : null),
      'its Redis to end',
    );
    await lab.start();
  });

  it('survives the death of everything at once', async () => {
    const runId = await startHeldRun();
    const { redis, workers } = await lab.pids();
    await lab.killServer();
    lab.kill(redis, ...workers);
    await lab.start();
    await untilStarted(runId, 4);
    lab.script({});

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'success');
    assert.equal(startsOf(run), 4);
    await assertAllWell(lab, run);
  });

  it('ends a task that it does not understand any more, and keeps no other waiting for it', async () => {
    const runId = await startHeldRun();
    const { redis, workers } = await lab.pids();
    await lab.killServer();
    lab.kill(...workers);
    await lab.tellRedis('FLUSHALL');
    lab.kill(redis);
    // As if an upgrade had changed what a task looks like.
    const catalogue = await openCatalogue(join(lab.dataFolder, 'catalogue.sqlite'));
    const [part] = await catalogue.parts.listActive();
    await catalogue.parts.saveEnqueued(part?.id ?? '', { kind: 'backup', form: 'old' } as unknown as WorkerTask, 1);
    await catalogue.close();
    lab.script({});
    await lab.start();

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'failed');
    assert.equal(run.error.code, 'INPUT_INVALID');
    assert.match(run.error.hint, /another version/);
    assert.deepEqual(
      run.parts.map(({ id, state }: Answer) => [id === part?.id, state]),
      [
        [true, 'failed'],
        [false, 'success'],
      ],
    );
    await assertAllWell(lab, run);
  });

  it('gives running tasks back when it is stopped in order, and goes on at the next start', async () => {
    const cancelled = lab.journal('backup-cancelled').length;
    const runId = await startHeldRun();
    await lab.stop();
    assert.equal(lab.journal('backup-cancelled').length, cancelled + 2);
    lab.script({});
    await lab.start();

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'success');
    await assertAllWell(lab, run);
  });

  it('cancels while Redis is away', async () => {
    const runId = await startHeldRun();
    lab.kill((await lab.pids()).redis);
    await lab.call('POST', `/runs/${runId}/cancel`, {});

    const run = await lab.waitForRun(runId);

    assert.equal(run.state, 'cancelled');
    await assertAllWell(lab, run);
  });

  it('remembers what is left on a host that is away, through a restart, and removes it', async () => {
    lab.script({ hold: true, leaveHold: ['one'] });
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    await lab.until(async () => {
      const run = await lab.call('GET', `/runs/${started.id}`);
      return run.parts.every((part: Answer) => part.state === 'running') ? true : null;
    }, 'the run');
    lab.script({ leaveHold: ['one'], hostDown: true });
    const run = await lab.waitForRun(started.id);
    assert.equal(run.state, 'warning');
    assert.equal(run.parts.filter((part: Answer) => !part.holdReleased).length, 1);
    const refused = await lab.send(`/hosts/${ids.hostId}`, { method: 'DELETE' });
    assert.equal(refused.status, 409);

    await lab.killServer();
    lab.script({});
    await lab.start();

    await lab.until(async () => ((await lab.call('GET', '/system')).openHolds === 0 ? true : null), 'the sweep');
    const log = await lab.call('GET', `/runs/${run.id}/log`);
    assert.ok(log.lines.some((line: Answer) => line.code === 'HOLD_SWEPT'));
  });

  it('lets only one server use a data folder', async () => {
    const second = new ServerLab({ DOZO_DATA_DIR: lab.dataFolder, DOZO_LOG_LEVEL: 'silent' });
    await assert.rejects(second.start(), /ended/);
    assert.equal((await lab.send('/health')).status, 200);
  });
});

describe('two workers', { timeout: 900_000 }, () => {
  const lab = new ServerLab({ DOZO_WORKERS: '2', DOZO_WORKER_CONCURRENCY: '1' });
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
  });
  after(() => lab.destroy());

  it('share the machines, and never do one twice, whatever Redis forgets', async () => {
    lab.script({ hold: true });
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    await lab.until(async () => (lab.journal('backup-start').length === 2 ? true : null), 'both to start');
    const pids = new Set(lab.journal('backup-start').map((entry) => entry['pid']));
    assert.equal(pids.size, 2);
    await lab.tellRedis('FLUSHALL');
    await sleep(1_000);
    lab.kill((await lab.pids()).redis);
    lab.script({});

    const run = await lab.waitForRun(started.id);

    assert.equal(run.state, 'success');
    assert.equal(lab.journal('backup-start').length, 2);
    await assertAllWell(lab, run);
  });
});

describe('random deaths', { timeout: 600_000 }, () => {
  const lab = new ServerLab();
  const seed = Number(process.env['DOZO_TEST_SEED'] ?? Math.floor(Math.random() * 1e9));
  const deaths = Number(process.env['DOZO_TEST_DEATHS'] ?? 8);
  let state = seed;
  /** Numbers that a seed repeats (a linear congruential generator is random enough here). */
  const random = (limit: number): number => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * limit);
  };
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;

  /** Many deaths in one task's time may use up its attempts; then it says so, and the host is clean. */
  const assertEndedWell = (run: Answer): void => {
    if (run.state !== 'success') assert.equal(run.error?.code, 'WORKER_LOST');
  };

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
  });
  after(() => lab.destroy());

  it(`lose no run and leave no hold (DOZO_TEST_SEED=${seed} DOZO_TEST_DEATHS=${deaths})`, async () => {
    lab.script({ backupMs: 1_500 });
    let runId = (await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id as string;
    let ended = 0;
    for (let death = 0; death < deaths; death += 1) {
      await sleep(random(2_500));
      const { redis, workers } = await lab.pids();
      switch (random(5)) {
        case 0:
          lab.kill(redis);
          break;
        case 1:
          lab.kill(...workers);
          break;
        case 2:
          await lab.tellRedis('FLUSHALL').catch(() => '');
          break;
        case 3:
          await lab.killServer();
          await lab.start();
          break;
        default:
          await lab.killServer();
          lab.kill(redis, ...workers);
          await lab.start();
      }
      const run = await lab.call('GET', `/runs/${runId}`);
      if (run.finishedAtMs === null) continue;
      assertEndedWell(run);
      ended += 1;
      runId = (await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id;
    }
    const last = await lab.waitForRun(runId);
    assertEndedWell(last);
    await assertAllWell(lab, last);
    const { runs } = await lab.call('GET', '/runs');
    assert.equal(runs.length, ended + 1);
  });
});

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fakeMachine, ServerLab, type Answer } from './server-lab.ts';

/** The worker has two places, the host as many; four machines want them, and none of these ends by itself. */
describe('a restore while backups hold every place', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;
  let pointId = '';
  let backupRunId = '';

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
    await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
    pointId = await lab.until(async () => (await lab.call('GET', '/points')).points[0]?.id ?? null, 'a version');
    const machines = [1, 2, 3, 4].map((number) => fakeMachine(`long ${number}`, 100 + number));
    lab.script({ hold: 'backup', machines });
    await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
    const known = await lab.call('GET', '/machines?search=long');
    const job = await lab.call('POST', '/jobs', {
      name: 'the first full backup of all',
      machineIds: known.map((machine: Answer) => machine.id),
      repositoryId: ids.repositoryId,
    });
    backupRunId = (await lab.call('POST', `/jobs/${job.id}/run`, {})).id;
    await untilBackupsHoldAll();
  });
  after(() => lab.destroy());

  async function listStates(): Promise<string[]> {
    const run = await lab.call('GET', `/runs/${backupRunId}`);
    return run.parts.map((part: Answer) => part.state).sort();
  }

  async function untilBackupsHoldAll(): Promise<void> {
    await lab.until(
      async () => ((await listStates()).join() === 'running,running,waiting,waiting' ? true : null),
      'two backups at work and two that wait',
    );
  }

  /** Ends well while no backup is given up or ends. */
  async function assertSucceeds(runId: string): Promise<Answer> {
    const run = await lab.waitForRun(runId);
    assert.equal(run.state, 'success');
    const states = await listStates();
    assert.deepEqual(states.slice(0, 2), ['running', 'running']);
    assert.ok(states.every((state) => state === 'running' || state === 'waiting'));
    return run;
  }

  async function startRestore(name: string): Promise<string> {
    const body = { pointId, hostId: ids.hostId, mode: { kind: 'new', name } };
    return (await lab.call('POST', '/restores', body)).id;
  }

  /** Executions of a run's only task. */
  async function listStarts(runId: string, what = 'restore-start'): Promise<Record<string, unknown>[]> {
    const run = await lab.call('GET', `/runs/${runId}`);
    return lab.journal(what).filter((entry) => entry['task'] === run.parts[0].id);
  }

  async function untilStarted(runId: string, times = 1): Promise<void> {
    await lab.until(async () => ((await listStarts(runId)).length >= times ? true : null), `${times} starts`);
  }

  it('begins and ends, one after another, and so does an export', async () => {
    const first = await startRestore('first');
    const second = await startRestore('second');
    const disk = await lab.call('POST', '/exports', { pointId, diskKey: 'scsi0:0', path: '/volume1/disk.img' });

    for (const runId of [first, second, disk.id]) await assertSucceeds(runId);
    assert.equal((await listStarts(disk.id, 'export-start')).length, 1);
  });

  it('goes on when its worker is killed in the middle, with the same hold', async () => {
    lab.script({ hold: true });
    const runId = await startRestore('killed');
    await untilStarted(runId);
    // What a worker has not said when it is killed nobody counts.
    await lab.until(
      async () => ((await lab.call('GET', `/runs/${runId}`)).parts[0].attempts === 1 ? true : null),
      'its word that it has begun',
    );
    lab.kill(...(await lab.pids()).workers);
    await untilStarted(runId, 2);
    lab.script({ hold: 'backup' });

    const run = await assertSucceeds(runId);

    assert.equal(run.parts[0].attempts, 2);
    const starts = await listStarts(runId);
    assert.equal(starts.length, 2);
    assert.equal(new Set(starts.map((entry) => entry['hold'])).size, 1);
  });

  it('is taken out again while it waits behind another restore', async () => {
    lab.script({ hold: true });
    const first = await startRestore('at work');
    await untilStarted(first);
    const second = await startRestore('never');
    await lab.call('POST', `/runs/${second}/cancel`, {});
    assert.equal((await lab.waitForRun(second)).state, 'cancelled');
    assert.equal((await listStarts(second)).length, 0);
    lab.script({ hold: 'backup' });
    await assertSucceeds(first);
  });

  it('is done once when Redis forgets everything, also where it still waited for its turn', async () => {
    lab.script({ hold: true });
    await lab.call('PATCH', '/settings', { tasksPerHost: 16, tasksPerDatastore: 16 });
    const runIds: string[] = [];
    for (const name of ['one', 'two', 'three']) runIds.push(await startRestore(name));
    await untilStarted(runIds[0] ?? '');
    // Two backups, and the last restore at least.
    await lab.until(async () => ((await lab.countQueued()) >= 3 ? true : null), 'tasks that wait in the queue');
    await lab.tellRedis('FLUSHALL');
    lab.script({ hold: 'backup' });

    for (const runId of runIds) {
      await assertSucceeds(runId);
      assert.equal((await listStarts(runId)).length, 1);
    }
    const log = await lab.call('GET', `/runs/${backupRunId}/log`);
    assert.ok(log.lines.some((line: Answer) => line.code === 'QUEUE_FORGOT_TASK'));
    await lab.call('PATCH', '/settings', { tasksPerHost: 2, tasksPerDatastore: 4 });
  });

  it('goes on when the server is killed and started again', async () => {
    lab.script({ hold: true });
    const runId = await startRestore('orphan');
    await untilStarted(runId);
    await lab.killServer();
    await lab.start();
    lab.script({ hold: 'backup' });

    await assertSucceeds(runId);
    assert.equal((await listStarts(runId)).length, 1);
  });

  it('leaves the backups whole: they end as soon as they may', async () => {
    lab.script({});
    assert.equal((await lab.waitForRun(backupRunId)).state, 'success');
    // The worker that outlived its server has handed over all it had, and is gone.
    await lab.until(async () => {
      const { openHolds, workers } = await lab.call('GET', '/system');
      return openHolds === 0 && workers.length === 1 ? true : null;
    }, 'no open holds and one worker');
  });
});

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ServerLab } from './server-lab.ts';

describe('schedules of a server', { timeout: 180_000 }, () => {
  const lab = new ServerLab();
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
  });
  after(() => lab.destroy());

  it('shows the next runs before anything is saved', async () => {
    const { runsAtMs } = await lab.call('POST', '/schedules/preview', {
      schedule: { timeZone: 'Europe/Berlin', rules: [{ rule: { kind: 'daily', time: '02:30' } }] },
      fromMs: Date.parse('2027-03-27T12:00Z'),
      count: 2,
    });

    assert.deepEqual(runsAtMs, [Date.parse('2027-03-28T01:00Z'), Date.parse('2027-03-29T00:30Z')]);
    const refused = await lab.send('/schedules/preview', {
      method: 'POST',
      body: { schedule: { timeZone: 'UTC', rules: [{ rule: { kind: 'cron', expression: '0 0 30 2 *' } }] } },
    });
    assert.equal(refused.status, 400);
    assert.equal(refused.json.code, 'INPUT_INVALID');
  });

  it('starts a run by itself, also after the server was killed before it was due', async () => {
    // A full minute soon, but not so soon that it is over before it is saved.
    const dueMs = Math.ceil((Date.now() + 15_000) / 60_000) * 60_000;
    const set = await lab.call('PUT', `/jobs/${ids.jobId}/schedule`, {
      timeZone: 'UTC',
      rules: [{ rule: { kind: 'once', at: new Date(dueMs).toISOString().slice(0, 16) } }],
    });
    assert.deepEqual(set.nextRunsAtMs, [dueMs]);
    assert.equal((await lab.call('GET', `/jobs/${ids.jobId}`)).nextRunAtMs, dueMs);
    await lab.killServer();
    await lab.start();

    const run = await lab.until(
      async () => (await lab.call('GET', `/runs?jobId=${ids.jobId}`)).runs[0] ?? null,
      'the run of the schedule',
      120_000,
    );
    assert.equal(run.startedBy, 'schedule');
    assert.equal(run.dueAtMs, dueMs);
    assert.equal((await lab.waitForRun(run.id)).state, 'success');
    assert.equal((await lab.call('GET', `/runs?jobId=${ids.jobId}`)).runs.length, 1);
  });

  it('tells which versions a rule would keep, and removes none', async () => {
    const before = await lab.until(async () => {
      const { points } = await lab.call('GET', '/points?refresh=true');
      return points.length > 0 ? points : null;
    }, 'a version');
    const preview = await lab.call('POST', '/retention/preview', {
      retention: { last: 1 },
      repositoryId: ids.repositoryId,
    });

    assert.equal(preview.machines.length, 2);
    assert.equal(preview.keptCount + preview.removedCount, before.length);
    for (const { points } of preview.machines) assert.deepEqual(points[0].reasons, ['newest-complete', 'last']);
    assert.equal((await lab.call('GET', '/points?refresh=true')).points.length, before.length);
    const year = await lab.call('POST', '/retention/simulate', {
      retention: { last: 1, months: 12 },
      schedule: { timeZone: 'UTC', rules: [{ rule: { kind: 'daily', time: '22:00' } }] },
    });
    assert.equal(year.runCount, 365);
    assert.ok(year.kept.length >= 12 && year.kept.length <= 13);
  });

  it('goes back to requests only', async () => {
    await lab.call('DELETE', `/jobs/${ids.jobId}/schedule`);

    const { schedule, nextRunsAtMs } = await lab.call('GET', `/jobs/${ids.jobId}/schedule`);
    assert.equal(schedule, null);
    assert.deepEqual(nextRunsAtMs, []);
    assert.equal((await lab.send('/jobs/0123456789abcdef/schedule')).status, 404);
  });
});

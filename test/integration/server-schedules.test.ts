import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fakeMachine, ServerLab, type Answer } from './server-lab.ts';

describe('schedules of a server', { timeout: 900_000 }, () => {
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

  it('runs a job after another, ends it with its window, and goes on when that opens', async () => {
    const copy = await lab.call('POST', '/jobs', {
      name: 'copy',
      selection: { include: [{ name: 'T*' }, { note: 'never' }] },
      repositoryId: ids.repositoryId,
      options: { priority: 'low' },
    });
    assert.deepEqual(copy.machineIds.length, 1);
    const schedule = { timeZone: 'UTC', rules: [], after: { jobId: ids.jobId } };
    const set = await lab.call('PUT', `/jobs/${copy.id}/schedule`, schedule);
    assert.equal(set.follows.name, 'nightly');
    const circle = await lab.send(`/jobs/${ids.jobId}/schedule`, {
      method: 'PUT',
      body: { ...schedule, after: { jobId: copy.id, on: 'always' } },
    });
    assert.equal(circle.json.code, 'SCHEDULE_CIRCLE');
    assert.equal((await lab.send(`/jobs/${ids.jobId}`, { method: 'DELETE' })).status, 409);

    // The run that follows begins by itself, and is to be at work until it is stopped: backups take what they find
    // when they begin.
    const begun = lab.journal('backup-start').length;
    lab.script({ hold: true });
    const followed = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    await lab.until(
      async () => (lab.journal('backup-start').length === begun + ids.machineIds.length ? true : null),
      'the run that is followed',
    );
    lab.script({ backupMs: 600_000 });
    await lab.waitForRun(followed.id);
    const started = await lab.until(async () => {
      const [run] = (await lab.call('GET', `/runs?jobId=${copy.id}`)).runs;
      return run?.state === 'running' ? run : null;
    }, 'the run that follows');
    assert.equal(started.startedBy, 'link');

    // Half a day from now, and never else.
    const slot = (Math.floor((Date.now() % 86_400_000) / 1_800_000) + 24) % 48;
    const far = Array.from({ length: 48 }, (_, index) => (index === slot ? '1' : '0')).join('');
    const window = { hours: Array.from({ length: 7 }, () => far), atClose: 'pause' };
    await lab.call('PUT', `/jobs/${copy.id}/schedule`, { ...schedule, window });
    const stopped = await lab.waitForRun(started.id);
    assert.equal(stopped.state, 'cancelled');
    assert.equal(stopped.stoppedBy, 'window');
    assert.equal(stopped.error.code, 'RUN_STOPPED_BY_WINDOW');
    assert.equal(stopped.parts[0].error.code, 'RUN_STOPPED_BY_WINDOW');
    assert.equal(stopped.parts[0].holdReleased, true);

    lab.script({ backupMs: 300 });
    const open = { hours: Array.from({ length: 7 }, () => '1'.repeat(24)), atClose: 'pause' };
    await lab.call('PUT', `/jobs/${copy.id}/schedule`, { ...schedule, window: open });
    const going = await lab.until(async () => {
      const [run] = (await lab.call('GET', `/runs?jobId=${copy.id}`)).runs;
      return run.id === started.id ? null : run;
    }, 'the run that goes on');
    assert.equal(going.startedBy, 'window');
    assert.equal((await lab.waitForRun(going.id)).state, 'success');
    await lab.call('DELETE', `/jobs/${copy.id}`);
  });

  it('shows which machines rules select, and lets those that are new join', async () => {
    const selection = {
      include: [{ path: '[ds1] *' }],
      exclude: [{ name: 'two' }],
      excludeDisks: [{ key: 'scsi0:*' }],
    };
    const preview = await lab.call('POST', '/selections/preview', { selection });
    assert.equal(preview.selectedCount, 1);
    assert.deepEqual(
      preview.machines.map((machine: Answer) => [machine.name, machine.selected, machine.excludedDisks]),
      [
        ['one', true, ['scsi0:0']],
        ['two', false, ['scsi0:0']],
      ],
    );
    const job = await lab.call('POST', '/jobs', { name: 'rules', selection, repositoryId: ids.repositoryId });
    assert.equal(job.machineIds.length, 1);
    const three = { ...fakeMachine('three', 3), annotation: 'x' };
    lab.script({ machines: [fakeMachine('one', 1), fakeMachine('two', 2), three] });
    await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
    assert.equal((await lab.call('GET', `/jobs/${job.id}`)).machineIds.length, 2);

    // A run that a person starts asks the hosts before.
    lab.script({
      backupMs: 300,
      machines: [fakeMachine('one', 1), fakeMachine('two', 2), three, fakeMachine('four', 4)],
    });
    const { id: runId } = await lab.call('POST', `/jobs/${job.id}/run`, {});
    const { parts } = await lab.waitForRun(runId);
    assert.deepEqual(parts.map((part: Answer) => part.name).sort(), ['four', 'one', 'three']);

    const nobody = { name: 'nobody', selection: { include: [{ name: 'x' }] }, repositoryId: ids.repositoryId };
    const empty = await lab.call('POST', '/jobs', nobody);
    const refused = await lab.send(`/jobs/${empty.id}/run`, { method: 'POST', body: {} });
    assert.equal(refused.json.code, 'SELECTION_EMPTY');
    const neither = await lab.send('/jobs', { method: 'POST', body: { name: 'x', repositoryId: ids.repositoryId } });
    assert.equal(neither.status, 400);
    // Who edits without knowing of rules does not lose them.
    const { id, name, machineIds, repositoryId, options, revision } = await lab.call('GET', `/jobs/${job.id}`);
    const edited = { name: `${name} 2`, machineIds: machineIds.slice(1), repositoryId, options, revision };
    const kept = await lab.call('PUT', `/jobs/${id}`, edited);
    assert.deepEqual(kept.machineIds, machineIds);
    assert.equal(kept.selection.include[0].path, '[ds1] *');
    for (const made of [job, empty]) await lab.call('DELETE', `/jobs/${made.id}`);
    lab.script({});
  });

  it('ends with a warning where a machine that rules selected before is selected no more', async () => {
    // Nothing is left of what another test had the host tell.
    await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
    const job = await lab.call('POST', '/jobs', {
      name: 'by rule',
      selection: { include: [{ path: '[ds1] *' }] },
      repositoryId: ids.repositoryId,
    });
    await lab.call('PUT', `/jobs/${job.id}/schedule`, { timeZone: 'UTC', rules: [], after: { jobId: ids.jobId } });
    const runBoth = async (count: number): Promise<Answer> => {
      const followed = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
      assert.equal((await lab.waitForRun(followed.id)).state, 'success');
      const following = await lab.until(async () => {
        const { runs } = await lab.call('GET', `/runs?jobId=${job.id}`);
        return runs.length === count ? runs[0] : null;
      }, 'the run that follows');
      return lab.waitForRun(following.id);
    };
    assert.equal((await runBoth(1)).state, 'success');
    lab.script({ machines: [fakeMachine('one', 1)] });
    await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);

    const without = await runBoth(2);
    assert.deepEqual([without.parts.length, without.state], [1, 'warning']);
    const log = await lab.call('GET', `/runs/${without.id}/log`);
    const [left] = log.lines.filter((line: Answer) => line.code === 'SELECTION_LEFT');
    assert.deepEqual([left.level, left.details.name], ['warning', 'two']);
    // It was told once; the machine is not asked for any more.
    assert.equal((await runBoth(3)).state, 'success');
    await lab.call('DELETE', `/jobs/${job.id}`);
    lab.script({});
    await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
  });

  async function takeOneAtATime(): Promise<void> {
    await lab.call('PATCH', '/settings', { tasksPerWorker: 1, tasksPerHost: 16, tasksPerDatastore: 16 });
    await lab.until(async () => {
      const { workers } = await lab.call('GET', '/system');
      return workers[0]?.concurrency === 1 && workers[0].limitedBy !== 'configuration' ? true : null;
    }, 'the worker to hear of it');
  }

  it('takes urgent jobs first, one task at a time when told so', async () => {
    await takeOneAtATime();
    // Of its own for each job: a machine is in one run at a time.
    const names = Array.from({ length: 6 }, (_, index) => `urgent ${index}`);
    const machines = [...['one', 'two'], ...names].map((name, index) => fakeMachine(name, index + 1));
    lab.script({ hold: true, machines });
    const known: Answer[] = await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
    const own = names.map((name) => known.find((machine) => machine.name === name)?.id);
    const parts: Record<string, string[]> = {};
    const begin = async (priority: string): Promise<void> => {
      const made = {
        name: priority,
        machineIds: own.splice(0, 2),
        repositoryId: ids.repositoryId,
        options: { priority },
      };
      const job = await lab.call('POST', '/jobs', made);
      const run = await lab.call('POST', `/jobs/${job.id}/run`, {});
      parts[priority] = (await lab.call('GET', `/runs/${run.id}`)).parts.map((part: Answer) => part.id);
      runs.push(run.id);
    };
    const runs: string[] = [];
    for (const priority of ['normal', 'low', 'high']) await begin(priority);
    await lab.until(async () => ((await lab.countQueued()) === 5 ? true : null), 'all but one to wait for their turn');
    lab.script({});
    for (const id of runs) assert.equal((await lab.waitForRun(id)).state, 'success');

    const tasks = lab.journal('backup-start').map((entry) => String(entry['task']));
    const last = (priority: string): number => Math.max(...(parts[priority] ?? []).map((id) => tasks.indexOf(id)));
    const first = (priority: string): number => Math.min(...(parts[priority] ?? []).map((id) => tasks.indexOf(id)));
    // The first task began before there were others.
    assert.ok(last('high') < last('normal'));
    assert.ok(last('normal') < first('low'));
    await lab.call('PATCH', '/settings', { tasksPerWorker: null });
    lab.script({});
  });

  it('begins more at once as soon as the limit is raised, not when something ends', async () => {
    await takeOneAtATime();
    lab.script({ hold: true });
    const run = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    const countAtWork = async (): Promise<number> =>
      (await lab.call('GET', `/runs/${run.id}`)).parts.filter(({ state }: Answer) => state === 'running').length;
    await lab.until(async () => ((await countAtWork()) === 1 ? true : null), 'the first to begin');
    assert.equal(await lab.countQueued(), 1);

    await lab.call('PATCH', '/settings', { tasksPerWorker: null });
    await lab.until(async () => ((await countAtWork()) === 2 ? true : null), 'the second to begin beside it');
    lab.script({});
    assert.equal((await lab.waitForRun(run.id)).state, 'success');
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

    const machinesOf = (points: Answer[]): string[] => [...new Set<string>(points.map(({ machineId }) => machineId))];
    assert.deepEqual(machinesOf(preview.machines).sort(), machinesOf(before).sort());
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

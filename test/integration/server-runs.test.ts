import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fakeMachine, ServerLab } from './server-lab.ts';

describe('runs of a server with a real queue', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
  });
  after(() => lab.destroy());

  it('backs up every machine of a job and remembers the versions', async () => {
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    const run = await lab.waitForRun(started.id);

    assert.equal(run.state, 'success');
    assert.equal(run.parts.length, 2);
    for (const part of run.parts) {
      assert.equal(part.state, 'success');
      assert.equal(part.attempts, 1);
      assert.equal(part.holdReleased, true);
      assert.match(part.result.pointId, /^point-dozo-[0-9a-f]{16}$/);
    }
    const log = await lab.call('GET', `/runs/${run.id}/log`);
    assert.deepEqual(log.lines.map((line: { code: string }) => line.code).sort(), [
      'FAKE_ENDED',
      'FAKE_ENDED',
      'FAKE_STARTED',
      'FAKE_STARTED',
    ]);
    const points = await lab.until(async () => {
      const page = await lab.call('GET', '/points');
      return page.points.length === 2 ? page.points : null;
    }, 'two versions');
    assert.deepEqual(points.map((point: { machineId: string }) => point.machineId).sort(), [...ids.machineIds].sort());
  });

  it('refuses a second run of the same job', async () => {
    lab.script({ hold: true });
    const first = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    const replies = await Promise.all(
      [1, 2, 3].map(() => lab.send(`/jobs/${ids.jobId}/run`, { method: 'POST', body: {} })),
    );

    for (const reply of replies) {
      assert.equal(reply.status, 409);
      assert.equal(reply.json.code, 'RUN_ALREADY_ACTIVE');
    }
    lab.script({});
    assert.equal((await lab.waitForRun(first.id)).state, 'success');
  });

  it('leaves the versions of a job that cannot be deleted where they are', async () => {
    const remove = (): ReturnType<ServerLab['send']> =>
      lab.send(`/jobs/${ids.jobId}?versions=trash`, { method: 'DELETE' });
    const end = async (runId: string): Promise<void> => {
      await lab.call('POST', `/runs/${runId}/cancel`, {});
      await lab.waitForRun(runId);
    };
    assert.ok((await lab.call('GET', '/points')).points.length > 0);
    lab.script({ hold: 'backup' });
    const atWork = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    const refused = await remove();
    assert.deepEqual([refused.status, refused.json.code], [409, 'CONFLICT']);
    assert.deepEqual(lab.journal('change-points'), []);
    await end(atWork.id);

    // One that begins while they are on their way to the trash.
    lab.script({ hold: 'change', backupMs: 600_000 });
    const removing = remove();
    await lab.until(async () => (lab.journal('change-points').length === 1 ? true : null), 'the versions to be moved');
    const late = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    lab.script({ backupMs: 600_000 });
    assert.equal((await removing).status, 409);
    assert.deepEqual((await lab.call('GET', '/points?trash=true')).points, []);
    assert.ok((await lab.call('GET', '/points')).points.length > 0);
    await end(late.id);
    lab.script({});
  });

  it('backs no machine up twice at once, nor while it is replaced by a restore', async () => {
    const [one, two] = ids.machineIds;
    const jobs: string[] = [];
    for (const [name, machineId] of [
      ['first of one', one],
      ['second of one', one],
      ['of two', two],
    ]) {
      const body = { name, machineIds: [machineId], repositoryId: ids.repositoryId };
      jobs.push((await lab.call('POST', '/jobs', body)).id);
    }
    const [first, second, ofTwo] = jobs;
    const run = async (jobId: string | undefined): Promise<string> =>
      (await lab.call('POST', `/jobs/${jobId}/run`, {})).id;
    const begun = (): unknown[] =>
      lab
        .journal('backup-start')
        .slice(before)
        .map(({ name }) => name);
    const until = (names: string[]): Promise<unknown> =>
      lab.until(async () => (begun().sort().join() === names.join() ? true : null), `${names.join()} to begin`);
    let before = lab.journal('backup-start').length;

    lab.script({ hold: true, backupMs: 100 });
    const { points } = await lab.call('GET', '/points');
    const point = points.find(({ machineId }: { machineId: string }) => machineId === one);
    const restore = await lab.call('POST', '/restores', {
      pointId: point.id,
      hostId: ids.hostId,
      mode: { kind: 'replace', machineId: one },
    });
    await lab.until(async () => (lab.journal('restore-start').length > 0 ? true : null), 'the restore');
    const runs = [await run(first), await run(ofTwo)];
    await until(['two']);
    lab.script({ hold: 'backup', backupMs: 100 });
    assert.equal((await lab.waitForRun(restore.id)).state, 'success');
    await until(['one', 'two']);

    before = lab.journal('backup-start').length;
    runs.push(await run(second));
    lab.script({ backupMs: 100 });
    for (const id of runs) assert.equal((await lab.waitForRun(id)).state, 'success');
    const ofOne = lab.journal().filter(({ what, name }) => /^backup-/.test(String(what)) && name === 'one');
    const order = ofOne.slice(-4).map(({ what }) => what);
    assert.deepEqual(order, ['backup-start', 'backup-end', 'backup-start', 'backup-end']);
    for (const id of jobs) await lab.call('DELETE', `/jobs/${id}`);
    lab.script({});
  });

  it('takes the worst state of its machines, and sweeps what was left', async () => {
    lab.script({ backupMs: 200, fail: ['one'] });
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    const run = await lab.waitForRun(started.id);

    assert.equal(run.state, 'failed');
    assert.equal(run.error.code, 'SNAPSHOT_FAILED');
    assert.deepEqual(run.parts.map((part: { state: string }) => part.state).sort(), ['failed', 'success']);
    const failed = run.parts.find((part: { state: string }) => part.state === 'failed');
    await lab.until(async () => {
      const again = await lab.call('GET', `/runs/${run.id}`);
      return again.parts.find((part: { id: string }) => part.id === failed.id).holdReleased ? true : null;
    }, 'the sweep');
    const holds = lab.journal('sweep').flatMap((entry) => entry['holds'] as string[]);
    const started1 = lab.journal('backup-start').filter((entry) => entry['task'] === failed.id);
    assert.deepEqual(holds, [started1[0]?.['hold']]);
  });

  it('keeps a hold in the journal until the host can be reached again', async () => {
    lab.script({ backupMs: 100, leaveHold: ['two'] });
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, { machineIds: [ids.machineIds[1]] });
    // The host goes away while the backup runs.
    await lab.until(async () => (lab.journal('backup-end').length > 0 ? true : null), 'the backup');
    const run = await lab.waitForRun(started.id);

    assert.equal(run.state, 'warning');
    await lab.until(async () => {
      const system = await lab.call('GET', '/system');
      return system.openHolds === 0 ? true : null;
    }, 'no open holds');
  });

  it('cancels a run: running machines are stopped, waiting ones never start', async () => {
    lab.script({ hold: true });
    await lab.call('PATCH', '/settings', { tasksPerHost: 1 });
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    const before = lab.journal('backup-start').length;
    await lab.until(async () => {
      const run = await lab.call('GET', `/runs/${started.id}`);
      return run.parts[0].state === 'running' && run.parts[0].progress !== null ? true : null;
    }, 'the first machine to run');

    await lab.call('POST', `/runs/${started.id}/cancel`, {});
    const run = await lab.waitForRun(started.id);

    assert.equal(run.state, 'cancelled');
    assert.deepEqual(
      run.parts.map((part: { state: string; holdReleased: boolean }) => [part.state, part.holdReleased]),
      [
        ['cancelled', true],
        ['cancelled', true],
      ],
    );
    assert.ok(lab.journal('backup-start').length - before <= 1);
    await lab.call('PATCH', '/settings', { tasksPerHost: 2 });
    const again = await lab.send(`/runs/${started.id}/cancel`, { method: 'POST', body: {} });
    assert.equal(again.status, 409);
  });

  it('keeps the machine after a restore in place, although the host calls it something else', async () => {
    lab.script({ backupMs: 100 });
    const { points } = await lab.call('GET', `/points?machineId=${ids.machineIds[0]}`);
    const renamed = fakeMachine('one restored', 77);
    lab.script({ backupMs: 100, restored: renamed, machines: [renamed, fakeMachine('two', 2)] });
    const started = await lab.call('POST', '/restores', {
      pointId: points[0].id,
      hostId: ids.hostId,
      mode: { kind: 'replace', machineId: ids.machineIds[0] },
    });
    const run = await lab.waitForRun(started.id);
    assert.equal(run.state, 'success');

    const machines = await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
    assert.equal(machines.length, 2);
    const machine = machines.find((one: { id: string }) => one.id === ids.machineIds[0]);
    assert.equal(machine.name, 'one restored');
    assert.equal(machine.present, true);
    const next = await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
    assert.equal(next.state, 'success');
  });

  it('checks a repository and exports a disk', async () => {
    const check = await lab.waitForRun(
      (await lab.call('POST', `/repositories/${ids.repositoryId}/check`, { depth: 'hashes' })).id,
    );
    assert.equal(check.state, 'success');
    assert.equal(check.parts[0].result.depth, 'hashes');

    const { points } = await lab.call('GET', '/points');
    const started = await lab.call('POST', '/exports', {
      pointId: points[0].id,
      diskKey: 'scsi0:0',
      path: '/volume1/export/disk.img',
    });
    assert.equal((await lab.waitForRun(started.id)).state, 'success');
    const wrong = await lab.send('/exports', {
      method: 'POST',
      body: { pointId: points[0].id, diskKey: 'scsi9:9', path: '/volume1/x.img' },
    });
    assert.equal(wrong.status, 404);
  });

  it('lets an operator write no disk to where it could become a key or a timetable of the NAS', async () => {
    const { points } = await lab.call('GET', '/points');
    const runs = await lab.call('GET', '/runs');
    const account = { name: 'operating', role: 'operator', password: 'another long password' };
    await lab.call('POST', '/users', account);
    const made = await lab.send('/tokens', {
      method: 'POST',
      token: null,
      body: { user: account.name, password: account.password, name: 'export', scope: 'operate' },
    });
    const answer = await lab.send('/exports', {
      method: 'POST',
      token: made.json.token,
      body: { pointId: points[0].id, diskKey: 'scsi0:0', path: '/root/.ssh/authorized_keys' },
    });
    assert.equal(answer.status, 403, answer.text);
    assert.equal(answer.json.code, 'FORBIDDEN');
    assert.deepEqual(await lab.call('GET', '/runs'), runs);
  });

  it('shows at the host that a run found it gone, and that it is there again', async () => {
    const runJob = async (): Promise<string> => {
      const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
      return (await lab.waitForRun(started.id)).state;
    };
    const errorOfHost = (wanted: string | null): Promise<boolean> =>
      lab.until(
        async () => {
          const { error } = await lab.call('GET', `/hosts/${ids.hostId}`);
          return (error?.code ?? null) === wanted ? true : null;
        },
        `the host to have failed with ${wanted ?? 'nothing'}`,
      );
    await errorOfHost(null);
    lab.script({ hostDown: true });
    assert.equal(await runJob(), 'failed');
    await errorOfHost('HOST_UNREACHABLE');
    lab.script({});
    assert.equal(await runJob(), 'success');
    await errorOfHost(null);
  });

  it('tells in the log of a run what failed before its worker had begun', async () => {
    lab.script({ hostDown: true });
    const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
    const run = await lab.waitForRun(started.id);
    lab.script({});

    const log = await lab.call('GET', `/runs/${run.id}/log`);

    const errors = log.lines.filter(({ level }: { level: string }) => level === 'error');
    assert.deepEqual(
      errors.map(({ code, partId }: { code: string; partId: string }) => [code, partId]),
      run.parts.map(({ id }: { id: string }) => ['HOST_UNREACHABLE', id]),
    );
  });

  it('shows a refused login of a run with its host at once, until there is another password', async () => {
    const runJob = async (): Promise<string> => {
      const started = await lab.call('POST', `/jobs/${ids.jobId}/run`, {});
      return (await lab.waitForRun(started.id)).state;
    };
    const host = `/hosts/${ids.hostId}`;
    await lab.call('PATCH', host, { password: 'wrong' });
    assert.equal(await runJob(), 'failed');
    assert.equal((await lab.call('GET', host)).error?.code, 'HOST_LOGIN_REFUSED');
    await lab.call('PATCH', host, { password: 'right' });
    await lab.call('GET', `${host}/machines?refresh=true`);
    assert.equal((await lab.call('GET', host)).error, null);
    assert.equal(await runJob(), 'success');
  });

  it('is refused one login a run, however many machines it has: more would lock the account', async () => {
    const host = `/hosts/${ids.hostId}`;
    const refusals = (): number => lab.journal('login-refused').length;
    const before = refusals();
    await lab.call('PATCH', '/settings', { tasksPerHost: 1 });
    await lab.call('PATCH', host, { password: 'wrong' });
    for (const count of [1, 2]) {
      const run = await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
      assert.deepEqual(
        run.parts.map(({ state, error }: { state: string; error: { code: string } }) => [state, error.code]),
        [
          ['failed', 'HOST_LOGIN_REFUSED'],
          ['failed', 'HOST_LOGIN_REFUSED'],
        ],
      );
      assert.equal(refusals() - before, count);
    }
    await lab.call('PATCH', host, { password: 'right' });
    await lab.call('GET', `${host}/machines?refresh=true`);
    const run = await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
    assert.equal(run.state, 'success');
    assert.equal(refusals() - before, 2, 'nor does what clears up after a run log in');
    await lab.call('PATCH', '/settings', { tasksPerHost: 2 });
  });
});

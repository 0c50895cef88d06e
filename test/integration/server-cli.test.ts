import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ADMIN_PASSWORD, type Answer, ServerLab } from './server-lab.ts';

const folder = mkdtempSync(join(tmpdir(), 'dozo-cli-'));
const config = join(folder, 'config/cli.json');

interface Ended {
  status: number | null;
  out: string;
  errors: string;
}

/** Runs the program as a shell would: own process, own environment; `heard` is given all that it has written so far. */
async function dozo(
  args: string[],
  options: { input?: string; env?: Record<string, string>; heard?: (out: string) => void } = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [join(import.meta.dirname, '../../server/cli/main.ts'), ...args], {
    env: { PATH: process.env['PATH'] ?? '', DOZO_CONFIG: config, ...options.env },
  });
  child.stdin.end(options.input ?? '');
  let out = '';
  let errors = '';
  child.stdout.on('data', (piece: Buffer) => {
    out += piece.toString();
    options.heard?.(out);
  });
  child.stderr.on('data', (piece: Buffer) => (errors += piece.toString()));
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { status, out, errors };
}

async function json(
  args: string[],
  options: Parameters<typeof dozo>[1] = {},
): Promise<{ status: number | null; document: Answer }> {
  const { status, out, errors } = await dozo([...args, '--json'], options);
  assert.equal(out.trim().split('\n').length, 1, `one document, not: ${out}${errors}`);
  return { status, document: JSON.parse(out) };
}

/** Functions that are not called by a plain line of the form `api.get('/path')`. */
const CALLED_OTHERWISE = new Set([
  'POST /points/delete',
  'POST /points/undelete',
  'POST /points/lock',
  'POST /triggers/{id}',
  'GET /runs/{id}/log',
  'GET /events',
  'GET /metrics',
  'GET /audit/export',
  'GET /reports/{month}/page',
  'GET /points/{id}/disks/{key}/download',
  'GET /points/{id}/disks/{key}/volumes',
  'GET /points/{id}/disks/{key}/volumes/{volume}/files',
  'GET /points/{id}/disks/{key}/volumes/{volume}/file',
  'GET /points/{id}/disks/{key}/volumes/{volume}/archive',
  'POST /repositories/{id}/refresh',
]);

describe('the command line', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let address = '';

  before(async () => {
    await lab.start();
    address = `https://127.0.0.1:${lab.port}`;
  });
  after(async () => {
    await lab.destroy();
    rmSync(folder, { recursive: true, force: true });
  });

  it('shows its help and refuses what it does not know', async () => {
    const help = await dozo(['--help']);
    assert.equal(help.status, 0);
    for (const group of ['hosts', 'vms', 'repositories', 'jobs', 'runs', 'points', 'restores']) {
      assert.match(help.out, new RegExp(`\\b${group}\\b`));
    }
    assert.equal((await dozo(['hosts', 'fly'])).status, 2);
    assert.equal((await dozo(['hosts', 'show'])).status, 2);
    assert.equal((await dozo(['jobs', 'run', 'x', '--unknown'])).status, 2);
    assert.equal((await dozo(['runs', 'list', '--limit', 'many'])).status, 2);
  });

  it('does not talk to a server that it was not told to trust', async () => {
    const refused = await json(['login', '--server', address, '--password-stdin'], { input: `${ADMIN_PASSWORD}\n` });
    assert.equal(refused.status, 1);
    assert.equal(refused.document.error.code, 'SERVER_CERTIFICATE_CHANGED');

    const wrongPin = await json(['hosts', 'list', '--server', address, '--fingerprint', 'ab'.repeat(32)], {
      env: { DOZO_TOKEN: lab.token ?? '' },
    });
    assert.equal(wrongPin.document.error.code, 'SERVER_CERTIFICATE_CHANGED');
    const unpinned = await json(['hosts', 'list', '--server', address], { env: { DOZO_TOKEN: lab.token ?? '' } });
    assert.equal(unpinned.document.error.code, 'SERVER_UNREACHABLE');
  });

  it('logs in once and keeps a token that only its owner can read', async () => {
    const wrong = await json(['login', '--server', address, '--accept-new', '--password-stdin'], { input: 'wrong\n' });
    assert.equal(wrong.document.error.code, 'LOGIN_REFUSED');
    assert.equal(wrong.status, 1);
    const done = await json(['login', '--server', address, '--accept-new', '--password-stdin'], {
      input: `${ADMIN_PASSWORD}\n`,
    });

    assert.equal(done.status, 0);
    assert.equal(statSync(config).mode & 0o777, 0o600);
    const kept = JSON.parse(readFileSync(config, 'utf8')) as { token: string; fingerprint: string };
    assert.match(kept.token, /^dozo_/);
    assert.doesNotMatch(JSON.stringify(done.document), /dozo_/);
    assert.equal((await json(['whoami'])).document.user, 'admin');
  });

  it('needs no option for a password, and says so when there is nobody to ask', async () => {
    const nobody = await dozo(['hosts', 'add', '192.0.2.1']);
    assert.equal(nobody.status, 2);
    assert.match(nobody.errors, /--password-stdin/);
  });

  it('goes from a host to a version and back', async () => {
    const host = await json(['hosts', 'add', '192.0.2.1', '--name', 'lab', '--password-stdin'], { input: 'secret\n' });
    assert.equal(host.status, 0);
    assert.equal(host.document.name, 'lab');
    assert.equal((await json(['hosts', 'test', 'lab'])).document.ok, true);
    assert.equal((await json(['hosts', 'datastores', 'lab'])).document[0].name, 'ds1');
    assert.deepEqual((await json(['hosts', 'networks', 'lab'])).document, ['VM Network']);
    const vms = await json(['vms', 'list', '--host', 'lab', '--refresh']);
    assert.deepEqual(
      vms.document.map((vm: { name: string }) => vm.name),
      ['one', 'two'],
    );
    assert.equal((await json(['repositories', 'create', 'store', '/volume1/store'])).status, 0);
    assert.equal(
      (await json(['jobs', 'add', 'nightly', '--vm', 'one', '--vm', 'two', '--repository', 'store'])).document.name,
      'nightly',
    );

    // At work until its progress was told.
    lab.script({ hold: true });
    const run = await dozo(['jobs', 'run', 'nightly', '--wait', '--json'], {
      heard: (out) => {
        if (out.includes('"type":"progress"')) lab.script({});
      },
    });
    const lines = run.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.equal(run.status, 0);
    assert.ok(lines.some((line) => line.type === 'progress'));
    assert.ok(lines.some((line) => line.type === 'log'));
    const last = lines.at(-1);
    assert.equal(last.type, 'run');
    assert.equal(last.run.state, 'success');

    const points = await json(['points', 'list', '--vm', 'one', '--refresh']);
    assert.equal(points.document.length, 1);
    const pointId = points.document[0].id as string;
    assert.equal((await json(['points', 'show', pointId])).document.machineName, 'one');
    assert.equal((await dozo(['restores', 'new', pointId, 'lab', 'copy of one', '--wait'])).status, 0);
    assert.equal((await dozo(['restores', 'replace', pointId, 'one', '--wait'])).status, 0);
    assert.equal((await dozo(['restores', 'export', pointId, 'scsi0:0', '/volume1/one.img', '--wait'])).status, 0);
    assert.equal((await dozo(['repositories', 'check', 'store', '--wait'])).status, 0);
    const usage = await json(['repositories', 'usage', 'store']);
    const named = usage.document.machines.map(({ name }: { name: string }) => name) as string[];
    assert.ok(named.includes('one'));
    assert.equal(usage.document.total, named.length);
    assert.match((await dozo(['repositories', 'usage', 'store'])).out, /^MACHINE .*ADDED[^]* one /);
    // Its folder is not there: the worker is played.
    assert.match((await dozo(['repositories', 'space', 'store'])).out, /free +-\nof +-/);
    const log = await json(['runs', 'log', last.run.id]);
    assert.equal(log.document.length, 4);
    const target = lab.journal('restore-start').at(-1)?.['target'] as { mode: { kind: string }; identity: string };
    assert.equal(target.mode.kind, 'replace');
    assert.equal(target.identity, 'keep');
  });

  it('ends with the status of the run: 3 with warnings, 1 when it failed', async () => {
    lab.script({ backupMs: 100, leaveHold: ['one'] });
    const warned = await dozo(['jobs', 'run', 'nightly', '--wait']);
    assert.equal(warned.status, 3);
    assert.match(warned.out, /warning/);
    lab.script({ backupMs: 100, fail: ['two'] });
    const failed = await dozo(['jobs', 'run', 'nightly', '--wait']);
    assert.equal(failed.status, 1);
    assert.match(failed.out, /SNAPSHOT_FAILED/);
    assert.match(failed.out, /Try again\./);
    lab.script({ hold: true });
    const started = await json(['jobs', 'run', 'nightly']);
    const watching = dozo(['runs', 'watch', started.document.id]);
    await lab.until(async () => {
      const run = await lab.call('GET', `/runs/${started.document.id}`);
      return run.state === 'running' ? true : null;
    }, 'the run');
    assert.equal((await json(['jobs', 'run', 'nightly'])).document.error.code, 'RUN_ALREADY_ACTIVE');
    assert.equal((await json(['runs', 'cancel', started.document.id])).status, 0);
    assert.equal((await watching).status, 1);
    assert.equal((await dozo(['runs', 'watch', started.document.id])).status, 1, 'one that is over ends at once');
  });

  it('ends a restore that fails or is cancelled with status 1, and says why', async () => {
    lab.script({ backupMs: 100, fail: ['restore', 'export'] });
    const [point] = (await json(['points', 'list', '--vm', 'one'])).document;
    const restores = [
      ['restores', 'new', point.id, 'lab', 'another copy'],
      ['restores', 'replace', point.id, 'one'],
      ['restores', 'export', point.id, 'scsi0:0', '/volume1/one.img'],
    ];
    for (const args of restores) {
      const failed = await dozo([...args, '--wait']);
      assert.equal(failed.status, 1, args.join(' '));
      assert.match(failed.out, /failed/);
      assert.match(failed.out, /DATASTORE_FULL[^]*The datastore is full\.[^]*Make room on ds1\./);
      assert.doesNotMatch(failed.out, /success/);
    }
    const told = await dozo([...(restores[0] ?? []), '--wait', '--json']);
    const last = JSON.parse(told.out.trim().split('\n').at(-1) ?? '');
    assert.deepEqual([told.status, last.run.state, last.run.error.code], [1, 'failed', 'DATASTORE_FULL']);

    lab.script({ hold: true });
    for (const args of restores) {
      const before = (await lab.call('GET', '/runs')).runs[0].id;
      const waiting = dozo([...args, '--wait']);
      const run = await lab.until(async () => {
        const [newest] = (await lab.call('GET', '/runs')).runs;
        return newest.id !== before && newest.state === 'running' ? newest : null;
      }, 'the restore to be at work');
      assert.equal((await dozo(['runs', 'cancel', run.id])).status, 0);
      const cancelled = await waiting;
      assert.equal(cancelled.status, 1, args.join(' '));
      assert.match(cancelled.out, /cancelled/);
      assert.doesNotMatch(cancelled.out, /success|failed/);
      assert.equal((await dozo(['runs', 'watch', run.id])).status, 1);
    }
    // A version that is not there is refused before anything is made.
    const unknown = await dozo(['restores', 'new', 'no-such-version', 'lab', 'x', '--wait']);
    assert.equal(unknown.status, 1);
    assert.match(unknown.errors, /POINT_NOT_FOUND|no version/);
  });

  it('sets windows, followers, speeds, limits and rules', async () => {
    const rules = ['--include', 'name=o* & host=lab', '--exclude', 'note=no backup', '--exclude-disks', 'key=scsi0:1'];
    const preview = await json(['jobs', 'preview', ...rules]);
    assert.deepEqual(
      preview.document.machines.map((machine: Answer) => [machine.name, machine.selected]),
      [['one', true]],
    );
    assert.match((await dozo(['jobs', 'preview', ...rules])).out, /one +yes/);
    assert.equal((await dozo(['jobs', 'preview', '--include', 'colour=red'])).status, 2);
    const job = await json([
      ...['jobs', 'add', 'copy', '--repository', 'store', ...rules, '--priority', 'low'],
      ...['--throttle', 'mon-fri 08:00-18:00 2.5', '--throttle-zone', 'Asia/Tokyo'],
    ]);
    assert.equal(job.document.machineIds.length, 1);
    assert.equal(job.document.options.priority, 'low');
    assert.equal(job.document.options.throttle.limits[0].megabytesPerSecond, 2.5);
    const kept = await json(['jobs', 'change', 'copy', '--throttle', 'off']);
    assert.equal(kept.document.options.throttle, null);
    assert.equal(kept.document.selection.include[0].name, 'o*');
    assert.equal((await json(['jobs', 'change', 'copy', '--vm', 'two'])).document.selection, null);

    const set = ['schedules', 'set', 'copy', '--after', 'nightly', '--window', 'sat 0:30-8', '--at-close', 'pause'];
    const { schedule, follows } = (await json(set)).document;
    assert.deepEqual([schedule.after.on, schedule.window.atClose, follows.name], ['success', 'pause', 'nightly']);
    assert.match((await dozo(['schedules', 'show', 'copy'])).out, /after a success of nightly/);
    const circle = await json(['schedules', 'set', 'nightly', '--after', 'copy', '--after-any']);
    assert.deepEqual([circle.status, circle.document.error.code], [1, 'SCHEDULE_CIRCLE']);
    assert.equal((await dozo(['schedules', 'set', 'copy', '--after-any'])).status, 2);
    const passed = await dozo(['schedules', 'set', 'copy', '--rule', 'once 2020-02-29T22:00', '--zone', 'UTC']);
    assert.equal(passed.status, 2);
    assert.match(passed.errors, /2020-02-29T22:00 \(UTC\) has passed[^]*still to come/);
    assert.match((await dozo(['schedules', 'show', 'copy'])).out, /after a success of nightly/);
    await json(['jobs', 'remove', 'copy']);

    const limits = ['--tasks-per-datastore', '3', '--tasks-in-total', '5', '--tasks-per-worker', '2'];
    const changed = await json(['settings', 'set', ...limits, '--throttle', '22:00-06:00 80', '--throttle', '10']);
    const { tasksPerDatastore, tasksPerHost, tasksPerWorker, throttle } = changed.document;
    assert.deepEqual([tasksPerDatastore, tasksPerHost, tasksPerWorker, throttle.otherwise], [3, 2, 2, 10]);
    const free = await json(['settings', 'set', '--throttle', 'off', '--tasks-per-worker', 'auto']);
    assert.deepEqual([free.document.throttle, free.document.tasksPerWorker], [null, null]);
  });

  it('has a verb for every function of the API', async () => {
    const { document } = await (async () => ({
      document: JSON.parse((await dozo(['system', 'openapi'])).out) as { paths: Record<string, object> },
    }))();
    const functions = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const sources = (await import('node:fs')).globSync(join(import.meta.dirname, '../../server/cli/**/*.ts'));
    const text = sources.map((name) => readFileSync(name, 'utf8')).join('\n');

    // Each function's path stands in the sources of a command, with whatever names the ids have there.
    const missing = functions.filter((name) => {
      const [method = '', path = ''] = name.split(' ');
      // Browsers only: a program takes a token. One thing is found in the list of all.
      if (
        name === 'POST /session' ||
        name === 'POST /session/nas' ||
        /^GET \/(hosts|machines|repositories|jobs)\/\{id\}$/.test(name)
      )
        return false;
      const pattern = path
        .split('/')
        .filter((part) => part !== '')
        .map((part) => (part.startsWith('{') ? '\\$\\{.+?\\}' : part.replace('.', '\\.')))
        .join('/');
      const literal = `['\`]/${pattern}['\`]`;
      const call = `\\.${method.toLowerCase()}(<[^(]*>)?\\(\\s*${literal}`;
      return !new RegExp(CALLED_OTHERWISE.has(name) ? literal : call).test(text);
    });
    assert.deepEqual(missing, []);
    assert.ok(functions.length > 35);
  });

  it('shows hostile names as text', async () => {
    const evil = 'a\u001b[2Jb\u202ec';
    lab.script({ machines: [] });
    const host = (await json(['hosts', 'show', 'lab'])).document;
    const machine = (await lab.call('GET', '/machines'))[0];
    lab.script({ machines: [{ ...machine.summary, identity: { ...machine.identity, name: evil } }] });
    await lab.call('GET', `/hosts/${host.id}/machines?refresh=true`);

    const list = await dozo(['vms', 'list']);

    assert.match(list.out, /a\?\[2Jb\?c/);
    assert.ok(!list.out.includes('\u001b'));
  });

  it('logs out for good', async () => {
    const { token } = JSON.parse(readFileSync(config, 'utf8')) as { token: string };
    assert.equal((await dozo(['logout'])).status, 0);
    assert.equal((await lab.send('/hosts', { token })).status, 401);
    assert.equal((await dozo(['hosts', 'list'])).status, 1);
  });
});

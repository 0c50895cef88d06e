import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isAppError } from '../errors/index.ts';
import { lockFolder, openCatalogue, type Catalogue } from './index.ts';
import { migrate, MIGRATIONS } from './migrations.ts';
import { Sqlite } from './sqlite.ts';

const folder = await mkdtemp(join(tmpdir(), 'dozo-catalogue-'));
after(() => rm(folder, { recursive: true, force: true }));
let count = 0;
const newPath = (): string => join(folder, `${(count += 1)}.sqlite`);

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => isAppError(error) && error.code === code;
}

const HOST = {
  id: '00000000000000aa',
  name: 'esx',
  host: '192.0.2.1',
  sshPort: 22,
  httpsPort: 443,
  user: 'root',
  auth: 'password' as const,
  secret: 'sealed',
  sshHostKey: null,
  tlsCertificate: 'ab',
  facts: null,
  error: null,
  checkedAtMs: null,
  createdAtMs: 1,
};

const IDENTITY = { name: 'web "1" [ü]', instanceUuid: null, biosUuid: 'b', path: '[ds] web/web.vmx', diskUuids: ['d'] };

const MACHINE = {
  id: '00000000000000bb',
  hostId: HOST.id,
  name: IDENTITY.name,
  identity: IDENTITY,
  summary: null,
  present: true,
  seenAtMs: 5,
};

const REPOSITORY = {
  id: '00000000000000cc',
  name: 'store',
  path: '/volume1/store',
  formatId: 'f1',
  chunkSizeBytes: 262144,
  stats: null,
  error: null,
  seenAtMs: null,
  createdAtMs: 1,
};

const OPTIONS = {
  quiesce: 'try' as const,
  fullRead: false,
  verifySample: 0.01,
  nfsStaging: null,
  retention: null,
  excludedDisks: {},
  priority: 'normal' as const,
  throttle: null,
};

const JOB = {
  id: '00000000000000dd',
  name: 'nightly',
  machineIds: [MACHINE.id],
  selection: null,
  repositoryId: REPOSITORY.id,
  options: OPTIONS,
  revision: 1,
  createdAtMs: 1,
  updatedAtMs: 1,
};

function newRun(id: string): Parameters<Catalogue['runs']['add']>[0] {
  return {
    id,
    kind: 'backup',
    jobId: JOB.id,
    repositoryId: REPOSITORY.id,
    title: JOB.name,
    state: 'waiting',
    cancelRequested: false,
    createdAtMs: 10,
    startedAtMs: null,
    finishedAtMs: null,
    error: null,
  };
}

const POINT = {
  id: 'v1',
  repositoryId: REPOSITORY.id,
  machineId: MACHINE.id,
  machineName: 'web',
  createdAtMs: 1,
  state: 'complete' as const,
  stateReasons: [],
  consistency: 'crash',
  sizeBytes: 10,
  rootHash: 'r',
  previousPointId: null,
  disks: [{ key: 'scsi0:0', label: 'l', sizeBytes: 10, storedBytes: 1 }],
  lockedUntilMs: null,
  trash: null,
};

const TASK = { kind: 'probe' as const, address: 'sealed' };

describe('catalogue', () => {
  let catalogue: Catalogue;
  let path: string;

  beforeEach(async () => {
    path = newPath();
    catalogue = await openCatalogue(path);
    await catalogue.hosts.save(HOST);
    await catalogue.machines.save(MACHINE);
    await catalogue.repositories.save(REPOSITORY);
    await catalogue.transaction((tables) => tables.jobs.add(JOB));
  });
  afterEach(() => catalogue.close());

  it('is readable by its owner alone', async () => {
    assert.equal((await stat(path)).mode & 0o777, 0o600);
  });

  it('gives back what was saved, and keeps it through a restart', async () => {
    await catalogue.close();
    catalogue = await openCatalogue(path);

    assert.deepEqual(await catalogue.hosts.load(HOST.id), HOST);
    assert.deepEqual(await catalogue.machines.list(), [MACHINE]);
    assert.deepEqual(await catalogue.repositories.load(REPOSITORY.id), { ...REPOSITORY, retention: null });
    assert.deepEqual(await catalogue.jobs.list(), [JOB]);
    assert.equal(await catalogue.hosts.load('nope'), null);
  });

  it('searches names as text, not as patterns', async () => {
    await catalogue.machines.save({ ...MACHINE, id: '00000000000000b2', name: '100% sure_thing' });
    assert.equal((await catalogue.machines.list({ search: '100%' })).length, 1);
    assert.equal((await catalogue.machines.list({ search: '%' })).length, 1);
    assert.equal((await catalogue.machines.list({ search: '_' })).length, 1);
    assert.equal((await catalogue.machines.list({ search: '"1"' })).length, 1);
    assert.equal((await catalogue.machines.list({ search: '\\' })).length, 0);
  });

  it('keeps facts of a host when a contact fails', async () => {
    const error = { code: 'HOST_UNREACHABLE' as const, message: 'gone', details: {} };
    await catalogue.hosts.saveContact(HOST.id, { facts: null, error, atMs: 7 });
    const host = await catalogue.hosts.load(HOST.id);
    assert.deepEqual(host?.error, error);
    assert.equal(host?.checkedAtMs, 7);
  });

  it('refuses names that are taken, and what does not exist', async () => {
    await assert.rejects(catalogue.hosts.save({ ...HOST, id: '00000000000000a2' }), hasCode('CONFLICT'));
    await assert.rejects(
      catalogue.transaction((tables) => tables.jobs.add({ ...JOB, id: 'x', name: 'y', machineIds: ['nobody'] })),
      hasCode('CONFLICT'),
    );
    assert.equal((await catalogue.jobs.list()).length, 1);
    await assert.rejects(catalogue.repositories.remove(REPOSITORY.id), hasCode('CONFLICT'));
  });

  it('changes a job only from the revision that was read', async () => {
    const change = (revision: number, name: string): Promise<boolean> =>
      catalogue.transaction((tables) => tables.jobs.change({ ...JOB, name, revision }));
    assert.equal(await change(1, 'first'), true);
    assert.equal(await change(1, 'second'), false);
    assert.equal((await catalogue.jobs.load(JOB.id))?.name, 'first');
    assert.equal((await catalogue.jobs.load(JOB.id))?.revision, 2);
  });

  it('allows one active run of a job, whoever starts it', async () => {
    await catalogue.runs.add(newRun('r1'));
    await assert.rejects(catalogue.runs.add(newRun('r2')), hasCode('CONFLICT'));
    assert.equal(await catalogue.runs.finish('r1', { state: 'failed', error: null, atMs: 20 }), true);
    await catalogue.runs.add(newRun('r2'));
    assert.equal(await catalogue.runs.finish('r1', { state: 'success', error: null, atMs: 30 }), false);
    assert.equal((await catalogue.runs.load('r1'))?.state, 'failed');
  });

  it('pages through runs, newest first, without gap or overlap', async () => {
    for (let index = 0; index < 7; index += 1) {
      await catalogue.runs.add(newRun(`r${index}`));
      await catalogue.runs.finish(`r${index}`, { state: 'success', error: null, atMs: index });
    }
    const seen: string[] = [];
    let beforeNumber: number | undefined;
    for (;;) {
      const page = await catalogue.runs.list({ limit: 3, beforeNumber });
      if (page.length === 0) break;
      seen.push(...page.map((run) => run.id));
      beforeNumber = page.at(-1)?.number;
    }
    assert.deepEqual(seen, ['r6', 'r5', 'r4', 'r3', 'r2', 'r1', 'r0']);
  });

  it('counts the first end of a part only', async () => {
    await catalogue.runs.add(newRun('r1'));
    await catalogue.parts.add(
      { id: 'p1', runId: 'r1', machineId: MACHINE.id, hostId: HOST.id, name: 'web', task: TASK },
      0,
    );
    assert.equal(await catalogue.parts.start('p1', 11, { isReported: true }), true);
    assert.equal(await catalogue.parts.start('p1', 12, { isReported: true }), false);
    const end = { result: { any: 'thing' }, error: null, atMs: 20 };
    assert.equal(await catalogue.parts.finish('p1', { state: 'success', ...end }), true);
    assert.equal(await catalogue.parts.finish('p1', { state: 'failed', ...end }), false);
    const part = await catalogue.parts.load('p1');
    assert.equal(part?.state, 'success');
    assert.equal(part?.attempts, 2);
    assert.equal(part?.startedAtMs, 11);
    assert.deepEqual(await catalogue.parts.listActive(), []);
  });

  it('lists holds as abandoned when, and only when, their part has ended', async () => {
    await catalogue.runs.add(newRun('r1'));
    await catalogue.parts.add({ id: 'p1', runId: 'r1', machineId: null, hostId: HOST.id, name: 'w', task: TASK }, 0);
    const hold = { name: 'dozo-1', hostId: HOST.id, partId: 'p1', runId: 'r1', machineId: null, createdAtMs: 1 };
    await catalogue.holds.add(hold);
    await catalogue.holds.add({ ...hold, name: 'dozo-2', partId: 'gone' });
    const abandoned = async (): Promise<string[]> => (await catalogue.holds.listAbandoned()).map(({ name }) => name);

    assert.deepEqual(await abandoned(), ['dozo-2']);
    await catalogue.parts.finish('p1', { state: 'failed', result: null, error: null, atMs: 2 });
    assert.deepEqual((await abandoned()).sort(), ['dozo-1', 'dozo-2']);
    await catalogue.holds.release('dozo-1', 3);
    await catalogue.holds.release('dozo-1', 4);
    assert.deepEqual(await abandoned(), ['dozo-2']);
    assert.equal((await catalogue.holds.listByRun('r1')).find(({ name }) => name === 'dozo-1')?.releasedAtMs, 3);
  });

  it('stores a line of a log once, and none of a run that is gone', async () => {
    await catalogue.runs.add(newRun('r1'));
    const line = { atMs: 1, level: 'info' as const, code: 'X', text: 'x', details: { n: 1 } };
    const entry = { runId: 'r1', partId: 'p', source: 's', sequence: 0, line };
    assert.equal(await catalogue.log.add(entry), true);
    assert.equal(await catalogue.log.add(entry), false);
    assert.equal(await catalogue.log.add({ ...entry, sequence: 1, line: { ...line, level: 'error' } }), true);
    assert.equal(await catalogue.log.add({ ...entry, runId: 'nobody' }), false);
    const lines = await catalogue.log.list('r1', { afterNumber: 0, limit: 10 });
    assert.deepEqual(lines[0], { ...line, number: lines[0]?.number, partId: 'p' });
    assert.equal((await catalogue.log.list('r1', { afterNumber: 0, limit: 10, level: 'error' })).length, 1);
    assert.equal((await catalogue.log.list('r1', { afterNumber: lines[0]?.number ?? 0, limit: 10 })).length, 1);
    assert.equal(await catalogue.log.nextSequence('r1', 's'), 2);
    assert.equal(await catalogue.log.nextSequence('r1', 'other'), 0);
  });

  it('forgets old runs with their lines, but not the newest of a job nor one with an open hold', async () => {
    for (const id of ['old', 'held', 'newest']) {
      await catalogue.runs.add(newRun(id));
      await catalogue.runs.finish(id, { state: 'success', error: null, atMs: 5 });
    }
    const line = { atMs: 1, level: 'info' as const, code: 'X', text: 'x' };
    await catalogue.log.add({ runId: 'old', partId: null, source: 's', sequence: 0, line });
    await catalogue.holds.add({
      name: 'dozo-1',
      hostId: HOST.id,
      partId: 'p',
      runId: 'held',
      machineId: null,
      createdAtMs: 1,
    });
    assert.equal(await catalogue.runs.removeBefore(100), 1);
    assert.deepEqual(
      (await catalogue.runs.list({ limit: 10 })).map((run) => run.id),
      ['newest', 'held'],
    );
    assert.deepEqual(await catalogue.log.list('old', { afterNumber: 0, limit: 10 }), []);
  });

  it('finds sessions by their secret until they expire', async () => {
    await catalogue.users.add({
      name: 'admin',
      role: 'administrator',
      source: 'local',
      passwordHash: 'h',
      createdAtMs: 1,
    });
    const session = {
      id: 's1',
      secretHash: 'hash',
      userName: 'admin',
      kind: 'token' as const,
      name: 'cli',
      createdAtMs: 1,
      usedAtMs: null,
      expiresAtMs: 100,
      endsAtMs: null,
      address: '192.0.2.1',
      scope: 'monitor' as const,
    };
    await catalogue.sessions.add(session);
    await catalogue.sessions.add({ ...session, id: 's2', secretHash: 'for ever', expiresAtMs: null });
    assert.deepEqual(await catalogue.sessions.find('hash', 99), session);
    assert.equal(await catalogue.sessions.find('hash', 100), null);
    assert.notEqual(await catalogue.sessions.find('for ever', 1e15), null);
    await catalogue.sessions.add({ ...session, id: 's3', secretHash: 'used on', expiresAtMs: 1e15, endsAtMs: 50 });
    assert.notEqual(await catalogue.sessions.find('used on', 49), null);
    assert.equal(await catalogue.sessions.find('used on', 50), null);
    await catalogue.sessions.removeExpired(100);
    assert.deepEqual(
      (await catalogue.sessions.list('admin', 'token', 100)).map(({ id }) => id),
      ['s2'],
    );
    assert.equal(await catalogue.sessions.remove('s2', 'somebody else'), false);
    await catalogue.sessions.removeOthers('admin', null);
    assert.deepEqual(await catalogue.sessions.list('admin', 'token', 1), []);
  });

  it('calls no machine protected by what is in the trash', async () => {
    const versions = ['v1', 'v2'].map((id, index) => ({ ...POINT, id, createdAtMs: index + 1 }));
    const inTrash = { deletedAtMs: 5, keepUntilMs: 6, reason: 'test' };
    const look = async (trashed: number): Promise<unknown> => {
      const points = versions.map((version, index) => (index < trashed ? { ...version, trash: inTrash } : version));
      await catalogue.transaction((tables) => tables.points.replaceAll(REPOSITORY.id, points));
      const { rows } = await catalogue.listings.pageMachines({ sort: 'name', descending: false, limit: 9, offset: 0 });
      const [row] = rows;
      const { protected: count } = await catalogue.listings.countMachines();
      return [row?.protection, row?.pointCount, row?.lastPointAtMs, row?.isAllTrashed, count];
    };
    assert.deepEqual(await look(0), ['protected', 2, 2, false, 1]);
    assert.deepEqual(await look(1), ['protected', 1, 2, false, 1]);
    assert.deepEqual(await look(2), ['pending', 0, null, true, 0]);
  });

  it('replaces the versions of a repository as a whole', async () => {
    const points = [1, 2, 3, 4, 5].map((number) => ({
      ...POINT,
      id: `v${number}`,
      createdAtMs: Math.ceil(number / 2),
    }));
    await catalogue.transaction((tables) => tables.points.replaceAll(REPOSITORY.id, points));
    const first = await catalogue.points.list({ limit: 3 });
    const last = first.at(-1);
    assert.ok(last !== undefined);
    const second = await catalogue.points.list({ limit: 3, before: last, machineId: MACHINE.id });
    assert.deepEqual(
      [...first, ...second].map(({ id }) => id),
      ['v5', 'v4', 'v3', 'v2', 'v1'],
    );
    assert.deepEqual(await catalogue.points.load('v1'), points[0]);
    assert.deepEqual((await catalogue.points.countByMachine()).get(MACHINE.id), { count: 5, lastAtMs: 3 });
    await catalogue.transaction((tables) => tables.points.replaceAll(REPOSITORY.id, []));
    assert.equal(await catalogue.points.load('v1'), null);
  });

  it('tells what the versions of each machine added to a repository, most first', async () => {
    const disks = (...stored: number[]): (typeof POINT)['disks'] =>
      stored.map((storedBytes, index) => ({ key: `scsi0:${index}`, label: 'l', sizeBytes: 10, storedBytes }));
    const inTrash = { deletedAtMs: 5, keepUntilMs: 6, reason: 'test' };
    const points = [
      { ...POINT, id: 'v1', disks: disks(4, 1) },
      { ...POINT, id: 'v2', createdAtMs: 3, machineName: 'web, renamed', sizeBytes: 30, disks: disks(2) },
      { ...POINT, id: 'v3', createdAtMs: 2, trash: inTrash, disks: disks(1) },
      { ...POINT, id: 'v4', machineId: 'other', machineName: 'mail', disks: disks(9) },
      { ...POINT, id: 'unreadable', machineId: '', machineName: '', disks: [] },
    ];
    await catalogue.transaction((tables) => tables.points.replaceAll(REPOSITORY.id, points));

    const usage = await catalogue.points.useByMachine(REPOSITORY.id, 10);

    const web = {
      machineId: MACHINE.id,
      name: 'web, renamed',
      versions: 2,
      trashed: 1,
      sizeBytes: 30,
      addedBytes: 8,
      lastAtMs: 3,
    };
    const mail = {
      machineId: 'other',
      name: 'mail',
      versions: 1,
      trashed: 0,
      sizeBytes: 10,
      addedBytes: 9,
      lastAtMs: 1,
    };
    assert.deepEqual(usage, { machines: [mail, web], total: 2 });
    assert.deepEqual(await catalogue.points.useByMachine(REPOSITORY.id, 1), { machines: [mail], total: 2 });
    await catalogue.transaction((tables) => tables.points.replaceAll(REPOSITORY.id, []));
    assert.deepEqual(await catalogue.points.useByMachine(REPOSITORY.id, 1), { machines: [], total: 0 });
  });

  it('keeps values of settings', async () => {
    assert.equal(await catalogue.settings.load('x'), null);
    await catalogue.settings.save('x', { a: [1] });
    await catalogue.settings.save('x', { a: [2] });
    assert.deepEqual(await catalogue.settings.load('x'), { a: [2] });
  });

  it('undoes all of a transaction that fails, and goes on', async () => {
    await assert.rejects(
      catalogue.transaction(async (tables) => {
        await tables.runs.add(newRun('r1'));
        throw new Error('changed my mind');
      }),
      /changed my mind/,
    );
    assert.equal(await catalogue.runs.load('r1'), null);
    await catalogue.runs.add(newRun('r1'));
  });

  it('lets no other statement into a transaction', async () => {
    let isInside = false;
    const transaction = catalogue.transaction(async (tables) => {
      isInside = true;
      await tables.settings.save('a', 1);
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.equal(await tables.settings.load('a'), 1);
      isInside = false;
    });
    const outside = catalogue.settings.save('a', 2).then(() => assert.equal(isInside, false));
    await Promise.all([transaction, outside]);
    assert.equal(await catalogue.settings.load('a'), 2);
  });
});

describe('migrations', () => {
  it('go step by step, keep what is there, and are not repeated', async () => {
    const path = newPath();
    const database = await Sqlite.open(path);
    await database.configure();
    await migrate(database, ['CREATE TABLE a (x INTEGER)', 'INSERT INTO a VALUES (1); CREATE TABLE b (y TEXT)']);
    await migrate(database, [
      'CREATE TABLE a (x INTEGER)',
      'INSERT INTO a VALUES (1); CREATE TABLE b (y TEXT)',
      'ALTER TABLE a ADD COLUMN z TEXT',
    ]);
    assert.deepEqual(await database.all('SELECT * FROM a'), [{ x: 1, z: null }]);
    assert.equal((await database.get('PRAGMA user_version'))?.['user_version'], 3);
    await database.close();
  });

  it('leave a step that fails undone', async () => {
    const path = newPath();
    const first = await Sqlite.open(path);
    await assert.rejects(migrate(first, ['CREATE TABLE a (x INTEGER)', 'CREATE TABLE b (x INTEGER); NONSENSE']));
    await first.close();
    const second = await Sqlite.open(path);
    assert.deepEqual(
      (await second.all("SELECT name FROM sqlite_master WHERE type = 'table'")).map((row) => row['name']),
      ['a'],
    );
    assert.equal((await second.get('PRAGMA user_version'))?.['user_version'], 1);
    await second.close();
  });

  it('refuse a catalogue of a newer Dozo', async () => {
    const path = newPath();
    const database = await Sqlite.open(path);
    await database.script(`PRAGMA user_version = ${MIGRATIONS.length + 1}`);
    await database.close();
    await assert.rejects(openCatalogue(path), hasCode('CATALOGUE_NEWER'));
  });

  it('turn foreign keys on and the journal into a log that is synced', async () => {
    const path = newPath();
    await (await openCatalogue(path)).close();
    const database = await Sqlite.open(path);
    await database.configure();
    assert.equal((await database.get('PRAGMA foreign_keys'))?.['foreign_keys'], 1);
    assert.equal((await database.get('PRAGMA journal_mode'))?.['journal_mode'], 'wal');
    assert.equal((await database.get('PRAGMA synchronous'))?.['synchronous'], 2);
    await database.close();
  });
});

describe('damage and death', () => {
  it('names a file that is no catalogue', async () => {
    const path = newPath();
    await writeFile(path, 'this is not a database, it only looks like a file that is long enough to be one');
    await assert.rejects(openCatalogue(path), hasCode('CATALOGUE_DAMAGED'));
  });

  it('loses nothing that was acknowledged when the process is killed', { timeout: 180_000 }, async () => {
    for (let round = 0; round < 3; round += 1) {
      const path = newPath();
      const child = spawn(
        process.execPath,
        [
          '--input-type=module',
          '-e',
          `import { openCatalogue } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
           const catalogue = await openCatalogue(${JSON.stringify(path)});
           for (let n = 0; ; n += 1) {
             await catalogue.transaction(async (tables) => {
               await tables.settings.save('a', n);
               await tables.settings.save('b', n);
             });
             process.stdout.write(n + '\\n');
           }`,
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      let text = '';
      child.stdout.on('data', (piece: Buffer) => {
        text += piece.toString();
        if (text.split('\n').length > 30 + round * 17) child.kill('SIGKILL');
      });
      await once(child, 'close');
      // What follows the last line break was cut off.
      const acknowledged = Number(text.split('\n').at(-2));

      const catalogue = await openCatalogue(path);
      const a = Number(await catalogue.settings.load('a'));
      assert.ok(acknowledged >= 25);
      assert.ok(a >= acknowledged, `${a} >= ${acknowledged}`);
      assert.equal(await catalogue.settings.load('b'), a);
      await catalogue.close();
    }
  });

  it('locks a folder until the process ends, however it ends', { timeout: 180_000 }, async () => {
    const path = join(folder, 'server.lock');
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `import { lockFolder } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
         await lockFolder(${JSON.stringify(path)});
         process.stdout.write('locked');
         setInterval(() => {}, 1000);`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(child.stdout, 'data');
    await assert.rejects(lockFolder(path), hasCode('SERVER_ALREADY_RUNNING'));
    child.kill('SIGKILL');
    await once(child, 'exit');
    const release = await lockFolder(path);
    await assert.rejects(lockFolder(path), hasCode('SERVER_ALREADY_RUNNING'));
    const waiting = lockFolder(path, 20_000);
    // Long enough for it to be refused, were it not to wait.
    await Promise.race([waiting, delay(300)]);
    await release();
    await (
      await waiting
    )();
  });
});

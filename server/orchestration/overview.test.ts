import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { jobOptionsSchema } from '../contract/api/job.schema.ts';
import { machineListQuerySchema } from '../contract/api/list.schema.ts';
import { scheduleSchema } from '../contract/api/schedule.schema.ts';
import { openCatalogue, type Catalogue, type PointRecord, type RunPartRecord } from '../database/index.ts';
import { listJobRows, listMachineRows, loadHistory, loadOverview } from './overview.ts';

const NOW_MS = Date.parse('2027-03-10T12:00:00Z');
const DAY_MS = 86_400_000;
const id = (number: number): string => number.toString(16).padStart(16, '0');
const everything = { ids: null, nowMs: NOW_MS };
let folder: string;
let catalogue: Catalogue;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-overview-'));
  catalogue = await openCatalogue(join(folder, 'catalogue.db'));
  await catalogue.hosts.save({
    id: id(1),
    name: 'host',
    host: 'host.example',
    sshPort: 22,
    httpsPort: 443,
    user: 'root',
    auth: 'password',
    secret: 'sealed',
    sshHostKey: null,
    tlsCertificate: null,
    facts: null,
    error: null,
    checkedAtMs: null,
    createdAtMs: NOW_MS,
  });
  for (const [number, name] of ['Alpha 100%', 'beta', 'gamma', 'delta_'].entries()) {
    await catalogue.machines.save({
      id: id(10 + number),
      hostId: id(1),
      name,
      identity: { name, instanceUuid: null, biosUuid: null, path: '', diskUuids: [] },
      summary: null,
      present: true,
      seenAtMs: NOW_MS,
    });
  }
  await catalogue.repositories.save({
    id: id(2),
    name: 'main',
    path: '/volume1/main',
    formatId: null,
    chunkSizeBytes: null,
    stats: null,
    error: null,
    seenAtMs: null,
    createdAtMs: NOW_MS,
  } as Parameters<Catalogue['repositories']['save']>[0]);
  await catalogue.transaction((tables) =>
    tables.jobs.add({
      id: id(3),
      name: 'nightly',
      machineIds: [id(10), id(11), id(12)],
      selection: null,
      repositoryId: id(2),
      options: jobOptionsSchema.parse({}),
      revision: 1,
      createdAtMs: NOW_MS,
      updatedAtMs: NOW_MS,
    } as Parameters<Catalogue['jobs']['add']>[0]),
  );
  await catalogue.schedules.save({
    jobId: id(3),
    schedule: scheduleSchema.parse({ timeZone: 'UTC', rules: [{ rule: { kind: 'daily', time: '22:00' } }] }),
    doneUntilMs: NOW_MS,
    doneUntilRun: 0,
    missedAtMs: null,
  } as Parameters<Catalogue['schedules']['save']>[0]);
  // 23:30 of the ninth in London is the tenth in Berlin.
  await addRun(20, Date.parse('2027-03-09T23:30:00Z'), [
    { machine: 10, state: 'success', readBytes: 700, storedBytes: 70 },
    { machine: 11, state: 'failed', readBytes: 30, storedBytes: 0 },
  ]);
});

after(async () => {
  await catalogue.close();
  await rm(folder, { recursive: true, force: true });
});

async function addRun(
  number: number,
  atMs: number,
  parts: { machine: number; state: 'success' | 'failed'; readBytes: number; storedBytes: number }[],
): Promise<void> {
  const run = { id: id(number), kind: 'backup' as const, jobId: id(3), repositoryId: id(2), title: 'nightly' };
  const open = {
    state: 'waiting' as const,
    cancelRequested: false,
    startedAtMs: null,
    finishedAtMs: null,
    error: null,
  };
  await catalogue.runs.add({ ...run, ...open, createdAtMs: atMs });
  for (const [position, part] of parts.entries()) {
    const partId = id(number * 100 + position);
    const machineId = id(part.machine);
    await catalogue.parts.add(
      { id: partId, runId: id(number), machineId, hostId: id(1), name: 'part', task: {} as RunPartRecord['task'] },
      position,
    );
    await catalogue.parts.finish(partId, {
      state: part.state,
      error: null,
      atMs,
      result: { stats: { readBytes: part.readBytes, storedBytes: part.storedBytes } },
    });
  }
  await catalogue.runs.finish(id(number), { state: 'failed', error: null, atMs });
}

test('counts machines by how well they are off', async () => {
  const overview = await loadOverview(catalogue, everything);

  // Alpha ran well but has no version in the catalogue, gamma never ran.
  assert.deepEqual(overview.machines, { protected: 0, failing: 1, pending: 2, unprotected: 1 });
  assert.deepEqual(
    overview.failing.map(({ name }) => name),
    ['beta'],
  );
  assert.deepEqual(overview.nextRuns, [{ jobId: id(3), name: 'nightly', atMs: Date.parse('2027-03-10T22:00:00Z') }]);
  assert.equal(overview.lastRestore, null);
});

test('names the jobs whose schedule is paused', async () => {
  assert.deepEqual((await loadOverview(catalogue, everything)).pausedJobs, []);
  const record = await catalogue.schedules.load(id(3));
  assert.ok(record !== null);
  await catalogue.schedules.save({ ...record, schedule: { ...record.schedule, enabled: false } });
  const overview = await loadOverview(catalogue, everything);
  await catalogue.schedules.save(record);

  assert.deepEqual(overview.pausedJobs, [{ jobId: id(3), name: 'nightly' }]);
  assert.deepEqual(overview.nextRuns, []);
  assert.deepEqual((await loadOverview(catalogue, { ids: [id(13)], nowMs: NOW_MS })).pausedJobs, []);
});

test('tells nothing of machines outside the reach', async () => {
  const overview = await loadOverview(catalogue, { ids: [id(13)], nowMs: NOW_MS });

  assert.deepEqual(overview.machines, { protected: 0, failing: 0, pending: 0, unprotected: 1 });
  assert.deepEqual([overview.failing, overview.nextRuns], [[], []]);
});

test('pages, sorts and filters machines', async () => {
  const names = async (query: object): Promise<string[]> =>
    (await listMachineRows(catalogue, machineListQuerySchema.parse(query), everything)).rows.map(({ name }) => name);

  assert.deepEqual(await names({}), ['Alpha 100%', 'beta', 'delta_', 'gamma']);
  assert.deepEqual(await names({ descending: 'true', offset: '1', limit: '2' }), ['delta_', 'beta']);
  assert.deepEqual(await names({ sort: 'protection', limit: '1' }), ['beta']);
  assert.deepEqual(await names({ protection: 'unprotected' }), ['delta_']);
  // What means something in a pattern is searched for as it stands.
  assert.deepEqual(await names({ search: '%' }), ['Alpha 100%']);
  assert.deepEqual(await names({ search: '_' }), ['delta_']);
  assert.deepEqual(await names({ search: "'; DROP TABLE machines" }), []);
  const page = await listMachineRows(catalogue, machineListQuerySchema.parse({ limit: '1' }), everything);
  assert.equal(page.total, 4);
  assert.deepEqual(page.rows[0]?.jobs, [{ id: id(3), name: 'nightly' }]);
  assert.equal(page.rows[0].nextRunAtMs, Date.parse('2027-03-10T22:00:00Z'));
});

test('finds jobs by the names of their machines', async () => {
  const query = { sort: 'name' as const, descending: false, offset: 0, limit: 10 };

  const found = await listJobRows(catalogue, { ...query, search: 'GAMM' }, everything);

  assert.deepEqual(
    found.rows.map(({ name, machineNames, repositoryName }) => ({ name, machineNames, repositoryName })),
    [{ name: 'nightly', machineNames: ['Alpha 100%', 'beta', 'gamma'], repositoryName: 'main' }],
  );
  assert.equal((await listJobRows(catalogue, { ...query, search: 'delta' }, everything)).total, 0);
  assert.equal((await listJobRows(catalogue, query, { ...everything, ids: [] })).total, 0);
});

test('sums by the days of the time zone asked for', async () => {
  const history = await loadHistory(catalogue, { days: 2, timeZone: 'Europe/Berlin', nowMs: NOW_MS });

  assert.deepEqual(history.days, [
    { date: '2027-03-09', readBytes: 0, storedBytes: 0, runs: [] },
    { date: '2027-03-10', readBytes: 730, storedBytes: 70, runs: [{ kind: 'backup', state: 'failed', count: 1 }] },
  ]);
  const elsewhere = await loadHistory(catalogue, { days: 2, timeZone: 'UTC', nowMs: NOW_MS });
  assert.deepEqual(
    elsewhere.days.map(({ readBytes }) => readBytes),
    [730, 0],
  );
  assert.ok(NOW_MS % DAY_MS > 0);
});

test('names the machine whose restore was not proven for the longest time', async () => {
  const versionOf = (machine: number, version: string, createdAtMs: number): PointRecord => ({
    id: version,
    repositoryId: id(2),
    machineId: id(machine),
    machineName: 'as it was',
    createdAtMs,
    state: 'complete',
    stateReasons: [],
    consistency: null,
    sizeBytes: 1,
    rootHash: '',
    previousPointId: null,
    disks: [],
    lockedUntilMs: null,
    trash: null,
  });
  const versions = [versionOf(10, 'a', 3_000), versionOf(11, 'b1', 1_000), versionOf(11, 'b2', 5_000)];
  await catalogue.transaction((tables) => tables.points.replaceAll(id(2), versions));
  const leastProven = async (ids: string[] | null = null): Promise<unknown> =>
    (await loadOverview(catalogue, { ids, nowMs: NOW_MS })).leastProven;
  const restore = async (number: number, pointId: string, state: 'success' | 'failed'): Promise<void> => {
    const runId = id(number);
    await catalogue.runs.add({
      id: runId,
      kind: 'restore',
      jobId: null,
      repositoryId: id(2),
      title: 'back',
      state: 'waiting',
      cancelRequested: false,
      createdAtMs: number,
      startedAtMs: null,
      finishedAtMs: null,
      error: null,
    });
    const task = { kind: 'restore', pointId } as RunPartRecord['task'];
    await catalogue.parts.add({ id: id(number * 100), runId, machineId: null, hostId: id(1), name: 'back', task }, 0);
    await catalogue.parts.finish(id(number * 100), { state, error: null, atMs: number * 1_000, result: null });
    await catalogue.runs.finish(runId, { state, error: null, atMs: number * 1_000 });
  };
  const beta = { machineId: id(11), name: 'beta', firstVersionAtMs: 1_000 };
  const alpha = { machineId: id(10), name: 'Alpha 100%', firstVersionAtMs: 3_000 };

  assert.deepEqual(await leastProven(), { ...beta, provenAtMs: null, neverCount: 2 });
  await restore(30, 'b1', 'failed');
  assert.deepEqual(await leastProven(), { ...beta, provenAtMs: null, neverCount: 2 }, 'one that failed proves nothing');
  await restore(31, 'b1', 'success');
  assert.deepEqual(await leastProven(), { ...alpha, provenAtMs: null, neverCount: 1 });
  await restore(32, 'a', 'success');
  assert.deepEqual(await leastProven(), { ...beta, provenAtMs: 31_000, neverCount: 0 });
  await restore(33, 'b2', 'success');
  assert.deepEqual(await leastProven(), { ...alpha, provenAtMs: 32_000, neverCount: 0 });
  assert.deepEqual(await leastProven([id(11)]), { ...beta, provenAtMs: 33_000, neverCount: 0 });
  assert.equal(await leastProven([id(13)]), null);
});

test('a failure is told until a run comes to an end by itself', async () => {
  const failing = async (): Promise<string[]> =>
    (await loadOverview(catalogue, everything)).failing.map(({ name }) => name);
  const run = { kind: 'backup' as const, jobId: id(3), repositoryId: id(2), title: 'nightly' };
  const open = {
    state: 'waiting' as const,
    cancelRequested: false,
    startedAtMs: null,
    finishedAtMs: null,
    error: null,
  };
  const task = {} as RunPartRecord['task'];
  await catalogue.runs.add({ ...run, ...open, id: id(21), createdAtMs: NOW_MS });
  await catalogue.parts.add({ id: id(2100), runId: id(21), machineId: id(11), hostId: id(1), name: 'part', task }, 0);
  assert.deepEqual(await failing(), ['beta'], 'one that waits has not brought anything yet');
  await catalogue.parts.finish(id(2100), { state: 'cancelled', error: null, atMs: NOW_MS, result: null });
  await catalogue.runs.finish(id(21), { state: 'cancelled', error: null, atMs: NOW_MS });
  assert.deepEqual(await failing(), ['beta'], 'one that was cancelled neither');
});

/**
 * The speed limit where it matters: two machines of a host, read over real SSH by two worker processes, may
 * together be no faster than the settings say, share that evenly, and are set free when the limit goes. Restores
 * keep to it too. A busy machine may be slower than a limit, never faster: only that is asserted.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MIB } from '../../server/runtime/index.ts';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { startProduct, type Product } from '../product/product.ts';

const LIMIT_MB = 3;
const DISK_BYTES = 32 * MIB;

interface Run {
  id: string;
  state: string;
  parts: {
    name: string;
    state: string;
    progress: { stage: string; doneBytes: number; disks: { waitsFor?: string }[] } | null;
    result: { pointId?: string; writtenBytes?: number; verifiedBytes?: number } | null;
    error: unknown;
  }[];
}

let folder: string;
let lab: LabHost;
let product: Product;
let hostId: string;
let jobId: string;
let repositoryId: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-throttle-'));
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    datastores: [{ name: 'nfs', type: 'NFS', rawFrozenRead: 'allow' }],
    vms: ['one', 'two'].map((name, index) => ({
      name,
      datastore: 'nfs',
      disks: [{ sizeBytes: DISK_BYTES, fill: { percent: 100, seed: index + 1 } }],
    })),
  });
  // A worker each, so that the limit is one that processes have to share.
  product = await startProduct(join(folder, 'dozo'), { env: { DOZO_WORKERS: '2', DOZO_WORKER_CONCURRENCY: '1' } });
  const { api } = product;
  const host = await api.post<{ id: string }>('/hosts', {
    host: '127.0.0.1',
    sshPort: lab.sshPort,
    httpsPort: lab.httpsPort,
    user: lab.user,
    password: lab.password,
  });
  hostId = host.id;
  const machines = await api.get<{ id: string }[]>(`/hosts/${hostId}/machines`);
  const path = join(folder, 'repository');
  repositoryId = (await api.post<{ id: string }>('/repositories', { name: 'main', path })).id;
  const machineIds = machines.map(({ id }) => id);
  jobId = (await api.post<{ id: string }>('/jobs', { name: 'slow', machineIds, repositoryId })).id;
});

after(async () => {
  await product.close();
  await lab.close();
  await rm(folder, { recursive: true, force: true });
});

/** Of a whole day that begins at noon, so that it holds at any time. */
function limitTo(megabytesPerSecond: number): object {
  return { timeZone: 'Europe/Berlin', limits: [{ from: '12:00', until: '12:00', megabytesPerSecond }] };
}

function isOver(run: Run): boolean {
  return run.state !== 'waiting' && run.state !== 'running';
}

/**
 * What had arrived is never ahead of the limit. Each sample is timed when it is here, which is later than what it
 * tells, and the time runs from when the worker first asked: so a busy machine cannot make this fail.
 */
async function assertKept(runId: string, samples: readonly { atMs: number; bytes: number }[]): Promise<string> {
  const { lines } = await product.api.get<{
    lines: { atMs: number; code: string; details?: { megabytesPerSecond: number } }[];
  }>(`/runs/${runId}/log`);
  const told = lines.filter(({ code }) => code === 'SPEED_LIMITED');
  assert.ok(told.length > 0 && told.every(({ details }) => details?.megabytesPerSecond === LIMIT_MB));
  const sinceMs = Math.min(...told.map(({ atMs }) => atMs));
  const rates = samples
    .map(({ atMs, bytes }) => ({ seconds: (atMs - sinceMs) / 1000, bytes }))
    // Before, the first piece weighs more than the tenth.
    .filter(({ seconds }) => seconds > 5)
    .map(({ seconds, bytes }) => ({ seconds, megabytesPerSecond: bytes / 1e6 / seconds }));
  const last = rates.at(-1);
  assert.ok(last !== undefined, 'it was over before anything could be measured');
  const fastest = Math.max(...rates.map(({ megabytesPerSecond }) => megabytesPerSecond));
  const measured = `${last.megabytesPerSecond.toFixed(2)} MB/s over ${last.seconds.toFixed(1)} s, ${fastest.toFixed(2)} at most`;
  assert.ok(fastest < LIMIT_MB * 1.1, measured);
  return `limit ${LIMIT_MB} MB/s: ${measured}`;
}

function doneOf(run: Run): number[] {
  return run.parts.map(({ progress }) => progress?.doneBytes ?? 0);
}

test('two workers together keep to the limit, share it, and are free when it goes', { timeout: 480_000 }, async () => {
  const { api } = product;
  await api.patch('/settings', { throttle: limitTo(LIMIT_MB) });
  const { id } = await api.post<{ id: string }>(`/jobs/${jobId}/run`, {});
  const samples: { atMs: number; bytes: number; done: number[] }[] = [];
  let run: Run;
  let done: number[];
  const heldBy = new Set<string | undefined>();
  do {
    await sleep(200);
    run = await api.get<Run>(`/runs/${id}`);
    done = doneOf(run);
    for (const disk of run.parts.flatMap(({ progress }) => progress?.disks ?? [])) heldBy.add(disk.waitsFor);
    samples.push({ atMs: Date.now(), bytes: done.reduce((sum, bytes) => sum + bytes, 0), done });
  } while (!isOver(run) && !done.every((bytes) => bytes > DISK_BYTES / 2));
  assert.ok(!isOver(run), JSON.stringify(run));
  console.log(await assertKept(id, samples));
  assert.ok(heldBy.has('limit'), `said to be held up by ${[...heldBy].join(', ')}`);
  // While both read: one may have begun long before the other, and stood still for a while on a busy machine.
  const both = samples.filter((sample) => sample.done.every((one) => one > DISK_BYTES / 8 && one < DISK_BYTES));
  const [first] = both;
  const each = both.at(-1)?.done.map((bytes, index) => bytes - (first?.done[index] ?? 0)) ?? [];
  if (Math.max(...each) > DISK_BYTES / 4) assert.ok(Math.min(...each) > Math.max(...each) / 5, each.join(' and '));

  // The rest would take some seconds more.
  await api.patch('/settings', { throttle: null });
  const freedMs = performance.now();
  while (!isOver(run)) {
    await sleep(100);
    run = await api.get<Run>(`/runs/${id}`);
  }
  assert.ok(performance.now() - freedMs < 300_000);
  assert.equal(run.state, 'success', JSON.stringify(run));

  const check = await api.post<{ id: string }>(`/repositories/${repositoryId}/check`, { depth: 'hashes' });
  do {
    await sleep(200);
    run = await api.get<Run>(`/runs/${check.id}`);
  } while (!isOver(run));
  assert.equal(run.state, 'success', JSON.stringify(run));
});

test('a restore keeps to the limit as well, and brings back every byte', { timeout: 480_000 }, async () => {
  const { api } = product;
  const { runs } = await api.get<{ runs: Run[] }>('/runs?kind=backup&limit=1');
  const whole = await api.get<Run>(`/runs/${runs[0]?.id}`);
  const pointId = whole.parts.find(({ name }) => name === 'one')?.result?.pointId;
  await api.patch('/settings', { throttle: limitTo(LIMIT_MB) });
  const { id } = await api.post<{ id: string }>('/restores', { pointId, hostId, mode: { kind: 'new', name: 'back' } });
  const samples: { atMs: number; bytes: number }[] = [];
  let run: Run;
  do {
    await sleep(100);
    run = await api.get<Run>(`/runs/${id}`);
    const progress = run.parts[0]?.progress;
    if (progress?.stage === 'writing') samples.push({ atMs: Date.now(), bytes: progress.doneBytes });
  } while (!isOver(run));
  assert.equal(run.state, 'success', JSON.stringify(run));
  assert.deepEqual(run.parts[0]?.result?.writtenBytes, DISK_BYTES);
  assert.deepEqual(run.parts[0]?.result?.verifiedBytes, DISK_BYTES);

  console.log(await assertKept(id, samples));
});

/**
 * The speed limit where it matters: two machines of a host, read over real SSH by two worker processes, may
 * together be no faster than the settings say, share that evenly, and are set free when the limit goes.
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

const LIMIT_MB = 4;
const DISK_BYTES = 32 * MIB;

interface Run {
  id: string;
  state: string;
  parts: { name: string; state: string; progress: { doneBytes: number } | null; error: unknown }[];
}

let folder: string;
let lab: LabHost;
let product: Product;
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
  const { id: hostId } = await api.post<{ id: string }>('/hosts', {
    host: '127.0.0.1',
    sshPort: lab.sshPort,
    httpsPort: lab.httpsPort,
    user: lab.user,
    password: lab.password,
  });
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

function doneOf(run: Run): number[] {
  return run.parts.map(({ progress }) => progress?.doneBytes ?? 0);
}

test('two workers together keep to the limit, share it, and are free when it goes', { timeout: 240_000 }, async () => {
  const { api } = product;
  await api.patch('/settings', { throttle: limitTo(LIMIT_MB) });
  const { id } = await api.post<{ id: string }>(`/jobs/${jobId}/run`, {});
  const samples: { atMs: number; done: number[] }[] = [];
  let run: Run;
  do {
    await sleep(200);
    run = await api.get<Run>(`/runs/${id}`);
    samples.push({ atMs: performance.now(), done: doneOf(run) });
    // As long as both read: from the first eighth of each disk to the end of its fifth.
  } while (!isOver(run) && !doneOf(run).every((bytes) => bytes > (DISK_BYTES * 5) / 8));
  assert.ok(!isOver(run), JSON.stringify(run));

  const first = samples.find(({ done }) => done.every((bytes) => bytes > DISK_BYTES / 8));
  const last = samples.at(-1);
  assert.ok(first !== undefined && last !== undefined);
  const seconds = (last.atMs - first.atMs) / 1000;
  const each = last.done.map((bytes, index) => bytes - (first.done[index] ?? 0));
  const megabytesPerSecond = each.reduce((sum, bytes) => sum + bytes, 0) / 1e6 / seconds;
  const measured = `${megabytesPerSecond.toFixed(2)} MB/s over ${seconds.toFixed(1)} s, ${each.join(' and ')} bytes`;
  assert.ok(seconds > 4, measured);
  assert.ok(megabytesPerSecond < LIMIT_MB * 1.1, measured);
  // A machine that is busy with other things may be slower; on an idle one this is within a tenth as well.
  assert.ok(megabytesPerSecond > LIMIT_MB * 0.6, measured);
  assert.ok(Math.min(...each) > Math.max(...each) * 0.6, measured);
  console.log(`limit ${LIMIT_MB} MB/s: ${measured}`);

  // The rest would take some seconds more.
  await api.patch('/settings', { throttle: null });
  const freedMs = performance.now();
  while (!isOver(run)) {
    await sleep(100);
    run = await api.get<Run>(`/runs/${id}`);
  }
  assert.ok(performance.now() - freedMs < 60_000);
  assert.equal(run.state, 'success', JSON.stringify(run));
  const { lines } = await api.get<{ lines: { code: string; details?: { megabytesPerSecond: number } }[] }>(
    `/runs/${id}/log`,
  );
  const told = lines.filter(({ code }) => code === 'READ_THROTTLED');
  assert.deepEqual(
    told.map(({ details }) => details?.megabytesPerSecond),
    [LIMIT_MB, LIMIT_MB],
  );

  const check = await api.post<{ id: string }>(`/repositories/${repositoryId}/check`, { depth: 'hashes' });
  do {
    await sleep(200);
    run = await api.get<Run>(`/runs/${check.id}`);
  } while (!isOver(run));
  assert.equal(run.state, 'success', JSON.stringify(run));
});

/**
 * The route over iSCSI as the product takes it by itself: a running machine on VMFS-6, server and worker in processes
 * of their own, the worker killed in the middle of a clone.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { BackupResult } from '../../server/contract/run.ts';
import { openRepository } from '../../server/repository/index.ts';
import { MIB } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { startLabHost, type IscsiState, type LabHost } from '../lab/lab-host.ts';
import { startProduct, type Product } from '../product/product.ts';

let folder: string;
let lab: LabHost;
let product: Product;
let jobId: string;
let untouched: IscsiState;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-iscsi-'));
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    edition: 'free',
    datastores: [{ name: 'six', type: 'VMFS-6' }],
    switches: { keepTruth: true },
    vms: [
      {
        name: 'web',
        datastore: 'six',
        running: true,
        disks: [{ sizeBytes: 32 * MIB, fill: { percent: 60, seed: 5 } }],
      },
    ],
  });
  untouched = await lab.iscsi();
  product = await startProduct(join(folder, 'dozo'));
  const { address, sshPort, httpsPort, user, password } = lab;
  const host = await product.api.post<{ id: string }>('/hosts', { host: address, sshPort, httpsPort, user, password });
  const repository = await product.api.post<{ id: string }>('/repositories', {
    name: 'main',
    path: join(folder, 'repository'),
  });
  const [machine] = await product.api.get<{ id: string }[]>(`/hosts/${host.id}/machines?refresh=true`);
  const job = await product.api.post<{ id: string }>('/jobs', {
    name: 'web',
    machineIds: [machine?.id],
    repositoryId: repository.id,
  });
  jobId = job.id;
});

after(async () => {
  await product.close();
  await lab.close();
  await rm(folder, { recursive: true, force: true });
});

async function follow(run: { id: string }): Promise<BackupResult> {
  for (;;) {
    const { state, parts } = await product.api.get<{
      state: string;
      parts: { error: unknown; result: BackupResult | null }[];
    }>(`/runs/${run.id}`);
    if (state !== 'waiting' && state !== 'running') {
      const [part] = parts;
      assert.equal(state, 'success', JSON.stringify(part?.error ?? part?.result?.error));
      assert.ok(part?.result);
      return part.result;
    }
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

async function assertWhole(result: BackupResult): Promise<void> {
  assert.equal(result.disks[0]?.route, 'iscsi-clone', JSON.stringify(result.disks[0]));
  const repository = await openRepository({
    storage: await openLocalStorage({ folder: join(folder, 'repository') }),
    threads: 1,
  });
  try {
    const point = await repository.openPoint(result.pointId ?? '');
    const { hold } = point.manifest.evidence as { hold: string };
    const truth = await lab.frozenCopy(await lab.vmId('web'), hold);
    const stored = await (await point.openDisk('scsi0:0')).read(0, 32 * MIB);
    assert.ok(stored.equals(await readFile(truth?.['scsi0:0'] ?? '')), 'the version is not what was frozen');
  } finally {
    await repository.close();
  }
  assert.deepEqual(await lab.iscsi(), untouched);
  const state = await lab.state();
  assert.equal(state.vms[0]?.snapshots, null);
}

test('a job reads a running machine on VMFS-6 by having the host write over iSCSI', async () => {
  await assertWhole(await follow(await product.api.post<{ id: string }>(`/jobs/${jobId}/run`, {})));
});

test('the host is held to the speed limit by being answered later', async () => {
  const limit = 4;
  const throttle = { timeZone: 'UTC', limits: [], otherwise: limit };
  await product.api.patch('/settings', { throttle });
  const run = await product.api.post<{ id: string }>(`/jobs/${jobId}/run`, { fullRead: true });
  const result = await follow(run);
  await product.api.patch('/settings', { throttle: null });
  const { lines } = await product.api.get<{ lines: { atMs: number; code: string }[] }>(`/runs/${run.id}/log`);
  const since = lines.find(({ code }) => code === 'SPEED_LIMITED');
  const until = lines.find(({ code }) => code === 'DISK_DONE');
  assert.ok(since !== undefined && until !== undefined, JSON.stringify(lines));
  const seconds = (until.atMs - since.atMs) / 1000;
  const megabytes = result.stats.readBytes / 1e6;
  assert.ok(megabytes > 15, `${megabytes} MB`);
  // A busy machine may be slower than the limit, never faster.
  assert.ok(megabytes / seconds < limit * 1.1, `${megabytes.toFixed(1)} MB in ${seconds.toFixed(1)} s`);
  console.log(`limit ${limit} MB/s: ${megabytes.toFixed(1)} MB came over iSCSI in ${seconds.toFixed(1)} s`);
  await assertWhole(result);
});

test('it does so after the worker was killed in the middle', async () => {
  await lab.set({ cloneWaitsAtPercent: 40 });
  const run = await product.api.post<{ id: string }>(`/jobs/${jobId}/run`, {});
  await lab.cloneWaits();
  for (const pid of product.pids().worker) process.kill(pid, 'SIGKILL');
  await lab.set({ cloneWaitsAtPercent: null });

  await assertWhole(await follow(run));
});

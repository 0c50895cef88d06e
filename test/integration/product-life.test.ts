/**
 * One machine through what happens to machines: renamed, registered anew under another id, moved to another
 * datastore, a disk added, grown and removed, put back over itself by a restore. Through all of it the job goes on with
 * one chain of versions, and every version is what was frozen for it.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { appendFile, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import type { BackupResult } from '../../server/contract/run.ts';
import { openRepository, type PointManifest } from '../../server/repository/index.ts';
import { MIB, silentLogger, systemClock } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { startProduct, type Product } from '../product/product.ts';

let folder: string;
let lab: LabHost;
let product: Product;
let hostId: string;
let machineId: string;
let jobId: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-life-'));
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    datastores: [
      { name: 'nfs', type: 'NFS', rawFrozenRead: 'allow' },
      { name: 'block', type: 'VMFS-6' },
    ],
    switches: { keepTruth: true, freeChangedAreas: 'answer' },
    vms: [
      {
        name: 'first name',
        datastore: 'nfs',
        running: true,
        changeTracking: true,
        disks: [{ sizeBytes: 48 * MIB, fill: { percent: 50, seed: 5 } }],
      },
    ],
  });
  product = await startProduct(join(folder, 'dozo'));
  const host = await product.api.post<{ id: string }>('/hosts', {
    host: '127.0.0.1',
    sshPort: lab.sshPort,
    httpsPort: lab.httpsPort,
    user: lab.user,
    password: lab.password,
  });
  hostId = host.id;
  const repository = await product.api.post<{ id: string }>('/repositories', {
    name: 'main',
    path: join(folder, 'repository'),
  });
  const [machine] = await machines();
  assert.ok(machine !== undefined);
  machineId = machine.id;
  const job = await product.api.post<{ id: string }>('/jobs', {
    name: 'life',
    machineIds: [machineId],
    repositoryId: repository.id,
  });
  jobId = job.id;
});

after(async () => {
  await product.close();
  await lab.close();
  await rm(folder, { recursive: true, force: true });
});

interface Part {
  name: string;
  state: string;
  error: { code: string; message: string; hint?: string } | null;
  result: BackupResult | null;
}

async function machines(): Promise<{ id: string; name: string; present: boolean }[]> {
  return product.api.get(`/hosts/${hostId}/machines?refresh=true`);
}

async function follow(started: { id: string }): Promise<Part> {
  for (;;) {
    const run = await product.api.get<{ state: string; parts: Part[] }>(`/runs/${started.id}`);
    if (run.state !== 'waiting' && run.state !== 'running') return run.parts[0] as Part;
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

/** Runs the job, expects a version equal to what the lab froze, and gives part and manifest. */
async function backUp(): Promise<{ part: Part; manifest: PointManifest }> {
  const part = await follow(await product.api.post<{ id: string }>(`/jobs/${jobId}/run`, {}));
  const pointId = part.result?.pointId;
  assert.ok(typeof pointId === 'string', JSON.stringify(part.error));
  return { part, manifest: await compare(pointId) };
}

async function compare(pointId: string): Promise<PointManifest> {
  const storage = await openLocalStorage({ folder: join(folder, 'repository') });
  const repository = await openRepository({ storage, clock: systemClock, logger: silentLogger, threads: 1 });
  try {
    const point = await repository.openPoint(pointId);
    const { manifest } = point;
    const { hold } = manifest.evidence as { hold: string };
    const truth = await lab.frozenCopy(await vmId(), hold);
    assert.ok(truth !== null);
    assert.deepEqual(manifest.disks.map(({ key }) => key).sort(), Object.keys(truth).sort());
    for (const { key } of manifest.disks) {
      const disk = await point.openDisk(key);
      const stored = createHash('sha256')
        .update(await disk.read(0, disk.sizeBytes))
        .digest('hex');
      const frozen = createHash('sha256');
      for await (const bytes of createReadStream(truth[key] ?? '')) frozen.update(bytes as Buffer);
      assert.equal(stored, frozen.digest('hex'), `${key} differs from what was frozen`);
    }
    return manifest;
  } finally {
    await repository.close();
  }
}

/** The lab has one machine of ours at any time. */
async function vmId(): Promise<number> {
  const [vm] = (await lab.state()).vms;
  assert.ok(vm !== undefined);
  return vm.id;
}

function routeOf(part: Part, key: string): string | undefined {
  return part.result?.disks.find((disk) => disk.key === key)?.kind;
}

let chain: string[] = [];

test('the first run reads what is allocated, the second only what changed', async () => {
  const first = await backUp();
  await lab.write(await vmId(), { count: 20, blockBytes: 65536, seed: 1 });
  const second = await backUp();

  assert.equal(first.part.state, 'success');
  assert.equal(routeOf(second.part, 'scsi0:0'), 'changed');
  assert.ok((second.part.result?.stats.readBytes ?? 0) < 10 * MIB);
  assert.equal(second.manifest.previousPointId, first.manifest.pointId);
  chain = [first.manifest.pointId, second.manifest.pointId];
});

test('a machine that was renamed and registered anew goes on as the same one', async () => {
  const before = await vmId();
  await lab.power(before, 'off');
  await lab.call('POST', `/vms/${before}/reconfigure`, { name: 'second name' });
  const path = (await lab.state()).vms[0]?.vmxPath;
  await lab.call('DELETE', `/vms/${before}`);
  await lab.call('POST', '/register', { path });
  await lab.power(await vmId(), 'on');
  assert.notEqual(await vmId(), before);

  const { part, manifest } = await backUp();

  // A registration resets change tracking: everything is read again, and the run says so.
  assert.equal(part.state, 'warning');
  assert.equal(part.result?.disks[0]?.why.code, 'CHANGES_TRACKING_RESET');
  assert.notEqual(part.result.disks[0].kind, 'changed');
  assert.equal(part.result.stats.storedBytes, 0);
  assert.equal(manifest.machineId, machineId);
  assert.equal(manifest.machineName, 'second name');
  assert.equal(manifest.previousPointId, chain.at(-1));
  assert.deepEqual(
    (await machines()).map(({ id, name }) => ({ id, name })),
    [{ id: machineId, name: 'second name' }],
  );
  chain.push(manifest.pointId);
});

test('a machine moved to another datastore and folder between two runs goes on with one chain', async () => {
  await lab.power(await vmId(), 'off');
  const [vm] = (await lab.state()).vms;
  const block = (await lab.state()).datastores.find(({ name }) => name === 'block');
  assert.ok(vm !== undefined && block !== undefined);
  const from = lab.localPath(dirname(vm.vmxAbsolutePath));
  await lab.call('DELETE', `/vms/${vm.id}`);
  // As a cold migration leaves it: the same files at another place, registered there as moved, not copied.
  const vmx = vm.vmxAbsolutePath.slice(vm.vmxAbsolutePath.lastIndexOf('/') + 1);
  await cp(from, join(block.localPath, 'moved here'), { recursive: true });
  await rm(from, { recursive: true });
  await appendFile(join(block.localPath, 'moved here', vmx), 'uuid.action = "keep"\n');
  await lab.call('POST', '/register', { path: `[block] moved here/${vmx}` });
  await lab.power(await vmId(), 'on');
  await lab.write(await vmId(), { count: 10, blockBytes: 65536, seed: 2 });

  // Nobody has asked the host for its machines since: the task still names the old place.
  const moved = await backUp();
  await lab.write(await vmId(), { count: 10, blockBytes: 65536, seed: 3 });
  const next = await backUp();

  assert.equal(moved.manifest.machineId, machineId);
  assert.equal(moved.manifest.previousPointId, chain.at(-1));
  // A registration resets change tracking; what the machine held before is not stored again.
  assert.equal(moved.part.state, 'warning');
  assert.equal(moved.part.result?.disks[0]?.why.code, 'CHANGES_TRACKING_RESET');
  assert.ok(moved.part.result.stats.storedBytes < 4 * MIB, `${moved.part.result.stats.storedBytes}`);
  assert.equal(next.part.state, 'success');
  assert.equal(next.part.result?.disks[0]?.kind, 'changed');
  assert.equal(next.manifest.previousPointId, moved.manifest.pointId);
  assert.deepEqual(
    (await machines()).map(({ id, present }) => ({ id, present })),
    [{ id: machineId, present: true }],
  );
  const machine = await product.api.get<{ summary: { disks: { datastore: string }[] } }>(`/machines/${machineId}`);
  assert.deepEqual(
    machine.summary.disks.map(({ datastore }) => datastore),
    ['block'],
  );
  chain.push(moved.manifest.pointId, next.manifest.pointId);
});

test('a restore over the original changes its id on the host; the job goes on with one chain', async () => {
  const before = await vmId();
  await lab.power(before, 'off');

  const restored = await follow(
    await product.api.post<{ id: string }>('/restores', {
      pointId: chain[0],
      hostId,
      mode: { kind: 'replace', machineId },
      identity: 'keep',
      powerOn: true,
    }),
  );
  assert.equal(restored.state, 'success', JSON.stringify(restored.error));
  assert.notEqual(await vmId(), before);
  const { manifest } = await backUp();

  assert.equal(manifest.machineId, machineId);
  assert.equal(manifest.previousPointId, chain.at(-1));
  assert.equal(manifest.disks[0]?.rootHash, (await manifestOf(chain[0] ?? '')).disks[0]?.rootHash);
  chain.push(manifest.pointId);
});

test('two runs of one job at once: the second is refused', async () => {
  await lab.set({ snapshotCreate: 'hang' });
  const first = await product.api.post<{ id: string }>(`/jobs/${jobId}/run`, {});
  await assert.rejects(product.api.post(`/jobs/${jobId}/run`, {}), /RUN_ALREADY_ACTIVE/);
  await lab.set({ snapshotCreate: 'works' });
  const part = await follow(first);
  assert.equal(part.state, 'success');
  chain.push(part.result?.pointId ?? '');
});

test('a machine that is gone is named, its versions stay, the exit is failed', async () => {
  const gone = await vmId();
  await lab.power(gone, 'off');
  await lab.call('DELETE', `/vms/${gone}`);

  const part = await follow(await product.api.post<{ id: string }>(`/jobs/${jobId}/run`, {}));

  assert.equal(part.state, 'failed');
  assert.equal(part.error?.code, 'MACHINE_NOT_FOUND');
  assert.ok(part.error.hint !== undefined);
  const { points } = await product.api.get<{ points: { id: string }[] }>(`/points?machineId=${machineId}&refresh=true`);
  assert.deepEqual(points.map(({ id }) => id).sort(), [...chain].sort());
});

async function manifestOf(pointId: string): Promise<PointManifest> {
  const storage = await openLocalStorage({ folder: join(folder, 'repository') });
  const repository = await openRepository({ storage, clock: systemClock, logger: silentLogger, threads: 1 });
  try {
    return (await repository.openPoint(pointId)).manifest;
  } finally {
    await repository.close();
  }
}

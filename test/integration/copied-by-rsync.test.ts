/**
 * A NAS is lost, and what is left is a folder that rsync copied while a run was writing into it: another installation,
 * which knows nothing, takes it up by the command line. Every version of before comes back byte for byte; one that was
 * committed between two folders of the copy is named for what it lacks, and whole after the next rsync.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PointView } from '../../server/contract/api/point.schema.ts';
import type { RunDetail } from '../../server/cli/run-output.ts';
import type { Damage } from '../../server/repository/index.ts';
import { MIB } from '../../server/runtime/index.ts';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { startProduct, type Product } from '../product/product.ts';

/** Of a whole day: what the run reads then takes minutes, unless the limit is lifted. */
const SLOW = {
  timeZone: 'Europe/Berlin',
  limits: [{ from: '12:00', until: '12:00', megabytesPerSecond: 0.5 }],
};

let folder: string;
let lab: LabHost | undefined;
let product: Product | undefined;
let rescue: Product | undefined;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-rsync-'));
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    datastores: [{ name: 'nfs', type: 'NFS', rawFrozenRead: 'allow' }],
    vms: ['one', 'two'].map((name, index) => ({
      name,
      datastore: 'nfs',
      disks: [{ sizeBytes: 48 * MIB, fill: { percent: 100, seed: index + 1 } }],
    })),
  });
  product = await startProduct(join(folder, 'dozo'));
});

after(async () => {
  await rescue?.close();
  await product?.close();
  await lab?.close();
  await rm(folder, { recursive: true, force: true });
});

async function ended({ api }: Product, started: { id: string }): Promise<RunDetail> {
  for (;;) {
    const run = await api.get<RunDetail>(`/runs/${started.id}`);
    if (run.finishedAtMs !== null) return run;
    await sleep(200);
  }
}

async function rsync(...args: string[]): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    execFile('rsync', ['-a', ...args], (error, _stdout, stderr) => {
      // 24: what was listed was gone by then, as temporary files are.
      if (error === null || error.code === 24) resolve();
      else reject(new Error(stderr));
    });
  });
}

async function dozo({ api }: Product, ...args: string[]): Promise<{ status: number; output: string }> {
  const entry = join(import.meta.dirname, '../../server/cli/main.ts');
  const env = { ...process.env, ...api.environment };
  return new Promise((resolve) => {
    execFile(process.execPath, [entry, ...args, '--json'], { env }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), output: stdout + stderr });
    });
  });
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const bytes of createReadStream(file)) hash.update(bytes as Buffer);
  return hash.digest('hex');
}

/** Reads the only disk of a version out of an installation and compares it with the machine's. */
async function assertRestores(from: Product, point: PointView, truth: string): Promise<void> {
  const [disk, ...others] = point.disks;
  assert.ok(disk !== undefined && others.length === 0);
  const target = join(folder, 'disk.raw');
  const body = { pointId: point.id, diskKey: disk.key, format: 'raw', path: target };
  const run = await ended(from, await from.api.post<{ id: string }>('/exports', body));
  assert.equal(run.state, 'success', JSON.stringify(run));
  assert.equal(await sha256Of(target), await sha256Of(truth));
  await rm(target);
}

test('another installation takes up what rsync copied while a run was writing', { timeout: 900_000 }, async () => {
  assert.ok(product !== undefined && lab !== undefined);
  const { api } = product;
  const from = join(folder, 'repository');
  const to = join(folder, 'copied');
  const host = await api.post<{ id: string }>('/hosts', {
    host: '127.0.0.1',
    sshPort: lab.sshPort,
    httpsPort: lab.httpsPort,
    user: lab.user,
    password: lab.password,
  });
  const repository = await api.post<{ id: string }>('/repositories', { name: 'main', path: from });
  const machines = await api.get<{ id: string; name: string }[]>(`/hosts/${host.id}/machines?refresh=true`);
  const jobs = new Map<string, { id: string }>();
  const truths = new Map<string, string>();
  for (const { id, name } of machines) {
    const vm = (await lab.state()).vms.find((one) => one.name === name);
    assert.ok(vm !== undefined);
    truths.set(name, Object.values(await lab.captureTruth(vm.id, 'now'))[0] ?? '');
    jobs.set(name, await api.post('/jobs', { name, machineIds: [id], repositoryId: repository.id }));
  }
  const start = (name: string): Promise<{ id: string }> => api.post(`/jobs/${jobs.get(name)?.id}/run`, {});
  const first = await ended(product, await start('one'));
  assert.equal(first.state, 'success', JSON.stringify(first.parts[0]?.error));

  await api.patch('/settings', { throttle: SLOW });
  const writing = await start('two');
  let run: RunDetail;
  do {
    await sleep(200);
    run = await api.get<RunDetail>(`/runs/${writing.id}`);
    assert.equal(run.finishedAtMs, null, JSON.stringify(run.parts[0]?.error));
  } while ((run.parts[0]?.progress?.doneBytes ?? 0) === 0);
  await rsync(`${from}/`, `${to}/`);
  run = await api.get<RunDetail>(`/runs/${writing.id}`);
  assert.equal(run.finishedAtMs, null, 'it was to be at work while its repository was copied');
  assert.equal((await readdir(join(to, 'sessions'))).length, 1);

  rescue = await startProduct(join(folder, 'rescue'));
  const adopted = await dozo(rescue, 'repositories', 'adopt', 'rescued', to);
  assert.equal(adopted.status, 0, adopted.output);
  const { id: rescuedId } = JSON.parse(adopted.output) as { id: string };
  const versions = async (): Promise<PointView[]> =>
    (await (rescue as Product).api.get<{ points: PointView[] }>('/points?refresh=true')).points;
  const check = async (): Promise<RunDetail> =>
    ended(
      rescue as Product,
      await (rescue as Product).api.post<{ id: string }>(`/repositories/${rescuedId}/check`, { depth: 'hashes' }),
    );
  const [old, ...none] = await versions();
  assert.deepEqual([old?.machineName, old?.state, none], ['one', 'complete', []]);
  assert.ok(old !== undefined);
  assert.deepEqual(
    (await rescue.api.get<{ name: string; pointCount: number }[]>('/machines')).map(({ name, pointCount }) => [
      name,
      pointCount,
    ]),
    [['one', 1]],
  );
  assert.equal((await check()).state, 'success');
  await assertRestores(rescue, old, truths.get('one') as string);

  // The next one sees the packs before the run commits, and the points after it.
  await rsync(`${from}/packs/`, `${to}/packs/`);
  await api.patch('/settings', { throttle: null });
  const second = await ended(product, writing);
  assert.equal(second.state, 'success', JSON.stringify(second.parts[0]?.error));
  await rsync('--exclude=/packs', `${from}/`, `${to}/`);
  const torn = await versions();
  assert.deepEqual(torn.map(({ machineName }) => machineName).sort(), ['one', 'two']);
  const found = await check();
  assert.equal(found.state, 'failed');
  const { damages } = found.parts[0]?.result as { damages: Damage[] };
  const lacking = torn.find(({ machineName }) => machineName === 'two');
  const affected = damages.flatMap(({ affects }) => affects.map(({ pointId }) => pointId));
  assert.deepEqual([...new Set(affected)], [lacking?.id]);
  await assertRestores(rescue, old, truths.get('one') as string);

  await rsync(`${from}/`, `${to}/`);
  assert.equal((await check()).state, 'success');
  for (const point of await versions()) await assertRestores(rescue, point, truths.get(point.machineName) as string);
  const cleaned = await rescue.api.post<{ id: string }>(`/repositories/${rescuedId}/maintenance`, {});
  assert.equal((await ended(rescue, cleaned)).state, 'success');
  assert.equal((await check()).state, 'success');
  for (const point of await versions()) await assertRestores(rescue, point, truths.get(point.machineName) as string);
});

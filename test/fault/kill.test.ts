/**
 * Goal: whatever process of Dozo is killed at whatever moment of a backup, no committed version is
 * lost or altered, every run ends by itself, and no snapshot of ours stays on the host.
 *
 * Method: a lab host with two guests that keep writing; run after run, server, worker or Redis is killed
 * with -9 at random moments (several times in one run), the server is started again when it was the one.
 * Each version is compared with what the lab froze for its snapshot; at the end every version is
 * read once more and compared with the hash of then, and the repository is checked to its last byte. Then two tasks
 * write to one repository at the same time, by two worker processes, partly the same data; one of them is killed while
 * both write and old versions are cleaned up beside them.
 *
 * `DOZO_KILLS` sets how many (few by default, for CI), `DOZO_MINUTES` after how long no more are begun, `DOZO_SEED`
 * replays the choices of a run.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openRepository, type KeptRepository, type PointDisk } from '../../server/repository/index.ts';
import { MIB, silentLogger, systemClock } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { startProduct, type Product } from '../product/product.ts';

const KILLS = Number(process.env['DOZO_KILLS'] ?? 12);
const MINUTES = Number(process.env['DOZO_MINUTES'] ?? Infinity);
const SEED = Number(process.env['DOZO_SEED'] ?? 20261121);
/** A run takes about so long on an idle machine; kills fall anywhere within. */
const RUN_MS = 6_000;
const KILLS_PER_RUN_MAX = 4;
const RUNS_A_LINE = 10;
const RUN_LIMIT_MS = 600_000;
const ROLES = ['server', 'worker', 'redis'] as const;

let folder: string;
let lab: LabHost;
let product: Product;
let jobId: string;
let repositoryId: string;
/** What the lab had of iSCSI and firewall before the first run, as text. */
let untouched: string;
interface Store {
  path: string;
  /** Hash of each disk of each version, taken when it was compared with the truth. */
  known: Map<string, Record<string, string>>;
}
let main: Store;
let machineIds: string[];

/** A small generator with a seed, so that a failure can be replayed (mulberry32). */
let randomState = SEED;
function random(below: number): number {
  randomState = (randomState + 0x6d2b79f5) | 0;
  let value = Math.imul(randomState ^ (randomState >>> 15), 1 | randomState);
  value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
  return ((value ^ (value >>> 14)) >>> 0) % below;
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-kill-'));
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    datastores: [
      { name: 'vmfs6', type: 'VMFS-6' },
      { name: 'nfs', type: 'NFS', rawFrozenRead: 'allow' },
    ],
    switches: { keepTruth: true, freeChangedAreas: 'answer' },
    vms: [
      {
        name: 'alpha',
        datastore: 'vmfs6',
        running: true,
        disks: [{ sizeBytes: 96 * MIB, fill: { percent: 40, seed: 1 } }],
        writer: { bytesPerSecond: 1 * MIB, spanPercent: 80 },
      },
      {
        name: 'beta',
        datastore: 'nfs',
        running: true,
        changeTracking: true,
        disks: [
          { sizeBytes: 128 * MIB, fill: { percent: 40, seed: 2 } },
          // As the disk of the other machine was at first.
          { sizeBytes: 96 * MIB, fill: { percent: 40, seed: 1 } },
        ],
        writer: { bytesPerSecond: 1 * MIB, spanPercent: 80 },
      },
    ],
  });
  untouched = JSON.stringify(await lab.iscsi());
  main = { path: join(folder, 'repository'), known: new Map() };
  // Each may have one task at a time, so two tasks are in two processes.
  product = await startProduct(join(folder, 'dozo'), { env: { DOZO_WORKERS: '2', DOZO_WORKER_CONCURRENCY: '1' } });
  const host = await product.api.post<{ id: string }>('/hosts', {
    host: '127.0.0.1',
    sshPort: lab.sshPort,
    httpsPort: lab.httpsPort,
    user: lab.user,
    password: lab.password,
  });
  const repository = await product.api.post<{ id: string }>('/repositories', { name: 'main', path: main.path });
  repositoryId = repository.id;
  const machines = await product.api.get<{ id: string }[]>(`/hosts/${host.id}/machines?refresh=true`);
  machineIds = machines.map(({ id }) => id);
  const job = await product.api.post<{ id: string }>('/jobs', {
    name: 'all',
    machineIds,
    repositoryId,
  });
  jobId = job.id;
});

after(async () => {
  await product.close();
  await lab.close();
  await rm(folder, { recursive: true, force: true });
});

test(`${KILLS} kills at random moments (seed ${SEED}) lose no version and leave no snapshot`, async () => {
  const killed: Record<string, number> = { server: 0, worker: 0, redis: 0 };
  let runs = 0;
  const startedAt = performance.now();
  for (let kills = 0; kills < KILLS && performance.now() - startedAt < MINUTES * 60_000;) {
    const { id } = await product.api.post<{ id: string }>(`/jobs/${jobId}/run`, {});
    runs += 1;
    const inThisRun = Math.min(1 + random(KILLS_PER_RUN_MAX), KILLS - kills);
    for (let n = 0; n < inThisRun; n += 1) {
      await new Promise((resolve) => setTimeout(resolve, random(RUN_MS)));
      const role = ROLES[random(ROLES.length)] ?? 'server';
      if (await kill(role)) {
        kills += 1;
        killed[role] = (killed[role] ?? 0) + 1;
      }
    }
    const run = await endOf(id);
    assert.ok(
      run.state === 'success' || run.state === 'warning',
      `run ${runs} ended ${run.state}: ${JSON.stringify(run.parts.map((part) => part.error))}`,
    );
    await assertHostIsClean();
    await compareNewVersions(main);
    if (runs % RUNS_A_LINE === 0) console.log(`so far: ${JSON.stringify(killed)} in ${runs} runs`);
  }
  console.log(`kills: ${JSON.stringify(killed)} in ${runs} runs; ${main.known.size} versions`);

  await assertWhole(main);
});

test('two tasks write to one repository at once, one is killed, a clean-up runs beside them', async () => {
  const shared: Store = { path: join(folder, 'shared'), known: new Map() };
  const { id: sharedId } = await product.api.post<{ id: string }>('/repositories', {
    name: 'shared',
    path: shared.path,
  });
  const jobs: string[] = [];
  for (const [index, machineId] of machineIds.entries()) {
    const job = { name: `task ${index}`, machineIds: [machineId], repositoryId: sharedId };
    jobs.push((await product.api.post<{ id: string }>('/jobs', job)).id);
  }
  // So that both are long enough at work.
  await product.api.patch('/settings', { throttle: { timeZone: 'UTC', otherwise: 12 } });
  for (let round = 0; round < 2; round += 1) {
    const old = [...shared.known.keys()];
    if (old.length > 0) await product.api.post('/points/delete', { pointIds: old, trashDays: 0 });
    // What was theirs alone may go now, while new versions are about to need the same content.
    shared.known.clear();
    const runs: string[] = [];
    // All is read each time: who reads a little is done before anybody can be beside it.
    for (const id of jobs)
      runs.push((await product.api.post<{ id: string }>(`/jobs/${id}/run`, { fullRead: true })).id);
    await until('both to write', async () => {
      const both = await Promise.all(runs.map((id) => product.api.get<Run>(`/runs/${id}`)));
      return both.every(({ parts }) => (parts[0]?.progress?.doneBytes ?? 0) > 0);
    });
    const cleanUp = await product.api.post<{ id: string }>(`/repositories/${sharedId}/maintenance`, {});
    if (round > 0) {
      const workers = product.pids().worker;
      assert.equal(workers.length, 2);
      process.kill(workers[random(2)] ?? 0, 'SIGKILL');
    }
    for (const id of [...runs, cleanUp.id]) {
      const { state, parts } = await endOf(id);
      assert.ok(state === 'success' || state === 'warning', JSON.stringify(parts));
    }
    await compareNewVersions(shared);
    assert.equal(shared.known.size, machineIds.length);
    const last = await product.api.post<{ id: string }>(`/repositories/${sharedId}/maintenance`, {});
    assert.equal((await endOf(last.id)).state, 'success');
  }
  await product.api.patch('/settings', { throttle: null });
  await assertHostIsClean();
  await assertWhole(shared);
  const repository = await openFolder(shared.path);
  assert.deepEqual([(await repository.listTrash()).length, (await repository.listPoints()).length], [0, 2]);
  await repository.close();
});

/** Every version as it was compared, and no damage in the whole repository. */
async function assertWhole({ path, known }: Store): Promise<void> {
  const repository = await openFolder(path);
  try {
    const report = await repository.check({ depth: 'hashes' });
    assert.deepEqual(report.damages, []);
    assert.equal(report.points, known.size);
    for (const [pointId, hashes] of known) {
      const point = await repository.openPoint(pointId);
      for (const { key } of point.manifest.disks) {
        assert.equal(await hashDisk(await point.openDisk(key)), hashes[key], `${pointId} ${key} has changed`);
      }
    }
  } finally {
    await repository.close();
  }
}

async function until(what: string, look: () => Promise<boolean>): Promise<void> {
  for (const startedAt = performance.now(); !(await look());) {
    assert.ok(performance.now() - startedAt < RUN_LIMIT_MS, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** False when there was none to kill at this moment (it is just being started again). */
async function kill(role: (typeof ROLES)[number]): Promise<boolean> {
  if (role === 'server') {
    await product.killServer();
    await product.start();
    return true;
  }
  const pid = product.pids()[role][0];
  if (pid === undefined) return false;
  try {
    process.kill(pid, 'SIGKILL');
    return true;
  } catch {
    return false;
  }
}

interface Run {
  state: string;
  parts: { error: unknown; progress?: { doneBytes: number } | null }[];
}

async function endOf(id: string): Promise<Run> {
  for (const startedAt = performance.now(); ;) {
    const run = await product.api.get<Run>(`/runs/${id}`);
    if (run.state !== 'waiting' && run.state !== 'running') return run;
    assert.ok(performance.now() - startedAt < RUN_LIMIT_MS, `run ${id} does not end: ${JSON.stringify(run)}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

/** Sweeping may come a moment after the run. */
async function assertHostIsClean(): Promise<void> {
  for (const startedAt = performance.now(); ;) {
    const { vms, datastores } = await lab.state();
    const left = vms.filter((vm) => vm.snapshots !== null).map((vm) => `snapshot of ${vm.name}`);
    for (const { localPath } of datastores) {
      for (const name of await readdir(localPath, { recursive: true }))
        if (/dozo-[0-9a-f]{16}/.test(name)) left.push(name);
    }
    const iscsi = JSON.stringify(await lab.iscsi());
    if (iscsi !== untouched) left.push(`iSCSI and firewall ${iscsi}`);
    if (left.length === 0) return;
    assert.ok(performance.now() - startedAt < 300_000, `left on the host: ${left.join(', ')}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** Each version that is new against the copies that the lab made when it took the version's snapshot. */
async function compareNewVersions({ path, known }: Store): Promise<void> {
  const repository = await openFolder(path);
  try {
    const listed = await repository.listPoints();
    const there = new Set(listed.map(({ pointId }) => pointId));
    for (const pointId of known.keys()) assert.ok(there.has(pointId), `${pointId} is lost`);
    for (const { pointId, manifest, damage } of listed) {
      assert.equal(damage, null);
      if (known.has(pointId) || manifest === null) continue;
      assert.equal(manifest.state, 'complete');
      const { hold } = manifest.evidence as { hold: string };
      const truth = await lab.frozenCopy(await lab.vmId(manifest.machineName), hold);
      assert.ok(truth !== null, `the lab took no snapshot ${hold} of ${manifest.machineName}`);
      const point = await repository.openPoint(pointId);
      const hashes: Record<string, string> = {};
      for (const { key } of manifest.disks) {
        const frozen: string | undefined = truth[key];
        assert.ok(frozen !== undefined);
        hashes[key] = await hashDisk(await point.openDisk(key));
        assert.equal(hashes[key], await hashFile(frozen), `${pointId} ${key} differs from what was frozen`);
      }
      known.set(pointId, hashes);
    }
  } finally {
    await repository.close();
  }
  await rm(join(lab.directory, 'truth'), { recursive: true, force: true });
}

async function openFolder(path: string): Promise<KeptRepository> {
  const storage = await openLocalStorage({ folder: path });
  return openRepository({ storage, clock: systemClock, logger: silentLogger, threads: 1 });
}

async function hashDisk(disk: PointDisk): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < disk.sizeBytes; at += 4 * MIB)
    hash.update(await disk.read(at, Math.min(4 * MIB, disk.sizeBytes - at)));
  return hash.digest('hex');
}

async function hashFile(path: string): Promise<string> {
  const file = await open(path);
  try {
    const hash = createHash('sha256');
    for await (const part of file.createReadStream({ highWaterMark: 4 * MIB })) hash.update(part as Buffer);
    return hash.digest('hex');
  } finally {
    await file.close().catch(() => undefined);
  }
}

/**
 * Versions through the whole product: retention after each run, trash and undo, locks, maintenance that
 * frees room, a job that is deleted with what it made. In the end every version that is left is read back
 * and the repository is checked.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, rm, stat, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PointView } from '../../server/contract/api/point.schema.ts';
import type { RepositoryMaintenanceView } from '../../server/contract/api/repository.schema.ts';
import type { RunDetail } from '../../server/cli/run-output.ts';
import { openRepository } from '../../server/repository/index.ts';
import { MIB } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { startLabHost, type LabHost } from '../lab/lab-host.ts';
import { startProduct, type Product } from '../product/product.ts';

const DAY_MS = 86_400_000;

let folder: string;
let lab: LabHost | undefined;
let product: Product;
let jobId: string;
let repositoryId: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dozo-deletion-'));
  lab = await startLabHost({
    directory: join(folder, 'lab'),
    datastores: [{ name: 'nfs', type: 'NFS', rawFrozenRead: 'allow' }],
    switches: { freeChangedAreas: 'answer' },
    vms: [
      {
        name: 'web',
        datastore: 'nfs',
        running: true,
        changeTracking: true,
        disks: [{ sizeBytes: 24 * MIB, fill: { percent: 60, seed: 5 } }],
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
  const repository = await product.api.post<{ id: string }>('/repositories', {
    name: 'main',
    path: join(folder, 'repository'),
  });
  repositoryId = repository.id;
  const [machine] = await product.api.get<{ id: string }[]>(`/hosts/${host.id}/machines?refresh=true`);
  const job = await product.api.post<{ id: string }>('/jobs', {
    name: 'nightly',
    machineIds: [machine?.id],
    repositoryId,
  });
  jobId = job.id;
});

after(async () => {
  await (product as Product | undefined)?.close();
  await lab?.close();
  await rm(folder, { recursive: true, force: true });
});

async function ended(runId: string): Promise<RunDetail> {
  for (;;) {
    const run = await product.api.get<RunDetail>(`/runs/${runId}`);
    if (run.finishedAtMs !== null) return run;
    await sleep(200);
  }
}

async function backUp(): Promise<void> {
  const run = await ended((await product.api.post<{ id: string }>(`/jobs/${jobId}/run`, {})).id);
  assert.equal(run.state, 'success', JSON.stringify(run.parts[0]?.error));
}

async function maintain(): Promise<RunDetail> {
  const run = await product.api.post<{ id: string; kind: string }>(`/repositories/${repositoryId}/maintenance`, {});
  assert.equal(run.kind, 'maintenance');
  return ended(run.id);
}

async function points(query = ''): Promise<PointView[]> {
  return (await product.api.get<{ points: PointView[] }>(`/points?limit=500${query}`)).points;
}

/** What comes about behind a run, in the background. */
async function eventually(look: () => Promise<boolean>, what: string): Promise<void> {
  for (let attempt = 0; attempt < 900; attempt += 1) {
    if (await look()) return;
    await sleep(200);
  }
  assert.fail(`${what} did not come about within three minutes`);
}

async function packBytes(): Promise<number> {
  let bytes = 0;
  const packs = join(folder, 'repository/packs');
  for (const name of await readdir(packs, { recursive: true })) {
    const { size } = await stat(join(packs, name));
    if (name.endsWith('.pack')) bytes += size;
  }
  return bytes;
}

function dozo(...args: string[]): Promise<{ status: number; output: string }> {
  const entry = join(import.meta.dirname, '../../server/cli/main.ts');
  const env = { ...process.env, ...product.api.environment };
  return new Promise((resolve) => {
    execFile(process.execPath, [entry, ...args, '--json'], { env }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), output: stdout + stderr });
    });
  });
}

test('retention after a run moves what it lets go of to the trash, and undo brings it back', async () => {
  await backUp();
  await backUp();
  await eventually(async () => (await points()).length === 2, 'the second version');
  const set = await dozo('retention', 'set', 'nightly', '--last', '2');
  assert.equal(set.status, 0, set.output);

  await backUp();

  await eventually(async () => (await points('&trash=true')).length === 1, 'the oldest in the trash');
  const [trashed] = await points('&trash=true');
  assert.ok(trashed?.trash !== null && trashed?.trash !== undefined);
  assert.match(trashed.trash.reason, /retention/);
  assert.ok(trashed.trash.keepUntilMs > Date.now() + 13 * DAY_MS);
  await eventually(async () => (await points()).length === 2, 'the versions that stay');
  await assert.rejects(
    product.api.post('/exports', {
      pointId: trashed.id,
      diskKey: trashed.disks[0]?.key,
      format: 'raw',
      path: join(folder, 'x'),
    }),
    /POINT_NOT_FOUND/,
  );

  const undone = await dozo('points', 'undelete', trashed.id);
  assert.equal(undone.status, 0, undone.output);
  assert.equal((await points()).length, 3);
  assert.equal((await points('&trash=true')).length, 0);
});

test('a locked version is refused by every path, others of the same call go', async () => {
  const [newest, middle, oldest] = await points();
  assert.ok(newest !== undefined && middle !== undefined && oldest !== undefined);
  const until = new Date(Date.now() + DAY_MS).toISOString();
  const locked = await dozo('points', 'lock', oldest.id, '--until', until);
  assert.equal(locked.status, 0, locked.output);
  assert.equal((await points()).find(({ id }) => id === oldest.id)?.lockedUntilMs, Date.parse(until));

  const deleted = await dozo('points', 'delete', oldest.id, middle.id, '--days', '0');
  assert.equal(deleted.status, 1);
  const answer = JSON.parse(deleted.output) as { failed: { pointId: string; error: { code: string } }[] };
  assert.deepEqual(
    answer.failed.map(({ pointId, error }) => [pointId, error.code]),
    [[oldest.id, 'POINT_LOCKED']],
  );
  assert.deepEqual(
    (await points()).map(({ id }) => id),
    [newest.id, oldest.id],
  );

  // Retention would let go of it too: of three, two stay.
  await backUp();
  await eventually(async () => (await points()).length === 3, 'the new version');
  await maintain();
  assert.ok((await points()).some(({ id }) => id === oldest.id));
});

test('maintenance removes for good what is over, frees its room and shows how it stands', async () => {
  const before = await packBytes();
  const [newest] = await points();
  assert.ok(newest !== undefined);
  for (const point of await points()) {
    if (point.id !== newest.id && point.lockedUntilMs === null) {
      await product.api.post('/points/delete', { pointIds: [point.id], trashDays: 0 });
    }
  }
  const run = await maintain();
  assert.equal(run.state, 'success', JSON.stringify(run.parts[0]?.error));
  const result = run.parts[0]?.result as { purgedPoints: string[]; state: string };
  assert.equal(result.state, 'done');
  await eventually(async () => (await points('&trash=true')).length === 0, 'an empty trash');
  assert.ok((await packBytes()) <= before);
  const view = await product.api.get<RepositoryMaintenanceView>(`/repositories/${repositoryId}/maintenance`);
  assert.equal(view.activeRunId, null);
  assert.equal(view.lastRun?.runId, run.id);
  assert.ok(view.nextAtMs !== null && view.nextAtMs > Date.now());
  assert.equal(view.trash.points, 0);
});

test('a job is deleted with its versions only when that is asked for', async () => {
  const before = (await points()).filter(({ lockedUntilMs }) => lockedUntilMs === null).length;
  assert.ok(before > 0);
  const locked = (await points()).filter(({ lockedUntilMs }) => lockedUntilMs !== null).map(({ id }) => id);
  const removed = await dozo('jobs', 'remove', 'nightly', '--versions', 'trash');
  assert.equal(removed.status, 3, 'what stays is a warning');
  const answer = JSON.parse(removed.output) as {
    trashed: number;
    failed: { pointId: string; error: { code: string } }[];
  };
  assert.equal(answer.trashed, before);
  assert.deepEqual(
    answer.failed.map(({ pointId, error }) => [pointId, error.code]),
    locked.map((id) => [id, 'POINT_LOCKED']),
  );
  assert.deepEqual(await product.api.get('/jobs'), []);
  await eventually(async () => (await points('&trash=true')).length === before, 'its versions in the trash');

  const repository = await openRepository({ storage: await openLocalStorage({ folder: join(folder, 'repository') }) });
  try {
    const left = await repository.listPoints();
    assert.equal(left.length, 1, 'the locked one');
    for (const { pointId } of left) {
      const point = await repository.openPoint(pointId);
      for (const { key } of point.manifest.disks) {
        let bytes = 0;
        for await (const { data } of (await point.openDisk(key)).stream({})) bytes += data.length;
        assert.ok(bytes > 0);
      }
    }
    assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
  } finally {
    await repository.close();
  }
});

test('a repository of copies keeps by rules of its own, and is not sent what they let go of', async () => {
  const [trashed] = await points('&trash=true');
  assert.ok(trashed !== undefined);
  assert.equal((await dozo('points', 'undelete', trashed.id)).status, 0);
  const second = await product.api.post<{ id: string }>('/repositories', {
    name: 'second',
    path: join(folder, 'second'),
  });
  const copies = (query = ''): Promise<PointView[]> => points(`&repositoryId=${second.id}${query}`);
  const originals = await points(`&repositoryId=${repositoryId}`);
  assert.equal(originals.length, 2);
  const [newest, oldest] = originals.map(({ createdAtMs }) => createdAtMs);
  const copy = async (): Promise<string[]> => {
    const run = await product.api.post<{ id: string }>(`/repositories/${repositoryId}/copies`, { targetId: second.id });
    assert.equal((await ended(run.id)).state, 'success');
    const { lines } = await product.api.get<{ lines: { code: string }[] }>(`/runs/${run.id}/log?limit=500`);
    return lines.map(({ code }) => code);
  };
  assert.equal((await dozo('retention', 'set-copies', 'second', '--last', '1')).status, 0);
  assert.ok((await copy()).includes('COPY_LEFT_OUT'));
  await eventually(async () => (await copies()).length === 1, 'the copy of the newest');
  assert.equal((await copies())[0]?.createdAtMs, newest);

  assert.equal((await dozo('retention', 'clear-copies', 'second')).status, 0);
  assert.ok(!(await copy()).includes('COPY_LEFT_OUT'));
  await eventually(async () => (await copies()).length === 2, 'the copy of the oldest');

  assert.equal((await dozo('retention', 'set-copies', 'second', '--last', '1')).status, 0);
  await copy();
  await eventually(async () => (await copies('&trash=true')).length === 1, 'the oldest copy in the trash');
  const [gone] = await copies('&trash=true');
  assert.equal(gone?.createdAtMs, oldest);
  assert.match(gone?.trash?.reason ?? '', /of this repository/);
  assert.equal((await points(`&repositoryId=${repositoryId}`)).length, 2, 'the originals stay');
});

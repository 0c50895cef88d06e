import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runWorkerProcess } from '../../server/app/worker-process.ts';
import { readWorkerConfiguration } from '../../server/app/configuration.ts';
import type { ErrorBody } from '../../server/contract/error-codes.ts';
import type { BackupResult, RestoreResult } from '../../server/contract/run.ts';
import type { InventoryResult, PointsResult } from '../../server/contract/task-result.ts';
import type { WorkerTask } from '../../server/contract/task.ts';
import { AppError, cancelled } from '../../server/errors/index.ts';
import { createSealer, loadKeyFile, type Processors, type TaskContext } from '../../server/queue/index.ts';
import { createLogger, systemClock } from '../../server/runtime/index.ts';

/**
 * A worker whose engine is a script: everything but the work itself is real. The folder in
 * DOZO_FAKE_FOLDER says what to do and keeps a record of what was done:
 *
 * - `journal`: one JSON line for each thing done, with the process that did it;
 * - `script.json`: milliseconds of a backup and whether it may end, machines of the host, names that fail or crash;
 * - `points.json`: what the repository holds; grows with every finished backup.
 */
const folder = process.env['DOZO_FAKE_FOLDER'] ?? '';

interface Script {
  backupMs: number;
  /** Whatever is at work goes on and on until this is false; a name: only that kind of task. */
  hold: boolean | 'backup' | 'restore' | 'change';
  machines: InventoryResult['machines'];
  /** Names of machines whose backup fails (`restore`, `export`: those do), leaves its hold, or kills the worker. */
  fail: string[];
  leaveHold: string[];
  crashOnce: string[];
  crashAlways: string[];
  hostDown: boolean;
  restored: InventoryResult['machines'][number] | null;
}

function readScript(): Script {
  return JSON.parse(readFileSync(join(folder, 'script.json'), 'utf8')) as Script;
}

function note(what: string, fields: Record<string, unknown>): void {
  appendFileSync(join(folder, 'journal'), `${JSON.stringify({ what, pid: process.pid, ...fields })}\n`);
}

const FACTS = {
  product: 'VMware ESXi',
  version: '8.0.3',
  build: '24022510',
  edition: 'free' as const,
  licenseName: 'vSphere 8 Hypervisor',
  hostName: 'fake',
  sshHostKey: `SHA256:${'A'.repeat(43)}`,
  tlsCertificate: 'ab'.repeat(32),
  soapWrites: 'refused' as const,
  changeTracking: 'answered' as const,
  routes: {},
  warnings: [],
};

const ZERO = { nominalBytes: 0, readBytes: 0, sentBytes: 0, storedBytes: 0, zeroBytes: 0, duplicateBytes: 0 };

const key = await loadKeyFile(readWorkerConfiguration(process.env).keyFile);
const sealer = createSealer(key);

function openAddress(sealed: string): { host: string; password?: string } {
  const address = sealer.open('host-address', sealed) as { host: string; password?: string };
  if (readScript().hostDown) throw new AppError('HOST_UNREACHABLE', 'The host does not answer.', { hint: 'Wait.' });
  if (address.password === 'wrong') {
    note('login-refused', {});
    throw new AppError('HOST_LOGIN_REFUSED', 'The password is wrong.');
  }
  return address;
}

async function work(context: TaskContext, name: string, totalMs: number, kind = 'backup'): Promise<void> {
  const steps = Math.max(1, Math.round(totalMs / 100));
  for (let step = 0; step < steps; step += 1) {
    context.report({
      kind: 'progress',
      progress: {
        stage: 'reading',
        totalBytes: steps * 1000,
        doneBytes: step * 1000,
        bytesPerSecond: 10_000,
        remainingSeconds: (steps - step) / 10,
        disks: [{ key: 'scsi0:0', label: name, totalBytes: steps * 1000, doneBytes: step * 1000, route: 'ssh-raw' }],
      },
    });
    if (context.signal.aborted) throw cancelled();
    await sleep(100);
  }
  for (let { hold } = readScript(); hold === true || hold === kind; { hold } = readScript()) {
    if (context.signal.aborted) throw cancelled();
    await sleep(50);
  }
}

function log(context: TaskContext, code: string, text: string): void {
  context.report({ kind: 'log', line: { atMs: Date.now(), level: 'info', code, text } });
}

async function backup(task: Extract<WorkerTask, { kind: 'backup' }>, context: TaskContext): Promise<BackupResult> {
  const { name } = task.identity as { name: string };
  const script = readScript();
  const startedAtMs = Date.now();
  openAddress(task.address);
  note('backup-start', { name, hold: task.hold, task: context.taskId, fullRead: task.options.fullRead });
  log(context, 'FAKE_STARTED', `Backing up ${name}.`);
  const crashed = join(folder, `crashed-${task.hold}`);
  if (script.crashAlways.includes(name) || (script.crashOnce.includes(name) && !existsSync(crashed))) {
    appendFileSync(crashed, 'x');
    await work(context, name, 800);
    process.kill(process.pid, 'SIGKILL');
    await sleep(10_000);
  }
  const base = {
    stats: { ...ZERO, nominalBytes: 1000, readBytes: 500 },
    disks: [],
    consistency: { level: 'crash', requested: task.options.quiesce, evidence: 'fake' },
    identity: task.identity,
    startedAtMs,
  };
  try {
    await work(context, name, script.backupMs);
  } catch {
    note('backup-cancelled', { name, hold: task.hold });
    return { ...base, state: 'cancelled', pointId: null, error: null, holdReleased: true, finishedAtMs: Date.now() };
  }
  if (script.fail.includes(name))
    throw new AppError('SNAPSHOT_FAILED', `No snapshot of ${name}.`, { hint: 'Try again.' });
  const pointId = `point-${task.hold}`;
  note('backup-end', { name, hold: task.hold, pointId });
  log(context, 'FAKE_ENDED', `Backed up ${name}.`);
  addPoint(task, pointId, name);
  const left = script.leaveHold.includes(name);
  return {
    ...base,
    state: left ? 'warning' : 'success',
    pointId,
    error: null,
    holdReleased: !left,
    finishedAtMs: Date.now(),
  };
}

function readPoints(): PointsResult['points'] {
  const path = join(folder, 'points.json');
  return existsSync(path)
    ? readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as PointsResult['points'][number])
    : [];
}

function addPoint(task: Extract<WorkerTask, { kind: 'backup' }>, pointId: string, name: string): void {
  if (readPoints().some((point) => point.id === pointId)) return;
  const point: PointsResult['points'][number] = {
    id: pointId,
    machineId: task.machineId,
    machineName: name,
    createdAtMs: Date.now(),
    state: 'complete',
    stateReasons: [],
    consistency: 'crash',
    sizeBytes: 1000,
    rootHash: 'ff',
    previousPointId: null,
    disks: [{ key: 'scsi0:0', label: 'Hard disk 1', sizeBytes: 1000, storedBytes: 10 }],
    lockedUntilMs: null,
    trash: null,
    identity: task.identity as PointsResult['points'][number]['identity'],
  };
  appendFileSync(join(folder, 'points.json'), `${JSON.stringify(point)}\n`);
}

async function restore(context: TaskContext, name: string): Promise<RestoreResult> {
  const startedAtMs = Date.now();
  const script = readScript();
  await work(context, name, script.backupMs, 'restore');
  if (script.fail.includes(name))
    throw new AppError('DATASTORE_FULL', 'The datastore is full.', { hint: 'Make room on ds1.' });
  note(`${name}-end`, { task: context.taskId });
  return {
    state: 'success',
    error: null,
    machine: script.restored,
    writtenBytes: 1000,
    verifiedBytes: 1000,
    holdReleased: true,
    startedAtMs,
    finishedAtMs: Date.now(),
  };
}

const processors: Processors = {
  probe: async (task, context) => {
    log(context, 'FAKE_CONNECTING', 'Connecting.');
    openAddress(task.address);
    return FACTS;
  },
  inventory: async (task) => {
    openAddress(task.address);
    return {
      facts: FACTS,
      machines: readScript().machines,
      datastores: [{ name: 'ds1', type: 'VMFS', capacityBytes: 10, freeBytes: 5, accessible: true }],
      networks: ['VM Network'],
    };
  },
  backup,
  restore: async (task, context) => {
    note('restore-start', { hold: task.hold, target: task.target, task: context.taskId });
    return restore(context, 'restore');
  },
  export: async (task, context) => {
    note('export-start', { path: task.path, task: context.taskId });
    return { ...(await restore(context, 'export')), machine: null };
  },
  sweep: async (task) => {
    openAddress(task.address);
    note('sweep', { holds: task.holds });
    return { removed: task.holds.map((hold) => ({ hold, what: 'VM snapshot' })), failed: [], unseen: [] };
  },
  copy: async () => {
    throw new AppError('CONFLICT', 'This worker copies nothing.');
  },
  check: async (task) => ({ depth: task.depth, points: 1, packs: 1, chunks: 1, readBytes: 10, damages: [] }),
  maintenance: async (task, context) => {
    note('maintenance-start', { verify: task.verify });
    await work(context, 'maintenance', readScript().backupMs);
    return {
      state: 'done',
      waitingFor: [],
      purgedPoints: [],
      keptPoints: readPoints().length,
      fencedSessions: [],
      packs: 1,
      removedPacks: 0,
      removedBytes: 0,
      writtenBytes: 0,
      missingChunks: 0,
      verification: null,
      damages: [],
    };
  },
  'change-points': async ({ pointIds, change }) => {
    note('change-points', { verb: change.verb, pointIds });
    while (readScript().hold === 'change') await sleep(50);
    const points = readPoints();
    const failed: { pointId: string; error: ErrorBody }[] = [];
    for (const point of points.filter(({ id }) => pointIds.includes(id))) {
      if (change.verb === 'lock') point.lockedUntilMs = change.untilMs;
      else if (change.verb === 'restore') point.trash = null;
      else if ((point.lockedUntilMs ?? 0) > Date.now()) {
        failed.push({ pointId: point.id, error: new AppError('POINT_LOCKED', 'It is locked.').toBody() });
      } else point.trash = { deletedAtMs: Date.now(), keepUntilMs: change.keepUntilMs, reason: change.reason };
    }
    writeFileSync(join(folder, 'points.json'), points.map((point) => `${JSON.stringify(point)}\n`).join(''));
    return { failed };
  },
  points: async (task) => {
    if (task.repository.path.includes('missing')) throw new AppError('STORAGE_MISSING', 'It is not mounted.');
    const points = readPoints();
    return {
      formatId: `format-of-${task.repository.path}`,
      chunkSizeBytes: 262144,
      stats: { points: points.length, packs: 1, chunks: 1, storedBytes: 10, nominalBytes: 1000 },
      points,
    };
  },
  'create-repository': async (task) => ({
    formatId: `format-of-${task.repository.path}`,
    chunkSizeBytes: task.chunkSizeBytes,
    keys: null,
  }),
  keys: async () => {
    throw new AppError('CONFLICT', 'Repositories of this worker are not encrypted.');
  },
};

runWorkerProcess(readWorkerConfiguration(process.env), {
  clock: systemClock,
  logger: createLogger('fake-worker', process.env['DOZO_LOG_LEVEL'] ?? 'warn'),
  processors,
});

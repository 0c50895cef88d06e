import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { jobOptionsSchema } from '../contract/api/job.schema.ts';
import { retentionSchema, type Retention } from '../contract/api/retention.schema.ts';
import { settingsSchema, type Settings } from '../contract/api/settings.schema.ts';
import type { RunState } from '../contract/run.ts';
import type { PointsResult } from '../contract/task-result.ts';
import type { WorkerTask } from '../contract/task.ts';
import { openCatalogue, type Catalogue, type RunPartRecord, type RunRecord } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import { createSealer, type TaskQueue } from '../queue/index.ts';
import { silentLogger, type Clock } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import { EventHub } from './event-hub.ts';
import { sealHostSecret } from './host-addresses.ts';
import { MaintenanceService } from './maintenance.ts';
import { RepositoryKeyService } from './repository-keys.ts';
import { RepositoryService } from './repositories.ts';
import { RetentionService } from './retention.ts';
import { RunStarter } from './run-starter.ts';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const GIB = 2 ** 30;
const MAIN = '00000000000000c1';
const SECOND = '00000000000000c2';
const HOST = '00000000000000aa';
const MACHINES = ['00000000000000b1', '00000000000000b2'];

const folder = await mkdtemp(join(tmpdir(), 'dozo-maintenance-'));
after(() => rm(folder, { recursive: true, force: true }));

const RESULT = {
  ...{ state: 'done', waitingFor: [], purgedPoints: [], keptPoints: 0, fencedSessions: [], packs: 0, removedPacks: 0 },
  ...{ removedBytes: 0, writtenBytes: 0, missingChunks: 0, verification: null, damages: [] },
};

type StoredPoint = PointsResult['points'][number];

/** The system runs on when the server is restarted. */
const BOOTED_AT_MS = Date.parse('2026-11-01T00:00Z');

/** A catalogue, a clock moved by hand, and a worker whose repositories are lists of versions. */
class Scene {
  nowMs: number;
  /** By which somebody set the clock. */
  setByMs = 0;
  readonly catalogue: Catalogue;
  readonly stored = new Map<string, StoredPoint[]>([
    [MAIN, []],
    [SECOND, []],
  ]);
  readonly announced: string[] = [];
  /** Versions that the server reads itself, by the folder of their repository. */
  readonly downloaded = new Map<string, string[]>();
  storedBytes = 1;
  readonly retention: RetentionService;
  maintenance: MaintenanceService;
  readonly starter: RunStarter;
  readonly #context: OrchestrationContext;
  readonly #repositories: RepositoryService;
  #numbers = 0;

  private constructor(catalogue: Catalogue, startMs: number) {
    this.nowMs = startMs;
    this.catalogue = catalogue;
    const clock: Clock = {
      nowMs: () => this.nowMs + this.setByMs,
      monotonicMs: () => this.nowMs,
      sleep: () => Promise.reject(new Error('maintenance is looked through by hand here')),
    };
    this.#context = {
      catalogue,
      queue: { request: async (task: WorkerTask) => this.#work(task) } as unknown as TaskQueue,
      sealer: createSealer(randomBytes(32)),
      events: new EventHub(),
      clock,
      logger: silentLogger,
    };
    this.starter = new RunStarter(this.#context, (path) => this.downloaded.get(path) ?? []);
    this.retention = new RetentionService(this.#context);
    this.#repositories = new RepositoryService(this.#context, new RepositoryKeyService(this.#context));
    this.maintenance = this.restart();
  }

  static async open(start: string): Promise<Scene> {
    const path = join(folder, `${randomBytes(6).toString('hex')}.sqlite`);
    const scene = new Scene(await openCatalogue(path), Date.parse(start));
    for (const [id, name] of [
      [MAIN, 'main'],
      [SECOND, 'second'],
    ] as const) {
      await scene.catalogue.repositories.save({
        ...{ id, name, path: `/volume1/${name}`, formatId: null, chunkSizeBytes: null },
        ...{ stats: null, error: null, seenAtMs: null, createdAtMs: 0 },
      });
    }
    return scene;
  }

  /** A server that was started anew knows nothing but the catalogue. */
  restart(): MaintenanceService {
    this.maintenance = new MaintenanceService(this.#context, {
      repositories: this.#repositories,
      retention: this.retention,
      starter: this.starter,
      announce: async (runId) => void this.announced.push(runId),
      readBoot: async () => Promise.resolve({ bootId: 'one', uptimeMs: this.nowMs - BOOTED_AT_MS }),
    });
    return this.maintenance;
  }

  async set(change: Partial<Settings['maintenance']>): Promise<void> {
    const settings = settingsSchema.parse({});
    await this.catalogue.settings.save('settings', {
      ...settings,
      maintenance: { ...settings.maintenance, ...change },
    });
  }

  async setRetention(repositoryId: string, rules: object): Promise<void> {
    await this.#repositories.change(repositoryId, { retention: retentionSchema.parse(rules) });
  }

  async lookAt(time: string): Promise<void> {
    this.nowMs = Date.parse(time);
    await this.maintenance.look();
  }

  /** Maintenances of the main repository, oldest first. */
  async runs(): Promise<RunRecord[]> {
    const runs = await this.catalogue.runs.list({ kind: 'maintenance', limit: 1000 });
    return runs.filter((run) => run.repositoryId === MAIN).reverse();
  }

  async end(runId: string, state: RunState = 'success', result: unknown = null): Promise<void> {
    const parts = await this.catalogue.parts.listByRun(runId);
    for (const part of parts) {
      await this.catalogue.parts.finish(part.id, {
        state,
        result: result as RunPartRecord['result'],
        error: null,
        atMs: this.nowMs,
      });
    }
    await this.catalogue.runs.finish(runId, { state, error: null, atMs: this.nowMs });
    const run = await this.catalogue.runs.load(runId);
    assert.ok(run !== null);
    await this.maintenance.afterRun(run, await this.catalogue.parts.listByRun(runId));
  }

  /** What maintenances of the main repository were to read again, oldest first. */
  async verifications(): Promise<Extract<WorkerTask, { kind: 'maintenance' }>['verify'][]> {
    const asked: Extract<WorkerTask, { kind: 'maintenance' }>['verify'][] = [];
    for (const { id } of await this.runs()) {
      const [part] = await this.catalogue.parts.listByRun(id);
      assert.ok(part?.task.kind === 'maintenance');
      asked.push(part.task.verify);
    }
    return asked;
  }

  /** What the newest maintenance of the main repository is told of the clock. */
  async clockDoubt(): Promise<Extract<WorkerTask, { kind: 'maintenance' }>['clockDoubt']> {
    const [part] = await this.catalogue.parts.listByRun((await this.runs()).at(-1)?.id ?? '');
    assert.ok(part?.task.kind === 'maintenance');
    return part.task.clockDoubt;
  }

  /** Which versions the newest maintenance of the main repository is told to leave, since they are being read. */
  async readPoints(): Promise<string[] | undefined> {
    const [part] = await this.catalogue.parts.listByRun((await this.runs()).at(-1)?.id ?? '');
    assert.ok(part?.task.kind === 'maintenance');
    return part.task.readPoints;
  }

  /** A run at work with these tasks. */
  async addReading(tasks: readonly WorkerTask[]): Promise<void> {
    await this.catalogue.runs.add({
      ...{ id: 'reading', kind: 'export', jobId: null, repositoryId: MAIN, title: 'web', state: 'running' },
      ...{ cancelRequested: false, createdAtMs: 0, startedAtMs: 0, finishedAtMs: null, error: null },
    });
    for (const [position, task] of tasks.entries()) {
      const part = { id: `reading ${position}`, runId: 'reading', machineId: null, hostId: null, name: 'web', task };
      await this.catalogue.parts.add(part, position);
    }
  }

  /** Ends that of the main repository with what it read. */
  async endMaintenance(verification: object | null): Promise<void> {
    const active = (await this.runs()).filter(({ finishedAtMs }) => finishedAtMs === null);
    for (const { id } of active) await this.end(id, 'success', { ...RESULT, verification });
    await this.endAll();
  }

  async endAll(): Promise<void> {
    for (const run of await this.catalogue.runs.list({ active: true, limit: 1000 })) await this.end(run.id);
  }

  async addJob(repositoryId: string, machineIds: string[], retention: Retention | null): Promise<string> {
    this.#numbers += 1;
    const id = `00000000000000d${this.#numbers}`;
    for (const machineId of machineIds) {
      await this.catalogue.machines.save({
        ...{ id: machineId, hostId: null, name: machineId, summary: null, present: true, seenAtMs: 0 },
        identity: { name: machineId, instanceUuid: null, biosUuid: null, path: '', diskUuids: [] },
      });
    }
    await this.catalogue.transaction((tables) =>
      tables.jobs.add({
        ...{ id, name: `job ${id}`, machineIds, selection: null, repositoryId, revision: 1, createdAtMs: 0 },
        ...{ options: { ...jobOptionsSchema.parse({}), retention }, updatedAtMs: 0 },
      }),
    );
    return id;
  }

  /** A run of a job whose machines all end like this, and what follows it. The versions are the test's to make. */
  async backUp(jobId: string, state: RunState): Promise<void> {
    await this.catalogue.hosts.save({
      ...{ id: HOST, name: 'esx', host: '192.0.2.1', sshPort: 22, httpsPort: 443, user: 'root', auth: 'password' },
      ...{ sshHostKey: null, tlsCertificate: null, facts: null, error: null, checkedAtMs: null, createdAtMs: 0 },
      secret: sealHostSecret(this.#context.sealer, HOST, { password: 'x', privateKey: null }),
    });
    for (const machine of await this.catalogue.machines.list()) {
      await this.catalogue.machines.save({ ...machine, hostId: HOST });
    }
    await this.end(await this.starter.startJob(jobId, {}), state);
  }

  addPoint(repositoryId: string, change: Partial<StoredPoint>): StoredPoint {
    this.#numbers += 1;
    const id = `p${String(this.#numbers).padStart(4, '0')}`;
    const point: StoredPoint = {
      ...{ id, machineId: MACHINES[0] ?? '', machineName: 'web', createdAtMs: this.nowMs, state: 'complete' },
      ...{ stateReasons: [], consistency: null, sizeBytes: 1, rootHash: null, previousPointId: null, disks: [] },
      ...{ lockedUntilMs: null, trash: null, identity: null, ...change },
    };
    this.stored.get(repositoryId)?.push(point);
    return point;
  }

  /** What the second repository shows, as times. */
  shown(repositoryId: string): number[] {
    const points = this.stored.get(repositoryId) ?? [];
    return points.filter(({ trash }) => trash === null).map(({ createdAtMs }) => createdAtMs);
  }

  /** A copy as a person starts it, done by this scene's worker. @returns how many versions were sent */
  async copyAll(state: RunState = 'success'): Promise<number> {
    const planned = await this.maintenance.planCopy(MAIN, SECOND);
    const wanted = (this.stored.get(MAIN) ?? []).filter(
      ({ id, trash }) => trash === null && (planned === null || planned.pointIds.includes(id)),
    );
    const runId = await this.starter.startCopy(MAIN, { targetId: SECOND });
    const there = this.stored.get(SECOND) ?? [];
    const missing = wanted.filter(
      (point) => !there.some((one) => one.machineId === point.machineId && one.createdAtMs === point.createdAtMs),
    );
    for (const { machineId, createdAtMs, state: pointState } of missing) {
      this.addPoint(SECOND, { machineId, createdAtMs, state: pointState });
    }
    await this.end(runId, state);
    return missing.length;
  }

  #work(task: WorkerTask): unknown {
    assert.ok(task.kind === 'points' || task.kind === 'change-points', task.kind);
    const repositoryId = task.repository.path === '/volume1/main' ? MAIN : SECOND;
    const points = this.stored.get(repositoryId) ?? [];
    if (task.kind === 'points') {
      const stats = { points: points.length, packs: 1, chunks: 1, storedBytes: this.storedBytes, nominalBytes: 1 };
      return { formatId: repositoryId, chunkSizeBytes: 65_536, stats, points };
    }
    const failed: { pointId: string; error: unknown }[] = [];
    for (const pointId of task.pointIds) {
      const point = points.find(({ id }) => id === pointId);
      assert.ok(point !== undefined && task.change.verb === 'delete');
      if (point.lockedUntilMs !== null && point.lockedUntilMs > this.nowMs) {
        failed.push({ pointId, error: new AppError('POINT_LOCKED', `${pointId} is locked.`).toBody() });
        continue;
      }
      const { keepUntilMs, reason } = task.change;
      point.trash = { deletedAtMs: this.nowMs, keepUntilMs, reason };
    }
    return { failed };
  }
}

function told(runs: readonly RunRecord[]): string[] {
  return runs.map((run) => `${new Date(run.createdAtMs).toISOString().slice(0, 16)} ${run.startedBy}`);
}

describe('daily maintenance', () => {
  let scene: Scene;
  beforeEach(async () => {
    scene = await Scene.open('2026-11-20T12:00Z');
    // The first look is when the repository becomes known.
    await scene.lookAt('2026-11-20T12:00Z');
  });

  it('begins once a day at its hour, across restarts of the server', async () => {
    for (const time of ['2026-11-21T03:59:30Z', '2026-11-21T04:00Z', '2026-11-21T04:00:30Z', '2026-11-22T03:59Z']) {
      scene.restart();
      await scene.lookAt(time);
      await scene.endAll();
    }
    await scene.lookAt('2026-11-22T04:00:20Z');
    assert.deepEqual(told(await scene.runs()), ['2026-11-21T04:00 schedule', '2026-11-22T04:00 schedule']);
    assert.equal(scene.announced.length, 4, 'of both repositories, each told to the queue');
  });

  it('begins at the hour of its time zone, on the day when clocks change too', async () => {
    await scene.set({ time: '02:30', timeZone: 'Europe/Berlin' });
    // 29 March 2026 has no 02:30 in Berlin; 25 October has it twice.
    scene = await Scene.open('2027-03-27T12:00Z');
    await scene.set({ time: '02:30', timeZone: 'Europe/Berlin' });
    await scene.lookAt('2027-03-27T12:00Z');
    for (let atMs = Date.parse('2027-03-28T00:00Z'); atMs < Date.parse('2027-03-29T12:00Z'); atMs += 10 * 60_000) {
      await scene.lookAt(new Date(atMs).toISOString());
      await scene.endAll();
    }
    assert.deepEqual(
      (await scene.runs()).map((run) => new Date(run.createdAtMs).toISOString().slice(0, 10)),
      ['2027-03-28', '2027-03-29'],
    );
  });

  it('makes up for a week without power with one run, and says so', async () => {
    await scene.lookAt('2026-11-27T13:00Z');
    await scene.endAll();
    await scene.lookAt('2026-11-27T13:01Z');
    assert.deepEqual(told(await scene.runs()), ['2026-11-27T13:00 catch-up']);
  });

  it('goes on from now when the clock was set back', async () => {
    await scene.lookAt('2027-06-01T04:00Z');
    await scene.endAll();
    await scene.lookAt('2026-11-20T12:00Z');
    await scene.lookAt('2026-11-21T04:00Z');
    assert.deepEqual(told(await scene.runs()), ['2027-06-01T04:00 schedule', '2026-11-21T04:00 schedule']);
  });

  it('says how far the clock was set forward, until that has run on, across restarts of the server', async () => {
    const maintain = async (time: string): Promise<unknown> => {
      await scene.lookAt(time);
      await scene.endAll();
      const runId = await scene.maintenance.begin(MAIN);
      const doubt = await scene.clockDoubt();
      await scene.end(runId);
      await scene.endAll();
      return doubt;
    };
    await scene.lookAt('2026-11-21T00:00Z');
    assert.equal(await maintain('2026-11-21T06:00Z'), null);
    scene.setByMs = 400 * DAY_MS;
    assert.deepEqual(await maintain('2026-11-21T06:01Z'), { aheadMs: 400 * DAY_MS, settlesInMs: 3 * DAY_MS });
    assert.deepEqual(await maintain('2026-11-22T06:01Z'), { aheadMs: 400 * DAY_MS, settlesInMs: 2 * DAY_MS });
    scene.restart();
    const minuteMs = HOUR_MS / 60;
    assert.deepEqual(await maintain('2026-11-22T06:02Z'), {
      aheadMs: 400 * DAY_MS,
      settlesInMs: 2 * DAY_MS - minuteMs,
    });
    // Set right, and on again by less than a person would notice: neither ends anything early.
    scene.setByMs = 0;
    assert.equal(await maintain('2026-11-22T06:03Z'), null);
    scene.setByMs = HOUR_MS;
    assert.equal(await maintain('2026-11-22T06:04Z'), null);
  });

  it('does not begin where one is at work, and not again when that ends', async () => {
    const runId = await scene.maintenance.begin(MAIN);
    await scene.lookAt('2026-11-21T04:00Z');
    assert.equal((await scene.runs()).length, 1);
    await scene.end(runId);
    await scene.lookAt('2026-11-21T04:01Z');
    assert.equal((await scene.runs()).length, 1);
    await scene.lookAt('2026-11-22T04:00Z');
    assert.equal((await scene.runs()).length, 2);
  });

  it('names the versions that are being restored, exported and copied, so that they stay until that is over', async () => {
    const own = { path: '/volume1/main' };
    const other = { path: '/volume1/second' };
    const task = { runId: 'r', repository: own, pointId: 'exported', diskKey: 'scsi0:0', format: 'raw', path: '/x' };
    await scene.addReading([
      { kind: 'export', ...task } as WorkerTask,
      { kind: 'export', ...task, pointId: 'elsewhere', repository: other } as WorkerTask,
      { kind: 'copy', runId: 'r', repository: own, target: other, pointIds: ['copied'] },
    ]);
    scene.downloaded.set(own.path, ['downloaded']).set(other.path, ['downloaded elsewhere']);
    await scene.maintenance.begin(MAIN);
    assert.deepEqual(await scene.readPoints(), ['exported', 'copied', 'downloaded']);
    await scene.endAll();
    scene.downloaded.clear();
    await scene.maintenance.begin(MAIN);
    assert.deepEqual(await scene.readPoints(), []);
  });

  it('does not begin by itself when it is switched off', async () => {
    await scene.set({ enabled: false });
    await scene.lookAt('2026-11-25T04:00Z');
    assert.deepEqual(await scene.runs(), []);
    assert.equal((await scene.maintenance.describe(MAIN)).nextAtMs, null);
    await scene.set({ enabled: true });
    assert.equal((await scene.maintenance.describe(MAIN)).nextAtMs, Date.parse('2026-11-26T04:00Z'));
  });

  it('reads the store in rounds: goes on where it ended, more after days without it, and begins anew', async () => {
    scene.storedBytes = 300 * GIB;
    await scene.lookAt('2026-11-21T04:00Z');
    assert.deepEqual(await scene.verifications(), [{ after: null, bytesMax: 10 * GIB, timeMs: HOUR_MS }]);
    await scene.endMaintenance({ verifiedBytes: 10 * GIB, totalBytes: 300 * GIB, nextAfter: 'ab' });
    // Three days without it.
    await scene.lookAt('2026-11-24T04:00Z');
    assert.deepEqual((await scene.verifications()).at(-1), { after: 'ab', bytesMax: 30 * GIB, timeMs: HOUR_MS });
    await scene.endMaintenance({ verifiedBytes: 290 * GIB, totalBytes: 300 * GIB, nextAfter: null });
    const { verification } = await scene.maintenance.describe(MAIN);
    assert.deepEqual(verification, {
      roundStartedAtMs: Date.parse('2026-11-21T04:00Z'),
      lastRoundEndedAtMs: Date.parse('2026-11-24T04:00Z'),
      verifiedBytes: 300 * GIB,
      totalBytes: 300 * GIB,
    });
    await scene.lookAt('2026-11-25T04:00Z');
    assert.equal((await scene.verifications()).at(-1)?.after, null);
    await scene.set({ verifyDays: 0 });
    await scene.endMaintenance(null);
    await scene.lookAt('2026-11-26T04:00Z');
    assert.equal((await scene.verifications()).at(-1), null);
  });

  it('goes on with what waited for runs as soon as the last of them has ended', async () => {
    await scene.addJob(MAIN, MACHINES, null);
    const [job] = await scene.catalogue.jobs.list();
    const runId = await scene.maintenance.begin(MAIN);
    await scene.end(runId, 'success', { ...RESULT, state: 'waiting', waitingFor: ['a'] });
    const run: RunRecord = { ...(await scene.runs())[0], kind: 'backup', jobId: job?.id ?? null } as RunRecord;
    await scene.maintenance.afterRun(run, []);
    assert.deepEqual(told(await scene.runs()).slice(1), ['2026-11-20T12:00 retry']);
    await scene.end((await scene.runs())[1]?.id ?? '', 'success', RESULT);
    await scene.maintenance.afterRun(run, []);
    assert.equal((await scene.runs()).length, 2);
  });
});

describe('a server that ended before it had looked into what a run made', () => {
  it('looks into it at its next start, and not again', async () => {
    const scene = await Scene.open('2026-11-20T12:00Z');
    const runId = await scene.starter.startCopy(MAIN, { targetId: SECOND });
    scene.nowMs += HOUR_MS;
    const made = scene.addPoint(SECOND, {});
    await scene.catalogue.runs.finish(runId, { state: 'success', error: null, atMs: scene.nowMs });
    const known = async (): Promise<string[]> => (await scene.catalogue.points.list({ limit: 10 })).map(({ id }) => id);
    assert.deepEqual(await known(), []);
    await scene.restart().catchUp();
    assert.deepEqual(await known(), [made.id]);
    // No run has made this one.
    scene.addPoint(SECOND, {});
    await scene.restart().catchUp();
    assert.deepEqual(await known(), [made.id]);
  });
});

describe('retention of tasks', () => {
  const [first = '', second = ''] = MACHINES;
  let scene: Scene;
  beforeEach(async () => {
    scene = await Scene.open('2026-11-20T12:00Z');
  });

  /** A version a day, the last one now. */
  function addDays(repositoryId: string, machineId: string): void {
    for (let day = 3; day >= 0; day -= 1) {
      scene.addPoint(repositoryId, { machineId, createdAtMs: scene.nowMs - day * DAY_MS });
    }
  }

  it('waits for a good run into this repository, however well runs into another one go', async () => {
    const retention = retentionSchema.parse({ withinDays: 2 });
    const main = await scene.addJob(MAIN, [first], retention);
    const other = await scene.addJob(SECOND, [first], retention);
    for (const repositoryId of [MAIN, SECOND]) addDays(repositoryId, first);
    await scene.backUp(main, 'failed');
    await scene.backUp(other, 'success');
    await scene.maintenance.applyRetention(MAIN);
    assert.deepEqual([scene.shown(MAIN).length, scene.shown(SECOND).length], [4, 2]);

    await scene.backUp(main, 'success');
    assert.equal(scene.shown(MAIN).length, 2);
  });

  it('leaves a machine alone that has left its task, among copies too, until someone decides', async () => {
    const retention = retentionSchema.parse({ last: 1 });
    const jobId = await scene.addJob(MAIN, [first, second], null);
    for (const machineId of MACHINES) addDays(MAIN, machineId);
    await scene.backUp(jobId, 'success');
    await scene.setRetention(MAIN, { last: 1 });
    const job = await scene.catalogue.jobs.load(jobId);
    assert.ok(job !== null);
    const changed = { ...job, machineIds: [second], options: { ...job.options, retention } };
    await scene.catalogue.transaction((tables) => tables.jobs.change(changed));
    await scene.backUp(jobId, 'success');
    await scene.starter.startCopy(SECOND, { targetId: MAIN });
    await scene.endAll();

    const countLeft = (): number[] => {
      const left = (scene.stored.get(MAIN) ?? []).filter(({ trash }) => trash === null);
      return MACHINES.map((id) => left.filter(({ machineId }) => machineId === id).length);
    };
    assert.deepEqual(countLeft(), [4, 1]);

    // Nor when its runs were long ago: that they were is not forgotten with them.
    scene.nowMs += 400 * DAY_MS;
    await scene.backUp(jobId, 'success');
    for (const { partId } of await scene.catalogue.holds.listOpen()) {
      await scene.catalogue.holds.releaseOfPart(partId, scene.nowMs);
    }
    assert.equal(await scene.catalogue.runs.removeBefore(scene.nowMs - 365 * DAY_MS), 1);
    await scene.starter.startCopy(SECOND, { targetId: MAIN });
    await scene.endAll();
    assert.deepEqual(countLeft(), [4, 1]);
  });
});

describe('retention of copies', () => {
  let scene: Scene;
  beforeEach(async () => {
    scene = await Scene.open('2026-11-20T12:00Z');
    await scene.addJob(MAIN, MACHINES, null);
  });

  function addDays(count: number, machineId = MACHINES[0], stepDays = 1): void {
    for (let day = 0; day < count; day += 1) {
      scene.nowMs += stepDays * DAY_MS;
      scene.addPoint(MAIN, { machineId: machineId ?? '', createdAtMs: scene.nowMs });
    }
  }

  it('sends what the target keeps, lets go of the rest after the copy, and sends nothing twice', async () => {
    await scene.setRetention(SECOND, { last: 3 });
    addDays(10);
    assert.equal(await scene.copyAll(), 3, 'what would go at once is not sent');
    addDays(2);
    assert.equal(await scene.copyAll(), 2);
    assert.deepEqual(scene.shown(SECOND), [scene.nowMs - 2 * DAY_MS, scene.nowMs - DAY_MS, scene.nowMs]);
    const trashed = scene.stored.get(SECOND)?.filter(({ trash }) => trash !== null) ?? [];
    assert.deepEqual(
      trashed.map(({ trash }) => trash?.reason),
      Array.from({ length: 2 }, () => 'Let go by the retention of this repository.'),
    );
    // The trash is emptied: still nothing comes back.
    scene.stored.set(
      SECOND,
      (scene.stored.get(SECOND) ?? []).filter(({ trash }) => trash === null),
    );
    for (let turn = 0; turn < 3; turn += 1) assert.equal(await scene.copyAll(), 0);
    assert.equal(scene.shown(MAIN).length, 12, 'the source keeps by its own rules');
  });

  for (const rules of [
    { days: 3, weeks: 2 },
    { last: 1, months: 6 },
    { withinDays: 4, years: 2 },
    { days: 7, weeks: 4, months: 12, years: 1, last: 2 },
  ]) {
    it(`comes to rest after each copy with ${JSON.stringify(rules)}, for half a year`, async () => {
      await scene.setRetention(SECOND, rules);
      for (let turn = 0; turn < 12; turn += 1) {
        addDays(5, MACHINES[0], turn % 2 === 0 ? 1 : 5);
        if (turn % 5 === 0) scene.addPoint(MAIN, { createdAtMs: scene.nowMs + 1, state: 'incomplete' });
        await scene.copyAll();
        scene.stored.set(
          SECOND,
          (scene.stored.get(SECOND) ?? []).filter(({ trash }) => trash === null),
        );
        assert.equal(await scene.copyAll(), 0, `turn ${turn}`);
        const all = scene.shown(SECOND).length;
        await scene.maintenance.applyRetention(SECOND);
        assert.equal(scene.shown(SECOND).length, all, `turn ${turn}`);
      }
      assert.ok(scene.shown(SECOND).length < 30);
    });
  }

  it('is applied by daily maintenance too, and a lock holds against it', async () => {
    addDays(5);
    assert.equal(await scene.copyAll(), 5);
    const locked = scene.stored.get(SECOND)?.[1];
    assert.ok(locked !== undefined);
    locked.lockedUntilMs = scene.nowMs + 30 * DAY_MS;
    await scene.setRetention(SECOND, { last: 2 });
    await scene.maintenance.look();
    scene.nowMs += DAY_MS;
    await scene.maintenance.look();
    const newest =
      scene.stored
        .get(SECOND)
        ?.slice(3)
        .map(({ createdAtMs }) => createdAtMs) ?? [];
    assert.deepEqual(scene.shown(SECOND), [locked.createdAtMs, ...newest]);
  });

  it('lets go of nothing where the last copy failed, or none was made', async () => {
    addDays(4);
    await scene.copyAll();
    await scene.setRetention(SECOND, { last: 1 });
    await scene.copyAll('failed');
    await scene.maintenance.applyRetention(SECOND);
    assert.equal(scene.shown(SECOND).length, 4, 'what does not grow must not shrink');
    await scene.copyAll();
    assert.equal(scene.shown(SECOND).length, 1);

    const adopted = await Scene.open('2026-11-20T12:00Z');
    for (let day = 0; day < 3; day += 1) adopted.addPoint(SECOND, { createdAtMs: adopted.nowMs - day * DAY_MS });
    await adopted.setRetention(SECOND, { last: 1 });
    assert.equal(await adopted.maintenance.applyRetention(SECOND), 0);
  });

  it('is not for machines that a job backs up into the target: that job decides', async () => {
    await scene.addJob(SECOND, [MACHINES[1] ?? ''], null);
    addDays(4, MACHINES[1]);
    addDays(4, MACHINES[0]);
    await scene.setRetention(SECOND, { last: 1 });
    assert.equal(await scene.copyAll(), 5);
    assert.equal(scene.shown(SECOND).length, 5);
  });
});

describe('a lock', () => {
  it('is not set for a time that is over or that nobody can have meant, since nobody takes it back', async () => {
    const scene = await Scene.open('2026-11-20T12:00Z');
    for (const untilMs of [scene.nowMs, Date.parse('+020260-11-20T12:00Z'), 9e15]) {
      const locking = scene.maintenance.lockPoints({ pointIds: ['a version'], untilMs });
      await assert.rejects(locking, { code: 'INPUT_INVALID' }, String(untilMs));
    }
    const untilMs = Date.parse('2126-11-20T12:00Z');
    const { failed } = await scene.maintenance.lockPoints({ pointIds: ['a version'], untilMs });
    assert.deepEqual(
      failed.map(({ error }) => error.code),
      ['POINT_NOT_FOUND'],
    );
  });
});

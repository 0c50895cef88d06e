import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { jobInputSchema } from '../../server/contract/api/job.schema.ts';
import { settingsSchema } from '../../server/contract/api/settings.schema.ts';
import type { BackupResult } from '../../server/contract/run.ts';
import type { PointsResult } from '../../server/contract/task-result.ts';
import type { WorkerTask } from '../../server/contract/task.ts';
import { openCatalogue, type Catalogue, type RunRecord } from '../../server/database/index.ts';
import { AppError, cancelled } from '../../server/errors/index.ts';
import { sealHostSecret } from '../../server/orchestration/host-addresses.ts';
import { EventHub, Orchestration } from '../../server/orchestration/index.ts';
import {
  createSealer,
  startEmbeddedRedis,
  startWorker,
  TaskQueue,
  type Processors,
  type TaskContext,
} from '../../server/queue/index.ts';
import { silentLogger, systemClock, type Clock } from '../../server/runtime/index.ts';

const HOST_ID = '00000000000000aa';
const REPOSITORY_ID = '00000000000000cc';
/** For an idle machine it is nothing; a busy one may take it. */
const PATIENCE_MS = 90_000;

/** A clock whose wall time is moved by hand. Who sleeps wakes when it is moved, or after the real time. */
class HandClock implements Clock {
  #nowMs: number;
  readonly #sleepers = new Set<() => void>();
  /** Loops, told apart by their signals, that have gone to sleep since the clock was moved last. */
  readonly #asleep = new Set<AbortSignal>();

  constructor(startMs: number) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return performance.now();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(cancelled());
        return;
      }
      const end = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', stop);
        this.#sleepers.delete(end);
        resolve();
      };
      const stop = (): void => {
        end();
        reject(cancelled());
      };
      const timer = setTimeout(end, ms);
      signal?.addEventListener('abort', stop);
      this.#sleepers.add(end);
      if (signal !== undefined) this.#asleep.add(signal);
    });
  }

  move(toMs: number): void {
    this.#nowMs = toMs;
    this.#asleep.clear();
    for (const wake of [...this.#sleepers]) wake();
  }

  /** How many loops have looked at the time that the clock shows. */
  loopsAsleep(): number {
    return this.#asleep.size;
  }
}

/** Keeper, scheduler, maintenance, notifications. */
const LOOPS = 4;

interface Parts {
  catalogue: Catalogue;
  orchestration: Orchestration;
  queue: TaskQueue;
  redisSocket: string;
  /** Ends them all, in order. */
  stop(): Promise<void>;
}

/**
 * A NAS over a year: the product's orchestration, catalogue, queue, Redis and worker, all real, in this process;
 * a clock moved by hand; and in the worker, instead of hosts and repositories, a list of versions.
 */
export class YearScene {
  readonly #folder: string;
  readonly #clock: HandClock;
  readonly #sealer = createSealer(randomBytes(32));
  #parts: Parts | null = null;
  /** What lies on the disk of the NAS: no outage takes it away. */
  #versions: PointsResult['points'] = [];
  /** Times that a machine's turn in a run was begun, by run and machine. */
  readonly executions = new Map<string, number>();
  machinesAtWork = 0;
  #numbers = 0;
  #gate: Promise<void> = Promise.resolve();
  #openGate: () => void = () => undefined;
  /** Whether the host gives all disks of a machine at that time. */
  isGood: (machineId: string, atMs: number) => boolean = () => true;

  private constructor(folder: string, startMs: number) {
    this.#folder = folder;
    this.#clock = new HandClock(startMs);
  }

  static async open(startMs: number): Promise<YearScene> {
    const scene = new YearScene(await mkdtemp(join(tmpdir(), 'dozo-year-')), startMs);
    await scene.powerOn();
    const { catalogue } = scene.#running();
    await catalogue.settings.save(
      'settings',
      settingsSchema.parse({ keepRunsDays: 3660, maintenance: { enabled: false }, tasksPerWorker: 1 }),
    );
    await catalogue.hosts.save({
      ...{ id: HOST_ID, name: 'esx', host: '192.0.2.1', sshPort: 22, httpsPort: 443, user: 'root', auth: 'password' },
      ...{ sshHostKey: null, tlsCertificate: null, facts: null, error: null, checkedAtMs: null, createdAtMs: 0 },
      secret: sealHostSecret(scene.#sealer, HOST_ID, { password: 'x', privateKey: null }),
    });
    await catalogue.repositories.save({
      ...{ id: REPOSITORY_ID, name: 'store', path: '/volume1/store', formatId: null, chunkSizeBytes: null },
      ...{ stats: null, error: null, seenAtMs: null, createdAtMs: 0 },
    });
    return scene;
  }

  async destroy(): Promise<void> {
    this.#openGate();
    await this.powerOff();
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** A task over machines of its own. @returns its id and theirs */
  async addJob(spec: {
    name: string;
    machines: number;
    schedule: Parameters<Orchestration['schedules']['set']>[1];
    retention: Parameters<Orchestration['retention']['setOfJob']>[1];
  }): Promise<{ jobId: string; machineIds: string[] }> {
    const { catalogue, orchestration } = this.#running();
    const machineIds = Array.from({ length: spec.machines }, () => {
      this.#numbers += 1;
      return this.#numbers.toString(16).padStart(16, 'b');
    });
    for (const id of machineIds) {
      const identity = { name: id, instanceUuid: null, biosUuid: null, path: `[ds] ${id}`, diskUuids: [] };
      const machine = { id, hostId: HOST_ID, name: id, identity, summary: null, present: true, seenAtMs: 0 };
      await catalogue.machines.save(machine);
    }
    const jobId = await orchestration.jobs.add(
      jobInputSchema.parse({ name: spec.name, machineIds, repositoryId: REPOSITORY_ID }),
    );
    await orchestration.retention.setOfJob(jobId, spec.retention);
    await orchestration.schedules.set(jobId, spec.schedule);
    return { jobId, machineIds };
  }

  async powerOn(): Promise<void> {
    const { sealer, clock, logger } = { sealer: this.#sealer, clock: this.#clock, logger: silentLogger };
    const catalogue = await openCatalogue(join(this.#folder, 'catalogue.sqlite'));
    const redis = await startEmbeddedRedis({
      ...{ folder: join(this.#folder, 'redis'), binary: null },
      ...{ clock: systemClock, logger },
    });
    const connection = { redis: { kind: 'socket' as const, path: redis.socketPath }, prefix: 'dozo' };
    const queue = new TaskQueue({
      ...connection,
      ...{ clock: systemClock, logger },
      onEvent: (taskId, event) => orchestration.keeper.takeEvent(taskId, event),
      onEnd: () => orchestration.keeper.wake(),
    });
    const orchestration: Orchestration = new Orchestration(
      { catalogue, queue, sealer, events: new EventHub(), clock, logger },
      { version: '0', tellNas: () => Promise.resolve(true), hostName: 'nas', scriptsFolder: null },
    );
    orchestration.start();
    const worker = startWorker({
      ...connection,
      ...{ processors: this.#processors(), concurrency: 1, clock: systemClock, logger },
    });
    const stop = async (): Promise<void> => {
      await orchestration.stop();
      await worker.close(10_000);
      await queue.close();
      await redis.stop();
      await catalogue.close();
    };
    this.#parts = { catalogue, orchestration, queue, redisSocket: redis.socketPath, stop };
  }

  async powerOff(): Promise<void> {
    const parts = this.#parts;
    this.#parts = null;
    await parts?.stop();
  }

  /** Sets the clock, and waits until everything that looks at it has done so. */
  async moveTo(atMs: number): Promise<void> {
    this.#clock.move(atMs);
    if (this.#parts !== null)
      await this.until(async () => this.#clock.loopsAsleep() >= LOOPS, 'all to look at the clock');
  }

  /** No backup goes on from here until `openGate`. */
  closeGate(): void {
    this.#gate = new Promise((resolve) => (this.#openGate = resolve));
  }

  openGate(): void {
    this.#openGate();
  }

  /** Redis forgets everything. */
  async flushRedis(): Promise<void> {
    const { redisSocket } = this.#running();
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect(redisSocket);
      socket.on('error', reject);
      socket.on('connect', () => socket.write('FLUSHALL\r\n'));
      socket.on('data', (data) => {
        socket.destroy();
        resolve(data.toString());
      });
    });
    if (!answer.startsWith('+OK')) throw new Error(`Redis: ${answer}`);
  }

  /** Backups of a job, oldest first. */
  async runs(jobId: string): Promise<RunRecord[]> {
    return (await this.#running().catalogue.runs.list({ jobId, kind: 'backup', limit: 100_000 })).reverse();
  }

  async isIdle(): Promise<boolean> {
    return (await this.#running().catalogue.runs.list({ active: true, limit: 1 })).length === 0;
  }

  /** How the queue sees the parts of all runs that have not ended. */
  async sights(): Promise<string[]> {
    const { catalogue, queue } = this.#running();
    const parts = await catalogue.parts.listActive();
    const sights = await Promise.all(parts.map(async ({ id }) => (await queue.look(id)).state));
    return sights.sort();
  }

  async logCodes(runId: string): Promise<string[]> {
    return (await this.#running().catalogue.log.list(runId, { afterNumber: 0, limit: 100 })).map(({ code }) => code);
  }

  /** Versions of a machine that are not in the trash, as the catalogue has them: their times, oldest first. */
  async shown(machineId: string): Promise<number[]> {
    const points = await this.#running().catalogue.points.list({ machineId, limit: 100_000 });
    return points.map(({ createdAtMs }) => createdAtMs).reverse();
  }

  async until(look: () => Promise<boolean>, what: string): Promise<void> {
    const deadlineMs = performance.now() + PATIENCE_MS;
    while (!(await look())) {
      if (performance.now() > deadlineMs) {
        throw new Error(`waited in vain at ${new Date(this.#clock.nowMs()).toISOString()} for ${what}`);
      }
      await delay(3);
    }
  }

  #running(): Parts {
    if (this.#parts === null) throw new Error('the NAS is off');
    return this.#parts;
  }

  #processors(): Processors {
    const refuse = (): Promise<never> => Promise.reject(new AppError('CONFLICT', 'Nothing here does that.'));
    return {
      ...{ probe: refuse, inventory: refuse, restore: refuse, export: refuse, sweep: refuse, check: refuse },
      ...{ copy: refuse, maintenance: refuse, keys: refuse, 'create-repository': refuse },
      backup: (task, context) => this.#backUp(task, context),
      points: async () => {
        // What is in the trash for too long is gone.
        this.#versions = this.#versions.filter(({ trash }) => (trash?.keepUntilMs ?? Infinity) > this.#clock.nowMs());
        const stats = { points: this.#versions.length, packs: 1, chunks: 1, storedBytes: 1, nominalBytes: 1 };
        return { formatId: 'year', chunkSizeBytes: 65_536, stats, points: this.#versions };
      },
      'change-points': async ({ pointIds, change }) => {
        if (change.verb !== 'delete') return refuse();
        const trash = { deletedAtMs: this.#clock.nowMs(), keepUntilMs: change.keepUntilMs, reason: change.reason };
        this.#versions = this.#versions.map((point) => (pointIds.includes(point.id) ? { ...point, trash } : point));
        return { failed: [] };
      },
    };
  }

  async #backUp(task: Extract<WorkerTask, { kind: 'backup' }>, { signal }: TaskContext): Promise<BackupResult> {
    const execution = `${task.runId} ${task.machineId}`;
    this.executions.set(execution, (this.executions.get(execution) ?? 0) + 1);
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    this.machinesAtWork += 1;
    await Promise.race([this.#gate, stopped]);
    this.machinesAtWork -= 1;
    if (signal.aborted) throw cancelled();
    const nowMs = this.#clock.nowMs();
    const isGood = this.isGood(task.machineId, nowMs);
    const error = isGood ? null : new AppError('DISK_READ_SHORT', 'A disk could not be read.').toBody();
    this.#numbers += 1;
    const id = `point-${String(this.#numbers).padStart(6, '0')}`;
    const version: PointsResult['points'][number] = {
      ...{ id, machineId: task.machineId, machineName: task.machineId, createdAtMs: nowMs },
      ...{ state: isGood ? 'complete' : 'incomplete', stateReasons: isGood ? [] : ['A disk could not be read.'] },
      ...{ consistency: 'crash', sizeBytes: 1, rootHash: null, previousPointId: null, disks: [] },
      ...{ lockedUntilMs: null, trash: null, identity: null },
    };
    this.#versions = [...this.#versions, version];
    const stats = { nominalBytes: 1, readBytes: 1, sentBytes: 1, storedBytes: 1, zeroBytes: 0, duplicateBytes: 0 };
    return {
      ...{ state: isGood ? 'success' : 'incomplete', pointId: id, error, stats, disks: [], consistency: null },
      ...{ holdReleased: true, identity: null, startedAtMs: nowMs, finishedAtMs: nowMs },
    };
  }
}

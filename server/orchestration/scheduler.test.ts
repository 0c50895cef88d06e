import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { retentionSchema } from '../contract/api/retention.schema.ts';
import { scheduleSchema } from '../contract/api/schedule.schema.ts';
import { selectionSchema } from '../contract/api/selection.schema.ts';
import { jobOptionsSchema } from '../contract/api/job.schema.ts';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { LogLine, RunState } from '../contract/run.ts';
import { openCatalogue, type Catalogue, type RunRecord } from '../database/index.ts';
import { judgePoints, type RetainedPoint } from '../policy/index.ts';
import { createSealer, type TaskQueue } from '../queue/index.ts';
import { silentLogger, type Clock } from '../runtime/index.ts';
import { keptBy, wallClock, weekdayOf, type WallTime } from '../../test/integration/rules-said-again.ts';
import type { OrchestrationContext } from './context.ts';
import { EventHub } from './event-hub.ts';
import { sealHostSecret } from './host-addresses.ts';
import { JobService } from './jobs.ts';
import { RunStarter } from './run-starter.ts';
import { Scheduler } from './scheduler.ts';
import { ScheduleService } from './schedules.ts';
import { explainShortage } from './window-shortage.ts';

const MINUTE_MS = 60_000;
const HOST_ID = '00000000000000aa';
const MACHINES = ['00000000000000b1', '00000000000000b2'];

const folder = await mkdtemp(join(tmpdir(), 'dozo-scheduler-'));
after(() => rm(folder, { recursive: true, force: true }));

/** A catalogue with jobs, a clock moved by hand, and runs that end as the test says. */
class Scene {
  nowMs: number;
  readonly catalogue: Catalogue;
  readonly context: OrchestrationContext;
  scheduler: Scheduler;
  /** What becomes of a run; null: it goes on. */
  ending: (run: RunRecord) => RunState | null = () => 'success';
  error: ErrorBody | null = null;
  cancelled: string[] = [];
  isFresh = true;

  private constructor(catalogue: Catalogue, startMs: number) {
    this.nowMs = startMs;
    this.catalogue = catalogue;
    const clock: Clock = {
      nowMs: () => this.nowMs,
      monotonicMs: () => this.nowMs,
      sleep: () => Promise.reject(new Error('the scheduler is looked through by hand here')),
    };
    this.context = {
      catalogue,
      // Starting a run does not touch the queue: it could have been flushed at any time.
      queue: null as unknown as TaskQueue,
      sealer: createSealer(randomBytes(32)),
      events: new EventHub(),
      clock,
      logger: silentLogger,
    };
    this.scheduler = this.restart();
  }

  static async open(start: string): Promise<Scene> {
    const path = join(folder, `${randomBytes(6).toString('hex')}.sqlite`);
    const scene = new Scene(await openCatalogue(path), Date.parse(start));
    const { catalogue, context } = scene;
    await catalogue.hosts.save({
      id: HOST_ID,
      name: 'esx',
      host: '192.0.2.1',
      sshPort: 22,
      httpsPort: 443,
      user: 'root',
      auth: 'password',
      secret: sealHostSecret(context.sealer, HOST_ID, { password: 'x', privateKey: null }),
      sshHostKey: null,
      tlsCertificate: null,
      facts: null,
      error: null,
      checkedAtMs: null,
      createdAtMs: 0,
    });
    for (const [index, id] of MACHINES.entries()) {
      const identity = { name: `vm${index}`, instanceUuid: null, biosUuid: null, path: `[ds] ${index}`, diskUuids: [] };
      await catalogue.machines.save({
        id,
        hostId: HOST_ID,
        name: identity.name,
        identity,
        summary: null,
        present: true,
        seenAtMs: 0,
      });
    }
    await catalogue.repositories.save({
      id: '00000000000000cc',
      name: 'store',
      path: '/volume1/store',
      formatId: null,
      chunkSizeBytes: null,
      stats: null,
      error: null,
      seenAtMs: null,
      createdAtMs: 0,
    });
    return scene;
  }

  /** A server that was started anew knows nothing but the catalogue. */
  restart(): Scheduler {
    this.scheduler = new Scheduler(this.context, {
      starter: new RunStarter(this.context),
      keeper: {
        announce: (runId) => this.#end(runId),
        cancel: async (runId, by = 'request') => {
          this.cancelled.push(runId);
          await this.catalogue.runs.requestCancel(runId, by);
        },
      },
      inventory: { isFresh: async () => this.isFresh },
    });
    return this.scheduler;
  }

  async addJob(number: number, schedule: object): Promise<string> {
    const id = `00000000000000d${number}`;
    await this.catalogue.transaction((tables) =>
      tables.jobs.add({
        id,
        name: `job ${number}`,
        machineIds: MACHINES,
        selection: null,
        repositoryId: '00000000000000cc',
        options: jobOptionsSchema.parse({}),
        revision: 1,
        createdAtMs: this.nowMs,
        updatedAtMs: this.nowMs,
      }),
    );
    await new ScheduleService(this.context, { onChange: () => undefined }).set(id, scheduleSchema.parse(schedule));
    return id;
  }

  async runs(jobId: string): Promise<RunRecord[]> {
    return (await this.catalogue.runs.list({ jobId, limit: 100_000 })).reverse();
  }

  async lookAt(time: string): Promise<void> {
    this.nowMs = Date.parse(time);
    await this.scheduler.look();
  }

  async finish(runId: string, state: RunState): Promise<void> {
    for (const part of await this.catalogue.parts.listByRun(runId)) {
      await this.catalogue.parts.finish(part.id, { state, result: null, error: this.error, atMs: this.nowMs });
    }
    await this.catalogue.runs.finish(runId, { state, error: this.error, atMs: this.nowMs });
  }

  async #end(runId: string): Promise<void> {
    const run = await this.catalogue.runs.load(runId);
    const state = run === null ? null : this.ending(run);
    if (state !== null) await this.finish(runId, state);
  }
}

function told(runs: readonly RunRecord[]): string[] {
  return runs.map((run) => `${new Date(run.createdAtMs).toISOString().slice(0, 16)} ${run.startedBy}`);
}

const DAILY = { timeZone: 'UTC', rules: [{ rule: { kind: 'daily', time: '22:00' } }] };

describe('the scheduler', () => {
  let scene: Scene;
  beforeEach(async () => {
    scene = await Scene.open('2026-11-20T12:00Z');
  });

  it('starts what is due once, across restarts of the server', async () => {
    const jobId = await scene.addJob(1, DAILY);
    for (const time of ['2026-11-20T21:59Z', '2026-11-20T22:00Z', '2026-11-20T22:00:05Z', '2026-11-21T21:59Z']) {
      scene.restart();
      await scene.lookAt(time);
    }
    await scene.lookAt('2026-11-21T22:01Z');

    const runs = await scene.runs(jobId);
    assert.deepEqual(told(runs), ['2026-11-20T22:00 schedule', '2026-11-21T22:01 schedule']);
    assert.equal(runs[1]?.dueAtMs, Date.parse('2026-11-21T22:00Z'));
    assert.equal((await scene.catalogue.parts.listByRun(runs[0]?.id ?? '')).length, 2);
    assert.equal((await scene.catalogue.holds.listByRun(runs[0]?.id ?? '')).length, 2);
  });

  it('refuses a single run whose time has passed, and leaves one alone that passed meanwhile', async () => {
    const service = new ScheduleService(scene.context, { onChange: () => undefined });
    const once = (at: string, more: object = {}): Parameters<ScheduleService['set']>[1] =>
      scheduleSchema.parse({ timeZone: 'Asia/Tokyo', rules: [{ rule: { kind: 'once', at } }], ...more });
    const refused = { code: 'INPUT_INVALID', message: /has passed/, hint: /to come/ };
    const jobId = await scene.addJob(1, DAILY);
    // Noon in London is nine in the evening in Tokyo.
    for (const at of ['2026-11-20T21:00', '2026-11-20T12:00', '1999-12-31T23:59']) {
      await assert.rejects(service.set(jobId, once(at)), refused);
      await assert.rejects(service.preview({ schedule: once(at), jobId, count: 10 }), refused);
    }
    const second = once('2026-11-20T20:00', {
      rules: [DAILY.rules[0], { rule: { kind: 'once', at: '2026-11-20T20:00' } }],
    });
    await assert.rejects(service.set(jobId, second), {
      details: { passedRule: 1, at: '2026-11-20T20:00', timeZone: 'Asia/Tokyo' },
    });
    assert.equal((await service.describe(jobId)).schedule?.rules[0]?.rule.kind, 'daily');

    await service.set(jobId, once('2026-11-20T21:01'));
    assert.equal((await service.describe(jobId)).isOver, false);
    await scene.lookAt('2026-11-20T12:01Z');
    assert.deepEqual(told(await scene.runs(jobId)), ['2026-11-20T12:01 schedule']);
    assert.deepEqual((await service.describe(jobId)).nextRunsAtMs, []);
    assert.equal((await service.describe(jobId)).isOver, true);

    await service.set(jobId, once('2026-11-20T21:01', { retry: { times: 1 } }));
    assert.equal((await service.describe(jobId)).schedule?.retry.times, 1);
    assert.deepEqual((await service.preview({ schedule: once('2026-11-20T21:01'), jobId, count: 10 })).runsAtMs, []);
    await assert.rejects(service.set(jobId, once('2026-11-20T21:00')), refused);
    const other = await scene.addJob(2, DAILY);
    await assert.rejects(service.set(other, once('2026-11-20T21:01')), refused);
    await service.set(other, once('2026-11-20T21:01'), { maybePassed: true });
    await scene.lookAt('2026-11-20T13:00Z');
    assert.deepEqual(await scene.runs(other), []);
    assert.equal((await scene.runs(jobId)).length, 1);
    await service.set(other, once('2026-11-20T21:01', { after: { jobId } }));
    assert.equal((await service.describe(other)).isOver, false);
  });

  it('is not over while a single run waits for its window', async () => {
    const hours = Array.from({ length: 7 }, () => `${'0'.repeat(20)}1111`);
    const rules = [{ rule: { kind: 'once', at: '2026-11-20T13:00' } }];
    const jobId = await scene.addJob(1, { timeZone: 'UTC', rules, window: { hours } });
    const service = new ScheduleService(scene.context, { onChange: () => undefined });

    await scene.lookAt('2026-11-20T14:00Z');
    assert.equal((await service.describe(jobId)).isOver, false);
    await scene.lookAt('2026-11-20T20:00Z');
    assert.equal((await service.describe(jobId)).isOver, true);
    assert.equal((await scene.runs(jobId)).length, 1);
  });

  it('catches a week without power up with one run, and says so', async () => {
    const jobId = await scene.addJob(1, DAILY);
    await scene.lookAt('2026-11-27T23:30Z');
    await scene.lookAt('2026-11-27T23:31Z');

    const [run] = await scene.runs(jobId);
    assert.deepEqual(told(await scene.runs(jobId)), ['2026-11-27T23:30 catch-up']);
    const lines = await scene.catalogue.log.list(run?.id ?? '', { afterNumber: 0, limit: 10 });
    assert.deepEqual(
      lines.map((line) => line.code),
      ['SCHEDULE_CAUGHT_UP'],
    );
    assert.equal((await scene.catalogue.schedules.load(jobId))?.missedAtMs, Date.parse('2026-11-27T22:00Z'));
  });

  it('leaves a missed run out when it is told to, and remembers it', async () => {
    const jobId = await scene.addJob(1, { ...DAILY, catchUp: false });
    await scene.lookAt('2026-11-22T12:00Z');

    assert.deepEqual(await scene.runs(jobId), []);
    assert.equal((await scene.catalogue.schedules.load(jobId))?.missedAtMs, Date.parse('2026-11-21T22:00Z'));
    await scene.lookAt('2026-11-22T22:00Z');
    assert.equal((await scene.runs(jobId)).length, 1);
  });

  it('skips what is due while the job is at work', async () => {
    scene.ending = () => null;
    const jobId = await scene.addJob(1, DAILY);
    await scene.lookAt('2026-11-20T22:00Z');
    await scene.lookAt('2026-11-21T22:00Z');

    const [run, ...others] = await scene.runs(jobId);
    assert.deepEqual(others, []);
    await scene.finish(run?.id ?? '', 'success');
    await scene.lookAt('2026-11-22T06:00Z');
    assert.equal((await scene.runs(jobId)).length, 1);
    const lines = await scene.catalogue.log.list(run?.id ?? '', { afterNumber: 0, limit: 10 });
    assert.deepEqual(
      lines.map((line) => line.code),
      ['SCHEDULE_SKIPPED'],
    );
  });

  it('does not repeat a run when the clock is put back a little, and goes on when it was years ahead', async () => {
    const jobId = await scene.addJob(1, DAILY);
    await scene.lookAt('2026-11-20T22:00Z');
    await scene.lookAt('2026-11-20T21:10Z');
    await scene.lookAt('2026-11-20T22:00Z');
    assert.equal((await scene.runs(jobId)).length, 1);

    await scene.lookAt('2099-01-01T00:00Z');
    await scene.lookAt('2026-11-21T12:00Z');
    await scene.lookAt('2026-11-21T22:00Z');
    assert.deepEqual(told(await scene.runs(jobId)), [
      '2026-11-20T22:00 schedule',
      '2099-01-01T00:00 catch-up',
      '2026-11-21T22:00 schedule',
    ]);
  });

  it('tries failed machines again, with longer and longer pauses, until it may not', async () => {
    scene.ending = () => 'failed';
    scene.error = { code: 'HOST_UNREACHABLE', message: 'x', details: {} };
    const jobId = await scene.addJob(1, { ...DAILY, retry: { times: 2, pauseMinutes: 10 } });
    for (let minute = 0; minute < 120; minute += 1) {
      scene.nowMs = Date.parse('2026-11-20T22:00Z') + minute * MINUTE_MS;
      await scene.scheduler.look();
    }

    assert.deepEqual(told(await scene.runs(jobId)), [
      '2026-11-20T22:00 schedule',
      '2026-11-20T22:10 retry',
      '2026-11-20T22:30 retry',
    ]);
  });

  it('tries again what failed although somebody ran other machines meanwhile, and not what they ran', async () => {
    const [first = '', second = ''] = MACHINES;
    const jobId = await scene.addJob(1, { ...DAILY, retry: { times: 1, pauseMinutes: 10 } });
    const machinesOf = async (run: RunRecord | undefined): Promise<(string | null)[]> =>
      (await scene.catalogue.parts.listByRun(run?.id ?? '')).map(({ machineId }) => machineId);
    scene.error = { code: 'HOST_UNREACHABLE', message: 'x', details: {} };
    scene.ending = () => 'failed';
    await scene.lookAt('2026-11-20T22:00Z');
    scene.ending = () => 'success';
    scene.nowMs = Date.parse('2026-11-20T22:05Z');
    await scene.finish(await new RunStarter(scene.context).startJob(jobId, { machineIds: [first] }), 'success');
    await scene.lookAt('2026-11-20T22:10Z');
    const runs = await scene.runs(jobId);
    assert.deepEqual(told(runs), ['2026-11-20T22:00 schedule', '2026-11-20T22:05 request', '2026-11-20T22:10 retry']);
    assert.deepEqual(await machinesOf(runs[2]), [second]);

    // Nothing is left to be tried again when somebody ran all of it, together or one by one.
    for (const [day, parts] of [
      [21, [MACHINES]],
      [22, [[first], [second]]],
    ] as const) {
      scene.ending = () => 'failed';
      await scene.lookAt(`2026-11-${day}T22:00Z`);
      for (const machineIds of parts) {
        await scene.finish(
          await new RunStarter(scene.context).startJob(jobId, { machineIds: [...machineIds] }),
          'success',
        );
      }
      const before = (await scene.runs(jobId)).length;
      await scene.lookAt(`2026-11-${day}T23:00Z`);
      assert.equal((await scene.runs(jobId)).length, before);
    }
  });

  it('never repeats what would lock the account of a host', async () => {
    scene.ending = () => 'failed';
    scene.error = { code: 'HOST_LOGIN_REFUSED', message: 'x', details: {} };
    const jobId = await scene.addJob(1, DAILY);
    await scene.lookAt('2026-11-20T22:00Z');
    await scene.lookAt('2026-11-20T23:30Z');

    assert.equal((await scene.runs(jobId)).length, 1);
  });

  it('records a run that cannot begin as failed, and not as a success without machines', async () => {
    const jobId = await scene.addJob(1, DAILY);
    for (const id of MACHINES) {
      const machine = await scene.catalogue.machines.load(id);
      if (machine !== null) await scene.catalogue.machines.save({ ...machine, hostId: null });
    }
    await scene.lookAt('2026-11-20T22:00Z');

    const [run] = await scene.runs(jobId);
    assert.equal(run?.state, 'failed');
    assert.equal(run?.error?.code, 'MACHINE_NOT_FOUND');
  });

  it('ends its own run when the window closes, if told so, and leaves what a person started', async () => {
    scene.ending = () => null;
    const hours = Array.from({ length: 7 }, () => `${'0'.repeat(22)}11`);
    const jobId = await scene.addJob(1, { ...DAILY, window: { hours, atClose: 'cancel' } });
    await scene.lookAt('2026-11-20T22:00Z');
    await scene.lookAt('2026-11-20T23:59Z');
    assert.deepEqual(scene.cancelled, []);
    await scene.lookAt('2026-11-21T00:00Z');
    await scene.lookAt('2026-11-21T00:01Z');

    const [run] = await scene.runs(jobId);
    assert.deepEqual(scene.cancelled, [run?.id]);
    await scene.finish(run?.id ?? '', 'cancelled');
    await new RunStarter(scene.context).startJob(jobId, {});
    await scene.lookAt('2026-11-21T02:00Z');
    assert.equal(scene.cancelled.length, 1);
  });
});

describe('a job that runs after another', () => {
  let scene: Scene;
  let first: string;
  beforeEach(async () => {
    scene = await Scene.open('2026-11-20T12:00Z');
    first = await scene.addJob(1, { ...DAILY, retry: { times: 1, pauseMinutes: 10 } });
  });

  const after = (jobId: string, on: 'success' | 'always'): object => ({
    timeZone: 'UTC',
    rules: [],
    after: { jobId, on },
  });

  it('begins once when a run of that one has succeeded, whoever started it, and not after a failure', async () => {
    const second = await scene.addJob(2, after(first, 'success'));
    await scene.lookAt('2026-11-20T22:00Z');
    scene.restart();
    await scene.lookAt('2026-11-20T22:00:05Z');
    assert.deepEqual(told(await scene.runs(second)), ['2026-11-20T22:00 link']);

    scene.ending = () => 'failed';
    scene.error = { code: 'HOST_LOGIN_REFUSED', message: 'x', details: {} };
    await scene.lookAt('2026-11-21T22:00Z');
    await scene.lookAt('2026-11-21T23:00Z');
    assert.equal((await scene.runs(second)).length, 1);

    scene.nowMs = Date.parse('2026-11-22T09:00Z');
    scene.ending = () => 'warning';
    await scene.finish(await new RunStarter(scene.context).startJob(first, {}), 'success');
    await scene.lookAt('2026-11-22T09:00:05Z');
    assert.deepEqual(told(await scene.runs(second)), ['2026-11-20T22:00 link', '2026-11-22T09:00 link']);
  });

  it('begins after a failure if told so, but not before the last repetition of it', async () => {
    const second = await scene.addJob(2, after(first, 'always'));
    scene.ending = (run) => (run.jobId === first ? 'failed' : 'success');
    scene.error = { code: 'HOST_UNREACHABLE', message: 'x', details: {} };
    for (const time of ['22:00', '22:00:05', '22:09', '22:10', '22:10:05', '23:00']) {
      await scene.lookAt(`2026-11-20T${time}Z`);
    }

    assert.deepEqual(told(await scene.runs(first)), ['2026-11-20T22:00 schedule', '2026-11-20T22:10 retry']);
    assert.deepEqual(told(await scene.runs(second)), ['2026-11-20T22:10 link']);
  });

  it('is not kept from it by a clock that was put back', async () => {
    const second = await scene.addJob(2, after(first, 'success'));
    await scene.lookAt('2026-11-20T22:00Z');
    scene.nowMs = Date.parse('2026-11-20T21:00Z');
    await scene.finish(await new RunStarter(scene.context).startJob(first, {}), 'success');
    await scene.lookAt('2026-11-20T21:00:05Z');
    assert.equal((await scene.runs(second)).length, 2);
  });

  it('forgets what ended before it was told to follow, and waits for what is at work', async () => {
    await scene.lookAt('2026-11-20T22:00Z');
    const second = await scene.addJob(2, after(first, 'success'));
    await scene.lookAt('2026-11-20T23:00Z');
    assert.deepEqual(await scene.runs(second), []);

    scene.ending = () => null;
    await scene.lookAt('2026-11-21T22:00Z');
    await new ScheduleService(scene.context, { onChange: () => undefined }).set(
      second,
      scheduleSchema.parse(after(first, 'success')),
    );
    await scene.finish((await scene.runs(first)).at(-1)?.id ?? '', 'success');
    scene.ending = () => 'success';
    await scene.lookAt('2026-11-21T22:05Z');
    assert.deepEqual(told(await scene.runs(second)), ['2026-11-21T22:05 link']);
  });

  it('is refused where it would run after itself, and shown where it follows', async () => {
    const service = new ScheduleService(scene.context, { onChange: () => undefined });
    const second = await scene.addJob(2, after(first, 'success'));
    const third = await scene.addJob(3, after(second, 'always'));
    for (const [jobId, followed] of [
      [first, third],
      [first, first],
      [second, third],
    ] as const) {
      const schedule = scheduleSchema.parse({ ...DAILY, after: { jobId: followed } });
      await assert.rejects(service.set(jobId, schedule), { code: 'SCHEDULE_CIRCLE' });
      await assert.rejects(service.preview({ schedule, jobId, count: 10 }), { code: 'SCHEDULE_CIRCLE' });
    }
    const unknown = scheduleSchema.parse(after('00000000000000ff', 'success'));
    await assert.rejects(service.set(first, unknown), { code: 'NOT_FOUND' });

    const view = await service.describe(second);
    assert.deepEqual(view.nextRunsAtMs, []);
    assert.equal(view.follows?.name, 'job 1');
    assert.equal(view.follows?.nextRunsAtMs[0], Date.parse('2026-11-20T22:00Z'));
    assert.deepEqual(view.followers, [{ jobId: third, name: 'job 3', on: 'always' }]);
    await assert.rejects(new JobService(scene.context).remove(second), { code: 'CONFLICT' });
    assert.equal(scheduleSchema.safeParse({ timeZone: 'UTC', rules: [] }).success, false);
  });
});

describe('a window that pauses', () => {
  /** Open from 22:00 to 00:30. */
  const hours = Array.from({ length: 7 }, () => `1${'0'.repeat(43)}1111`);
  let scene: Scene;
  let jobId: string;
  beforeEach(async () => {
    scene = await Scene.open('2026-11-20T12:00Z');
    scene.ending = () => null;
    jobId = await scene.addJob(1, {
      timeZone: 'UTC',
      rules: [{ rule: { kind: 'weekly', days: ['friday'], time: '22:00' } }],
      window: { hours, atClose: 'pause' },
    });
  });

  /** The first machine was done, the second one was not. */
  async function stopHalfWay(): Promise<void> {
    await scene.lookAt('2026-11-20T22:00Z');
    await scene.lookAt('2026-11-21T00:29Z');
    assert.deepEqual(scene.cancelled, []);
    await scene.lookAt('2026-11-21T00:30Z');
    const [run] = await scene.runs(jobId);
    assert.deepEqual(scene.cancelled, [run?.id]);
    assert.equal((await scene.catalogue.runs.load(run?.id ?? ''))?.stoppedBy, 'window');
    const [done, stopped] = await scene.catalogue.parts.listByRun(run?.id ?? '');
    const atMs = scene.nowMs;
    const error = { code: 'RUN_STOPPED_BY_WINDOW', message: 'x', details: {} } as const;
    await scene.catalogue.parts.finish(done?.id ?? '', { state: 'success', result: null, error: null, atMs });
    await scene.catalogue.parts.finish(stopped?.id ?? '', { state: 'cancelled', result: null, error, atMs });
    await scene.catalogue.runs.finish(run?.id ?? '', { state: 'cancelled', error, atMs });
  }

  it('goes on when it opens with the machines that were not done, over a restart', async () => {
    await stopHalfWay();
    scene.restart();
    await scene.lookAt('2026-11-21T21:59Z');
    assert.equal((await scene.runs(jobId)).length, 1);
    await scene.lookAt('2026-11-21T22:00Z');
    await scene.lookAt('2026-11-21T22:01Z');

    const runs = await scene.runs(jobId);
    assert.deepEqual(told(runs), ['2026-11-20T22:00 schedule', '2026-11-21T22:00 window']);
    const parts = await scene.catalogue.parts.listByRun(runs[1]?.id ?? '');
    assert.deepEqual(
      parts.map(({ machineId }) => machineId),
      MACHINES.slice(1),
    );
    assert.equal(runs[1]?.dueAtMs, Date.parse('2026-11-20T22:00Z'));
    await scene.finish(runs[1]?.id ?? '', 'success');
    await scene.lookAt('2026-11-22T22:00Z');
    assert.equal((await scene.runs(jobId)).length, 2);
  });

  it('puts what was not done first when the next run is due anyway', async () => {
    await stopHalfWay();
    await scene.lookAt('2026-11-27T22:00Z');

    const runs = await scene.runs(jobId);
    assert.deepEqual(told(runs), ['2026-11-20T22:00 schedule', '2026-11-27T22:00 schedule']);
    const parts = await scene.catalogue.parts.listByRun(runs[1]?.id ?? '');
    assert.deepEqual(
      parts.map(({ machineId }) => machineId),
      [...MACHINES].reverse(),
    );
  });

  /** A window in which the first machine never ends and, so told, the second one has no turn. */
  async function cutShort(hasSecondTurn: boolean): Promise<Omit<LogLine, 'atMs'> | null> {
    const run = (await scene.runs(jobId)).at(-1);
    assert.equal(run?.state, 'waiting');
    const parts = await scene.catalogue.parts.listByRun(run.id);
    for (const { id, machineId } of parts) {
      const hasTurn = machineId === MACHINES[0] || hasSecondTurn;
      if (hasTurn) await scene.catalogue.parts.start(id, scene.nowMs - 120 * MINUTE_MS, { isReported: true });
    }
    let told: Omit<LogLine, 'atMs'> | null = null;
    for (const { id } of parts) {
      const part = await scene.catalogue.parts.load(id);
      assert.ok(part);
      const progress = { stage: 'reading', totalBytes: 300, doneBytes: 100, bytesPerSecond: 1, disks: [] } as const;
      if (part.machineId === MACHINES[0]) {
        const ended = { run, part, progress: { ...progress, remainingSeconds: 1, disks: [] }, nowMs: scene.nowMs };
        told = await explainShortage(scene.catalogue, ended as Parameters<typeof explainShortage>[1]);
      }
      const isDone = part.machineId !== MACHINES[0] && hasSecondTurn;
      const error = { code: 'RUN_STOPPED_BY_WINDOW', message: 'x', details: {} } as const;
      const end = isDone ? { state: 'success' as const, error: null } : { state: 'cancelled' as const, error };
      await scene.catalogue.parts.finish(id, { ...end, result: null, atMs: scene.nowMs });
    }
    await scene.catalogue.runs.finish(run.id, { state: 'cancelled', error: null, atMs: scene.nowMs });
    return told;
  }

  it('lets a machine that no window is long enough for keep back no other one, and says so at the third time', async () => {
    await scene.lookAt('2026-11-20T22:00Z');
    await scene.lookAt('2026-11-21T00:30Z');
    assert.equal(await cutShort(false), null);
    await scene.lookAt('2026-11-21T22:00Z');
    const [, second] = await scene.runs(jobId);
    const order = await scene.catalogue.parts.listByRun(second?.id ?? '');
    assert.deepEqual(
      order.map(({ machineId }) => machineId),
      [...MACHINES].reverse(),
    );
    await scene.lookAt('2026-11-22T00:30Z');
    assert.equal(await cutShort(true), null);
    await scene.lookAt('2026-11-22T22:00Z');
    await scene.lookAt('2026-11-23T00:30Z');
    const told = await cutShort(true);
    assert.equal(told?.code, 'SCHEDULE_WINDOW_TOO_SHORT');
    // A third of it took two hours.
    assert.deepEqual(told.details, { machine: 'vm0', times: 3, neededMinutes: 360 });

    // Once it was done, it begins to be counted anew.
    await scene.lookAt('2026-11-23T22:00Z');
    await scene.finish((await scene.runs(jobId)).at(-1)?.id ?? '', 'success');
    await scene.lookAt('2026-11-27T22:00Z');
    await scene.lookAt('2026-11-28T00:30Z');
    assert.equal(await cutShort(true), null);
  });

  it('does not go on with what a person ended', async () => {
    await scene.lookAt('2026-11-20T22:00Z');
    const [run] = await scene.runs(jobId);
    await scene.lookAt('2026-11-21T00:30Z');
    await scene.catalogue.runs.requestCancel(run?.id ?? '', 'request');
    await scene.finish(run?.id ?? '', 'cancelled');
    await scene.lookAt('2026-11-21T22:00Z');
    assert.equal((await scene.runs(jobId)).length, 1);
  });

  it('is not yet the end for a job that follows always', async () => {
    const second = await scene.addJob(2, { timeZone: 'UTC', rules: [], after: { jobId, on: 'always' } });
    await stopHalfWay();
    scene.ending = () => 'success';
    await scene.lookAt('2026-11-21T12:00Z');
    assert.deepEqual(await scene.runs(second), []);
    await scene.lookAt('2026-11-21T22:00Z');
    assert.deepEqual(told(await scene.runs(second)), ['2026-11-21T22:00 link']);
  });
});

describe('machines by rule', () => {
  it('are asked for before the run, and those that joined and left are named', async () => {
    const scene = await Scene.open('2026-11-20T12:00Z');
    const jobId = await scene.addJob(1, DAILY);
    const selection = selectionSchema.parse({ include: [{ name: 'VM*' }], exclude: [{ path: '* 7' }] });
    const job = await scene.catalogue.jobs.load(jobId);
    assert.ok(job !== null);
    await scene.catalogue.transaction((tables) => tables.jobs.change({ ...job, selection }));
    scene.isFresh = false;
    await scene.lookAt('2026-11-20T22:00Z');
    assert.deepEqual(await scene.runs(jobId), []);
    scene.isFresh = true;
    await scene.lookAt('2026-11-20T22:00:05Z');
    const machinesOf = async (run: RunRecord | undefined): Promise<(string | null)[]> =>
      (await scene.catalogue.parts.listByRun(run?.id ?? '')).map(({ machineId }) => machineId);
    assert.deepEqual(await machinesOf((await scene.runs(jobId))[0]), MACHINES);

    // One is gone from its host, two are new, one of which is excluded.
    const [gone, model] = await Promise.all(MACHINES.map((id) => scene.catalogue.machines.load(id)));
    assert.ok(gone !== undefined && gone !== null && model !== undefined && model !== null);
    await scene.catalogue.machines.save({ ...gone, present: false });
    for (const number of [6, 7]) {
      const identity = { ...model.identity, name: `vm${number}`, path: `[ds] ${number}` };
      await scene.catalogue.machines.save({ ...model, id: `00000000000000b${number}`, name: identity.name, identity });
    }
    await scene.lookAt('2026-11-21T22:00Z');
    const [, run] = await scene.runs(jobId);
    assert.deepEqual(await machinesOf(run), [MACHINES[1], '00000000000000b6']);
    const lines = await scene.catalogue.log.list(run?.id ?? '', { afterNumber: 0, limit: 10 });
    assert.deepEqual(
      lines.map(({ level, code, details }) => [level, code, details?.['name']]),
      [
        ['info', 'SELECTION_JOINED', 'vm6'],
        ['warning', 'SELECTION_LEFT', 'vm0'],
      ],
    );
    assert.deepEqual((await scene.catalogue.jobs.load(jobId))?.machineIds, [MACHINES[1], '00000000000000b6']);

    for (const machine of await scene.catalogue.machines.list()) {
      await scene.catalogue.machines.save({ ...machine, name: 'other' });
    }
    await scene.lookAt('2026-11-22T22:00Z');
    const [, , empty] = await scene.runs(jobId);
    assert.equal(empty?.state, 'failed');
    assert.equal(empty?.error?.code, 'SELECTION_EMPTY');
  });
});

describe('a year of three jobs', () => {
  const START_MS = Date.parse('2026-12-31T12:00Z');
  const END_MS = Date.parse('2027-12-31T12:00Z');
  const STEP_MS = 30 * MINUTE_MS;
  const LOOK_EVERY_MS = 180 * MINUTE_MS;
  /** The first one, a week, lies over the change of clocks in Berlin; the others are short, one over a window. */
  const outages = [
    { fromMs: Date.parse('2027-03-24T10:00Z'), untilMs: Date.parse('2027-03-31T10:00Z') },
    { fromMs: Date.parse('2027-06-15T15:00Z'), untilMs: Date.parse('2027-06-15T17:00Z') },
    { fromMs: Date.parse('2027-08-01T00:00Z'), untilMs: Date.parse('2027-08-01T07:00Z') },
  ];
  const isOff = (atMs: number): boolean => outages.some(({ fromMs, untilMs }) => atMs >= fromMs && atMs < untilMs);

  it('gives exactly the runs that a watcher of wall clocks expects', { timeout: 900_000 }, async () => {
    const scene = await Scene.open(new Date(START_MS).toISOString());
    const specs = [
      { rule: { kind: 'daily', time: '02:30' }, timeZone: 'Europe/Berlin', catchUp: true },
      { rule: { kind: 'interval', everyMinutes: 480 }, timeZone: 'America/New_York', catchUp: true },
      { rule: { kind: 'weekly', days: ['sunday'], time: '12:00' }, timeZone: 'Asia/Tokyo', catchUp: false },
    ];
    const jobIds: string[] = [];
    for (const [index, { rule, timeZone, catchUp }] of specs.entries()) {
      jobIds.push(await scene.addJob(index, { timeZone, rules: [{ rule }], catchUp }));
    }
    const isDue = [
      // In the night of 28 March there is no 02:30: at 03:00 instead.
      ({ date, time }: WallTime) => time === (date === '2027-03-28' ? '03:00' : '02:30'),
      ({ time }: WallTime) => ['00:00', '08:00', '16:00'].includes(time),
      ({ date, time }: WallTime) => time === '12:00' && weekdayOf(date) === 0,
    ];
    const clocks = specs.map(({ timeZone }) => wallClock(timeZone));
    const expected: string[][] = [[], [], []];
    const missed = [false, false, false];
    const seen = new Set<string>();

    for (let atMs = START_MS + STEP_MS; atMs <= END_MS; atMs += STEP_MS) {
      let isAnyDue = false;
      for (const [index, clock] of clocks.entries()) {
        const shown = clock(atMs);
        const key = `${index} ${shown.date} ${shown.time}`;
        const due = isDue[index]?.(shown) === true && !seen.has(key);
        seen.add(key);
        isAnyDue ||= due;
        const text = new Date(atMs).toISOString().slice(0, 16);
        if (isOff(atMs)) missed[index] ||= due;
        else if (due) expected[index]?.push(`${text} schedule`);
        else if (missed[index] === true && specs[index]?.catchUp === true) expected[index]?.push(`${text} catch-up`);
        if (!isOff(atMs)) missed[index] = false;
      }
      if (isOff(atMs)) continue;
      const isBack = isOff(atMs - STEP_MS);
      if (isBack) scene.restart();
      // Between times that matter it is enough to look now and then: a run too many is seen then.
      if (!isBack && !isAnyDue && atMs % LOOK_EVERY_MS !== 0) continue;
      scene.nowMs = atMs;
      await scene.scheduler.look();
    }

    for (const [index, jobId] of jobIds.entries()) assert.deepEqual(told(await scene.runs(jobId)), expected[index]);
    assert.deepEqual(
      expected.map((runs) => runs.filter((run) => run.endsWith('catch-up')).length),
      [2, 2, 0],
    );
    assert.equal(expected[0]?.length, 365 - 7 - 1 + 2);
  });

  it(
    'gives the runs of jobs that follow each other in windows, and the versions that stay',
    {
      timeout: 900_000,
    },
    async () => {
      const scene = await Scene.open(new Date(START_MS).toISOString());
      const noRetry = { retry: { times: 0 } };
      // Half past twelve to two, from Monday to Friday.
      const hours = [...Array.from({ length: 5 }, () => `${'0'.repeat(25)}111${'0'.repeat(20)}`), '0'.repeat(48)];
      hours.push('0'.repeat(48));
      const nightly = await scene.addJob(1, {
        timeZone: 'Europe/Berlin',
        rules: [{ rule: { kind: 'daily', time: '02:30' } }],
        ...noRetry,
      });
      const copy = await scene.addJob(2, {
        timeZone: 'America/New_York',
        rules: [],
        after: { jobId: nightly, on: 'success' },
        window: { hours, atClose: 'finish' },
        ...noRetry,
      });
      const last = await scene.addJob(3, {
        timeZone: 'Asia/Tokyo',
        rules: [{ rule: { kind: 'weekly', days: ['sunday'], time: '12:00' } }],
        after: { jobId: copy, on: 'always' },
        ...noRetry,
      });
      const [berlin, newYork, tokyo] = ['Europe/Berlin', 'America/New_York', 'Asia/Tokyo'].map(wallClock) as [
        ReturnType<typeof wallClock>,
        ReturnType<typeof wallClock>,
        ReturnType<typeof wallClock>,
      ];
      // Hosts that fail on the thirteenth, each by its own calendar.
      const isGood = (jobId: string, atMs: number): boolean =>
        !(jobId === nightly ? berlin : newYork)(atMs).date.endsWith('-13');
      scene.ending = (run) => (isGood(run.jobId ?? '', run.createdAtMs) || run.jobId === last ? 'success' : 'failed');
      scene.error = { code: 'HOST_UNREACHABLE', message: 'x', details: {} };
      const isOpen = (atMs: number): boolean => {
        const { date, time } = newYork(atMs);
        const weekday = weekdayOf(date);
        return weekday >= 1 && weekday <= 5 && time >= '12:30' && time < '14:00';
      };

      const retention = retentionSchema.parse({ last: 7, weeks: 5, months: 12, timeZone: 'Europe/Berlin' });
      let points: RetainedPoint[] = [];
      const expected: Record<string, string[]> = { [nightly]: [], [copy]: [], [last]: [] };
      const made: { atMs: number; isComplete: boolean }[] = [];
      const seen = new Set<string>();
      let isNightlyMissed = false;
      let isLastMissed = false;
      /** When the copy could have begun at first; null: it has nothing to follow or no window yet. */
      let waitsSinceMs: number | null = null;
      let couldBeginMs: number | null = null;
      for (let atMs = START_MS + STEP_MS; atMs <= END_MS; atMs += STEP_MS) {
        const text = new Date(atMs).toISOString().slice(0, 16);
        const { date, time } = berlin(atMs);
        const isNew = !seen.has(`${date} ${time}`);
        seen.add(`${date} ${time}`);
        const isNightlyDue = isNew && time === (date === '2027-03-28' ? '03:00' : '02:30');
        const there = tokyo(atMs);
        const isLastDue = there.time === '12:00' && weekdayOf(there.date) === 0;
        if (waitsSinceMs !== null && couldBeginMs === null && isOpen(atMs)) couldBeginMs = atMs;
        if (isOff(atMs)) {
          isNightlyMissed ||= isNightlyDue;
          isLastMissed ||= isLastDue;
          continue;
        }
        if (isNightlyDue || isNightlyMissed) {
          expected[nightly]?.push(`${text} ${isNightlyDue ? 'schedule' : 'catch-up'}`);
          made.push({ atMs, isComplete: isGood(nightly, atMs) });
          if (isGood(nightly, atMs)) {
            waitsSinceMs = atMs;
            couldBeginMs = isOpen(atMs) ? atMs : null;
          }
        }
        const isCopied = waitsSinceMs !== null && isOpen(atMs);
        if (isCopied) {
          expected[copy]?.push(`${text} ${couldBeginMs === atMs ? 'link' : 'catch-up'}`);
          waitsSinceMs = null;
          couldBeginMs = null;
        }
        if (isLastDue || isLastMissed || isCopied) {
          expected[last]?.push(`${text} ${isLastDue ? 'schedule' : isLastMissed ? 'catch-up' : 'link'}`);
        }
        isNightlyMissed = false;
        isLastMissed = false;

        const isBack = isOff(atMs - STEP_MS);
        if (isBack) scene.restart();
        const isEdge = isOpen(atMs) !== isOpen(atMs - STEP_MS);
        if (!isBack && !isEdge && !isNightlyDue && !isLastDue && atMs % (4 * LOOK_EVERY_MS) !== 0) continue;
        scene.nowMs = atMs;
        await scene.scheduler.look();
        const [run] = await scene.catalogue.runs.list({ jobId: nightly, limit: 1 });
        if (run?.createdAtMs !== atMs) continue;
        const state = run.state === 'success' ? 'complete' : 'incomplete';
        points.push({ id: run.id, createdAtMs: atMs, state, lockedUntilMs: null });
        const reasons = judgePoints(points, retention, atMs);
        points = points.filter(({ id }) => (reasons.get(id) ?? []).length > 0);
      }

      for (const jobId of [nightly, copy, last]) assert.deepEqual(told(await scene.runs(jobId)), expected[jobId]);
      assert.equal(expected[copy]?.filter((run) => run.endsWith('catch-up')).length, 1);
      assert.ok((expected[copy]?.length ?? 0) > 200);
      assert.deepEqual(
        points.map(({ createdAtMs }) => createdAtMs).sort((a, b) => a - b),
        keptBy(made, (atMs) => berlin(atMs).date, { last: 7, weeks: 5, months: 12 }),
      );
    },
  );
});

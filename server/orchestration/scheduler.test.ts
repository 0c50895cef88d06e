import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, describe, it } from 'node:test';
import { scheduleSchema } from '../contract/api/schedule.schema.ts';
import { jobOptionsSchema } from '../contract/api/job.schema.ts';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { RunState } from '../contract/run.ts';
import { openCatalogue, type Catalogue, type RunRecord } from '../database/index.ts';
import { createSealer, type TaskQueue } from '../queue/index.ts';
import { silentLogger, type Clock } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import { EventHub } from './event-hub.ts';
import { sealHostSecret } from './host-addresses.ts';
import { RunStarter } from './run-starter.ts';
import { Scheduler } from './scheduler.ts';
import { ScheduleService } from './schedules.ts';

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

describe('a year of three jobs', () => {
  const START_MS = Date.parse('2026-12-31T12:00Z');
  const END_MS = Date.parse('2027-12-31T12:00Z');
  const STEP_MS = 30 * MINUTE_MS;
  const LOOK_EVERY_MS = 180 * MINUTE_MS;
  /** The first one, a week, lies over the change of clocks in Berlin; the second is short. */
  const outages = [
    { fromMs: Date.parse('2027-03-24T10:00Z'), untilMs: Date.parse('2027-03-31T10:00Z') },
    { fromMs: Date.parse('2027-08-01T00:00Z'), untilMs: Date.parse('2027-08-01T07:00Z') },
  ];
  const isOff = (atMs: number): boolean => outages.some(({ fromMs, untilMs }) => atMs >= fromMs && atMs < untilMs);

  it('gives exactly the runs that a watcher of wall clocks expects', { timeout: 300_000 }, async () => {
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
      ({ date, time }: WallTime) => time === '12:00' && new Date(`${date}T00:00Z`).getUTCDay() === 0,
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
});

interface WallTime {
  date: string;
  time: string;
}

function wallClock(timeZone: string): (atMs: number) => WallTime {
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' });
  return (atMs) => {
    const [date = '', time = ''] = format.format(atMs).split(' ');
    return { date, time };
  };
}

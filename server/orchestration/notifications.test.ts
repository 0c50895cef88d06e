import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { execFile } from 'node:child_process';
import { appendFile, mkdtemp, open, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { jobOptionsSchema } from '../contract/api/job.schema.ts';
import { recipientInputSchema } from '../contract/api/notification.schema.ts';
import { scheduleSchema } from '../contract/api/schedule.schema.ts';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { RunState } from '../contract/run.ts';
import { openCatalogue, type Catalogue, type RunRecord } from '../database/index.ts';
import { Sqlite } from '../database/sqlite.ts';
import type { AppError } from '../errors/index.ts';
import { createSealer, type TaskQueue } from '../queue/index.ts';
import { randomHex, silentLogger, type Clock } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import { EventHub } from './event-hub.ts';
import { sealHostSecret } from './host-addresses.ts';
import { Notifications } from './notifications.ts';
import { worstState } from './run-end.ts';
import { RunStarter } from './run-starter.ts';
import { Scheduler } from './scheduler.ts';
import { ScheduleService } from './schedules.ts';

const HOUR_MS = 3600_000;
const HOST_ID = '00000000000000aa';
const MACHINE_ID = '00000000000000b1';
const REPOSITORY_ID = '00000000000000cc';
const DAILY = { timeZone: 'UTC', rules: [{ rule: { kind: 'daily', time: '22:00' } }], retry: { times: 0 } };
const BROKEN: ErrorBody = { code: 'HOST_UNREACHABLE', message: 'No answer.', hint: 'Look at it.', details: {} };

const run = promisify(execFile);
const folder = await mkdtemp(join(tmpdir(), 'dozo-notifications-'));
after(() => rm(folder, { recursive: true, force: true }));

/** A catalogue with jobs and a clock moved by hand; the NAS is what hears. */
class Scene {
  nowMs: number;
  readonly catalogue: Catalogue;
  readonly context: OrchestrationContext;
  readonly heard: string[] = [];
  takes: boolean = true;
  ending: (run: RunRecord) => RunState | null = () => 'success';
  /** Where machines of a run end unlike each other. */
  endingOf: ((machineId: string | null) => RunState) | null = null;
  notifications: Notifications;
  readonly #scheduler: Scheduler;

  private constructor(catalogue: Catalogue, start: string) {
    this.nowMs = Date.parse(start);
    this.catalogue = catalogue;
    const clock: Clock = {
      nowMs: () => this.nowMs,
      monotonicMs: () => this.nowMs,
      sleep: () => Promise.reject(new Error('looked through by hand here')),
    };
    this.context = {
      catalogue,
      queue: null as unknown as TaskQueue,
      sealer: createSealer(randomBytes(32)),
      events: new EventHub(),
      clock,
      logger: silentLogger,
    };
    this.notifications = this.restart();
    const services = {
      starter: new RunStarter(this.context),
      keeper: { announce: (runId: string) => this.end(runId), cancel: async () => undefined },
      inventory: { isFresh: async () => true },
    };
    this.#scheduler = new Scheduler(this.context, services);
  }

  static async open(start: string, path = join(folder, `${randomHex(6)}.sqlite`)): Promise<Scene> {
    let scene: Scene | null = null;
    const onTrouble = (trouble: AppError | null): void => scene?.notifications.noteCatalogue(trouble);
    scene = new Scene(await openCatalogue(path, { onTrouble }), start);
    const { catalogue, context } = scene;
    await catalogue.hosts.save({
      ...{ id: HOST_ID, name: 'esx', host: '192.0.2.1', sshPort: 22, httpsPort: 443, user: 'root', auth: 'password' },
      secret: sealHostSecret(context.sealer, HOST_ID, { password: 'x', privateKey: null }),
      ...{ sshHostKey: null, tlsCertificate: null, facts: null, error: null, checkedAtMs: null, createdAtMs: 0 },
    });
    await catalogue.machines.save({
      ...{ id: MACHINE_ID, hostId: HOST_ID, name: 'web', summary: null, present: true, seenAtMs: 0 },
      identity: { name: 'web', instanceUuid: null, biosUuid: null, path: '[ds] web', diskUuids: [] },
    });
    await catalogue.repositories.save({
      ...{ id: REPOSITORY_ID, name: 'store', path: '/volume1/store', formatId: null, chunkSizeBytes: null },
      ...{ stats: { points: 1, packs: 1, chunks: 1, storedBytes: 1000, nominalBytes: 5000 }, error: null },
      ...{ seenAtMs: null, createdAtMs: 0 },
    } as Parameters<typeof catalogue.repositories.save>[0]);
    return scene;
  }

  /** A server that was started anew knows nothing but the catalogue. */
  restart(): Notifications {
    this.notifications = new Notifications(this.context, {
      hostName: 'nas',
      tellNas: async (level, text) => {
        if (this.takes) this.heard.push(`${level}: ${text}`);
        return this.takes;
      },
    });
    return this.notifications;
  }

  async addJob(schedule: object | null, name = 'nightly'): Promise<string> {
    const id = randomHex(8);
    await this.catalogue.transaction((tables) =>
      tables.jobs.add({
        ...{ id, name, machineIds: [MACHINE_ID], repositoryId: REPOSITORY_ID, revision: 1 },
        options: jobOptionsSchema.parse({}),
        ...{ createdAtMs: this.nowMs, updatedAtMs: this.nowMs },
      } as Parameters<typeof tables.jobs.add>[0]),
    );
    if (schedule !== null) {
      await new ScheduleService(this.context, { onChange: () => undefined }).set(id, scheduleSchema.parse(schedule));
    }
    return id;
  }

  async addNas(changes: object = {}): Promise<string> {
    const input = recipientInputSchema.parse({ name: randomHex(4), channel: { kind: 'nas' }, ...changes });
    return (await this.notifications.settings.addRecipient(input)).id;
  }

  /** One more machine in a job. */
  async addMachine(jobId: string, name: string): Promise<string> {
    const id = randomHex(8);
    const identity = { name, instanceUuid: null, biosUuid: null, path: `[ds] ${name}`, diskUuids: [] };
    const job = await this.catalogue.jobs.load(jobId);
    assert.ok(job !== null);
    await this.catalogue.machines.save({
      ...{ id, hostId: HOST_ID, name, identity, summary: null, present: true, seenAtMs: 0 },
    });
    const machineIds = [...job.machineIds, id];
    await this.catalogue.transaction((tables) => tables.jobs.change({ ...job, machineIds }));
    return id;
  }

  async run(jobId: string, state: RunState, machineIds?: string[]): Promise<string> {
    this.ending = () => state;
    const runId = await new RunStarter(this.context).startJob(jobId, machineIds === undefined ? {} : { machineIds });
    await this.end(runId);
    return runId;
  }

  async lookAt(time: string | number): Promise<void> {
    this.nowMs = typeof time === 'number' ? time : Date.parse(time);
    await this.#scheduler.look();
    await this.notifications.look();
  }

  /** Looks every so often until then. */
  async passUntil(time: string, stepMs = HOUR_MS): Promise<void> {
    const endMs = Date.parse(time);
    while (this.nowMs < endMs) await this.lookAt(Math.min(this.nowMs + stepMs, endMs));
  }

  /** What was heard since the last question. */
  news(): string[] {
    return this.heard.splice(0);
  }

  async end(runId: string): Promise<void> {
    const run = await this.catalogue.runs.load(runId);
    const state = run === null ? null : this.ending(run);
    if (state === null) return;
    const errorOf = (end: RunState): ErrorBody | null => (end === 'failed' ? BROKEN : null);
    const states: RunState[] = [];
    for (const part of await this.catalogue.parts.listByRun(runId)) {
      const own = this.endingOf?.(part.machineId) ?? state;
      states.push(own);
      await this.catalogue.parts.finish(part.id, { state: own, result: null, error: errorOf(own), atMs: this.nowMs });
    }
    const worst = worstState(states);
    await this.catalogue.runs.finish(runId, { state: worst, error: errorOf(worst), atMs: this.nowMs });
  }
}

/** As another program fills the volume, to the last byte. */
async function fillUp(file: string): Promise<void> {
  try {
    for (;;) await appendFile(file, Buffer.alloc(4096, 1));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
  }
}

/** As a disk does that gives other bytes of one page. */
async function spoilTable(path: string, table: string): Promise<void> {
  const database = await Sqlite.open(path);
  await database.script('PRAGMA wal_checkpoint(TRUNCATE)');
  const row = await database.get('SELECT rootpage FROM sqlite_schema WHERE name = ?', [table]);
  const pageBytes = Number((await database.get('PRAGMA page_size'))?.['page_size']);
  await database.close();
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(pageBytes, 0xa5), 0, pageBytes, (Number(row?.['rootpage']) - 1) * pageBytes);
  await file.close();
}

async function eventually(look: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + 180_000;
  while (!look()) {
    assert.ok(performance.now() < deadlineMs, `waited in vain for ${what}`);
    await delay(10);
  }
}

describe('notifications', { timeout: 900_000 }, () => {
  let scene: Scene;
  beforeEach(async () => {
    scene = await Scene.open('2026-11-20T12:00Z');
  });
  afterEach(() => scene.catalogue.close());

  it('tell each recipient what they want to hear of, once, across restarts', async () => {
    const jobId = await scene.addJob(null);
    const other = await scene.addJob(null, 'other');
    await scene.addNas({ results: ['failure'] });
    await scene.addNas({ results: ['success', 'recovered'], language: 'de', jobIds: [jobId] });
    await scene.addNas({ results: ['success', 'warning', 'failure'], enabled: false });
    for (const state of ['failed', 'success', 'success', 'warning'] as const) {
      await scene.run(jobId, state);
      await scene.lookAt(scene.nowMs + 60_000);
      scene.restart();
      await scene.lookAt(scene.nowMs + 60_000);
    }
    await scene.run(other, 'success');
    await scene.lookAt(scene.nowMs + 60_000);

    assert.deepEqual(scene.news(), [
      'error: Backup “nightly” failed: No answer.',
      'info: Sicherung „nightly“ funktioniert wieder: Die Ausführung davor war fehlgeschlagen.',
      'info: Sicherung „nightly“ erfolgreich',
    ]);
  });

  it('say at the first failure that it is tried again, are silent in between, and say when it is over', async () => {
    await scene.addNas();
    await scene.addJob({ ...DAILY, retry: { times: 3, pauseMinutes: 10 } });
    scene.ending = () => 'failed';
    await scene.passUntil('2026-11-21T12:00Z', 5 * 60_000);
    assert.deepEqual(scene.news(), [
      'error: Backup “nightly” failed: No answer.',
      'error: Backup “nightly” failed: No answer.',
    ]);
    const { deliveries } = await scene.notifications.listDeliveries({ limit: 50 });
    const retries = (await Promise.all(deliveries.map(({ id }) => scene.catalogue.outbox.load(id)))).map(
      (delivery) => (delivery?.notice as { retryAtMs: number | null }).retryAtMs,
    );
    assert.deepEqual(retries, [null, Date.parse('2026-11-20T22:10Z')]);

    scene.ending = () => 'success';
    await scene.passUntil('2026-11-21T23:00Z');
    assert.deepEqual(scene.news(), ['info: Backup “nightly” works again: The last run before this one had failed.']);
  });

  it('say that it works again when all of it does, not when somebody runs the part that always did', async () => {
    await scene.addNas({ results: ['failure', 'recovered', 'missed'] });
    await scene.notifications.settings.change({ overdueDays: 3 });
    const jobId = await scene.addJob(DAILY);
    const second = await scene.addMachine(jobId, 'mail');
    scene.endingOf = (machineId) => (machineId === second ? 'failed' : 'success');
    await scene.passUntil('2026-11-20T23:00Z');
    assert.deepEqual(scene.news(), ['error: Backup “nightly” failed: No answer.']);

    for (let day = 21; day < 25; day += 1) {
      await scene.run(jobId, 'success', [MACHINE_ID]);
      await scene.passUntil(`2026-11-${day}T23:00Z`);
    }
    const told = scene.news();
    assert.equal(told.filter((line) => line.includes('works again')).length, 0, told.join('\n'));
    assert.equal(told.filter((line) => line.includes('No successful backup “nightly” for 3 days')).length, 1);

    scene.endingOf = () => 'success';
    await scene.run(jobId, 'success', [second]);
    await scene.passUntil('2026-11-26T23:00Z');
    assert.deepEqual(scene.news(), ['info: Backup “nightly” works again: The last run before this one had failed.']);
  });

  it('do not repeat the same failure of a task that runs every quarter of an hour', async () => {
    await scene.addNas();
    await scene.addJob({ ...DAILY, rules: [{ rule: { kind: 'interval', everyMinutes: 15 } }] });
    scene.ending = () => 'failed';
    await scene.passUntil('2026-11-20T18:30Z', 5 * 60_000);
    assert.equal(scene.news().length, 2, 'at 12:15 and six hours later');
  });

  it('tell of a run that a person cancelled to nobody, and of one that the window ended', async () => {
    await scene.addNas();
    const jobId = await scene.addJob(DAILY);
    await scene.run(jobId, 'cancelled');
    await scene.lookAt('2026-11-20T13:00Z');
    assert.deepEqual(scene.news(), []);
    scene.ending = () => 'cancelled';
    await scene.lookAt('2026-11-20T22:00Z');
    await scene.lookAt('2026-11-20T22:02Z');
    assert.deepEqual(scene.news(), ['warning: Backup “nightly” was cancelled']);
  });

  it('speak up by themselves about what was missed, once, and about the run that makes up for it', async () => {
    await scene.addNas({ results: ['missed', 'success'] });
    await scene.addJob(DAILY);
    await scene.addJob({ ...DAILY, catchUp: false }, 'weak');
    await scene.lookAt('2026-11-20T12:00Z');
    // A week without power.
    for (const time of ['2026-11-27T23:30Z', '2026-11-27T23:31Z', '2026-11-28T00:30Z']) await scene.lookAt(time);

    const news = scene.news().sort();
    assert.equal(news.length, 3, news.join('\n'));
    assert.match(
      news[1] ?? '',
      /^warning: Backup “nightly” did not begin in time: .*27 Nov 2026, 22:00.* One run has been started/,
    );
    assert.match(news[2] ?? '', /^warning: Backup “weak” did not begin in time: .*not caught up/);
    assert.match(news[0] ?? '', /^info: Backup “nightly” succeeded/);
  });

  it('speak up when a task has not succeeded for days, again a week later, and stop when it has', async () => {
    await scene.addNas({ results: ['missed'] });
    await scene.notifications.settings.change({ overdueDays: 3 });
    await scene.addJob(DAILY);
    scene.ending = () => 'failed';
    await scene.passUntil('2026-11-23T21:00Z');
    assert.deepEqual(scene.news(), []);
    await scene.passUntil('2026-11-25T12:00Z');
    const [first = '', ...more] = scene.news();
    assert.match(first, /^error: No successful backup “nightly” for 3 days/);
    assert.deepEqual(more, []);
    await scene.passUntil('2026-12-01T12:00Z');
    assert.equal(scene.news().length, 1);

    scene.ending = () => 'success';
    await scene.passUntil('2026-12-12T12:00Z');
    assert.deepEqual(scene.news(), []);
  });

  it('speak up about a run that does not come to an end', async () => {
    await scene.addNas({ results: ['missed'] });
    await scene.notifications.settings.change({ overdueDays: 3 });
    await scene.addJob(DAILY);
    scene.ending = () => null;
    await scene.passUntil('2026-11-23T21:00Z');
    assert.deepEqual(scene.news(), []);
    await scene.passUntil('2026-11-25T12:00Z');
    const [first = '', ...more] = scene.news();
    assert.match(first, /^error: No successful backup “nightly” for 3 days/);
    assert.deepEqual(more, []);
    await scene.passUntil('2026-12-01T12:00Z');
    assert.equal(scene.news().length, 1);
  });

  it('leave tasks alone that nobody expects to succeed: weekly, switched off, without a schedule', async () => {
    await scene.addNas({ results: ['missed'] });
    await scene.addJob({ ...DAILY, rules: [{ rule: { kind: 'weekly', days: ['monday'], time: '22:00' } }] });
    await scene.addJob({ ...DAILY, enabled: false }, 'off');
    await scene.addJob(null, 'by hand');
    await scene.passUntil('2026-12-20T12:00Z', 2 * HOUR_MS);
    assert.deepEqual(scene.news(), []);
  });

  it('sum up at eight in the morning where the reader is, also over a change of clocks and after a pause', async () => {
    await scene.addNas({ results: [], digest: 'daily', timeZone: 'Europe/Berlin' });
    const jobId = await scene.addJob(DAILY);
    await scene.lookAt('2027-03-26T12:00Z');
    scene.news();
    await scene.passUntil('2027-03-28T12:00Z', HOUR_MS / 2);
    const digests = (await scene.notifications.listDeliveries({ limit: 50 })).deliveries;
    assert.deepEqual(
      digests.map(({ createdAtMs }) => new Date(createdAtMs).toISOString()),
      ['2027-03-28T06:00:00.000Z', '2027-03-27T07:00:00.000Z'],
    );
    await scene.run(jobId, 'failed');
    scene.news();
    // Three days without power: one digest for all of them.
    await scene.lookAt('2027-03-31T12:00Z');
    await scene.lookAt('2027-03-31T12:05Z');
    const [news = '', ...more] = scene.news();
    assert.match(news, /^error: The last day: 1 run failed/);
    assert.deepEqual(more, []);
  });

  it('try again with longer and longer pauses, give up after three days, and send again on request', async () => {
    await scene.addNas({ results: ['success'] });
    const jobId = await scene.addJob(null);
    const server = createServer((_request, response) => void response.writeHead(500).end()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    try {
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
      await scene.addNas({ results: ['success'], channel: { kind: 'webhook', format: 'json', url } });
      await scene.run(jobId, 'success');
      const attemptsAt: number[] = [];
      const startMs = scene.nowMs;
      const load = async (): Promise<{ attempts: number; state: string; id: string }> => {
        const { deliveries } = await scene.notifications.listDeliveries({ limit: 50 });
        return deliveries.find(({ recipientName, state }) => recipientName !== '' && state !== 'sent') as never;
      };
      let before = 0;
      for (let minute = 0; minute < 3 * 24 * 60 + 120; minute += minute < 180 ? 1 : 20) {
        await scene.lookAt(startMs + minute * 60_000);
        const { attempts } = await load();
        if (attempts > before) attemptsAt.push(minute);
        before = attempts;
      }
      assert.deepEqual(attemptsAt.slice(0, 8), [0, 1, 3, 8, 18, 38, 78, 138]);
      const given = await load();
      assert.equal(given.state, 'failed');
      assert.ok(given.attempts < 90, `${given.attempts}`);
      assert.deepEqual((await scene.notifications.listDeliveries({ limit: 1 })).troubled, { waiting: 0, failed: 1 });
      assert.equal(scene.news().length, 1, 'the other one heard at once');

      server.removeAllListeners('request');
      server.on('request', (_request, response) => response.end());
      await scene.notifications.retryDelivery(given.id);
      await scene.lookAt(scene.nowMs + 1000);
      const sent = (await scene.notifications.listDeliveries({ limit: 50, state: 'sent' })).deliveries;
      assert.equal(sent.length, 2);
      await assert.rejects(scene.notifications.retryDelivery(given.id), { code: 'CONFLICT' });
    } finally {
      server.close();
    }
  });

  it('are told to the NAS again when it did not take one, as while it is busy', async () => {
    await scene.addNas({ results: ['failure'] });
    const jobId = await scene.addJob(null);
    scene.takes = false;
    await scene.run(jobId, 'failed');
    await scene.lookAt('2026-11-20T12:01Z');
    scene.takes = true;
    await scene.lookAt('2026-11-20T12:03Z');
    assert.deepEqual(scene.news(), ['error: Backup “nightly” failed: No answer.']);
    await scene.lookAt('2026-11-20T13:03Z');
    assert.deepEqual(scene.news(), []);
  });

  it('speak up about a task that has not succeeded since the clock was far ahead', async () => {
    const jobId = await scene.addJob(DAILY);
    await scene.addNas({ results: ['missed'] });
    await scene.lookAt('2027-12-01T12:00Z');
    await scene.run(jobId, 'success');
    scene.ending = () => 'failed';
    await scene.passUntil('2027-12-02T12:00Z');
    await scene.lookAt('2026-11-20T12:05Z');
    scene.news();
    await scene.passUntil('2026-11-23T12:00Z');
    assert.deepEqual(scene.news(), []);
    await scene.passUntil('2026-11-24T12:00Z');
    assert.match(scene.news().join(), /^error: No successful backup “nightly” for 3 days/);
    await scene.run(jobId, 'success');
    await scene.lookAt('2026-11-24T12:05Z');
    assert.equal(await scene.catalogue.outbox.loadMark(`overdue ${jobId}`), null);
  });

  it('survive a clock that was far ahead', async () => {
    scene.takes = false;
    await scene.addNas({ results: ['success'] });
    const jobId = await scene.addJob(null);
    await scene.lookAt('2031-01-01T00:00Z');
    const server = createServer((_request, response) => void response.writeHead(503).end()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    await scene.addNas({ results: ['success'], channel: { kind: 'webhook', format: 'json', url } });
    await scene.run(jobId, 'success');
    await scene.lookAt('2031-01-01T00:01Z');
    server.removeAllListeners('request');
    server.on('request', (_request, response) => response.end());
    await scene.lookAt('2026-11-21T00:00Z');
    server.close();
    const { deliveries } = await scene.notifications.listDeliveries({ limit: 10, state: 'sent' });
    assert.equal(deliveries.length, 1);
  });
});

describe('a catalogue that fails', { timeout: 900_000 }, () => {
  const skip = process.getuid?.() === 0 ? false : 'mounting takes root';

  it('is told past the outbox when its volume is full, once a day, until it is written again', { skip }, async () => {
    const volume = await mkdtemp(join(tmpdir(), 'dozo-full-catalogue-'));
    await run('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'dozo-full-catalogue', volume]);
    try {
      const scene = await Scene.open('2026-11-20T12:00Z', join(volume, 'catalogue.sqlite'));
      const foreign = join(volume, 'foreign');
      await scene.addNas({ results: ['failure'], language: 'de' });
      await scene.addNas({ results: ['success'] });
      const jobId = await scene.addJob(DAILY);
      await scene.lookAt('2026-11-20T12:01Z');
      await fillUp(foreign);

      // Due, and cannot begin, nor be recorded as failed.
      await scene.lookAt('2026-11-20T22:00Z').catch(() => undefined);
      assert.deepEqual(scene.news(), []);
      await scene.lookAt('2026-11-20T22:04Z').catch(() => undefined);
      assert.deepEqual(scene.news(), []);
      await scene.lookAt('2026-11-20T22:06Z').catch(() => undefined);
      assert.deepEqual(scene.news(), [
        'error: Dozo kann seine Datenbank nicht nutzen: Das Volume des NAS oder sein Kontingent ist voll. Schaffen Sie Platz. Abgeschlossene Versionen sind nicht betroffen.',
      ]);
      await scene.lookAt('2026-11-21T21:00Z').catch(() => undefined);
      assert.deepEqual(scene.news(), []);
      await scene.lookAt('2026-11-21T22:07Z').catch(() => undefined);
      assert.equal(scene.news().length, 1);

      await rm(foreign);
      await scene.lookAt('2026-11-21T22:08Z');
      assert.equal(scene.notifications.catalogueTrouble, null);
      assert.equal((await scene.catalogue.runs.list({ jobId, limit: 10 }))[0]?.state, 'success');
      scene.news();
      await scene.lookAt('2026-11-22T21:00Z');
      assert.deepEqual(scene.news(), []);
      await scene.catalogue.close();
    } finally {
      await run('umount', ['-l', volume]);
      await rm(volume, { recursive: true });
    }
  });

  it('is told to the NAS when not even the recipients can be read, and again until it takes it', async () => {
    const path = join(folder, `${randomHex(6)}.sqlite`);
    const first = await Scene.open('2026-11-20T12:00Z', path);
    await first.addNas({ results: ['success'], language: 'ja' });
    const jobId = await first.addJob(null);
    await first.catalogue.close();
    await spoilTable(path, 'recipients');

    const scene = await Scene.open('2026-11-20T12:00Z', path);
    scene.takes = false;
    // Its end is to be told to the recipients, who cannot be read.
    await scene.run(jobId, 'failed');
    for (const time of ['12:01', '12:07']) await scene.lookAt(`2026-11-20T${time}Z`).catch(() => undefined);
    assert.equal(scene.notifications.catalogueTrouble?.code, 'CATALOGUE_DAMAGED');
    scene.takes = true;
    await scene.lookAt('2026-11-20T12:10Z').catch(() => undefined);
    assert.deepEqual(scene.news(), []);
    await scene.lookAt('2026-11-20T12:18Z').catch(() => undefined);
    assert.match(scene.news().join(), /^error: Dozo cannot use its database: The catalogue is damaged: /);
    // Whatever else can be written: it stays damaged.
    await scene.run(jobId, 'success');
    assert.equal(scene.notifications.catalogueTrouble?.code, 'CATALOGUE_DAMAGED');
    await scene.catalogue.close();
  });
});

describe('webhooks', { timeout: 900_000 }, () => {
  let scene: Scene;
  let server: Server;
  let seen: { url: string; headers: IncomingHttpHeaders; body: string }[];
  let answer: { status: number; headers: Record<string, string> };
  beforeEach(async () => {
    scene = await Scene.open('2026-11-20T12:00Z');
    seen = [];
    answer = { status: 200, headers: {} };
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (piece: Buffer) => (body += piece.toString()));
      request.on('end', () => {
        seen.push({ url: request.url ?? '', headers: request.headers, body });
        response.writeHead(answer.status, answer.headers).end('x'.repeat(100_000));
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await scene.catalogue.close();
  });
  const origin = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const add = (format: string, path: string, secret: string | null = null): Promise<string> =>
    scene.addNas({ results: ['failure'], channel: { kind: 'webhook', format, url: `${origin()}${path}`, secret } });

  it('are signed with the time, and the same at every try but for it', async () => {
    await add('json', '/in?a=1', 'key');
    const runId = await scene.run(await scene.addJob(null), 'failed');
    answer.status = 503;
    await scene.lookAt(scene.nowMs + 1_000);
    answer.status = 204;
    await scene.lookAt(scene.nowMs + 120_000);

    const [first, second] = seen;
    assert.equal(seen.length, 2);
    assert.equal(first?.url, '/in?a=1');
    for (const { headers, body } of seen) {
      const expected = createHmac('sha256', 'key')
        .update(`${String(headers['x-dozo-timestamp'])}.${body}`)
        .digest('hex');
      assert.equal(headers['x-dozo-signature'], `v1=${expected}`);
    }
    assert.equal(Number(second?.headers['x-dozo-timestamp']), Math.floor(scene.nowMs / 1000));
    assert.equal(first?.headers['x-dozo-delivery'], second?.headers['x-dozo-delivery']);
    const content = JSON.parse(second?.body ?? '') as {
      id: string;
      notice: { runId: string; machines: { error: ErrorBody }[] };
    };
    assert.equal(content.id, second?.headers['x-dozo-delivery']);
    assert.equal(content.notice.runId, runId);
    assert.equal(content.notice.machines[0]?.error.code, 'HOST_UNREACHABLE');
  });

  it('have the forms of Slack, Teams and ntfy, with names as text', async () => {
    await add('slack', '/services/T/B/X');
    await add('teams', '/workflows/abc');
    await add('ntfy', '/my%20topic', 'tk_secret');
    const jobId = await scene.addJob(null, '<!channel> [x](http://example.test) "n"');
    await scene.run(jobId, 'failed');
    await scene.lookAt(scene.nowMs + 1_000);

    const by = (path: string): { headers: IncomingHttpHeaders; body: string } => {
      const found = seen.find(({ url }) => url === path);
      assert.ok(found !== undefined, `${path} among ${seen.map(({ url }) => url).join()}`);
      return found;
    };
    const slack = JSON.parse(by('/services/T/B/X').body) as { text: string };
    assert.match(slack.text, /“&lt;!channel&gt; \[x\]/);
    assert.doesNotMatch(by('/services/T/B/X').body, /<!channel>/);
    const teams = JSON.parse(by('/workflows/abc').body) as {
      type: string;
      attachments: { content: { body: { text: string }[] } }[];
    };
    assert.equal(teams.type, 'message');
    assert.match(teams.attachments[0]?.content.body[0]?.text ?? '', /\\\[x\\\]\\\(http/);
    const ntfy = JSON.parse(by('/').body) as { topic: string; title: string; priority: number };
    assert.deepEqual([ntfy.topic, ntfy.priority], ['my topic', 4]);
    assert.equal(by('/').headers.authorization, 'Bearer tk_secret');
    assert.equal(by('/workflows/abc').headers['x-dozo-signature'], undefined);
  });

  it('never follow a redirect, and tell a refusal from a server in trouble', async () => {
    const id = await add('json', '/in', 'key');
    answer = { status: 307, headers: { location: `${origin()}/elsewhere` } };
    const redirected = await scene.notifications.test(id);
    assert.equal(redirected.results[0]?.error?.code, 'NOTIFICATION_REFUSED');
    assert.match(redirected.results[0]?.error?.message ?? '', /redirect/);
    assert.deepEqual(
      seen.map(({ url }) => url),
      ['/in'],
    );
    for (const [status, code] of [
      [404, 'NOTIFICATION_REFUSED'],
      [401, 'NOTIFICATION_LOGIN_REFUSED'],
      [429, 'NOTIFICATION_DEFERRED'],
      [502, 'NOTIFICATION_DEFERRED'],
    ] as const) {
      answer = { status, headers: {} };
      assert.equal((await scene.notifications.test(id)).results[0]?.error?.code, code);
    }
    server.closeAllConnections();
    server.close();
    assert.equal((await scene.notifications.test(id)).results[0]?.error?.code, 'NOTIFICATION_UNREACHABLE');
  });

  it('hold up nobody else while their server hangs, and are not sent twice by it', async () => {
    const held: (() => void)[] = [];
    server.removeAllListeners('request');
    server.on('request', (request, response) => {
      request.resume();
      seen.push({ url: request.url ?? '', headers: request.headers, body: '' });
      held.push(() => response.end());
    });
    await add('json', '/hangs');
    await scene.addNas({ results: ['failure'] });
    const jobId = await scene.addJob(null);
    await scene.run(jobId, 'failed');
    const [first, second] = [scene.notifications.look(), scene.notifications.look()];
    await eventually(() => held.length === 1 && scene.heard.length === 1, 'the first to hang and be heard');
    await scene.run(jobId, 'failed');
    const third = scene.notifications.look();
    await eventually(() => scene.heard.length === 2, 'the NAS to hear of the second run');
    assert.equal(held.length, 1, 'one delivery at a time on each way');

    for (const release of held.splice(0)) release();
    await Promise.all([first, second, third]);
    const last = scene.notifications.look();
    await eventually(() => held.length === 1, 'the second message');
    for (const release of held) release();
    await last;
    assert.equal(new Set(seen.map(({ headers }) => headers['x-dozo-delivery'])).size, 2);
    assert.equal(seen.length, 2);
    assert.equal(scene.heard.length, 2);
  });

  it('keep address and key to themselves: sealed, never answered, and not given to another address', async () => {
    const id = await add('json', '/secret-path', 'secret-key');
    const shown = JSON.stringify([
      await scene.notifications.settings.listRecipients(),
      await scene.catalogue.recipients.list(),
    ]);
    assert.doesNotMatch(shown, /secret-path|secret-key/);
    const change = (channel: object): Promise<unknown> =>
      scene.notifications.settings.changeRecipient(id, recipientInputSchema.parse({ name: 'n', channel }));
    await change({ kind: 'webhook', format: 'json' });
    await scene.notifications.test(id);
    assert.equal(seen.at(-1)?.url, '/secret-path');
    assert.match(String(seen.at(-1)?.headers['x-dozo-signature']), /^v1=/);
    await change({ kind: 'webhook', format: 'json', url: `${origin()}/thief` });
    await scene.notifications.test(id);
    assert.equal(seen.at(-1)?.url, '/thief');
    assert.equal(seen.at(-1)?.headers['x-dozo-signature'], undefined);
    await change({ kind: 'nas' });
    await assert.rejects(change({ kind: 'webhook', format: 'json' }), { code: 'INPUT_INVALID' });
  });
});

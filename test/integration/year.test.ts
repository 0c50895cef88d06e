import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { retentionSchema } from '../../server/contract/api/retention.schema.ts';
import { scheduleSchema } from '../../server/contract/api/schedule.schema.ts';
import type { RunRecord } from '../../server/database/index.ts';
import { keptBy, wallClock, weekdayOf, type KeptCounts, type MadeVersion } from './rules-said-again.ts';
import { YearScene } from './year-scene.ts';

const START_MS = Date.parse('2026-12-31T12:00Z');
const END_MS = Date.parse('2027-12-31T12:00Z');
const STEP_MS = 30 * 60_000;
const HOUR_MS = 3_600_000;

/**
 * The first one, a week, lies over the change of clocks in Berlin and over the end of a month; the second one over the
 * opening of a window; the third one comes while a machine is being backed up.
 */
const OUTAGES = [
  { from: '2027-03-24T10:00Z', until: '2027-03-31T16:00Z' },
  { from: '2027-06-19T15:00Z', until: '2027-06-19T17:00Z' },
  { from: '2027-10-05T01:00Z', until: '2027-10-05T06:00Z' },
].map(({ from, until }) => ({ fromMs: Date.parse(from), untilMs: Date.parse(until) }));
const CUT_AT_WORK_MS = Date.parse('2027-10-05T00:30Z');
/** Redis forgets everything: with nothing at work, with a machine at work, with another one that waits for its turn. */
const FLUSHED_IDLE_MS = Date.parse('2027-02-10T12:00Z');
const FLUSHED_AT_WORK_MS = Date.parse('2027-05-20T00:30Z');
const FLUSHED_WAITING_MS = Date.parse('2027-08-07T16:30Z');

const NIGHTLY_KEEPS: KeptCounts = { last: 7, weeks: 5, months: 12 };
const WEEKEND_KEEPS: KeptCounts = { last: 5, weeks: 0, months: 0 };

function isOff(atMs: number): boolean {
  return OUTAGES.some(({ fromMs, untilMs }) => atMs >= fromMs && atMs < untilMs);
}

function told(runs: readonly RunRecord[]): string[] {
  return runs.map((run) => `${new Date(run.createdAtMs).toISOString().slice(0, 16)} ${run.startedBy} ${run.state}`);
}

const berlin = wallClock('Europe/Berlin');
const newYork = wallClock('America/New_York');
const tokyo = wallClock('Asia/Tokyo');

/** Half past twelve to two on Saturdays, in New York. */
function isWindowOpen(atMs: number): boolean {
  const { date, time } = newYork(atMs);
  return weekdayOf(date) === 6 && time >= '12:30' && time < '14:00';
}

/** On the thirteenth a disk of the nightly machine cannot be read; in even months an hour later neither. */
function isNightlyGood(atMs: number): boolean {
  const { date, time } = berlin(atMs);
  return !date.endsWith('-13') || (time >= '03:30' && Number(date.slice(5, 7)) % 2 === 1);
}

/** What the rules say, by walking from half hour to half hour with clocks on the wall. */
class Watcher {
  readonly runs = { nightly: [] as string[], weekend: [] as string[], monthly: [] as string[] };
  readonly made = { nightly: [] as MadeVersion[], weekend: [] as MadeVersion[], monthly: [] as MadeVersion[] };
  nightlyShown: number[] = [];
  readonly #seen = new Set<string>();
  #isNightlyMissed = false;
  #retryAtMs: number | null = null;
  /** Whether a good nightly run waits to be followed, and since when it could have been. */
  #isFollowing = false;
  #couldFollowMs: number | null = null;

  /** @returns whether something begins */
  step(atMs: number): boolean {
    const text = new Date(atMs).toISOString().slice(0, 16);
    const { date, time } = berlin(atMs);
    const isNew = !this.#seen.has(`${date} ${time}`);
    this.#seen.add(`${date} ${time}`);
    // In the night of 28 March there is no 02:30: at 03:00 instead.
    const isNightlyDue = isNew && time === (date === '2027-03-28' ? '03:00' : '02:30');
    if (this.#isFollowing && isWindowOpen(atMs)) this.#couldFollowMs ??= atMs;
    if (isOff(atMs)) {
      this.#isNightlyMissed ||= isNightlyDue;
      return false;
    }
    let begins = false;
    if (isNightlyDue || this.#isNightlyMissed || this.#retryAtMs === atMs) {
      begins = true;
      const why = isNightlyDue ? 'schedule' : this.#isNightlyMissed ? 'catch-up' : 'retry';
      const isGood = isNightlyGood(atMs);
      this.runs.nightly.push(`${text} ${why} ${isGood ? 'success' : 'incomplete'}`);
      this.#retryAtMs = isGood || why === 'retry' ? null : atMs + HOUR_MS;
      this.#isNightlyMissed = false;
      // One that the outage cuts off is taken up again when the NAS is back.
      const outage = atMs === CUT_AT_WORK_MS ? OUTAGES[2] : undefined;
      const endedMs = outage?.untilMs ?? atMs;
      this.made.nightly.push({ atMs: endedMs, isComplete: isGood });
      this.nightlyShown = isGood
        ? keptBy(this.made.nightly, (ms) => berlin(ms).date, NIGHTLY_KEEPS)
        : [...this.nightlyShown, endedMs];
      if (isGood) {
        this.#isFollowing = true;
        this.#couldFollowMs = isWindowOpen(endedMs) ? endedMs : null;
      }
    }
    if (this.#isFollowing && isWindowOpen(atMs)) {
      begins = true;
      this.runs.weekend.push(`${text} ${this.#couldFollowMs === atMs ? 'link' : 'catch-up'} success`);
      this.made.weekend.push({ atMs, isComplete: true });
      this.#isFollowing = false;
    }
    const there = tokyo(atMs);
    // What is missed of this one is left out.
    if (there.time === '23:30' && tokyo(atMs + HOUR_MS).date.endsWith('-01')) {
      begins = true;
      this.runs.monthly.push(`${text} schedule success`);
      this.made.monthly.push({ atMs, isComplete: true });
    }
    return begins;
  }
}

describe('a year of three tasks, with everything but hosts and repositories', { timeout: 900_000 }, () => {
  let scene: YearScene;
  before(async () => {
    scene = await YearScene.open(START_MS);
  });
  after(() => scene.destroy());

  it('gives exactly the runs and versions that the rules say, whatever fails, is off, or is forgotten', async () => {
    const closed = '0'.repeat(48);
    const saturday = `${'0'.repeat(25)}111${'0'.repeat(20)}`;
    const nightly = await scene.addJob({
      name: 'nightly',
      machines: 1,
      schedule: scheduleSchema.parse({
        timeZone: 'Europe/Berlin',
        rules: [{ rule: { kind: 'daily', time: '02:30' } }],
        retry: { times: 1, pauseMinutes: 60 },
      }),
      retention: retentionSchema.parse({ ...NIGHTLY_KEEPS, timeZone: 'Europe/Berlin' }),
    });
    const weekend = await scene.addJob({
      name: 'weekend',
      machines: 2,
      schedule: scheduleSchema.parse({
        timeZone: 'America/New_York',
        rules: [],
        after: { jobId: nightly.jobId, on: 'success' },
        window: { hours: [closed, closed, closed, closed, closed, saturday, closed], atClose: 'finish' },
      }),
      retention: retentionSchema.parse({ last: WEEKEND_KEEPS.last }),
    });
    const monthly = await scene.addJob({
      name: 'monthly',
      machines: 1,
      schedule: scheduleSchema.parse({
        timeZone: 'Asia/Tokyo',
        rules: [{ rule: { kind: 'monthly', on: { kind: 'last-day' }, time: '23:30' } }],
        catchUp: false,
      }),
      retention: null,
    });
    const [nightlyMachine = ''] = nightly.machineIds;
    scene.isGood = (machineId, atMs) => machineId !== nightlyMachine || isNightlyGood(atMs);
    const watcher = new Watcher();

    /** Waits for what is to become, so that the catalogue is compared at every step of the year. */
    const compare = async (): Promise<void> => {
      await scene.until(() => scene.isIdle(), 'all runs to end');
      const weekendShown = keptBy(watcher.made.weekend, (ms) => newYork(ms).date, WEEKEND_KEEPS);
      const expected: [string, number[]][] = [
        [nightlyMachine, watcher.nightlyShown],
        ...weekend.machineIds.map((id): [string, number[]] => [id, weekendShown]),
        ...monthly.machineIds.map((id): [string, number[]] => [id, watcher.made.monthly.map(({ atMs }) => atMs)]),
      ];
      for (const [machineId, times] of expected) {
        await scene.until(
          async () => JSON.stringify(await scene.shown(machineId)) === JSON.stringify(times),
          `the versions of ${machineId}`,
        );
      }
    };
    /** A machine is at work, and the queue sees the parts of runs like this. */
    const untilSeen = (...sights: string[]): Promise<void> =>
      scene.until(
        async () => scene.machinesAtWork === 1 && JSON.stringify(await scene.sights()) === JSON.stringify(sights),
        sights.join(', '),
      );

    for (let atMs = START_MS + STEP_MS; atMs <= END_MS; atMs += STEP_MS) {
      const begins = watcher.step(atMs);
      if (isOff(atMs)) {
        if (!isOff(atMs - STEP_MS)) await scene.powerOff();
        continue;
      }
      const isBack = isOff(atMs - STEP_MS);
      // Now and then it is looked when nothing is to begin: a run too many is seen then.
      if (!isBack && !begins && atMs !== FLUSHED_IDLE_MS && atMs % (7 * 24 * HOUR_MS) !== 0) continue;
      if ([CUT_AT_WORK_MS, FLUSHED_AT_WORK_MS, FLUSHED_WAITING_MS].includes(atMs)) scene.closeGate();
      if (isBack) {
        await scene.moveTo(atMs);
        scene.openGate();
        await scene.powerOn();
      }
      await scene.moveTo(atMs);
      if (atMs === FLUSHED_IDLE_MS) await scene.flushRedis();
      if (atMs === FLUSHED_AT_WORK_MS) {
        await untilSeen('active');
        await scene.flushRedis();
        await untilSeen('claimed');
        scene.openGate();
      }
      if (atMs === FLUSHED_WAITING_MS) {
        await untilSeen('active', 'queued');
        await scene.flushRedis();
        const [run] = (await scene.runs(weekend.jobId)).slice(-1);
        await scene.until(
          async () => (await scene.logCodes(run?.id ?? '')).includes('QUEUE_FORGOT_TASK'),
          'the machine that waits to be handed over again',
        );
        scene.openGate();
      }
      if (atMs === CUT_AT_WORK_MS) await untilSeen('active');
      else await compare();
    }

    assert.deepEqual(told(await scene.runs(nightly.jobId)), watcher.runs.nightly);
    assert.deepEqual(told(await scene.runs(weekend.jobId)), watcher.runs.weekend);
    assert.deepEqual(told(await scene.runs(monthly.jobId)), watcher.runs.monthly);
    // The watcher itself has seen what this test is for.
    const count = (runs: readonly string[], why: string): number => runs.filter((run) => run.includes(why)).length;
    assert.deepEqual(
      [watcher.runs.nightly.length, count(watcher.runs.nightly, 'retry'), count(watcher.runs.nightly, 'catch-up')],
      [365 - 7 + 12 + 1, 12, 1],
    );
    assert.deepEqual([count(watcher.runs.weekend, 'link'), count(watcher.runs.weekend, 'catch-up')], [50, 1]);
    assert.equal(watcher.runs.monthly.length, 11);
    const repeated = [...scene.executions].filter(([, times]) => times > 1);
    const [cut] = (await scene.runs(nightly.jobId)).filter(({ createdAtMs }) => createdAtMs === CUT_AT_WORK_MS);
    assert.deepEqual(repeated, [[`${cut?.id} ${nightlyMachine}`, 2]]);
  });
});

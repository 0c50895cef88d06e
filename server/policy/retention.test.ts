import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { retentionSchema, type Retention } from '../contract/api/retention.schema.ts';
import { scheduleSchema } from '../contract/api/schedule.schema.ts';
import { judgePoints, type RetainedPoint } from './retention.ts';
import { simulateRetention } from './retention-simulation.ts';

const HOUR_MS = 3600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW_MS = Date.parse('2026-11-21T12:00Z');

function point(daysAgo: number, state: RetainedPoint['state'] = 'complete'): RetainedPoint {
  return { id: `${daysAgo}`, createdAtMs: NOW_MS - daysAgo * DAY_MS, state, lockedUntilMs: null };
}

function kept(points: readonly RetainedPoint[], rules: object, nowMs = NOW_MS): string[] {
  const reasons = judgePoints(points, retentionSchema.parse(rules), nowMs);
  return points.filter(({ id }) => (reasons.get(id) ?? []).length > 0).map(({ id }) => id);
}

describe('which versions stay', () => {
  it('keeps all without a rule', () => {
    const points = [point(0), point(400, 'incomplete'), point(4000)];

    assert.deepEqual(kept(points, {}), ['0', '400', '4000']);
  });

  it('counts complete versions only, so ten failures cost nothing good', () => {
    const failures = Array.from({ length: 10 }, (_, day) => point(day, 'incomplete'));
    const points = [...failures, point(10), point(11, 'damaged'), point(12), point(13)];

    assert.deepEqual(kept(points, { last: 2 }), [...failures.map(({ id }) => id), '10', '11', '12']);
    assert.deepEqual(kept(points, { last: 1 }), [...failures.map(({ id }) => id), '10']);
  });

  it('never lets the last complete version go', () => {
    assert.deepEqual(kept([point(900), point(901)], { withinDays: 7 }), ['900']);
  });

  it('keeps what is locked, until it is not', () => {
    const locked = { ...point(50), lockedUntilMs: NOW_MS + 1 };

    assert.deepEqual(kept([point(0), locked], { last: 1 }), ['0', '50']);
    assert.deepEqual(kept([point(0), locked], { last: 1 }, NOW_MS + 1), ['0']);
  });

  it('does not let versions made under a wrong clock displace all others', () => {
    const future = [point(-30_000), point(-30_001)];

    assert.deepEqual(kept([...future, point(0), point(1)], { last: 1 }), ['-30000', '-30001', '0']);
  });

  it('takes days by the clock of its time zone', () => {
    // 23:30 and 00:30 in Tokyo are the same day in UTC.
    const points = ['2026-11-20T14:30Z', '2026-11-20T15:30Z'].map((time) => ({
      ...point(0),
      id: time,
      createdAtMs: Date.parse(time),
    }));

    assert.deepEqual(kept(points, { days: 2 }), ['2026-11-20T15:30Z']);
    assert.deepEqual(
      kept(points, { days: 2, timeZone: 'Asia/Tokyo' }),
      points.map(({ id }) => id),
    );
  });
});

/** The rules said once more, each version on its own, with calendar strings instead of numbers. */
function staysByDefinition(candidate: RetainedPoint, points: readonly RetainedPoint[], rules: Retention): boolean {
  const { last, withinDays, days, weeks, months, years, timeZone } = rules;
  if ([last, withinDays, days, weeks, months, years].every((value) => value === null)) return true;
  if ((candidate.lockedUntilMs ?? 0) > NOW_MS) return true;
  if (withinDays !== null && NOW_MS - candidate.createdAtMs < withinDays * DAY_MS) return true;
  const newer = points.filter((other) => other.state === 'complete' && other.createdAtMs > candidate.createdAtMs);
  if (candidate.state !== 'complete') return newer.length < Math.max(last ?? 0, 1);
  if (newer.length < Math.max(last ?? 0, 1)) return true;
  return (['day', 'week', 'month', 'year'] as const).some((unit) => {
    const count = { day: days, week: weeks, month: months, year: years }[unit] ?? 0;
    const own = periodName(unit, candidate.createdAtMs, timeZone);
    const periods = new Set(newer.map((other) => periodName(unit, other.createdAtMs, timeZone)));
    return !periods.has(own) && periods.size < count;
  });
}

const names = new Map<string, string>();

function periodName(unit: 'day' | 'week' | 'month' | 'year', atMs: number, timeZone: string): string {
  const key = `${unit} ${atMs} ${timeZone}`;
  const name = names.get(key) ?? findPeriodName(unit, atMs, timeZone);
  names.set(key, name);
  return name;
}

function findPeriodName(unit: 'day' | 'week' | 'month' | 'year', atMs: number, timeZone: string): string {
  const date = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short' }).format(atMs);
  if (unit === 'day') return date;
  if (unit === 'month') return date.slice(0, 7);
  if (unit === 'year') return date.slice(0, 4);
  // The Monday on or before.
  const monday = new Date(`${date}T00:00Z`);
  while (monday.getUTCDay() !== 1) monday.setUTCDate(monday.getUTCDate() - 1);
  return monday.toISOString();
}

describe('against the rules said once more', () => {
  const count = fc.option(fc.integer({ min: 1, max: 8 }));
  const rules = fc.record({
    last: count,
    withinDays: fc.option(fc.integer({ min: 1, max: 60 })),
    days: count,
    weeks: count,
    months: count,
    years: count,
    timeZone: fc.constantFrom('Europe/Berlin', 'Asia/Tokyo', 'America/New_York'),
  });
  const points = fc
    .uniqueArray(
      fc.record({
        hoursAgo: fc.oneof(fc.nat(200), fc.nat(24 * 800)),
        state: fc.constantFrom('complete' as const, 'complete' as const, 'incomplete' as const, 'damaged' as const),
        locked: fc.option(fc.integer({ min: -5, max: 5 }), { freq: 5 }),
      }),
      { maxLength: 60, selector: ({ hoursAgo }) => hoursAgo },
    )
    .map((made) =>
      made.map(({ hoursAgo, state, locked }): RetainedPoint => ({
        id: String(hoursAgo),
        createdAtMs: NOW_MS - hoursAgo * HOUR_MS,
        state,
        lockedUntilMs: locked === null ? null : NOW_MS + locked * DAY_MS,
      })),
    );

  it('agrees on every version', () => {
    fc.assert(
      fc.property(points, rules, (made, retention) => {
        const expected = made.filter((one) => staysByDefinition(one, made, retention)).map(({ id }) => id);
        assert.deepEqual(kept(made, retention), expected);
      }),
      { numRuns: 200 },
    );
  });

  it('changes nothing when it is applied again, and no new failure makes a good version go', () => {
    fc.assert(
      fc.property(points, rules, (made, retention) => {
        const stay = kept(made, retention);
        const rest = made.filter(({ id }) => stay.includes(id));
        assert.deepEqual(kept(rest, retention), stay);

        const good = made.filter(({ id, state }) => state === 'complete' && stay.includes(id)).map(({ id }) => id);
        const failure: RetainedPoint = { id: 'new', createdAtMs: NOW_MS, state: 'incomplete', lockedUntilMs: null };
        const after = new Set(kept([...made, failure], retention));
        assert.deepEqual(
          good.filter((id) => !after.has(id)),
          [],
        );
      }),
      { numRuns: 200 },
    );
  });
});

describe('a year in advance', () => {
  const schedule = scheduleSchema.parse({
    timeZone: 'Europe/Berlin',
    rules: [{ rule: { kind: 'daily', time: '02:30' } }],
  });

  it('tells what would be there in the end, as keeping everything and judging once does', () => {
    const retention = retentionSchema.parse({ last: 3, days: 7, weeks: 4, months: 12, timeZone: 'Europe/Berlin' });
    const result = simulateRetention({ retention, schedule, fromMs: NOW_MS, days: 365 });

    assert.equal(result.runCount, 365);
    const all = simulateRetention({ retention: retentionSchema.parse({}), schedule, fromMs: NOW_MS, days: 365 });
    assert.equal(all.peakCount, 365);
    const points = all.kept.map(({ createdAtMs }): RetainedPoint => ({
      id: String(createdAtMs),
      createdAtMs,
      state: 'complete',
      lockedUntilMs: null,
    }));
    const expected = points.filter((one) => staysByDefinition(one, points, retention)).map((one) => one.createdAtMs);
    assert.deepEqual(
      result.kept.map(({ createdAtMs }) => createdAtMs),
      expected,
    );
    assert.ok(result.peakCount <= 3 + 7 + 4 + 12 + 1);
  });

  it('refuses to play through more runs than it can', () => {
    const often = scheduleSchema.parse({ timeZone: 'UTC', rules: [{ rule: { kind: 'interval', everyMinutes: 5 } }] });

    assert.throws(
      () =>
        simulateRetention({
          retention: retentionSchema.parse({ last: 1000 }),
          schedule: often,
          fromMs: NOW_MS,
          days: 365,
        }),
      { code: 'INPUT_INVALID' },
    );
  });

  it('does not look for years of runs of every minute, of which none is judged', () => {
    const schedules = ['* * * * *', ...Array.from({ length: 19 }, (_, minute) => `${minute} * * * *`)];
    const rules = schedules.map((expression) => ({ rule: { kind: 'cron', expression } }));
    const input = { retention: retentionSchema.parse({}), fromMs: NOW_MS, days: 3660 };
    for (const some of [rules.slice(0, 1), rules]) {
      const schedule = scheduleSchema.parse({ timeZone: 'Europe/Berlin', rules: some });
      assert.throws(() => simulateRetention({ ...input, schedule }), { code: 'INPUT_INVALID' });
    }
    const fiveMinutes = scheduleSchema.parse({
      timeZone: 'UTC',
      rules: [{ rule: { kind: 'interval', everyMinutes: 5 } }],
    });
    assert.equal(simulateRetention({ ...input, schedule: fiveMinutes, days: 365 }).runCount, 365 * 288);
  });
});

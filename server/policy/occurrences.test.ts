import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { scheduleSchema, type Schedule, type ScheduleRule, type Weekday } from '../contract/api/schedule.schema.ts';
import { assertSchedule, isWindowOpen, jitterMs, lastOccurrence, nextOccurrences, nextStarts } from './occurrences.ts';

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
const WEEKDAYS: Weekday[] = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'];

function schedule(timeZone: string, ...rules: ScheduleRule[]): Schedule {
  return scheduleSchema.parse({ timeZone, rules: rules.map((rule) => ({ rule })) });
}

function next(made: Schedule, from: string, count: number): string[] {
  return nextOccurrences(made, Date.parse(from), count).map((atMs) => new Date(atMs).toISOString().slice(0, 16));
}

describe('when runs are due', () => {
  it('runs a time that clocks skip at the first instant after the gap, and only once', () => {
    const made = schedule('Europe/Berlin', { kind: 'daily', time: '02:30' });

    // 2027-03-28: 02:00 becomes 03:00, which is 01:00 UTC.
    assert.deepEqual(next(made, '2027-03-26T12:00Z', 4), [
      '2027-03-27T01:30',
      '2027-03-28T01:00',
      '2027-03-29T00:30',
      '2027-03-30T00:30',
    ]);
  });

  it('runs a time that is there twice once', () => {
    const made = schedule('America/New_York', { kind: 'daily', time: '01:30' });

    // 2026-11-01: 02:00 EDT becomes 01:00 EST; the first 01:30 is 05:30 UTC.
    assert.deepEqual(next(made, '2026-10-31T12:00Z', 2), ['2026-11-01T05:30', '2026-11-02T06:30']);
  });

  it('leaves no hole for intervals up to an hour where clocks are changed', () => {
    const quarter = nextOccurrences(
      schedule('Europe/Berlin', { kind: 'interval', everyMinutes: 15 }),
      Date.parse('2026-10-24T12:00Z'),
      200,
    );
    for (const [index, atMs] of quarter.slice(1).entries()) assert.equal(atMs - (quarter[index] ?? 0), 15 * MINUTE_MS);

    assert.deepEqual(next(schedule('Europe/Berlin', { kind: 'interval', everyMinutes: 120 }), '2026-10-24T21:00Z', 4), [
      '2026-10-24T22:00',
      '2026-10-25T00:00',
      '2026-10-25T03:00',
      '2026-10-25T05:00',
    ]);
  });

  it('knows months: day 31, the last day, the last Friday, leap days', () => {
    const at = '04:00';
    const utc = (on: Extract<ScheduleRule, { kind: 'monthly' }>['on']) =>
      schedule('UTC', { kind: 'monthly', on, time: at });

    assert.deepEqual(next(utc({ kind: 'day', day: 31 }), '2028-01-31T05:00Z', 3), [
      '2028-02-29T04:00',
      '2028-03-31T04:00',
      '2028-04-30T04:00',
    ]);
    assert.deepEqual(
      next(utc({ kind: 'day', day: 30 }), '2027-02-01T00:00Z', 2),
      next(utc({ kind: 'last-day' }), '2027-02-01T00:00Z', 1).concat('2027-03-30T04:00'),
    );
    assert.deepEqual(next(utc({ kind: 'weekday', nth: 5, weekday: 'friday' }), '2026-11-01T00:00Z', 2), [
      '2026-11-27T04:00',
      '2026-12-25T04:00',
    ]);
    assert.deepEqual(next(utc({ kind: 'weekday', nth: 2, weekday: 'tuesday' }), '2026-11-01T00:00Z', 2), [
      '2026-11-10T04:00',
      '2026-12-08T04:00',
    ]);
    assert.deepEqual(next(schedule('UTC', { kind: 'cron', expression: '0 0 29 2 *' }), '2095-01-01T00:00Z', 2), [
      '2096-02-29T00:00',
      '2104-02-29T00:00',
    ]);
  });

  it('runs once what is to run once', () => {
    const made = schedule('Asia/Tokyo', { kind: 'once', at: '2027-01-01T00:00' });

    assert.deepEqual(next(made, '2026-06-01T00:00Z', 10), ['2026-12-31T15:00']);
    assert.deepEqual(next(made, '2026-12-31T15:00Z', 10), []);
    assert.equal(lastOccurrence(made, 0, Date.parse('2030-01-01')), Date.parse('2026-12-31T15:00Z'));
  });

  it('reads cron as cron does: either day is enough when both are named', () => {
    const made = schedule('UTC', { kind: 'cron', expression: '15 6,18 13 * fri' });

    assert.deepEqual(next(made, '2026-11-05T00:00Z', 6), [
      '2026-11-06T06:15',
      '2026-11-06T18:15',
      '2026-11-13T06:15',
      '2026-11-13T18:15',
      '2026-11-20T06:15',
      '2026-11-20T18:15',
    ]);
    assert.equal(
      next(schedule('UTC', { kind: 'cron', expression: '0 3 * * 7' }), '2026-11-21T12:00Z', 1)[0],
      '2026-11-22T03:00',
    );
  });

  for (const expression of [
    '0 0 30 2 *',
    '0 0 31 4,6,9,11 *',
    '61 0 * * *',
    '0 24 * * *',
    '0 0 L * *',
    '0 0 * * 5#2',
    '0 0 0 * * *',
    '@daily',
    '* * * *',
    '*/0 * * * *',
    '5-1 * * * *',
    'ä b c d e',
  ]) {
    it(`refuses the cron expression "${expression}"`, () => {
      assert.throws(() => {
        assertSchedule(scheduleSchema.parse({ timeZone: 'UTC', rules: [{ rule: { kind: 'cron', expression } }] }));
      }, /too_small|cannot be used/i);
    });
  }

  it('refuses windows without an hour, unknown zones, intervals that do not fit a day, days that do not exist', () => {
    const rules = [{ rule: { kind: 'daily', time: '22:00' } }];
    const hours = Array.from({ length: 7 }, () => '0'.repeat(24));
    const isTaken = (input: unknown): boolean => scheduleSchema.safeParse(input).success;

    assert.equal(isTaken({ timeZone: 'UTC', rules }), true);
    assert.equal(isTaken({ timeZone: 'UTC', rules, window: { hours } }), false);
    assert.equal(isTaken({ timeZone: 'Europe/Atlantis', rules }), false);
    assert.equal(isTaken({ timeZone: 'UTC', rules: [{ rule: { kind: 'interval', everyMinutes: 7 } }] }), false);
    assert.equal(isTaken({ timeZone: 'UTC', rules: [{ rule: { kind: 'once', at: '2027-02-30T10:00' } }] }), false);
    assert.equal(isTaken({ timeZone: 'UTC', rules: [{ rule: { kind: 'daily', time: '24:00' } }] }), false);
  });

  it('gives each rule its own zone, and merges them', () => {
    const made = scheduleSchema.parse({
      timeZone: 'UTC',
      rules: [
        { rule: { kind: 'daily', time: '12:00' } },
        { rule: { kind: 'daily', time: '21:00' }, timeZone: 'Asia/Tokyo' },
        { rule: { kind: 'daily', time: '22:00' }, timeZone: 'Asia/Tokyo' },
      ],
    });

    assert.deepEqual(next(made, '2026-11-01T12:00Z', 3), ['2026-11-01T13:00', '2026-11-02T12:00', '2026-11-02T13:00']);
  });

  it('lets what is due outside the window begin when it opens', () => {
    const nights = `${'1'.repeat(6)}${'0'.repeat(16)}11`;
    const made = scheduleSchema.parse({
      timeZone: 'Europe/Berlin',
      rules: [{ rule: { kind: 'interval', everyMinutes: 240 } }],
      window: { hours: [nights, nights, nights, nights, nights, '0'.repeat(24), '0'.repeat(24)] },
    });

    // Friday 2026-11-20, 12:00 local: open from 22:00 on, closed from Saturday to Monday 00:00.
    const starts = nextStarts(made, Date.parse('2026-11-20T11:00Z'), 4);
    assert.deepEqual(
      starts.map((atMs) => new Date(atMs).toISOString().slice(0, 16)),
      ['2026-11-20T21:00', '2026-11-22T23:00', '2026-11-23T03:00', '2026-11-23T21:00'],
    );
    for (const atMs of starts) assert.equal(isWindowOpen(made, atMs), true);
  });

  it('opens and closes on half hours too, by the clock of the zone', () => {
    const half = `${'0'.repeat(25)}111${'0'.repeat(20)}`;
    const made = scheduleSchema.parse({
      timeZone: 'Asia/Kolkata',
      rules: [{ rule: { kind: 'daily', time: '02:00' } }],
      window: { hours: Array.from({ length: 7 }, () => half) },
    });
    const isOpenAt = (time: string): boolean => isWindowOpen(made, Date.parse(time));

    // 12:30 to 14:00, five and a half hours ahead of UTC.
    assert.deepEqual(
      ['06:59:59', '07:00:00', '08:29:59', '08:30:00'].map((time) => isOpenAt(`2026-11-20T${time}Z`)),
      [false, true, true, false],
    );
    assert.deepEqual(
      nextStarts(made, Date.parse('2026-11-20T00:00Z'), 2).map((atMs) => new Date(atMs).toISOString()),
      ['2026-11-21T07:00:00.000Z', '2026-11-22T07:00:00.000Z'],
    );
    const refused = { hours: [...Array.from({ length: 6 }, () => half), '1'.repeat(25)] };
    assert.equal(scheduleSchema.safeParse({ ...made, window: refused }).success, false);
    const empty = { hours: Array.from({ length: 7 }, () => '0'.repeat(48)) };
    assert.equal(scheduleSchema.safeParse({ ...made, window: empty }).success, false);
  });

  it('spreads by jitter, the same for the same time', () => {
    const made = scheduleSchema.parse({
      timeZone: 'UTC',
      rules: [{ rule: { kind: 'daily', time: '12:00' } }],
      jitterMinutes: 30,
    });
    const values = Array.from({ length: 200 }, (_, index) => jitterMs(made, 'a'.repeat(16), index * DAY_MS));

    assert.ok(values.every((value) => value >= 0 && value < 30 * MINUTE_MS));
    assert.ok(Math.max(...values) - Math.min(...values) > 25 * MINUTE_MS);
    assert.equal(jitterMs(made, 'a'.repeat(16), 5 * DAY_MS), values[5]);
  });
});

/** What a wall clock of the zone shows, by another way than the code under test. */
function wallClock(zone: string): (atMs: number) => number {
  const format = new Intl.DateTimeFormat('sv-SE', {
    timeZone: zone,
    dateStyle: 'short',
    timeStyle: 'short',
  });
  return (atMs) => Date.parse(`${format.format(atMs).replace(' ', 'T')}Z`) / MINUTE_MS;
}

/** Minute by minute: watches the clock, and notes which local minutes came up or were jumped over. */
function watch(rule: ScheduleRule, zone: string, fromMs: number, untilMs: number): number[] {
  const show = wallClock(zone);
  const due: number[] = [];
  const seen = new Set<number>();
  const isEveryHour =
    (rule.kind === 'interval' && rule.everyMinutes <= 60) ||
    (rule.kind === 'cron' && rule.expression.split(' ')[1] === '*');
  let before = show(fromMs - 180 * MINUTE_MS) - 1;
  for (let atMs = fromMs - 180 * MINUTE_MS; atMs <= untilMs; atMs += MINUTE_MS) {
    const now = show(atMs);
    for (let local = now > before ? before + 1 : now; local <= now; local += 1) {
      const isAgain = seen.has(local);
      seen.add(local);
      if (!isWanted(rule, local) || (isAgain && !isEveryHour)) continue;
      if (atMs > fromMs && due.at(-1) !== atMs) due.push(atMs);
    }
    before = now;
  }
  return due;
}

function isWanted(rule: ScheduleRule, local: number): boolean {
  const date = new Date(local * MINUTE_MS);
  const time = date.toISOString().slice(11, 16);
  const weekday = WEEKDAYS[(date.getUTCDay() + 6) % 7] ?? 'monday';
  const isLastDay = new Date(date.getTime() + DAY_MS).getUTCDate() === 1;
  switch (rule.kind) {
    case 'once':
      return date.toISOString().slice(0, 16) === rule.at;
    case 'interval':
      return (local % 1440) % rule.everyMinutes === 0;
    case 'daily':
      return time === rule.time;
    case 'weekly':
      return time === rule.time && rule.days.includes(weekday);
    case 'monthly':
      if (time !== rule.time) return false;
      if (rule.on.kind === 'last-day') return isLastDay;
      if (rule.on.kind === 'day')
        return date.getUTCDate() === rule.on.day || (isLastDay && date.getUTCDate() < rule.on.day);
      return (
        weekday === rule.on.weekday &&
        (rule.on.nth === 5
          ? new Date(date.getTime() + 7 * DAY_MS).getUTCMonth() !== date.getUTCMonth()
          : Math.floor((date.getUTCDate() - 1) / 7) + 1 === rule.on.nth)
      );
    case 'cron': {
      const [minute = '', hour = ''] = rule.expression.split(' ');
      return (
        (minute === '*' || Number(minute) === date.getUTCMinutes()) &&
        (hour === '*' || Number(hour) === date.getUTCHours())
      );
    }
  }
}

describe('against a watcher of the clock', () => {
  /** Days around which clocks change or the calendar is odd. */
  const scenes: readonly (readonly [string, string])[] = [
    ['Europe/Berlin', '2027-03-28'],
    ['Europe/Berlin', '2026-10-25'],
    ['Asia/Tokyo', '2028-02-29'],
    ['America/New_York', '2027-03-14'],
    ['America/New_York', '2026-11-01'],
    ['Europe/Berlin', '2028-02-29'],
    // Half an hour, and a change at midnight.
    ['Australia/Lord_Howe', '2027-04-04'],
    ['Australia/Lord_Howe', '2026-10-04'],
    ['America/Santiago', '2026-09-06'],
  ];
  const hour = fc.nat(23);
  const time = fc
    .tuple(fc.oneof(fc.constantFrom(0, 1, 2, 3), hour), fc.nat(59))
    .map(([h, m]) => `${String(h).padStart(2, '0')}:${String(m).padStart(2, '0')}`);
  const weekday = fc.constantFrom(...WEEKDAYS);
  const rules: fc.Arbitrary<ScheduleRule> = fc.oneof(
    fc.record({ kind: fc.constant('daily' as const), time }),
    fc.record({ kind: fc.constant('interval' as const), everyMinutes: fc.constantFrom(15, 30, 60, 90, 120, 240, 720) }),
    fc.record({ kind: fc.constant('weekly' as const), days: fc.uniqueArray(weekday, { minLength: 1 }), time }),
    fc.record({
      kind: fc.constant('monthly' as const),
      on: fc.oneof(
        fc.record({ kind: fc.constant('day' as const), day: fc.integer({ min: 1, max: 31 }) }),
        fc.record({ kind: fc.constant('weekday' as const), nth: fc.integer({ min: 1, max: 5 }), weekday }),
        fc.constant({ kind: 'last-day' as const }),
      ),
      time,
    }),
    fc.record({
      kind: fc.constant('cron' as const),
      expression: fc.tuple(fc.nat(59), fc.option(hour)).map(([m, h]) => `${m} ${h === null ? '*' : String(h)} * * *`),
    }),
  );

  for (const [zone, date] of scenes) {
    it(`agrees in ${zone} around ${date}`, () => {
      const middleMs = Date.parse(`${date}T00:00Z`);
      fc.assert(
        fc.property(rules, fc.integer({ min: -1500, max: 0 }), (rule, offsetMinutes) => {
          const fromMs = middleMs + offsetMinutes * MINUTE_MS;
          const untilMs = middleMs + 2 * DAY_MS;
          const expected = watch(rule, zone, fromMs, untilMs);
          const made = schedule(zone, rule);

          assert.deepEqual(nextOccurrences(made, fromMs, expected.length), expected);
          assert.equal(lastOccurrence(made, fromMs, untilMs), expected.at(-1) ?? null);
        }),
        { numRuns: 30 },
      );
    });
  }
});

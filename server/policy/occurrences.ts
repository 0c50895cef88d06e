import { createHash } from 'node:crypto';
import { weekdaySchema, type Schedule, type ScheduleRule, type Weekday } from '../contract/api/schedule.schema.ts';
import { matchesDay, parseCron } from './cron.ts';
import {
  DAY_MS,
  MINUTE_MS,
  toCalendarDay,
  toInstants,
  toLocalDay,
  toLocalMs,
  weekdayOf,
  type CalendarDay,
} from './zoned-time.ts';

/** Longest pause of a rule: 29 February, over a year like 2100 that has none. */
const LONGEST_PAUSE_DAYS = 8 * 366 + 1;
/** Intervals up to this also run in an hour that is there twice: else there would be a hole. */
const REPEATED_INTERVAL_MINUTES = 60;
const MINUTES_A_DAY = 24 * 60;
const WEEKDAYS: readonly Weekday[] = weekdaySchema.options;

/** Refuses what the schema cannot judge. @throws INPUT_INVALID */
export function assertSchedule(schedule: Schedule): void {
  for (const { rule } of schedule.rules) if (rule.kind === 'cron') parseCron(rule.expression);
}

/**
 * When runs are due after an instant, oldest first, once each, whether or not the window is open then.
 * A local time that clocks skip is due at the first instant after the gap; one that is there twice is
 * due the first time only (intervals up to an hour: both times).
 * @returns fewer than `count` when there are no more
 */
export function nextOccurrences(schedule: Schedule, afterMs: number, count: number): number[] {
  const all = schedule.rules.flatMap(({ rule, timeZone }) =>
    nextOfRule(rule, timeZone ?? schedule.timeZone, afterMs, count),
  );
  return [...new Set(all)].sort((a, b) => a - b).slice(0, count);
}

/** Whether no run is due any more after an instant: all rules name a day that has passed. */
export function isOver(schedule: Schedule, afterMs: number): boolean {
  return schedule.after === null && schedule.rules.every((item) => hasPassed(item, schedule, afterMs));
}

/**
 * Places of the rules that let no run begin, since the one instant that they name has passed. Not those that had
 * passed in an earlier version of the schedule already.
 */
export function listPassed(schedule: Schedule, nowMs: number, before: Schedule | null): number[] {
  const passed = (of: Schedule): Schedule['rules'] => of.rules.filter((item) => hasPassed(item, of, nowMs));
  const known = new Set(before === null ? [] : passed(before).map(({ rule }) => JSON.stringify(rule)));
  return passed(schedule)
    .filter(({ rule }) => !known.has(JSON.stringify(rule)))
    .map((item) => schedule.rules.indexOf(item));
}

function hasPassed({ rule, timeZone }: Schedule['rules'][number], schedule: Schedule, nowMs: number): boolean {
  return rule.kind === 'once' && onceAfter(rule, timeZone ?? schedule.timeZone, nowMs).length === 0;
}

/** The newest instant in (afterMs, untilMs] at which a run was due; null when there was none. */
export function lastOccurrence(schedule: Schedule, afterMs: number, untilMs: number): number | null {
  let last: number | null = null;
  for (const { rule, timeZone } of schedule.rules) {
    const found = lastOfRule(rule, timeZone ?? schedule.timeZone, last ?? afterMs, untilMs);
    last = found ?? last;
  }
  return last;
}

/** When runs begin, jitter aside: as they are due, but not before the window is open. At most `count`. */
export function nextStarts(schedule: Schedule, afterMs: number, count: number): number[] {
  const starts = new Set<number>();
  let fromMs = afterMs;
  while (starts.size < count) {
    const due = nextOccurrences(schedule, fromMs, count);
    for (const dueMs of due) {
      // What is due while the window is closed begins together when it opens.
      if (starts.size < count) starts.add(opensAt(schedule, dueMs));
    }
    const last = due.at(-1);
    if (last === undefined || due.length < count) break;
    // What is due before the window opens gives no further start.
    fromMs = Math.max(last, opensAt(schedule, last) - 1);
  }
  return [...starts];
}

/** Whether runs may be at work at an instant. */
export function isWindowOpen(schedule: Schedule, instantMs: number): boolean {
  if (schedule.window === null) return true;
  const localMs = toLocalMs(schedule.timeZone, instantMs);
  const day = Math.floor(localMs / DAY_MS);
  const slots = schedule.window.hours[weekdayOf(day)] ?? '';
  return slots[Math.floor(((localMs - day * DAY_MS) / DAY_MS) * slots.length)] === '1';
}

/** The first instant from `instantMs` on at which the window is open. */
export function opensAt(schedule: Schedule, instantMs: number): number {
  if (isWindowOpen(schedule, instantMs)) return instantMs;
  const firstDay = toLocalDay(schedule.timeZone, instantMs);
  // Eight days: the same hour of the week may have begun already. Two more for hours that clocks skip.
  for (let day = firstDay; day <= firstDay + 10; day += 1) {
    const slots = schedule.window?.hours[weekdayOf(day)] ?? '';
    for (let slot = 0; slot < slots.length; slot += 1) {
      if (slots[slot] !== '1') continue;
      for (const atMs of toInstants(schedule.timeZone, day * DAY_MS + (slot / slots.length) * DAY_MS)) {
        if (atMs > instantMs && isWindowOpen(schedule, atMs)) return atMs;
      }
    }
  }
  return instantMs;
}

/** How much later than due a run begins: the same for the same job and time, however often it is asked for. */
export function jitterMs(schedule: Schedule, jobId: string, dueMs: number): number {
  if (schedule.jitterMinutes === 0) return 0;
  const digest = createHash('sha256').update(`${jobId} ${dueMs}`).digest();
  return Math.floor((digest.readUInt32BE(0) / 2 ** 32) * schedule.jitterMinutes * MINUTE_MS);
}

function nextOfRule(rule: ScheduleRule, zone: string, afterMs: number, count: number): number[] {
  if (rule.kind === 'once') return onceAfter(rule, zone, afterMs);
  const found: number[] = [];
  const firstDay = toLocalDay(zone, afterMs) - 1;
  for (let day = firstDay; day <= firstDay + LONGEST_PAUSE_DAYS * count && found.length < count; day += 1) {
    for (const atMs of ofDay(rule, zone, day)) {
      if (atMs > Math.max(afterMs, found.at(-1) ?? -Infinity) && found.length < count) found.push(atMs);
    }
  }
  return found;
}

function lastOfRule(rule: ScheduleRule, zone: string, afterMs: number, untilMs: number): number | null {
  if (rule.kind === 'once') return onceAfter(rule, zone, afterMs).find((atMs) => atMs <= untilMs) ?? null;
  const lastDay = toLocalDay(zone, afterMs) - 1;
  for (let day = toLocalDay(zone, untilMs) + 1; day >= lastDay; day -= 1) {
    const found = ofDay(rule, zone, day).findLast((atMs) => atMs > afterMs && atMs <= untilMs);
    if (found !== undefined) return found;
  }
  return null;
}

function onceAfter(rule: Extract<ScheduleRule, { kind: 'once' }>, zone: string, afterMs: number): number[] {
  return toInstants(zone, Date.parse(`${rule.at}:00Z`))
    .slice(0, 1)
    .filter((atMs) => atMs > afterMs);
}

/** Instants of one local day, oldest first. */
function ofDay(rule: Exclude<ScheduleRule, { kind: 'once' }>, zone: string, day: number): number[] {
  const minutes = minutesOfDay(rule, day);
  if (minutes.length === 0) return [];
  const isRepeated = repeats(rule);
  const all = minutes.flatMap((minute) => {
    const instants = toInstants(zone, day * DAY_MS + minute * MINUTE_MS);
    return isRepeated ? instants : instants.slice(0, 1);
  });
  return [...new Set(all)].sort((a, b) => a - b);
}

function repeats(rule: ScheduleRule): boolean {
  if (rule.kind === 'cron') return parseCron(rule.expression).isEveryHour;
  return rule.kind === 'interval' && rule.everyMinutes <= REPEATED_INTERVAL_MINUTES;
}

/** Minutes after midnight of one local day. */
function minutesOfDay(rule: Exclude<ScheduleRule, { kind: 'once' }>, day: number): number[] {
  switch (rule.kind) {
    case 'interval':
      return Array.from({ length: MINUTES_A_DAY / rule.everyMinutes }, (_, index) => index * rule.everyMinutes);
    case 'daily':
      return [parseTime(rule.time)];
    case 'weekly':
      return rule.days.some((name) => WEEKDAYS.indexOf(name) === weekdayOf(day)) ? [parseTime(rule.time)] : [];
    case 'monthly':
      return isDayOfRule(rule, day, toCalendarDay(day)) ? [parseTime(rule.time)] : [];
    case 'cron': {
      const cron = parseCron(rule.expression);
      if (!matchesDay(cron, day, toCalendarDay(day))) return [];
      return cron.hours.flatMap((hour) => cron.minutes.map((minute) => hour * 60 + minute));
    }
  }
}

function isDayOfRule(rule: Extract<ScheduleRule, { kind: 'monthly' }>, day: number, calendar: CalendarDay): boolean {
  const { dayOfMonth, daysInMonth } = calendar;
  switch (rule.on.kind) {
    case 'day':
      return dayOfMonth === Math.min(rule.on.day, daysInMonth);
    case 'last-day':
      return dayOfMonth === daysInMonth;
    case 'weekday': {
      if (WEEKDAYS.indexOf(rule.on.weekday) !== weekdayOf(day)) return false;
      if (rule.on.nth === 5) return dayOfMonth + 7 > daysInMonth;
      return Math.ceil(dayOfMonth / 7) === rule.on.nth;
    }
  }
}

function parseTime(text: string): number {
  const [hour = 0, minute = 0] = text.split(':').map(Number);
  return hour * 60 + minute;
}

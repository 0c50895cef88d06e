import type { KeepReason, Retention } from '../contract/api/retention.schema.ts';
import { DAY_MS, toCalendarDay, toLocalDay, weekdayOf } from './zoned-time.ts';

/** What retention needs to know of a version; all of one machine in one repository. */
export interface RetainedPoint {
  id: string;
  createdAtMs: number;
  state: 'complete' | 'incomplete' | 'damaged';
  /** Must not go before; null: not locked. */
  lockedUntilMs: number | null;
}

/** A version dated later than this from now was made under a wrong clock. */
const CLOCK_TOLERANCE_MS = DAY_MS;

/**
 * Why each version stays; an empty list: it may go.
 *
 * Only complete versions are counted, so one that is incomplete or damaged never takes the place of a good
 * one; the newest complete one stays whatever the rules say. One that is not complete stays while it is
 * newer than every complete one, and as long as complete ones of its age stay by number or by days.
 * Versions from the future (a clock was wrong) stay and are not counted: they would displace all others.
 */
export function judgePoints(
  points: readonly RetainedPoint[],
  retention: Retention,
  nowMs: number,
): Map<string, KeepReason[]> {
  const newestFirst = [...points].sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? 1 : -1));
  const reasons = new Map<string, KeepReason[]>(newestFirst.map((point) => [point.id, []]));
  const keep = (point: RetainedPoint, reason: KeepReason): void => void reasons.get(point.id)?.push(reason);
  const isFuture = (point: RetainedPoint): boolean => point.createdAtMs > nowMs + CLOCK_TOLERANCE_MS;
  const complete = newestFirst.filter((point) => point.state === 'complete' && !isFuture(point));

  const newest = complete[0];
  if (newest !== undefined) keep(newest, 'newest-complete');
  for (const point of newestFirst) {
    if (isFuture(point)) keep(point, 'in-the-future');
    if (point.lockedUntilMs !== null && point.lockedUntilMs > nowMs) keep(point, 'locked');
    if (keepsAll(retention)) keep(point, 'all');
    else if (isYoung(point, retention, nowMs)) keep(point, 'within-days');
  }
  for (const point of complete.slice(0, retention.last ?? 0)) keep(point, 'last');
  keepOfPeriods(complete, retention, keep);

  let newerComplete = 0;
  for (const point of newestFirst) {
    if (isFuture(point)) continue;
    if (point.state === 'complete') newerComplete += 1;
    else if (newerComplete < Math.max(retention.last ?? 0, 1)) keep(point, 'incomplete-not-superseded');
  }
  return reasons;
}

export function keepsAll(retention: Retention): boolean {
  const { last, withinDays, days, weeks, months, years } = retention;
  return [last, withinDays, days, weeks, months, years].every((count) => count === null);
}

function isYoung(point: RetainedPoint, { withinDays }: Retention, nowMs: number): boolean {
  return withinDays !== null && point.createdAtMs > nowMs - withinDays * DAY_MS;
}

function keepOfPeriods(
  newestFirst: readonly RetainedPoint[],
  retention: Retention,
  keep: (point: RetainedPoint, reason: KeepReason) => void,
): void {
  const rules: [KeepReason, number | null, (day: number) => number][] = [
    ['day', retention.days, (day) => day],
    ['week', retention.weeks, (day) => day - weekdayOf(day)],
    ['month', retention.months, monthOf],
    ['year', retention.years, (day) => toCalendarDay(day).year],
  ];
  if (rules.every(([, count]) => count === null)) return;
  const days = newestFirst.map((point) => toLocalDay(retention.timeZone, point.createdAtMs));
  for (const [reason, count, periodOf] of rules) {
    const seen = new Set<number>();
    for (const [index, point] of newestFirst.entries()) {
      const period = periodOf(days[index] ?? 0);
      if (seen.has(period) || seen.size >= (count ?? 0)) continue;
      seen.add(period);
      keep(point, reason);
    }
  }
}

function monthOf(day: number): number {
  const { year, month } = toCalendarDay(day);
  return year * 12 + month;
}

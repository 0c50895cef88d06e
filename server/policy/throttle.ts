import { weekdaySchema, type Weekday } from '../contract/api/schedule.schema.ts';
import type { Throttle } from '../contract/api/throttle.schema.ts';
import { DAY_MS, MINUTE_MS, toLocalMs, weekdayOf } from './zoned-time.ts';

const WEEKDAYS: readonly Weekday[] = weekdaySchema.options;

/** Bytes a second that a throttle allows at an instant; null: as many as there are. */
export function allowedBytesPerSecond(throttle: Throttle | null, instantMs: number): number | null {
  if (throttle === null) return null;
  const localMs = toLocalMs(throttle.timeZone, instantMs);
  const limit = throttle.limits.find((one) => holds(one, localMs));
  const megabytes = limit === undefined ? throttle.otherwise : limit.megabytesPerSecond;
  return megabytes === null ? null : megabytes * 1e6;
}

function holds({ days, from, until }: Throttle['limits'][number], localMs: number): boolean {
  const today = Math.floor(localMs / DAY_MS);
  const lengthMs = (parseTime(until) - parseTime(from) + DAY_MS) % DAY_MS || DAY_MS;
  // One over midnight belongs to the day on which it began.
  return [today - 1, today].some((day) => {
    const beginMs = day * DAY_MS + parseTime(from);
    const isOn = days === undefined || days.some((name) => WEEKDAYS.indexOf(name) === weekdayOf(day));
    return isOn && localMs >= beginMs && localMs < beginMs + lengthMs;
  });
}

function parseTime(text: string): number {
  const [hour = 0, minute = 0] = text.split(':').map(Number);
  return (hour * 60 + minute) * MINUTE_MS;
}

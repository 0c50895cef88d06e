export const MINUTE_MS = 60_000;
export const DAY_MS = 86_400_000;

/**
 * A local time is written as the instant at which a clock in UTC would show it ("local milliseconds"),
 * a local day as the number of days since 1970-01-01.
 */
const formats = new Map<string, Intl.DateTimeFormat>();

/** Zones change their clocks at full quarters of an hour (UTC), so an offset holds that long at least. */
const OFFSET_HOLDS_MS = 15 * MINUTE_MS;
const OFFSETS_MAX = 20_000;
const offsets = new Map<string, number>();

/** Milliseconds that clocks of the zone are ahead of UTC at an instant. */
function offsetMs(zone: string, instantMs: number): number {
  const quarter = Math.floor(instantMs / OFFSET_HOLDS_MS);
  const key = `${zone} ${quarter}`;
  const known = offsets.get(key);
  if (known !== undefined) return known;
  const offset = askOffsetMs(zone, quarter * OFFSET_HOLDS_MS);
  // Asking the system is slow, and the same days are asked for again and again.
  if (offsets.size >= OFFSETS_MAX) offsets.clear();
  offsets.set(key, offset);
  return offset;
}

function askOffsetMs(zone: string, instantMs: number): number {
  let format = formats.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-u-ca-gregory-nu-latn', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    formats.set(zone, format);
  }
  const fields: Record<string, number> = {};
  for (const { type, value } of format.formatToParts(instantMs)) fields[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = fields;
  const seconds = Date.UTC(year, month - 1, day, hour, minute, second);
  return seconds - Math.floor(instantMs / 1000) * 1000;
}

/** What a clock of the zone shows at an instant, as local milliseconds. */
export function toLocalMs(zone: string, instantMs: number): number {
  return instantMs + offsetMs(zone, instantMs);
}

export function toLocalDay(zone: string, instantMs: number): number {
  return Math.floor(toLocalMs(zone, instantMs) / DAY_MS);
}

/**
 * Instants at which a clock of the zone shows a local time: two when clocks are put back over it. A time
 * that clocks skip gives the first instant after the gap.
 */
export function toInstants(zone: string, localMs: number): readonly number[] {
  // Offsets a day before and after: no zone changes its clocks twice within two days.
  const before = offsetMs(zone, localMs - DAY_MS - offsetMs(zone, localMs));
  const after = offsetMs(zone, localMs + DAY_MS - offsetMs(zone, localMs));
  const candidates = [...new Set([localMs - before, localMs - after])].sort((a, b) => a - b);
  const instants = candidates.filter((instantMs) => toLocalMs(zone, instantMs) === localMs);
  if (instants.length > 0) return instants;
  return [findChange(zone, localMs - Math.max(before, after) - 1, localMs - Math.min(before, after))];
}

/** First instant in (lowMs, highMs] with the offset of highMs. */
function findChange(zone: string, lowMs: number, highMs: number): number {
  const wanted = offsetMs(zone, highMs);
  let low = lowMs;
  let high = highMs;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (offsetMs(zone, middle) === wanted) high = middle;
    else low = middle;
  }
  return high;
}

/** Day of the week of a local day: 0 for Monday, 6 for Sunday. */
export function weekdayOf(day: number): number {
  return (((day + 3) % 7) + 7) % 7;
}

export interface CalendarDay {
  year: number;
  /** 1 to 12. */
  month: number;
  /** 1 to 31. */
  dayOfMonth: number;
  daysInMonth: number;
}

export function toCalendarDay(day: number): CalendarDay {
  const date = new Date(day * DAY_MS);
  const year = date.getUTCFullYear();
  const month = date.getUTCMonth() + 1;
  return {
    year,
    month,
    dayOfMonth: date.getUTCDate(),
    daysInMonth: new Date(Date.UTC(year, month, 0)).getUTCDate(),
  };
}

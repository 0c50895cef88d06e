import type { History } from '../../api/types.ts';

const DAY_MS = 86_400_000;
/** Fewer days tell nothing of a trend. */
const DAYS_MIN = 4;

interface Growth {
  /** `2027-01-31`, day by day, the days ahead included. */
  dates: string[];
  known: (number | null)[];
  /** From the last known day on; empty when there is too little to say. */
  ahead: (number | null)[];
  bytesPerDay: number | null;
}

/**
 * The size of a repository over time, and where a straight line through what is known (least squares) leads.
 * Days without a figure keep the one before.
 */
export function growthOf(points: History['sizes'][number]['points'], daysAhead: number): Growth {
  const [first] = points;
  const last = points.at(-1);
  if (first === undefined || last === undefined) return { dates: [], known: [], ahead: [], bytesPerDay: null };
  const byDate = new Map(points.map(({ date, storedBytes }) => [date, storedBytes]));
  const span = Math.round((Date.parse(last.date) - Date.parse(first.date)) / DAY_MS) + 1;
  const dateAt = (index: number): string =>
    new Date(Date.parse(first.date) + index * DAY_MS).toISOString().slice(0, 10);
  const known: number[] = [];
  for (let index = 0; index < span; index += 1) known.push(byDate.get(dateAt(index)) ?? known.at(-1) ?? 0);
  const bytesPerDay = span < DAYS_MIN ? null : slopeOf(known);
  const total = bytesPerDay === null ? span : span + daysAhead;
  return {
    dates: Array.from({ length: total }, (_, index) => dateAt(index)),
    known: Array.from({ length: total }, (_, index) => known[index] ?? null),
    ahead:
      bytesPerDay === null
        ? []
        : Array.from({ length: total }, (_, index) =>
            index < span - 1 ? null : Math.max(0, last.storedBytes + (index - span + 1) * bytesPerDay),
          ),
    bytesPerDay,
  };
}

/** How many days the room that is left lasts at that pace; null where it does not shrink or is not known. */
export function daysUntilFull(bytesPerDay: number | null, freeBytes: number | null): number | null {
  return bytesPerDay === null || bytesPerDay <= 0 || freeBytes === null ? null : freeBytes / bytesPerDay;
}

function slopeOf(values: readonly number[]): number {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  let above = 0;
  let below = 0;
  for (const [index, value] of values.entries()) {
    above += (index - middle) * (value - mean);
    below += (index - middle) ** 2;
  }
  return above / below;
}

/** What schedules and retention promise, said once more and in another way: tests compare the product with it. */

export interface WallTime {
  date: string;
  time: string;
}

/** What a clock on the wall shows in a time zone. */
export function wallClock(timeZone: string): (atMs: number) => WallTime {
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'short' });
  return (atMs) => {
    const [date = '', time = ''] = format.format(atMs).split(' ');
    return { date, time };
  };
}

/** The day of the week of `2027-03-28`; Sunday is 0. */
export function weekdayOf(date: string): number {
  return new Date(`${date}T00:00Z`).getUTCDay();
}

export interface MadeVersion {
  atMs: number;
  isComplete: boolean;
}

export interface KeptCounts {
  last: number;
  weeks: number;
  months: number;
}

/** The last ones, and the newest of each of so many weeks and months: of all that were ever made, at once. */
export function keptBy(
  made: readonly MadeVersion[],
  dateOf: (atMs: number) => string,
  { last, weeks, months }: KeptCounts,
): number[] {
  const complete = made.filter(({ isComplete }) => isComplete).map(({ atMs }) => atMs);
  const kept = new Set(complete.slice(-last));
  const newestOf = (count: number, periodOf: (date: string) => string): void => {
    if (count === 0) return;
    const newest = new Map(complete.map((atMs) => [periodOf(dateOf(atMs)), atMs]));
    for (const atMs of [...newest.values()].slice(-count)) kept.add(atMs);
  };
  newestOf(weeks, mondayOf);
  newestOf(months, (date) => date.slice(0, 7));
  // One that is not complete stays until that many complete ones are newer.
  for (const { atMs, isComplete } of made) {
    if (!isComplete && complete.filter((other) => other > atMs).length < last) kept.add(atMs);
  }
  return [...kept].sort((a, b) => a - b);
}

function mondayOf(date: string): string {
  const day = new Date(`${date}T00:00Z`);
  day.setUTCDate(day.getUTCDate() - ((day.getUTCDay() + 6) % 7));
  return day.toISOString();
}

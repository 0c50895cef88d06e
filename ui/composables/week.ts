/**
 * Where the week begins on Sunday, of the regions whose languages the window speaks; for browsers that do not know
 * it. After the Common Locale Data Repository, supplemental/weekData, which test and browsers have too.
 */
const SUNDAY_REGIONS = new Set(
  'AG AS BS BW BZ CA DM GU HK IL IN JM JP KE MH MO MT PH PK PR SG TT UM US VI WS ZA ZW'.split(' '),
);

interface WeekInfo {
  /** 1: Monday, 7: Sunday. */
  firstDay: number;
}

/** Browsers have it as a function, older ones as a property, some not yet. */
interface WeekLocale {
  getWeekInfo?: () => WeekInfo;
  weekInfo?: WeekInfo;
}

/**
 * The day that a week begins with where a language is spoken.
 * @param tag such as `ja` or `en-GB`; without a region that where most speak it
 * @returns as `Date.getDay` counts: 0 is Sunday
 */
export function firstDayOfWeek(tag: string): number {
  const known = new Intl.Locale(tag) as Intl.Locale & WeekLocale;
  const info = known.getWeekInfo?.() ?? known.weekInfo;
  return info === undefined ? firstDayByRegion(tag) : info.firstDay % 7;
}

/** As `firstDayOfWeek`, without the browser's knowledge. */
export function firstDayByRegion(tag: string): number {
  return SUNDAY_REGIONS.has(new Intl.Locale(tag).maximize().region ?? '') ? 0 : 1;
}

/** How many days ago the week began. */
export function daysIntoWeek(day: Date, firstDay: number): number {
  return (day.getDay() - firstDay + 7) % 7;
}

/** Days that are given from Monday on, in the order of a week. */
export function inWeekOrder<T>(fromMonday: readonly T[], firstDay: number): T[] {
  const begin = (firstDay + 6) % 7;
  return [...fromMonday.slice(begin), ...fromMonday.slice(0, begin)];
}

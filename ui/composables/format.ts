import { currentLanguage, i18n } from '../i18n/index.ts';
import { firstDayOfWeek } from './week.ts';

/** The reader's own kind of the language where the browser names one: British dates are not American. */
function locale(): string {
  const language = currentLanguage();
  return navigator.languages.find((known) => known.split('-')[0] === language) ?? language;
}

/** By language and kind: to make one takes longer than to draw the row that it is for. */
const formatters = new Map<string, Formatter>();
type Formatter = Intl.DateTimeFormat | Intl.NumberFormat | Intl.ListFormat;

function kept<T extends Formatter>(kind: string, make: (language: string) => T): T {
  const language = locale();
  const key = `${language} ${kind}`;
  const known = (formatters.get(key) as T | undefined) ?? make(language);
  formatters.set(key, known);
  return known;
}

function dates(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  return kept(`date ${JSON.stringify(options)}`, (language) => new Intl.DateTimeFormat(language, options));
}

function numbers(options: Intl.NumberFormatOptions): Intl.NumberFormat {
  return kept(`number ${JSON.stringify(options)}`, (language) => new Intl.NumberFormat(language, options));
}

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB', 'PB'];

/** As the NAS shows sizes: steps of 1024, up to three digits. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  // A number is not torn from its unit.
  return `${formatNumber(value, digits)}\u00a0${UNITS[unit] ?? ''}`;
}

export function formatNumber(value: number, digits = 0): string {
  return numbers({ maximumFractionDigits: digits }).format(value);
}

export function formatShare(share: number, digits = 1): string {
  return numbers({ style: 'percent', maximumFractionDigits: digits }).format(share);
}

/** One form of a date for everything, with the month by name only where figures alone could be misread. */
function dateParts(): Intl.DateTimeFormatOptions {
  return currentLanguage() === 'en'
    ? { year: 'numeric', month: 'short', day: 'numeric' }
    : { year: 'numeric', month: '2-digit', day: '2-digit' };
}

/** As long as another one where it stands in a column; with AM and PM nobody writes a leading zero. */
function timeParts(): Intl.DateTimeFormatOptions {
  return { hour: currentLanguage() === 'en' ? 'numeric' : '2-digit', minute: '2-digit' };
}

export function formatTime(atMs: number): string {
  return dates({ ...dateParts(), ...timeParts() }).format(atMs);
}

export function formatExactTime(atMs: number): string {
  return dates({ ...dateParts(), ...timeParts(), second: '2-digit' }).format(atMs);
}

/** With the day of the week: for what is yet to come. */
export function formatDayTime(atMs: number): string {
  return dates({ weekday: 'short', ...dateParts(), ...timeParts() }).format(atMs);
}

export function formatMonth(atMs: number): string {
  return dates({ month: 'short' }).format(atMs);
}

export function formatYear(atMs: number): string {
  return dates({ year: 'numeric' }).format(atMs);
}

export function formatYearMonth(atMs: number): string {
  return dates({ year: 'numeric', month: 'long' }).format(atMs);
}

export function formatClock(atMs: number): string {
  return dates({ ...timeParts(), second: '2-digit' }).format(atMs);
}

/** A time of day like `22:00` as the reader writes it. */
export function formatTimeOfDay(time: string): string {
  return dates({ ...timeParts(), timeZone: 'UTC' }).format(Date.parse(`2000-01-01T${time}Z`));
}

export function formatDay(atMs: number): string {
  return dates(dateParts()).format(atMs);
}

/** With the day of the week: where days are chosen or looked up. */
export function formatCalendarDay(atMs: number): string {
  return dates({ weekday: 'short', ...dateParts() }).format(atMs);
}

/** In words: for who hears it. */
export function formatSpokenDay(atMs: number): string {
  return dates({ dateStyle: 'full' }).format(atMs);
}

/** Day and month, as on a chart. */
export function formatShortDay(atMs: number): string {
  return dates({ day: 'numeric', month: 'numeric' }).format(atMs);
}

/** `2027-01-31T22:00:05+01:00`: the reader's clock, for a file that may be read elsewhere. */
export function formatIsoTime(atMs: number): string {
  const beforeMinutes = -new Date(atMs).getTimezoneOffset();
  const clock = new Date(atMs + beforeMinutes * 60_000).toISOString().slice(0, 19);
  const [hours, minutes] = [Math.floor(Math.abs(beforeMinutes) / 60), Math.abs(beforeMinutes) % 60];
  return `${clock}${beforeMinutes < 0 ? '-' : '+'}${String(hours).padStart(2, '0')}:${String(minutes).padStart(2, '0')}`;
}

/** `2027-01-31 22-00` in the reader's time, as it may stand in a name. */
export function stampOf(atMs: number): string {
  const at = new Date(atMs);
  const [month, day, hour, minute] = [at.getMonth() + 1, at.getDate(), at.getHours(), at.getMinutes()].map((value) =>
    String(value).padStart(2, '0'),
  );
  return `${at.getFullYear()}-${month ?? ''}-${day ?? ''} ${hour ?? ''}-${minute ?? ''}`;
}

/** Midnight, local time, of a date like `2027-01-31`. */
export function dayOf(date: string): number {
  const [year = 1970, month = 1, day = 1] = date.split('-').map(Number);
  return new Date(year, month - 1, day).getTime();
}

/** The reader's: 0 is Sunday. Drawn anew when the language changes. */
export function readersFirstDay(): number {
  return firstDayOfWeek(locale());
}

export function formatWeekday(atMs: number): string {
  return dates({ weekday: 'short' }).format(atMs);
}

export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole === 0) return i18n.global.t('common.underSecond');
  const parts: [number, string][] =
    whole >= 3600
      ? [
          [Math.floor(whole / 3600), 'hour'],
          [Math.floor((whole % 3600) / 60), 'minute'],
        ]
      : whole >= 60
        ? [
            [Math.floor(whole / 60), 'minute'],
            [whole % 60, 'second'],
          ]
        : [[whole, 'second']];
  // A number is not torn from its unit.
  return parts
    .filter(([value], place) => place === 0 || value > 0)
    .map(([value, unit]) =>
      numbers({ style: 'unit', unit, unitDisplay: 'short' }).format(value).replaceAll(' ', '\u00a0'),
    )
    .join(' ');
}

/** Several things that hold together: `a, b and c`. */
export function formatList(parts: readonly string[]): string {
  return kept('list', (language) => new Intl.ListFormat(language)).format(parts);
}

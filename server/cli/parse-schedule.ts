import { InvalidArgumentError } from 'commander';
import { weekdaySchema, type ScheduleRule, type Weekday } from '../contract/api/schedule.schema.ts';

const WEEKDAYS: readonly Weekday[] = weekdaySchema.options;
const TIME = /^([01]\d|2[0-3]):[0-5]\d$/;
const NTH: Record<string, number> = { first: 1, second: 2, third: 3, fourth: 4, last: 5 };

/**
 * A rule in words: `daily 22:00`, `every 4h`, `weekly mon,thu 22:00`, `monthly 31 22:00`,
 * `monthly last 22:00`, `monthly second tuesday 22:00`, `once 2027-01-31T22:30`, `cron 30 22 * * 1-5`.
 */
export function parseRule(text: string): ScheduleRule {
  const [kind = '', ...words] = text.trim().split(/\s+/);
  const time = words.at(-1) ?? '';
  switch (kind) {
    case 'once':
      return { kind, at: words.join('T') };
    case 'every':
      return { kind: 'interval', everyMinutes: parseMinutes(words.join('')) };
    case 'cron':
      return { kind, expression: words.join(' ') };
    case 'daily':
      return { kind, time: checkTime(words.length === 1 ? time : '') };
    case 'weekly':
      return { kind, days: parseDays(words.slice(0, -1).join('')), time: checkTime(time) };
    case 'monthly':
      return { kind, on: parseMonthDay(words.slice(0, -1)), time: checkTime(time) };
    default:
      throw invalid('A rule begins with once, every, daily, weekly, monthly or cron.');
  }
}

export function collectRules(text: string, before: ScheduleRule[]): ScheduleRule[] {
  return [...before, parseRule(text)];
}

/** Hours of the week from pieces like `mon-fri 20-24` and `sat,sun 0:30-8`; half hours at least, without the end. */
export function collectWindow(text: string, before: string[] | null): string[] {
  const [dayText = '', hourText = '', ...rest] = text.trim().split(/\s+/);
  const [, from, fromHalf, until, untilHalf] = /^(\d{1,2})(:[03]0)?-(\d{1,2})(:[03]0)?$/.exec(hourText) ?? [];
  const first = Number(from) * 2 + (fromHalf === ':30' ? 1 : 0);
  const end = Number(until) * 2 + (untilHalf === ':30' ? 1 : 0);
  if (rest.length > 0 || from === undefined || first > 47 || end > 48 || first >= end) {
    throw invalid('A window looks like "mon-fri 20-24" or "sat 0:30-8"; one over midnight needs two.');
  }
  const days = parseDays(dayText).map((day) => WEEKDAYS.indexOf(day));
  return WEEKDAYS.map((_, day) =>
    Array.from({ length: 48 }, (_digit, half) => {
      const isOpen = days.includes(day) && half >= first && half < end;
      return isOpen || before?.[day]?.[half] === '1' ? '1' : '0';
    }).join(''),
  );
}

function parseMonthDay(words: readonly string[]): Extract<ScheduleRule, { kind: 'monthly' }>['on'] {
  const [first = '', weekday] = words;
  if (words.length === 1 && first === 'last') return { kind: 'last-day' };
  if (words.length === 1 && /^\d{1,2}$/.test(first)) return { kind: 'day', day: Number(first) };
  const nth = NTH[first];
  if (words.length === 2 && nth !== undefined && weekday !== undefined) {
    return { kind: 'weekday', nth, weekday: parseDay(weekday) };
  }
  throw invalid('A day of the month looks like 15, last, or second tuesday.');
}

/** `mon,wed`, `mon-fri`, whole names too. */
export function parseDays(text: string): Weekday[] {
  const days = text.split(',').flatMap((piece) => {
    const [from = '', until] = piece.split('-');
    const first = WEEKDAYS.indexOf(parseDay(from));
    const last = until === undefined ? first : WEEKDAYS.indexOf(parseDay(until));
    const count = ((last - first + 7) % 7) + 1;
    return Array.from({ length: count }, (_, index) => WEEKDAYS[(first + index) % 7] ?? 'monday');
  });
  return [...new Set(days)];
}

function parseDay(text: string): Weekday {
  const word = text.toLowerCase();
  const day = word.length < 3 ? undefined : WEEKDAYS.find((name) => name.startsWith(word));
  if (day !== undefined) return day;
  throw invalid(`"${text}" is not a day of the week.`);
}

function parseMinutes(text: string): number {
  const [, digits, unit] = /^(\d+)(m|h)$/.exec(text) ?? [];
  if (digits === undefined) throw invalid('An interval looks like 15m or 4h.');
  return Number(digits) * (unit === 'h' ? 60 : 1);
}

function checkTime(text: string): string {
  if (TIME.test(text)) return text;
  throw invalid('A time looks like 22:30.');
}

function invalid(message: string): InvalidArgumentError {
  return new InvalidArgumentError(message);
}

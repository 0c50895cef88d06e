import { CronExpressionParser } from 'cron-parser';
import { AppError } from '../errors/index.ts';
import { weekdayOf, type CalendarDay } from './zoned-time.ts';

/** A cron expression of five fields, as sets of numbers. */
export interface Cron {
  minutes: readonly number[];
  hours: readonly number[];
  daysOfMonth: readonly number[];
  months: readonly number[];
  /** 0 for Sunday, as in cron. */
  daysOfWeek: readonly number[];
  /** The hour field takes every hour: the expression means an interval rather than times of the day. */
  isEveryHour: boolean;
  isAnyDayOfMonth: boolean;
  isAnyDayOfWeek: boolean;
}

const parsed = new Map<string, Cron>();
const PARSED_MAX = 500;

/**
 * Reads an expression of minute, hour, day of the month, month and day of the week: numbers, names,
 * lists, ranges and steps. When both days are restricted, either is enough, as in cron(8).
 * @throws INPUT_INVALID
 */
export function parseCron(expression: string): Cron {
  const known = parsed.get(expression);
  if (known !== undefined) return known;
  const fields = expression.trim().split(/\s+/);
  if (fields.length !== 5 || fields.some((field) => !/^[0-9A-Za-z*,/-]+$/.test(field))) {
    throw invalid(expression, 'it needs five fields of numbers, names, "*", ",", "-" and "/"');
  }
  if (fields.some((field) => /[LWH?]$/i.test(field.replaceAll(/[A-Za-z]{3}/g, '')))) {
    throw invalid(expression, 'the letters L, W and H are not known here; use a monthly rule');
  }
  const cron = readFields(expression, fields.join(' '));
  if (!everMatches(cron)) throw invalid(expression, 'no day of the calendar matches');
  if (parsed.size >= PARSED_MAX) parsed.clear();
  parsed.set(expression, cron);
  return cron;
}

/** Whether a local day is one of the expression's. */
export function matchesDay(cron: Cron, day: number, calendar: CalendarDay): boolean {
  if (!cron.months.includes(calendar.month)) return false;
  const isDayOfMonth = cron.daysOfMonth.includes(calendar.dayOfMonth);
  const isDayOfWeek = cron.daysOfWeek.includes((weekdayOf(day) + 1) % 7);
  if (cron.isAnyDayOfMonth || cron.isAnyDayOfWeek) return isDayOfMonth && isDayOfWeek;
  return isDayOfMonth || isDayOfWeek;
}

function readFields(expression: string, text: string): Cron {
  try {
    const { minute, hour, dayOfMonth, month, dayOfWeek } = CronExpressionParser.parse(text).fields;
    const [, hourText = '', dayOfMonthText = '', , dayOfWeekText = ''] = text.split(' ');
    const daysOfWeek = toNumbers(dayOfWeek.values).map((value) => value % 7);
    return {
      minutes: toNumbers(minute.values),
      hours: toNumbers(hour.values),
      daysOfMonth: toNumbers(dayOfMonth.values),
      months: toNumbers(month.values),
      daysOfWeek: [...new Set(daysOfWeek)],
      isEveryHour: hourText === '*' || hourText === '*/1',
      isAnyDayOfMonth: dayOfMonthText.startsWith('*'),
      isAnyDayOfWeek: dayOfWeekText.startsWith('*'),
    };
  } catch (cause) {
    throw invalid(expression, cause instanceof Error ? cause.message : 'it cannot be read', cause);
  }
}

function toNumbers(values: readonly (number | string)[]): number[] {
  return values.map(Number).sort((a, b) => a - b);
}

function everMatches(cron: Cron): boolean {
  // A day of the week alone is always found; else a month needs to be long enough.
  if (!cron.isAnyDayOfWeek && !cron.isAnyDayOfMonth) return true;
  const longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
  return cron.months.some((month) => cron.daysOfMonth.some((day) => day <= (longest[month - 1] ?? 0)));
}

function invalid(expression: string, reason: string, cause?: unknown): AppError {
  return new AppError('INPUT_INVALID', `The cron expression "${expression}" cannot be used: ${reason}.`, {
    hint: 'An example: "30 22 * * 1-5" is 22:30 from Monday to Friday.',
    details: { expression },
    cause,
  });
}

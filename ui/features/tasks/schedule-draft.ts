import type { Schedule, ScheduleRule, Weekday } from '../../api/types.ts';
import { newTimeZone } from '../../composables/new-time-zone.ts';

export const WEEKDAYS: readonly Weekday[] = [
  'monday',
  'tuesday',
  'wednesday',
  'thursday',
  'friday',
  'saturday',
  'sunday',
];
export const RULE_KINDS = ['daily', 'weekly', 'monthly', 'interval', 'once', 'cron'] as const;
export const INTERVALS_MINUTES = [5, 10, 15, 30, 60, 120, 180, 240, 360, 480, 720];

/** Every night at ten: what a new schedule begins with. */
export function newSchedule(): Schedule {
  return {
    enabled: true,
    timeZone: newTimeZone(),
    rules: [{ rule: newRule('daily') }],
    after: null,
    window: null,
    jitterMinutes: 0,
    catchUp: true,
    retry: { times: 3, pauseMinutes: 10 },
  };
}

/** A rule of another kind that keeps the time of day of the one before. */
export function newRule(kind: ScheduleRule['kind'], time = '22:00'): ScheduleRule {
  switch (kind) {
    case 'daily':
      return { kind, time };
    case 'weekly':
      return { kind, days: ['saturday'], time };
    case 'monthly':
      return { kind, on: { kind: 'weekday', nth: 1, weekday: 'saturday' }, time };
    case 'interval':
      return { kind, everyMinutes: 60 };
    case 'once':
      return { kind, at: `${tomorrow()}T${time}` };
    case 'cron':
      return { kind, expression: '0 22 * * 1-5' };
  }
}

/** Undefined: a rule of this kind has none; empty while none is filled in. */
export function timeOf(rule: ScheduleRule): string | undefined {
  if (rule.kind === 'once') return rule.at.split('T')[1] ?? '';
  return 'time' in rule ? rule.time : undefined;
}

function tomorrow(): string {
  const at = new Date();
  at.setDate(at.getDate() + 1);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

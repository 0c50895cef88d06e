import * as z from 'zod';
import { idSchema, timeSchema } from './common.schema.ts';

/** `HH:MM`, 00:00 to 23:59, on the clock of the schedule's time zone. */
export const timeOfDaySchema = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'must look like 22:30');

export const weekdaySchema = z.enum(['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday']);
export type Weekday = z.infer<typeof weekdaySchema>;

export const timeZoneSchema = z
  .string()
  .max(64)
  .regex(/^[A-Za-z][A-Za-z0-9_+/-]*$/, 'must be a name like Europe/Berlin')
  .refine(isTimeZone, 'is not a time zone that this system knows');

/** Of a rule: when a run is due. */
export const scheduleRuleSchema = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('once'),
      at: z
        .string()
        .regex(/^\d{4}-\d{2}-\d{2}T([01]\d|2[0-3]):[0-5]\d$/, 'must look like 2027-01-31T22:30')
        .refine(isDate, 'must be a day of the calendar'),
    }),
    z.strictObject({
      kind: z.literal('interval'),
      /** From midnight on, day by day: so the hours of the day stay the same. */
      everyMinutes: z
        .number()
        .int()
        .min(5)
        .max(720)
        .refine((minutes) => 1440 % minutes === 0, 'must divide a day evenly, like 15, 60, 240'),
    }),
    z.strictObject({ kind: z.literal('daily'), time: timeOfDaySchema }),
    z.strictObject({
      kind: z.literal('weekly'),
      days: z.array(weekdaySchema).min(1).max(7),
      time: timeOfDaySchema,
    }),
    z.strictObject({
      kind: z.literal('monthly'),
      on: z.discriminatedUnion('kind', [
        /** A month without that day is served on its last one. */
        z.strictObject({ kind: z.literal('day'), day: z.number().int().min(1).max(31) }),
        z.strictObject({
          kind: z.literal('weekday'),
          /** The how-manieth of the month; 5: the last. */
          nth: z.number().int().min(1).max(5),
          weekday: weekdaySchema,
        }),
        z.strictObject({ kind: z.literal('last-day') }),
      ]),
      time: timeOfDaySchema,
    }),
    z.strictObject({
      kind: z.literal('cron'),
      /** Five fields: minute, hour, day of the month, month, day of the week. */
      expression: z.string().min(9).max(200),
    }),
  ])
  .meta({ id: 'ScheduleRule' });
export type ScheduleRule = z.infer<typeof scheduleRuleSchema>;

/** Of a schedule: after which run of another job one of this job is due, whoever started that. */
const linkSchema = z.strictObject({
  jobId: idSchema,
  /** `success`: warnings are no hindrance; `always`: also after one that failed, once it is not tried again. */
  on: z.enum(['success', 'always']).default('success'),
});

export const scheduleSchema = z
  .strictObject({
    enabled: z.boolean().default(true),
    /** Of rules without one, and of the window. */
    timeZone: timeZoneSchema,
    /** A run is due when any of them says so. */
    rules: z.array(z.strictObject({ rule: scheduleRuleSchema, timeZone: timeZoneSchema.optional() })).max(20),
    /** Besides the rules, or instead of them. */
    after: linkSchema.nullable().default(null),
    window: z
      .strictObject({
        /**
         * Monday to Sunday, each 24 characters, or 48 for half hours: `1` for an hour in which runs may be at
         * work. What is due outside waits until it opens.
         */
        hours: z
          .array(z.string().regex(/^([01]{24}|[01]{48})$/, 'must be 24 or 48 digits 0 or 1'))
          .length(7)
          .refine((days) => days.some((day) => day.includes('1')), 'must have an hour in it'),
        /**
         * What happens to a run that is still at work when the window closes. `finish`: it goes on;
         * `cancel`: it ends; `pause`: it ends, and its machines that were not done are backed up when the
         * window opens. No VM snapshot stays on a host while the window is closed.
         */
        atClose: z.enum(['finish', 'pause', 'cancel']).default('finish'),
      })
      .nullable()
      .default(null),
    /** A run begins up to so many minutes late, so that not all begin at once. */
    jitterMinutes: z.number().int().min(0).max(240).default(0),
    /** Whether what was missed (NAS off) is caught up, once. */
    catchUp: z.boolean().default(true),
    /** Again after a failure, with only the machines that failed; the pause doubles each time. */
    retry: z
      .strictObject({
        times: z.number().int().min(0).max(10).default(3),
        pauseMinutes: z.number().int().min(1).max(720).default(10),
      })
      .prefault({}),
  })
  .refine(({ rules, after }) => rules.length > 0 || after !== null, {
    path: ['rules'],
    error: 'must have a rule, or a job to run after',
  })
  .meta({ id: 'Schedule' });
export type Schedule = z.infer<typeof scheduleSchema>;

/** The job that a schedule follows: its own next runs, whose ends are waited for. */
const followedSchema = z.object({
  jobId: idSchema,
  name: z.string(),
  on: z.enum(['success', 'always']),
  nextRunsAtMs: z.array(timeSchema),
});

/** Of a job. */
export const jobScheduleSchema = z
  .object({
    /** Null: it runs on request only. */
    schedule: scheduleSchema.nullable(),
    /** By the rules: ten, or fewer when there are no more. Jitter comes on top. */
    nextRunsAtMs: z.array(timeSchema),
    /** It lets no run begin any more: all that it names has passed. */
    isOver: z.boolean(),
    /** Null: the schedule follows no job. */
    follows: followedSchema.nullable(),
    /** Jobs that run after this one. */
    followers: z.array(z.object({ jobId: idSchema, name: z.string(), on: z.enum(['success', 'always']) })),
    /** When the newest run was due that could not begin in time. */
    missedAtMs: timeSchema.nullable(),
  })
  .meta({ id: 'JobSchedule' });
export type JobScheduleView = z.infer<typeof jobScheduleSchema>;

export const schedulePreviewInputSchema = z.strictObject({
  schedule: scheduleSchema,
  /** Whose schedule it is to be, so that a circle of jobs is seen. */
  jobId: idSchema.optional(),
  /** Now when absent. */
  fromMs: timeSchema.optional(),
  count: z.number().int().min(1).max(100).default(10),
});

/** Jitter comes on top of the times. Fewer times than asked for: there are no more. */
export const schedulePreviewSchema = z
  .object({ runsAtMs: z.array(timeSchema), follows: followedSchema.nullable() })
  .meta({ id: 'SchedulePreview' });
export type SchedulePreview = z.infer<typeof schedulePreviewSchema>;

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

function isDate(text: string): boolean {
  const date = new Date(`${text}:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text);
}

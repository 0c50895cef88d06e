import * as z from 'zod';
import { idSchema, timeSchema } from './common.schema.ts';
import { scheduleSchema, timeZoneSchema } from './schedule.schema.ts';

const countSchema = z.number().int().min(1).max(10_000).nullable().default(null);

/**
 * Which versions of a machine stay: each rule names some, and what any of them names stays. Without a rule
 * all stay.
 */
export const retentionSchema = z
  .strictObject({
    /** The newest so many. */
    last: countSchema,
    /** Those of the last so many days of 24 hours. */
    withinDays: countSchema,
    /** The newest of each of so many days (weeks from Monday, months, years) that have one. */
    days: countSchema,
    weeks: countSchema,
    months: countSchema,
    years: countSchema,
    /** In which days begin. */
    timeZone: timeZoneSchema.default('UTC'),
  })
  .meta({ id: 'Retention' });
export type Retention = z.infer<typeof retentionSchema>;

export const keepReasonSchema = z.enum([
  'all',
  'last',
  'within-days',
  'day',
  'week',
  'month',
  'year',
  'newest-complete',
  'incomplete-not-superseded',
  'locked',
  'in-the-future',
]);
export type KeepReason = z.infer<typeof keepReasonSchema>;

export const retentionPreviewInputSchema = z.strictObject({
  retention: retentionSchema,
  repositoryId: idSchema,
  /** All machines with versions in the repository when absent. */
  machineIds: z.array(idSchema).min(1).max(1000).optional(),
});

const judgedPointSchema = z.object({
  pointId: z.string(),
  createdAtMs: timeSchema,
  state: z.enum(['complete', 'incomplete', 'damaged']),
  /** What this version had added to the repository; what is shared with others does not come free. */
  storedBytes: z.number(),
  /** Empty: it would go. */
  reasons: z.array(keepReasonSchema),
});

export const retentionPreviewSchema = z
  .object({
    machines: z.array(z.object({ machineId: z.string(), machineName: z.string(), points: z.array(judgedPointSchema) })),
    keptCount: z.number(),
    removedCount: z.number(),
    /** At most what would come free. */
    removedStoredBytes: z.number(),
  })
  .meta({ id: 'RetentionPreview' });
export type RetentionPreview = z.infer<typeof retentionPreviewSchema>;

export const retentionSimulationInputSchema = z.strictObject({
  retention: retentionSchema,
  schedule: scheduleSchema,
  /** Now when absent. */
  fromMs: timeSchema.optional(),
  days: z.number().int().min(1).max(3660).default(365),
});

export const retentionSimulationSchema = z
  .object({
    runCount: z.number(),
    /** Most versions of a machine that are there at a time. */
    peakCount: z.number(),
    /** Versions that are there in the end, oldest first. */
    kept: z.array(z.object({ createdAtMs: timeSchema, reasons: z.array(keepReasonSchema) })),
  })
  .meta({ id: 'RetentionSimulation' });
export type RetentionSimulation = z.infer<typeof retentionSimulationSchema>;

/** Of a job. Null: all its versions stay. */
export const jobRetentionSchema = z.strictObject({ retention: retentionSchema.nullable() });

import * as z from 'zod';
import { errorBodySchema, idSchema, timeSchema } from './common.schema.ts';
import { languageSchema } from './notification.schema.ts';
import { runKindSchema, runStateSchema } from './run.schema.ts';
import { timeZoneSchema } from './schedule.schema.ts';

export const reportParamsSchema = z.object({
  /** `2027-01`. */
  month: z.string().regex(/^20\d{2}-(0[1-9]|1[0-2])$/, 'must look like 2027-01'),
});

export const reportQuerySchema = z.strictObject({
  /** In which the month begins and ends. */
  timeZone: timeZoneSchema.default('UTC'),
});

export const reportPageQuerySchema = reportQuerySchema.extend({ language: languageSchema.default('en') });

/** What became of the backups in a month; machines as they are now. */
export const monthlyReportSchema = z
  .object({
    month: z.string(),
    fromMs: timeSchema,
    toMs: timeSchema,
    madeAtMs: timeSchema,
    runs: z.object({
      success: z.number(),
      warning: z.number(),
      failure: z.number(),
      cancelled: z.number(),
    }),
    /** A task backs them up, and they have a version. */
    protected: z.array(
      z.object({
        id: idSchema,
        name: z.string(),
        host: z.string().nullable(),
        present: z.boolean(),
        tasks: z.array(z.string()),
        versionCount: z.number(),
        lastVersionAtMs: timeSchema.nullable(),
      }),
    ),
    /** No task, or no version yet. */
    unprotected: z.array(
      z.object({
        id: idSchema,
        name: z.string(),
        host: z.string().nullable(),
        tasks: z.array(z.string()),
        versionCount: z.number(),
      }),
    ),
    /** Restores and checks of the month. */
    tested: z.array(
      z.object({
        runId: idSchema,
        kind: runKindSchema,
        title: z.string(),
        state: runStateSchema,
        finishedAtMs: timeSchema,
      }),
    ),
    /** Backups of the month that failed or are incomplete, newest first; at most 200. */
    failed: z.array(
      z.object({
        runId: idSchema,
        title: z.string(),
        state: runStateSchema,
        finishedAtMs: timeSchema,
        error: errorBodySchema.nullable(),
      }),
    ),
    storage: z.array(
      z.object({
        repositoryId: idSchema,
        name: z.string(),
        /** Oldest first; a day without figures is left out. */
        days: z.array(
          z.object({ dayMs: timeSchema, storedBytes: z.number(), nominalBytes: z.number(), points: z.number() }),
        ),
      }),
    ),
  })
  .meta({ id: 'MonthlyReport' });
export type MonthlyReport = z.infer<typeof monthlyReportSchema>;

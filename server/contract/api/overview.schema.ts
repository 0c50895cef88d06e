import * as z from 'zod';
import { idSchema, timeSchema } from './common.schema.ts';
import { machineRowSchema } from './list.schema.ts';
import { runKindSchema, runStateSchema } from './run.schema.ts';
import { timeZoneSchema } from './schedule.schema.ts';

export const overviewSchema = z
  .object({
    /** Machines that their hosts list. */
    machines: z.object({
      protected: z.number(),
      failing: z.number(),
      pending: z.number(),
      unprotected: z.number(),
    }),
    /** The first few that fail. */
    failing: z.array(machineRowSchema),
    jobs: z.number(),
    /** The jobs that are due next, soonest first. */
    nextRuns: z.array(z.object({ jobId: idSchema, name: z.string(), atMs: timeSchema })),
    /** The first few jobs whose schedule is paused. */
    pausedJobs: z.array(z.object({ jobId: idSchema, name: z.string() })),
    /** The newest restore that ended well; null: none ever did. */
    lastRestore: z.object({ runId: idSchema, title: z.string(), finishedAtMs: timeSchema }).nullable(),
    /** Of the machines with versions the one whose restore was not proven for the longest time; null: there is none. */
    leastProven: z
      .object({
        machineId: idSchema,
        name: z.string(),
        /** When one of its versions was last restored well; null: none ever was. */
        provenAtMs: timeSchema.nullable(),
        firstVersionAtMs: timeSchema,
        /** How many machines were never restored. */
        neverCount: z.number(),
      })
      .nullable(),
  })
  .meta({ id: 'Overview' });
export type Overview = z.infer<typeof overviewSchema>;

export const historyQuerySchema = z.strictObject({
  days: z.coerce.number().int().min(1).max(366).default(30),
  /** In which days begin. */
  timeZone: timeZoneSchema.default('UTC'),
});

/** Day by day, oldest first, today last. */
export const historySchema = z
  .object({
    days: z.array(
      z.object({
        /** `2027-01-31` in the time zone asked for. */
        date: z.string(),
        /** Read from hosts, and what of it was new to the repository, compressed. */
        readBytes: z.number(),
        storedBytes: z.number(),
        runs: z.array(z.object({ kind: runKindSchema, state: runStateSchema, count: z.number() })),
      }),
    ),
    /** Of each repository the size at the end of the days that are known, oldest first. */
    sizes: z.array(
      z.object({
        repositoryId: idSchema,
        points: z.array(z.object({ date: z.string(), storedBytes: z.number() })),
      }),
    ),
  })
  .meta({ id: 'History' });
export type History = z.infer<typeof historySchema>;

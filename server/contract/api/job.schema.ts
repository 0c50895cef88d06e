import { z } from 'zod';
import { idSchema, nameSchema, pathSchema, timeSchema } from './common.schema.ts';
import { hostNameSchema } from './host.schema.ts';
import { scheduleSchema } from './schedule.schema.ts';

export const jobOptionsSchema = z.strictObject({
  quiesce: z.enum(['require', 'try', 'off']).default('try'),
  /** Read everything although a change map is there. */
  fullRead: z.boolean().default(false),
  /** Share of the areas said to be unchanged that is read and compared with the store. */
  verifySample: z.number().min(0).max(1).default(0.0005),
  /** NFS folder of the NAS that hosts may mount for staging clones. */
  nfsStaging: z
    .strictObject({ server: hostNameSchema, share: z.string().min(1).max(1024), localPath: pathSchema })
    .nullable()
    .default(null),
  /** Machine id → keys of disks to leave out. */
  excludedDisks: z.record(idSchema, z.array(z.string().max(64)).max(256)).default({}),
});
export type JobOptions = z.infer<typeof jobOptionsSchema>;

const jobShape = {
  name: nameSchema,
  machineIds: z
    .array(idSchema)
    .min(1)
    .max(1000)
    .refine((ids) => new Set(ids).size === ids.length, 'must not name a machine twice'),
  repositoryId: idSchema,
  options: jobOptionsSchema.prefault({}),
};

export const jobInputSchema = z.strictObject(jobShape);
export type JobInput = z.infer<typeof jobInputSchema>;

/** `revision` is the one that was read: an edit made meanwhile by someone else is not overwritten. */
export const jobChangeSchema = z.strictObject({ ...jobShape, revision: z.number().int() });

export const jobRunSchema = z.strictObject({
  /** For this run only; the job's own setting when absent. */
  fullRead: z.boolean().optional(),
  /** A part of the job's machines; all when absent. */
  machineIds: z.array(idSchema).min(1).max(1000).optional(),
});

export const jobSchema = z
  .object({
    id: idSchema,
    name: z.string(),
    machineIds: z.array(idSchema),
    repositoryId: idSchema,
    options: jobOptionsSchema,
    revision: z.number(),
    createdAtMs: timeSchema,
    updatedAtMs: timeSchema,
    activeRunId: idSchema.nullable(),
    lastRun: z.object({ runId: idSchema, state: z.string(), finishedAtMs: timeSchema.nullable() }).nullable(),
    /** Null: it runs on request only. Set with PUT /jobs/:id/schedule. */
    schedule: scheduleSchema.nullable(),
    /** Jitter comes on top; null: never by itself. */
    nextRunAtMs: timeSchema.nullable(),
    /** When the newest run was due that could not begin in time. */
    missedAtMs: timeSchema.nullable(),
  })
  .meta({ id: 'Job' });
export type JobView = z.infer<typeof jobSchema>;

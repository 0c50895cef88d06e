import * as z from 'zod';
import { errorBodySchema, idSchema, nameSchema, pathSchema, timeSchema } from './common.schema.ts';
import { hostNameSchema } from './host.schema.ts';
import { retentionSchema } from './retention.schema.ts';
import { scheduleSchema } from './schedule.schema.ts';
import { selectionSchema } from './selection.schema.ts';
import { throttleSchema } from './throttle.schema.ts';

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
  /** Which versions stay; what goes, goes to the trash. Null: all stay. */
  retention: retentionSchema.nullable().default(null),
  /** Machine id → keys of disks to leave out. */
  excludedDisks: z.record(idSchema, z.array(z.string().max(64)).max(256)).default({}),
  /** Leaves out what the guests' file systems call free; it comes back as zeros. Off when absent. */
  skipFreeSpace: z.boolean().exactOptional(),
  /** Leaves out what swap areas and page files hold. Off when absent. */
  skipSwap: z.boolean().exactOptional(),
  /** Whose machines come first when not all can be at work. */
  priority: z.enum(['high', 'normal', 'low']).default('normal'),
  /** How fast the machines of this job together are read; null: as fast as the settings allow. */
  throttle: throttleSchema.nullable().default(null),
});
export type JobOptions = z.infer<typeof jobOptionsSchema>;

const jobShape = {
  name: nameSchema,
  /** One by one; not looked at when there is a selection. */
  machineIds: z
    .array(idSchema)
    .max(1000)
    .refine((ids) => new Set(ids).size === ids.length, 'must not name a machine twice')
    .default([]),
  /** By what they are like: new ones join. */
  selection: selectionSchema.nullable().default(null),
  repositoryId: idSchema,
  options: jobOptionsSchema.prefault({}),
};

const NO_MACHINE = { path: ['machineIds'], error: 'must name a machine, or there must be a selection' };

function hasMachines({ machineIds, selection }: { machineIds: string[]; selection?: unknown }): boolean {
  return machineIds.length > 0 || selection !== null;
}

export const jobInputSchema = z.strictObject(jobShape).refine(hasMachines, NO_MACHINE);
export type JobInput = z.infer<typeof jobInputSchema>;

/** `revision` is the one that was read: an edit made meanwhile by someone else is not overwritten. */
export const jobChangeSchema = z
  .strictObject({
    ...jobShape,
    /** Stays as it is when absent: who edits without knowing of rules does not lose them. */
    selection: selectionSchema.nullable().optional(),
    revision: z.number().int(),
  })
  .refine(hasMachines, NO_MACHINE);

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
    /** With a selection: those that it gave the last time. */
    machineIds: z.array(idSchema),
    selection: selectionSchema.nullable(),
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
    /** Its schedule lets no run begin any more: all that it names has passed. */
    isOver: z.boolean(),
    /** When the newest run was due that could not begin in time. */
    missedAtMs: timeSchema.nullable(),
  })
  .meta({ id: 'Job' });
export type JobView = z.infer<typeof jobSchema>;

/** What became of the versions: each by itself, so one that is refused does not keep the others. */
export const jobRemovedSchema = z
  .object({
    /** How many are in the trash now. */
    trashed: z.number().int(),
    /** They stay as versions of a machine without a task. */
    failed: z.array(z.object({ pointId: z.string(), error: errorBodySchema })),
  })
  .meta({ id: 'JobRemoved' });
export type JobRemoved = z.infer<typeof jobRemovedSchema>;

export const jobRemoveQuerySchema = z.strictObject({
  /** What becomes of the versions that the job made of its machines, unless another job has them too. */
  versions: z.enum(['keep', 'trash']).default('keep'),
});

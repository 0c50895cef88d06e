import * as z from 'zod';
import { idSchema, timeSchema } from './common.schema.ts';
import { jobSchema } from './job.schema.ts';

/** How well a machine is off: what the worst of its last run and its versions says. */
export const protectionSchema = z.enum(['protected', 'failing', 'pending', 'unprotected']);
export type Protection = z.infer<typeof protectionSchema>;

function listQuery<Sort extends readonly [string, ...string[]]>(sorts: Sort) {
  return {
    search: z.string().max(255).optional(),
    sort: z.enum(sorts).default(sorts[0]),
    descending: z.stringbool().default(false),
    offset: z.coerce.number().int().min(0).max(10_000_000).default(0),
    limit: z.coerce.number().int().min(1).max(200).default(50),
  };
}

export const machineListQuerySchema = z.strictObject({
  ...listQuery(['name', 'host', 'protection', 'last', 'points', 'size']),
  hostId: idSchema.optional(),
  protection: protectionSchema.optional(),
  /** Only machines that their host lists. */
  present: z.stringbool().optional(),
  /** Only machines with versions. */
  restorable: z.stringbool().optional(),
});
export type MachineListQuery = z.infer<typeof machineListQuerySchema>;

/** A machine as one line of a list: what `Machine` says, without its disks and networks. */
export const machineRowSchema = z
  .object({
    id: idSchema,
    name: z.string(),
    hostId: idSchema.nullable(),
    hostName: z.string().nullable(),
    present: z.boolean(),
    protection: protectionSchema,
    jobs: z.array(z.object({ id: idSchema, name: z.string() })),
    pointCount: z.number(),
    lastPointAtMs: timeSchema.nullable(),
    /** It has versions, and all of them are in the trash. */
    isAllTrashed: z.boolean(),
    lastRun: z.object({ runId: idSchema, state: z.string(), finishedAtMs: timeSchema.nullable() }).nullable(),
    /** The first of its jobs that is due; null: none by itself. */
    nextRunAtMs: timeSchema.nullable(),
    sizeBytes: z.number(),
  })
  .meta({ id: 'MachineRow' });
export type MachineRow = z.infer<typeof machineRowSchema>;

export const machineListSchema = z
  .object({ rows: z.array(machineRowSchema), total: z.number() })
  .meta({ id: 'MachineList' });

export const jobListQuerySchema = z.strictObject(listQuery(['name', 'last']));
export type JobListQuery = z.infer<typeof jobListQuerySchema>;

export const jobRowSchema = jobSchema
  .extend({
    /** Of the first few machines. */
    machineNames: z.array(z.string()),
    repositoryName: z.string(),
  })
  .meta({ id: 'JobRow' });
export type JobRow = z.infer<typeof jobRowSchema>;

export const jobListSchema = z.object({ rows: z.array(jobRowSchema), total: z.number() }).meta({ id: 'JobList' });

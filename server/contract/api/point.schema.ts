import { z } from 'zod';
import { idSchema, pageQuerySchema, timeSchema } from './common.schema.ts';

export const pointDiskSchema = z
  .object({ key: z.string(), label: z.string(), sizeBytes: z.number(), storedBytes: z.number() })
  .meta({ id: 'PointDisk' });

/** A version of a machine in a repository. */
export const pointSchema = z
  .object({
    id: z.string(),
    repositoryId: idSchema,
    machineId: z.string(),
    machineName: z.string(),
    createdAtMs: timeSchema,
    state: z.enum(['complete', 'incomplete', 'damaged']),
    stateReasons: z.array(z.string()),
    /** `application`, `filesystem`, `crash` or `off`, by the host's own flag; null when not recorded. */
    consistency: z.string().nullable(),
    sizeBytes: z.number(),
    rootHash: z.string().nullable(),
    previousPointId: z.string().nullable(),
    disks: z.array(pointDiskSchema),
  })
  .meta({ id: 'Point' });
export type PointView = z.infer<typeof pointSchema>;

export const pointQuerySchema = z.strictObject({
  ...pageQuerySchema(),
  machineId: z.string().max(64).optional(),
  repositoryId: idSchema.optional(),
  /** Asks the repositories first instead of telling what is remembered. */
  refresh: z.stringbool().optional(),
});

export const pointPageSchema = z
  .object({ points: z.array(pointSchema), next: z.string().nullable() })
  .meta({ id: 'PointPage' });

import * as z from 'zod';
import { errorBodySchema, idSchema, pageQuerySchema, timeSchema } from './common.schema.ts';

export const pointDiskSchema = z
  .object({
    key: z.string(),
    label: z.string(),
    sizeBytes: z.number(),
    storedBytes: z.number(),
    /** Somewhere it has zeros where the disk had free space or swap, by choice of the task. Absent: nowhere. */
    hasSkipped: z.boolean().exactOptional(),
  })
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
    /** No path deletes it before; null: was never locked. */
    lockedUntilMs: timeSchema.nullable(),
    /** Null: not in the trash. After `keepUntilMs` the next maintenance removes it for good. */
    trash: z.object({ deletedAtMs: timeSchema, keepUntilMs: timeSchema, reason: z.string() }).nullable(),
  })
  .meta({ id: 'Point' });
export type PointView = z.infer<typeof pointSchema>;

export const pointQuerySchema = z.strictObject({
  ...pageQuerySchema(),
  machineId: z.string().max(64).optional(),
  repositoryId: idSchema.optional(),
  /** Those in the trash instead of the others. */
  trash: z.stringbool().default(false),
  /** Asks the repositories first instead of telling what is remembered. */
  refresh: z.stringbool().optional(),
});

export const pointPageSchema = z
  .object({ points: z.array(pointSchema), next: z.string().nullable() })
  .meta({ id: 'PointPage' });

const pointIdsShape = {
  pointIds: z.array(z.string().min(1).max(128)).min(1).max(1000),
  /** Needed where several repositories have the versions: copies keep their ids. */
  repositoryId: idSchema.exactOptional(),
};

export const pointsDeleteSchema = z.strictObject({
  ...pointIdsShape,
  /** How long they can be brought back; the setting when absent. 0: the next maintenance removes them for good. */
  trashDays: z.number().int().min(0).max(3660).exactOptional(),
});

export const pointsUndeleteSchema = z.strictObject(pointIdsShape);

export const pointsLockSchema = z.strictObject({
  ...pointIdsShape,
  /** Cannot be taken back or shortened. */
  untilMs: timeSchema,
});

/** Each version by itself: one that is refused does not keep the others. */
export const pointsChangedSchema = z
  .object({
    /** As they are now. */
    points: z.array(pointSchema),
    failed: z.array(z.object({ pointId: z.string(), error: errorBodySchema })),
  })
  .meta({ id: 'PointsChanged' });
export type PointsChanged = z.infer<typeof pointsChangedSchema>;

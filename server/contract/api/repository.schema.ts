import * as z from 'zod';
import { CHECK_DEPTHS } from '../run.ts';
import { errorBodySchema, idSchema, nameSchema, pathSchema, timeSchema } from './common.schema.ts';
import { retentionSchema } from './retention.schema.ts';
import { keyTextSchema, passphraseSchema } from './repository-key.schema.ts';

export const repositoryCreateSchema = z.strictObject({
  name: nameSchema,
  path: pathSchema,
  chunkSizeBytes: z
    .number()
    .int()
    .refine(
      (bytes) => [65536, 131072, 262144, 524288, 1048576].includes(bytes),
      'must be 64 KiB to 1 MiB, a power of 2',
    )
    .default(262144),
  /** Given: everything in it is encrypted. Without it, and without a recovery key, nobody can read it. */
  passphrase: passphraseSchema.optional(),
});

export const repositoryAdoptSchema = z.strictObject({
  name: nameSchema,
  path: pathSchema,
  /** Passphrase or recovery key of an encrypted one. */
  key: keyTextSchema.optional(),
});

export const repositoryChangeSchema = z.strictObject({
  name: nameSchema.optional(),
  path: pathSchema.optional(),
  /**
   * Of machines that no job backs up into it, whose versions are copies therefore: applied after every copy and by
   * maintenance. Null: all stay.
   */
  retention: retentionSchema.nullable().optional(),
});

export const repositoryCopySchema = z.strictObject({
  targetId: idSchema,
  /** All that the target's retention would keep when absent. Those that the target has are left out. */
  pointIds: z.array(z.string().min(1)).min(1).max(10_000).optional(),
});

export const repositoryCheckSchema = z.strictObject({ depth: z.enum(CHECK_DEPTHS).default('structure') });

/** Maintenance: versions whose time in the trash is over go for good, room comes free, data is read again. */
export const repositoryMaintenanceSchema = z
  .object({
    /** `/runs/:id` shows how far it is and cancels it. */
    activeRunId: idSchema.nullable(),
    lastRun: z.object({ runId: idSchema, state: z.string(), finishedAtMs: timeSchema.nullable() }).nullable(),
    /** Null: not by itself. */
    nextAtMs: timeSchema.nullable(),
    /** Something of the last one waits for runs that were at work. */
    isWaiting: z.boolean(),
    trash: z.object({
      points: z.number(),
      /** When the first of them goes for good. */
      nextPurgeAtMs: timeSchema.nullable(),
    }),
    /** How far the store was read again; null: never yet. */
    verification: z
      .object({
        roundStartedAtMs: timeSchema,
        /** The whole store was read by then. */
        lastRoundEndedAtMs: timeSchema.nullable(),
        verifiedBytes: z.number(),
        totalBytes: z.number(),
      })
      .nullable(),
  })
  .meta({ id: 'RepositoryMaintenance' });
export type RepositoryMaintenanceView = z.infer<typeof repositoryMaintenanceSchema>;

/** Of the volume that the repository lies on, as it is now; null while its folder is not there. */
export const repositorySpaceSchema = z
  .object({ freeBytes: z.number().nullable(), totalBytes: z.number().nullable() })
  .meta({ id: 'RepositorySpace' });
export type RepositorySpace = z.infer<typeof repositorySpaceSchema>;

export const repositoryUsageQuerySchema = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
});

/** What the versions of each machine have added to a repository; whoever added most stands first. */
export const repositoryUsageSchema = z
  .object({
    machines: z.array(
      z.object({
        machineId: z.string(),
        /** As its newest version has it. */
        name: z.string(),
        /** Those in the trash are not among them. */
        versions: z.number(),
        trashed: z.number(),
        /** Of the disks of the newest version. */
        sizeBytes: z.number(),
        /**
         * New data of all its versions, the trash included, each counted when it was made. What other machines share
         * with it counts for the one that brought it first.
         */
        addedBytes: z.number(),
        lastAtMs: timeSchema,
      }),
    ),
    /** How many machines there are. */
    total: z.number(),
  })
  .meta({ id: 'RepositoryUsage' });
export type RepositoryUsage = z.infer<typeof repositoryUsageSchema>;

export const repositoryStatsSchema = z
  .object({
    points: z.number(),
    packs: z.number(),
    chunks: z.number(),
    storedBytes: z.number(),
    nominalBytes: z.number(),
    /**
     * Bytes of the disks of all versions that take no room, by what saved them when the version was made. Absent until
     * the repository was looked at by a Dozo that counts them.
     */
    reduction: z
      .object({
        /** Unchanged since the version before, or never used by the disk: not even read. */
        unreadBytes: z.number(),
        /** Left out by choice of the task: free space and swap of guests. Absent: not counted yet. */
        skippedBytes: z.number().exactOptional(),
        zeroBytes: z.number(),
        /** Read, and in the repository already. */
        duplicateBytes: z.number(),
        compressedBytes: z.number(),
      })
      .exactOptional(),
  })
  .meta({ id: 'RepositoryStats' });
export type RepositoryStatsView = z.infer<typeof repositoryStatsSchema>;

export const repositorySchema = z
  .object({
    id: idSchema,
    name: z.string(),
    path: z.string(),
    /** Id written in the repository itself. */
    formatId: z.string().nullable(),
    chunkSizeBytes: z.number().nullable(),
    stats: repositoryStatsSchema.nullable(),
    /** Outcome of the last contact. */
    error: errorBodySchema.nullable(),
    seenAtMs: timeSchema.nullable(),
    createdAtMs: timeSchema,
    encrypted: z.boolean(),
    retention: retentionSchema.nullable(),
    lastCheck: z.object({ runId: idSchema, state: z.string(), finishedAtMs: timeSchema.nullable() }).nullable(),
  })
  .meta({ id: 'Repository' });
export type RepositoryView = z.infer<typeof repositorySchema>;

export const repositoryCreatedSchema = repositorySchema
  .extend({
    /** 24 words that open an encrypted repository; shown now and never again. Null for a plain one. */
    recoveryKey: z.string().nullable(),
  })
  .meta({ id: 'RepositoryCreated' });

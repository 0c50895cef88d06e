import * as z from 'zod';
import { CHECK_DEPTHS } from '../run.ts';
import { errorBodySchema, idSchema, logLineSchema, pageQuerySchema, timeSchema } from './common.schema.ts';

export const runStateSchema = z.enum(['waiting', 'running', 'success', 'warning', 'incomplete', 'failed', 'cancelled']);
export const runKindSchema = z.enum(['backup', 'restore', 'export', 'check', 'maintenance', 'copy']);
export type RunKind = z.infer<typeof runKindSchema>;
/**
 * `catch-up`: the schedule, too late; `retry`: the schedule, after a failure; `link`: the end of a run of
 * another job; `window`: going on with a run that ended with its window.
 */
export const runStarterSchema = z.enum(['request', 'schedule', 'catch-up', 'retry', 'link', 'window']);
export type RunStarter = z.infer<typeof runStarterSchema>;
/** Who wanted a run to end before it was done: a person or program, or the window that closed. */
const runStopperSchema = z.enum(['request', 'window']);
export type RunStopper = z.infer<typeof runStopperSchema>;

export const machineProgressSchema = z
  .object({
    stage: z.enum([
      'waiting',
      'connecting',
      'freezing',
      'planning',
      'reading',
      'committing',
      'thawing',
      'preparing',
      'writing',
      'verifying',
      'finishing',
      'done',
    ]),
    totalBytes: z.number(),
    doneBytes: z.number(),
    bytesPerSecond: z.number(),
    remainingSeconds: z.number().nullable(),
    /** Nothing has moved since then: the host takes long, or is not there. Absent below a minute. */
    stillSinceMs: timeSchema.exactOptional(),
    disks: z.array(
      z.object({
        key: z.string(),
        label: z.string(),
        totalBytes: z.number(),
        doneBytes: z.number(),
        route: z.string().nullable(),
        /**
         * What holds it up at the moment: the host or the way to it, the limit that is set, the processor, the
         * repository.
         */
        waitsFor: z.enum(['source', 'limit', 'processor', 'repository']).exactOptional(),
      }),
    ),
  })
  .meta({ id: 'MachineProgress' });

export const transferStatsSchema = z
  .object({
    nominalBytes: z.number(),
    readBytes: z.number(),
    sentBytes: z.number(),
    storedBytes: z.number(),
    zeroBytes: z.number(),
    duplicateBytes: z.number(),
    skippedBytes: z.number().optional(),
  })
  .meta({ id: 'TransferStats' });

const endStateSchema = z.enum(['success', 'warning', 'incomplete', 'failed', 'cancelled']);

export const backupResultSchema = z
  .object({
    state: endStateSchema,
    pointId: z.string().nullable(),
    error: errorBodySchema.nullable(),
    stats: transferStatsSchema,
    disks: z.array(
      z.object({
        key: z.string(),
        label: z.string(),
        sizeBytes: z.number(),
        kind: z.enum(['changed', 'allocated', 'everything', 'excluded', 'failed']),
        why: logLineSchema,
        route: z.string().nullable(),
        stats: transferStatsSchema,
        seconds: z.number(),
        bottleneck: z.enum(['host', 'network', 'limit', 'processor', 'repository']).nullable(),
      }),
    ),
    consistency: z.object({ level: z.string(), requested: z.string(), evidence: z.string() }).nullable(),
    holdReleased: z.boolean(),
    identity: z.unknown(),
    startedAtMs: timeSchema,
    finishedAtMs: timeSchema,
  })
  .meta({ id: 'BackupResult' });

export const restoreResultSchema = z
  .object({
    state: endStateSchema,
    error: errorBodySchema.nullable(),
    machine: z.unknown(),
    writtenBytes: z.number(),
    verifiedBytes: z.number(),
    holdReleased: z.boolean(),
    startedAtMs: timeSchema,
    finishedAtMs: timeSchema,
  })
  .meta({ id: 'RestoreResult' });

export const checkResultSchema = z
  .object({
    depth: z.enum(CHECK_DEPTHS),
    points: z.number(),
    packs: z.number(),
    chunks: z.number(),
    readBytes: z.number(),
    damages: z.array(z.object({ code: z.string(), text: z.string(), name: z.string(), affects: z.array(z.unknown()) })),
  })
  .meta({ id: 'CheckResult' });

/** What a copy into another repository did; what it did not finish, the next one does. */
export const copyResultSchema = z
  .object({
    state: endStateSchema,
    error: errorBodySchema.nullable(),
    copied: z.array(z.object({ pointId: z.string(), targetPointId: z.string() })),
    /** Versions that the target had already. */
    present: z.number(),
    failed: z.array(z.object({ pointId: z.string(), code: z.string(), text: z.string() })),
    readBytes: z.number(),
    storedBytes: z.number(),
    holdReleased: z.boolean(),
  })
  .meta({ id: 'CopyResult' });

/** What a maintenance did: ended deletions, freed room, read a part of the store again. */
export const maintenanceResultSchema = z
  .object({
    /** `waiting`: runs are at work that may need what is to go; the next maintenance goes on. */
    state: z.enum(['done', 'waiting']),
    waitingFor: z.array(z.string()),
    /** Versions that were removed for good. */
    purgedPoints: z.array(z.string()),
    keptPoints: z.number(),
    fencedSessions: z.array(z.string()),
    packs: z.number(),
    removedPacks: z.number(),
    removedBytes: z.number(),
    writtenBytes: z.number(),
    missingChunks: z.number(),
    /** Null: none was due. */
    verification: z
      .object({
        verifiedBytes: z.number(),
        totalBytes: z.number(),
        /** Where the next one goes on; null: this one came to the end of the store. */
        nextAfter: z.string().nullable(),
      })
      .nullable(),
    damages: checkResultSchema.shape.damages,
  })
  .meta({ id: 'MaintenanceResult' });

/** One machine's (or, for a check, the repository's) part of a run. */
export const runPartSchema = z
  .object({
    id: idSchema,
    machineId: idSchema.nullable(),
    name: z.string(),
    hostId: idSchema.nullable(),
    state: runStateSchema,
    /** How often a worker took it up. */
    attempts: z.number(),
    startedAtMs: timeSchema.nullable(),
    finishedAtMs: timeSchema.nullable(),
    error: errorBodySchema.nullable(),
    progress: machineProgressSchema.nullable(),
    /** By kind of the run; null until it ended. */
    result: z
      .union([backupResultSchema, restoreResultSchema, checkResultSchema, maintenanceResultSchema, copyResultSchema])
      .nullable(),
    /** False while something of ours may still be on the host; Dozo keeps trying to remove it. */
    holdReleased: z.boolean(),
  })
  .meta({ id: 'RunPart' });
export type RunPartView = z.infer<typeof runPartSchema>;

export const runSchema = z
  .object({
    id: idSchema,
    kind: runKindSchema,
    jobId: idSchema.nullable(),
    repositoryId: idSchema.nullable(),
    /** Name of the job, of the restored machine or of the repository at the time. */
    title: z.string(),
    state: runStateSchema,
    cancelRequested: z.boolean(),
    stoppedBy: runStopperSchema.nullable(),
    createdAtMs: timeSchema,
    startedAtMs: timeSchema.nullable(),
    finishedAtMs: timeSchema.nullable(),
    error: errorBodySchema.nullable(),
    startedBy: runStarterSchema,
    /** When the schedule wanted it; null for a request. */
    dueAtMs: timeSchema.nullable(),
    /** 0 for the first try, then the number of the repetition. */
    attempt: z.number(),
  })
  .meta({ id: 'Run' });
export type RunView = z.infer<typeof runSchema>;

export const runDetailSchema = runSchema.extend({ parts: z.array(runPartSchema) }).meta({ id: 'RunDetail' });

export const runQuerySchema = z.strictObject({
  ...pageQuerySchema(),
  jobId: idSchema.optional(),
  machineId: idSchema.optional(),
  kind: runKindSchema.optional(),
  state: runStateSchema.optional(),
  /** Only those that have not ended. */
  active: z.stringbool().optional(),
  /** Only those whose title, or the name of a machine in it, holds this. */
  search: z.string().max(255).optional(),
  /** Only those made in this span; `toMs` itself is outside. */
  fromMs: z.coerce.number().int().min(0).optional(),
  toMs: z.coerce.number().int().min(0).optional(),
});

export const runPageSchema = z
  .object({ runs: z.array(runSchema), next: z.string().nullable() })
  .meta({ id: 'RunPage' });

export const runLogQuerySchema = z.strictObject({
  /** `next` of the answer before. */
  after: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(5000).default(500),
  level: z.enum(['info', 'warning', 'error']).optional(),
});

export const runLogSchema = z
  .object({
    lines: z.array(logLineSchema.extend({ partId: idSchema.nullable() })),
    /** Pass as `after` for what follows. */
    next: z.number(),
  })
  .meta({ id: 'RunLog' });

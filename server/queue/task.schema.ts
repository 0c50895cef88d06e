import * as z from 'zod';
import { CHECK_DEPTHS } from '../contract/run.ts';
import type { WorkerTask } from '../contract/task.ts';

const sealed = z.string().min(1);
const repository = z.strictObject({
  path: z.string().min(1),
  formatId: z.string().min(1).exactOptional(),
  key: sealed.exactOptional(),
});
const runId = z.string().min(1);
const hold = z.string().regex(/^dozo-[0-9a-f]{16}$/);

const backupOptions = z.strictObject({
  quiesce: z.enum(['require', 'try', 'off']),
  fullRead: z.boolean(),
  verifySample: z.number().min(0).max(1),
  nfsStaging: z.strictObject({ server: z.string(), share: z.string(), localPath: z.string() }).nullable(),
  excludedDisks: z.array(z.string()),
  skipFreeSpace: z.boolean().exactOptional(),
  skipSwap: z.boolean().exactOptional(),
});

const target = z.strictObject({
  mode: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('new'), name: z.string().min(1) }),
    z.strictObject({ kind: z.literal('replace'), identity: z.unknown() }),
  ]),
  datastore: z.string().nullable(),
  provisioning: z.enum(['thin', 'thick', 'eager', 'as-source']),
  networks: z.record(z.string(), z.string()),
  identity: z.enum(['keep', 'new']),
  powerOn: z.boolean(),
  acceptIncomplete: z.boolean().exactOptional(),
});

const slotId = z.string().regex(/^[0-9a-f]{16}$/);
const keyAction = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('list') }),
  z.strictObject({
    kind: z.literal('add'),
    what: z.enum(['passphrase', 'recovery', 'machine']),
    label: z.string(),
    secret: sealed.exactOptional(),
    replaces: slotId.exactOptional(),
  }),
  z.strictObject({ kind: z.literal('remove'), slotId }),
  z.strictObject({ kind: z.literal('drill'), secret: sealed }),
  z.strictObject({ kind: z.literal('take-up'), secret: sealed }),
]);

/**
 * The queue's items, checked on both sides: Redis may be shared, and may hold what an older Dozo put
 * there. Same shapes as `WorkerTask`, which the compiler compares.
 */
export const workerTaskSchema: z.ZodType<WorkerTask> = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('probe'), address: sealed }),
  z.strictObject({ kind: z.literal('inventory'), address: sealed, facts: z.unknown().optional() }),
  z.strictObject({
    kind: z.literal('backup'),
    runId,
    hold,
    address: sealed,
    facts: z.unknown().optional(),
    machineId: z.string().min(1),
    identity: z.unknown(),
    repository,
    options: backupOptions,
  }),
  z.strictObject({
    kind: z.literal('restore'),
    runId,
    hold,
    address: sealed,
    facts: z.unknown().optional(),
    repository,
    pointId: z.string(),
    target,
  }),
  z.strictObject({
    kind: z.literal('export'),
    runId,
    repository,
    pointId: z.string(),
    diskKey: z.string(),
    format: z.enum(['raw', 'vmdk']),
    path: z.string(),
  }),
  z.strictObject({ kind: z.literal('sweep'), address: sealed, facts: z.unknown().optional(), holds: z.array(hold) }),
  z.strictObject({
    kind: z.literal('copy'),
    runId,
    repository,
    target: repository,
    pointIds: z.array(z.string()).nullable(),
  }),
  z.strictObject({ kind: z.literal('check'), runId, repository, depth: z.enum(CHECK_DEPTHS) }),
  z.strictObject({
    kind: z.literal('maintenance'),
    runId,
    repository,
    patienceMs: z.number().nonnegative(),
    verify: z
      .strictObject({ after: z.string().nullable(), bytesMax: z.number().positive(), timeMs: z.number().positive() })
      .nullable(),
    clockDoubt: z.strictObject({ aheadMs: z.number().positive(), settlesInMs: z.number() }).nullable().exactOptional(),
    readPoints: z.array(z.string()).exactOptional(),
  }),
  z.strictObject({
    kind: z.literal('change-points'),
    repository,
    pointIds: z.array(z.string()),
    change: z.discriminatedUnion('verb', [
      z.strictObject({ verb: z.literal('delete'), keepUntilMs: z.number(), reason: z.string() }),
      z.strictObject({ verb: z.literal('restore') }),
      z.strictObject({ verb: z.literal('lock'), untilMs: z.number() }),
    ]),
  }),
  z.strictObject({ kind: z.literal('points'), repository }),
  z.strictObject({
    kind: z.literal('create-repository'),
    repository,
    chunkSizeBytes: z.number().int().positive(),
    secret: sealed.exactOptional(),
  }),
  z.strictObject({ kind: z.literal('keys'), repository, action: keyAction }),
]);

const details = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]));

export const logLineSchema = z.object({
  atMs: z.number(),
  level: z.enum(['info', 'warning', 'error']),
  code: z.string(),
  text: z.string(),
  details: details.optional(),
});

const numberedLineSchema = z.object({ sequence: z.number().int(), line: logLineSchema });

/** What a worker says in the middle of a task. `source` names one execution of it. */
export const taskEventSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('started'), source: z.string() }),
  z.object({
    kind: z.literal('progress'),
    progress: z.object({
      stage: z.string(),
      totalBytes: z.number(),
      doneBytes: z.number(),
      bytesPerSecond: z.number(),
      remainingSeconds: z.number().nullable(),
      stillSinceMs: z.number().optional(),
      disks: z.array(
        z.object({
          key: z.string(),
          label: z.string(),
          totalBytes: z.number(),
          doneBytes: z.number(),
          route: z.string().nullable(),
          waitsFor: z.string().optional(),
        }),
      ),
    }),
  }),
  z.object({ kind: z.literal('log'), source: z.string(), entries: z.array(numberedLineSchema) }),
]);

/** How a task ended: errors are values here, so that their codes cross the process. */
export const taskOutcomeSchema = z.object({
  ok: z.boolean(),
  value: z.unknown(),
  error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional(), details }).nullable(),
  source: z.string(),
  /** All lines of this execution: those that were lost on the way are added at the end. */
  log: z.array(numberedLineSchema),
});

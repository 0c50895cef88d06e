import * as z from 'zod';
import { timeSchema } from './common.schema.ts';

/** Answers before login, so it says nothing else. */
export const healthSchema = z.object({ status: z.enum(['ok', 'degraded']) }).meta({ id: 'Health' });

export const systemSchema = z
  .object({
    version: z.string(),
    startedAtMs: timeSchema,
    nowMs: timeSchema,
    /** When the oldest account was made: nothing is known of any time before. */
    firstUsedAtMs: timeSchema,
    queue: z.enum(['up', 'down']),
    workers: z.array(
      z.object({
        id: z.string(),
        host: z.string(),
        pid: z.number(),
        /** Tasks at the same time, as of now; restores and exports aside. */
        concurrency: z.number(),
        /** Restores and exports beside those; missing for a worker of an older version. */
        restores: z.number().exactOptional(),
        /** What decided the former. */
        limitedBy: z.enum(['configuration', 'setting', 'memory']),
        running: z.array(z.string()),
        seenAtMs: timeSchema,
      }),
    ),
    /** Of the port with TLS: what clients pin. Null: a web server before Dozo has one of its own. */
    certificate: z
      .object({
        /** SHA-256 of the certificate, lower-case hex. */
        fingerprint: z.string(),
        validUntilMs: timeSchema,
        /** Made by Dozo, not provided by the administrator. */
        isOwn: z.boolean(),
      })
      .nullable(),
    openHolds: z.number(),
    activeRuns: z.number(),
  })
  .meta({ id: 'System' });
export type SystemView = z.infer<typeof systemSchema>;

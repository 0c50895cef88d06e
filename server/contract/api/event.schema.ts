import * as z from 'zod';
import { idSchema, logLineSchema } from './common.schema.ts';
import { machineProgressSchema, runDetailSchema, runSchema } from './run.schema.ts';

/**
 * What `GET /api/v1/events` sends: server-sent events with `id`, `event` (the `type`) and `data`.
 * After `reset` the reader has missed some and loads what it shows anew.
 */
export const eventSchema = z
  .discriminatedUnion('type', [
    z.object({ type: z.literal('reset') }),
    z.object({ type: z.literal('run'), run: runSchema }),
    z.object({ type: z.literal('part'), runId: idSchema, part: runDetailSchema.shape.parts.element }),
    z.object({
      type: z.literal('progress'),
      runId: idSchema,
      partId: idSchema,
      progress: machineProgressSchema,
    }),
    z.object({ type: z.literal('log'), runId: idSchema, partId: idSchema.nullable(), line: logLineSchema }),
    z.object({ type: z.literal('probe'), probeId: z.string(), line: logLineSchema }),
    /** Something of this kind was made, changed or removed: load it again. */
    z.object({
      type: z.literal('changed'),
      what: z.enum(['host', 'machine', 'repository', 'job', 'point', 'settings', 'token', 'notification']),
      id: z.string().nullable(),
    }),
  ])
  .meta({ id: 'Event' });
export type ServerEvent = z.infer<typeof eventSchema>;

export const eventQuerySchema = z.strictObject({
  /** Only events of this run. */
  runId: idSchema.optional(),
});

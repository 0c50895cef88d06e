import * as z from 'zod';
import { timeSchema } from './common.schema.ts';

const healthStatusSchema = z.enum(['ok', 'warning', 'critical']);

/** For programs that watch: names and states stay as they are, new checks may come. */
export const healthDetailsSchema = z
  .object({
    /** The worst of the checks. */
    status: healthStatusSchema,
    atMs: timeSchema,
    checks: z.array(
      z.object({
        name: z.enum([
          'queue',
          'catalogue',
          'workers',
          'hosts',
          'repositories',
          'tasks',
          'overdue',
          'holds',
          'notifications',
        ]),
        status: healthStatusSchema,
        /** One English sentence. */
        text: z.string(),
        /** What is concerned: names of hosts, repositories, tasks. */
        items: z.array(z.object({ name: z.string(), reason: z.string() })),
      }),
    ),
  })
  .meta({ id: 'HealthDetails' });
export type HealthDetails = z.infer<typeof healthDetailsSchema>;

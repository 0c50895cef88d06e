import { z } from 'zod';

/** Settings with their defaults: an empty object is a whole one. */
export const settingsSchema = z
  .object({
    /** Machines of one host that are backed up or restored at the same time. */
    tasksPerHost: z.number().int().min(1).max(16).default(2),
    /** Days that ended runs and their logs are kept; the newest of each job always is. */
    keepRunsDays: z.number().int().min(1).max(3660).default(365),
  })
  .meta({ id: 'Settings' });
export type Settings = z.infer<typeof settingsSchema>;

export const settingsChangeSchema = z.strictObject({
  tasksPerHost: settingsSchema.shape.tasksPerHost.unwrap().optional(),
  keepRunsDays: settingsSchema.shape.keepRunsDays.unwrap().optional(),
});

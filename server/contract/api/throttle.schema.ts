import * as z from 'zod';
import { timeOfDaySchema, timeZoneSchema, weekdaySchema } from './schedule.schema.ts';

/** Million bytes a second that backups read from hosts, over all disks of what is limited. */
const megabytesPerSecondSchema = z.number().min(0.1).max(100_000);

/** How fast backups may read, by the time of the week. Restores are never slowed down. */
export const throttleSchema = z
  .strictObject({
    timeZone: timeZoneSchema,
    /** The first one that holds counts. */
    limits: z
      .array(
        z.strictObject({
          /** On which it begins; every day when absent. */
          days: z.array(weekdaySchema).min(1).max(7).optional(),
          from: timeOfDaySchema,
          /** Not included. Not after `from`: it lasts over midnight; the same: for a whole day. */
          until: timeOfDaySchema,
          megabytesPerSecond: megabytesPerSecondSchema,
        }),
      )
      .max(50)
      .default([]),
    /** At all other times; null: as fast as it goes. */
    otherwise: megabytesPerSecondSchema.nullable().default(null),
  })
  .meta({ id: 'Throttle' });
export type Throttle = z.infer<typeof throttleSchema>;

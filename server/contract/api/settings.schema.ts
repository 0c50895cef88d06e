import * as z from 'zod';
import { timeZoneSchema } from './schedule.schema.ts';
import { throttleSchema } from './throttle.schema.ts';

/** Of all repositories: what is in the trash for too long goes, room comes free, data is read again. */
const maintenanceSchema = z.strictObject({
  /** Whether it happens by itself, every day. */
  enabled: z.boolean().default(true),
  /** When: hours and minutes. */
  time: z
    .string()
    .regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'must be HH:MM')
    .default('04:00'),
  timeZone: timeZoneSchema.default('UTC'),
  /** Every stored byte is read and hashed again within so many days. 0: never. */
  verifyDays: z.number().int().min(0).max(3660).default(30),
  /** At most so many minutes of that a day. */
  verifyMinutes: z.number().int().min(1).max(1440).default(60),
});

/** Settings with their defaults: an empty object is a whole one. */
export const settingsSchema = z
  .object({
    /** Machines of one host that are backed up or restored at the same time. */
    tasksPerHost: z.number().int().min(1).max(16).default(2),
    /** Machines with disks on one datastore at the same time: so many VM snapshots of ours at most. */
    tasksPerDatastore: z.number().int().min(1).max(16).default(4),
    /** Tasks that write to or read from one repository at the same time. */
    tasksPerRepository: z.number().int().min(1).max(64).default(8),
    /** Tasks of one worker process at the same time; null: as the worker was started. Less when memory is short. */
    tasksPerWorker: z.number().int().min(1).max(32).nullable().default(null),
    /** Tasks at the same time, wherever. */
    tasksInTotal: z.number().int().min(1).max(256).default(16),
    /** How fast all backups together read; null: as fast as they can. */
    throttle: throttleSchema.nullable().default(null),
    /** Days that ended runs and their logs are kept; the newest of each job always is. */
    keepRunsDays: z.number().int().min(1).max(3660).default(365),
    /** Days that a deleted version can be brought back. */
    trashDays: z.number().int().min(0).max(3660).default(14),
    maintenance: maintenanceSchema.prefault({}),
  })
  .meta({ id: 'Settings' });
export type Settings = z.infer<typeof settingsSchema>;

const { shape } = settingsSchema;

/** What is not named stays. */
export const settingsChangeSchema = z.strictObject({
  tasksPerHost: shape.tasksPerHost.unwrap().optional(),
  tasksPerDatastore: shape.tasksPerDatastore.unwrap().optional(),
  tasksPerRepository: shape.tasksPerRepository.unwrap().optional(),
  tasksPerWorker: shape.tasksPerWorker.unwrap().optional(),
  tasksInTotal: shape.tasksInTotal.unwrap().optional(),
  throttle: shape.throttle.unwrap().optional(),
  keepRunsDays: shape.keepRunsDays.unwrap().optional(),
  trashDays: shape.trashDays.unwrap().optional(),
  maintenance: maintenanceSchema.optional(),
});
export type SettingsChange = z.infer<typeof settingsChangeSchema>;

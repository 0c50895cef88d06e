import * as z from 'zod';

/** What the server tells workers again and again; it lies in Redis, and may vanish at any time. */
export const workerLimitsSchema = z.object({
  /** Tasks of one worker; null: as it was started. */
  tasksPerWorker: z.number().int().positive().nullable(),
  /** Of all backups and restores together, as of now; null: as many as there are. */
  bytesPerSecond: z.number().positive().nullable(),
  /** Of the tasks of single runs together, by the run's id. */
  runBytesPerSecond: z.record(z.string(), z.number().positive()),
});
export type WorkerLimits = z.infer<typeof workerLimitsSchema>;

export const NO_LIMITS: WorkerLimits = { tasksPerWorker: null, bytesPerSecond: null, runBytesPerSecond: {} };

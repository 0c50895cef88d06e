import * as z from 'zod';
import { idSchema, timeSchema } from './common.schema.ts';

/** Who a machine is, whatever its id today; same shape as `MachineIdentity` of `source`. */
export const machineIdentitySchema = z
  .object({
    name: z.string(),
    instanceUuid: z.string().nullable(),
    biosUuid: z.string().nullable(),
    path: z.string(),
    diskUuids: z.array(z.string()),
  })
  .meta({ id: 'MachineIdentity' });
export type MachineIdentityView = z.infer<typeof machineIdentitySchema>;

export const machineDiskSchema = z
  .object({
    key: z.string(),
    label: z.string(),
    sizeBytes: z.number(),
    datastore: z.string(),
    path: z.string(),
    diskUuid: z.string().nullable(),
    provisioning: z.enum(['thin', 'thick', 'eager', 'unknown']),
    excluded: z.enum(['independent', 'rdm-physical', 'shared', 'encrypted']).nullable(),
  })
  .meta({ id: 'MachineDisk' });

/** What a host says of a machine; same shape as `MachineSummary` of `source`. */
export const machineSummarySchema = z
  .object({
    identity: machineIdentitySchema,
    hostId: z.string(),
    powerState: z.enum(['on', 'off', 'suspended']),
    guest: z.string(),
    hardwareVersion: z.string(),
    changeTracking: z.boolean(),
    toolsRunning: z.boolean(),
    hasSnapshots: z.boolean(),
    consolidationNeeded: z.boolean(),
    annotation: z.string(),
    networks: z.array(z.string()),
    /** Absent where an earlier version wrote it down. */
    macAddresses: z.array(z.string()).optional(),
    /** The guest's first, while VMware Tools tell it. */
    ipAddress: z.string().nullable().optional(),
    disks: z.array(machineDiskSchema),
  })
  .meta({ id: 'MachineSummary' });
export type MachineSummaryView = z.infer<typeof machineSummarySchema>;

export const machineSchema = z
  .object({
    /** Dozo's own id: stays through rename, re-registration and restore. */
    id: idSchema,
    /** Null when it is known from versions only. */
    hostId: idSchema.nullable(),
    name: z.string(),
    /** False: the host did not list it the last time. */
    present: z.boolean(),
    identity: machineIdentitySchema,
    summary: machineSummarySchema.nullable(),
    seenAtMs: timeSchema.nullable(),
    jobIds: z.array(idSchema),
    pointCount: z.number(),
    lastPointAtMs: timeSchema.nullable(),
    lastRun: z.object({ runId: idSchema, state: z.string(), finishedAtMs: timeSchema.nullable() }).nullable(),
  })
  .meta({ id: 'Machine' });
export type MachineView = z.infer<typeof machineSchema>;

export const machineQuerySchema = z.strictObject({
  hostId: idSchema.optional(),
  search: z.string().max(255).optional(),
  /** Only these, separated by commas. */
  ids: z
    .string()
    .max(17 * 100)
    .transform((list) => list.split(',').filter((id) => id !== ''))
    .pipe(z.array(idSchema).max(100))
    .optional(),
});

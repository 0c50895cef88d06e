import * as z from 'zod';
import { idSchema, nameSchema, pathSchema } from './common.schema.ts';

const pointIdSchema = z.string().min(1).max(128);

export const restoreInputSchema = z.strictObject({
  pointId: pointIdSchema,
  hostId: idSchema,
  /** `new` beside everything that is there; `replace` takes the place of a machine that exists. */
  mode: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('new'), name: nameSchema }),
    z.strictObject({ kind: z.literal('replace'), machineId: idSchema }),
  ]),
  /** Null: where the machine was. */
  datastore: z.string().min(1).max(255).nullable().default(null),
  provisioning: z.enum(['thin', 'thick', 'eager', 'as-source']).default('as-source'),
  /** Old network name → new; networks not named keep their name. */
  networks: z.record(z.string().max(255), z.string().max(255)).default({}),
  /** Of MAC addresses and UUIDs. */
  identity: z.enum(['keep', 'new']).default('new'),
  powerOn: z.boolean().default(false),
  /** Restore the disks that an incomplete version holds; without it such a version is refused. */
  acceptIncomplete: z.boolean().default(false),
});
export type RestoreInput = z.infer<typeof restoreInputSchema>;

export const exportInputSchema = z.strictObject({
  pointId: pointIdSchema,
  diskKey: z.string().min(1).max(64),
  format: z.enum(['raw', 'vmdk']).default('raw'),
  /** File to make on the NAS. */
  path: pathSchema,
});
export type ExportInput = z.infer<typeof exportInputSchema>;

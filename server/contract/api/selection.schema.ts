import * as z from 'zod';
import { idSchema } from './common.schema.ts';

/** `*` stands for any characters, `?` for one; upper and lower case are the same. */
const patternSchema = z
  .string()
  .trim()
  .min(1)
  .max(255)
  .regex(/^[^\u0000-\u001f\u007f]*$/, 'must be one line');

/** What a machine is like: all that is named must hold. */
export const machineRuleSchema = z
  .strictObject({
    name: patternSchema.optional(),
    /** Of the configuration file as the host writes it, like `[datastore1] web/*`. */
    path: patternSchema.optional(),
    /** A whole line of the machine's notes. */
    note: patternSchema.optional(),
    hostId: idSchema.optional(),
  })
  .refine((rule) => Object.values(rule).some((value) => value !== undefined), 'must name something')
  .meta({ id: 'MachineRule' });
export type MachineRule = z.infer<typeof machineRuleSchema>;

/** Disks of the selected machines that are left out: all that is named must hold. */
const diskRuleSchema = z
  .strictObject({
    machine: patternSchema.optional(),
    /** Where it is plugged in, like `scsi0:1`. */
    key: patternSchema.optional(),
    label: patternSchema.optional(),
    datastore: patternSchema.optional(),
  })
  .refine(
    ({ key, label, datastore }) => [key, label, datastore].some((value) => value !== undefined),
    'must name a key, a label or a datastore',
  );

/**
 * Machines of a job by what they are like instead of one by one. Looked up again with every list of
 * machines that a host gives and before every run, so that new ones join.
 */
export const selectionSchema = z
  .strictObject({
    /** A machine is in when any of them fits. */
    include: z.array(machineRuleSchema).min(1).max(50),
    /** … and none of these. */
    exclude: z.array(machineRuleSchema).max(50).default([]),
    excludeMachineIds: z.array(idSchema).max(1000).default([]),
    excludeDisks: z.array(diskRuleSchema).max(50).default([]),
  })
  .meta({ id: 'Selection' });
export type Selection = z.infer<typeof selectionSchema>;

export const selectionPreviewInputSchema = z.strictObject({ selection: selectionSchema });

/** Every known machine that an `include` rule fits. */
export const selectionPreviewSchema = z
  .object({
    machines: z.array(
      z.object({
        machineId: idSchema,
        name: z.string(),
        hostId: idSchema.nullable(),
        /** False: it is excluded. */
        selected: z.boolean(),
        /** Keys of disks that are left out. */
        excludedDisks: z.array(z.string()),
      }),
    ),
    selectedCount: z.number(),
  })
  .meta({ id: 'SelectionPreview' });
export type SelectionPreview = z.infer<typeof selectionPreviewSchema>;

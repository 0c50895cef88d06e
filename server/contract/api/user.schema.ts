import * as z from 'zod';
import { idSchema, timeSchema } from './common.schema.ts';
import { roleSchema } from './permission.schema.ts';
import { newPasswordSchema } from './session.schema.ts';

/** Accounts of the NAS carry an `@`, so no local one can be taken for one of them. */
export const userNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'has letters, digits, dot, hyphen and underscore, 64 at most');

const jobIdsSchema = z
  .array(idSchema)
  .max(1000)
  .refine((ids) => new Set(ids).size === ids.length, 'must not name a job twice');

export const userSchema = z
  .object({
    name: z.string(),
    role: roleSchema,
    source: z.enum(['local', 'nas']),
    disabled: z.boolean(),
    hasSecondFactor: z.boolean(),
    recoveryCodesLeft: z.number().int(),
    /** Jobs whose versions an account of the role `restore` may bring back. */
    jobIds: z.array(idSchema),
    createdAtMs: timeSchema,
    /** Of any of its sessions and tokens; null: of none that is left. */
    usedAtMs: timeSchema.nullable(),
  })
  .meta({ id: 'User' });
export type UserView = z.infer<typeof userSchema>;

export const userInputSchema = z.strictObject({
  name: userNameSchema,
  role: roleSchema,
  password: newPasswordSchema,
  jobIds: jobIdsSchema.default([]),
});

/** What is not named stays. A new role, a new password and disabling end all sessions and tokens of the account. */
export const userChangeSchema = z.strictObject({
  role: roleSchema.optional(),
  disabled: z.boolean().optional(),
  password: newPasswordSchema.optional(),
  jobIds: jobIdsSchema.optional(),
  /** For who lost the authenticator and the recovery codes. */
  endSecondFactor: z.literal(true).optional(),
});

/** Who may restore the versions of a job, besides administrators and operators. */
export const delegatesSchema = z.strictObject({ users: z.array(z.string().min(1).max(100)).max(1000) });

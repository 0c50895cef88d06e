import { z } from 'zod';
import { idSchema, nameSchema, timeSchema } from './common.schema.ts';

export const loginSchema = z.strictObject({
  user: z.string().min(1).max(100),
  password: z.string().min(1).max(1024),
});

/** Who is logged in. */
export const sessionSchema = z
  .object({
    user: z.string(),
    role: z.enum(['administrator']),
    /** How this request was let in. */
    by: z.enum(['cookie', 'token']),
    expiresAtMs: timeSchema.nullable(),
  })
  .meta({ id: 'Session' });
export type SessionView = z.infer<typeof sessionSchema>;

export const passwordChangeSchema = z.strictObject({
  oldPassword: z.string().min(1).max(1024),
  newPassword: z.string().min(10, 'must have at least 10 characters').max(1024),
});

/** `monitor`: reads metrics and the state of the server, and nothing else. */
export const tokenScopeSchema = z.enum(['full', 'monitor']);
export type TokenScope = z.infer<typeof tokenScopeSchema>;

/** A token is made with the account's password, so that a stolen session cannot turn into a lasting one. */
export const tokenRequestSchema = z.strictObject({
  user: z.string().min(1).max(100),
  password: z.string().min(1).max(1024),
  name: nameSchema,
  expiresInDays: z.number().int().min(1).max(3660).nullable().default(90),
  scope: tokenScopeSchema.default('full'),
});

export const tokenSchema = z
  .object({
    id: idSchema,
    name: z.string(),
    createdAtMs: timeSchema,
    expiresAtMs: timeSchema.nullable(),
    usedAtMs: timeSchema.nullable(),
    scope: tokenScopeSchema,
  })
  .meta({ id: 'Token' });
export type TokenView = z.infer<typeof tokenSchema>;

/** The only answer that ever holds the token itself. */
export const newTokenSchema = tokenSchema.extend({ token: z.string() }).meta({ id: 'NewToken' });

import * as z from 'zod';
import { idSchema, nameSchema, timeSchema } from './common.schema.ts';
import { permissionSchema, roleSchema, tokenScopeSchema } from './permission.schema.ts';

const passwordSchema = z.string().min(1).max(1024);
export const newPasswordSchema = z.string().min(10, 'must have at least 10 characters').max(1024);

/** Six digits of the authenticator, or a recovery code; without it such an account answers LOGIN_CODE_REQUIRED. */
const codeSchema = z.string().trim().min(6).max(40);

export const loginSchema = z.strictObject({
  user: z.string().min(1).max(100),
  password: passwordSchema,
  code: codeSchema.optional(),
});

/** Who is logged in. */
export const sessionSchema = z
  .object({
    user: z.string(),
    /** `nas`: signed in with the session of the NAS; has no password here. */
    source: z.enum(['local', 'nas']),
    role: roleSchema,
    /** What this request's role and token let it do: the window shows no more. */
    permissions: z.array(permissionSchema),
    /** How this request was let in. */
    by: z.enum(['cookie', 'token']),
    /** Whether one-time codes are asked for at login. */
    hasSecondFactor: z.boolean(),
    expiresAtMs: timeSchema.nullable(),
    /** Of the server's clock, as far as the server knows: `UTC` where it does not. */
    timeZone: z.string(),
  })
  .meta({ id: 'Session' });
export type SessionView = z.infer<typeof sessionSchema>;

/** A browser that is logged in. */
export const openSessionSchema = z
  .object({
    id: idSchema,
    /** What the browser says it is. */
    name: z.string(),
    address: z.string().nullable(),
    createdAtMs: timeSchema,
    usedAtMs: timeSchema.nullable(),
    expiresAtMs: timeSchema.nullable(),
    /** Whether it is the one that asks. */
    isThis: z.boolean(),
  })
  .meta({ id: 'OpenSession' });
export type OpenSessionView = z.infer<typeof openSessionSchema>;

export const passwordChangeSchema = z.strictObject({
  oldPassword: passwordSchema,
  newPassword: newPasswordSchema,
  code: codeSchema.optional(),
});

export const secondFactorBeginSchema = z.strictObject({ password: passwordSchema });

/** Shown this once, to be put into an authenticator; holds from the first right code on. */
export const secondFactorSecretSchema = z
  .object({
    secret: z.string(),
    /** `otpauth://totp/…`, for a QR code made in the window. */
    uri: z.string(),
  })
  .meta({ id: 'SecondFactorSecret' });

export const secondFactorConfirmSchema = z.strictObject({
  code: z
    .string()
    .trim()
    .regex(/^\d{6}$/, 'has six digits'),
});

/** Shown this once; each is good for one login without the authenticator. */
export const recoveryCodesSchema = z.object({ recoveryCodes: z.array(z.string()) }).meta({ id: 'RecoveryCodes' });

export const secondFactorEndSchema = z.strictObject({ password: passwordSchema, code: codeSchema });

/** A token is made with the account's password, so that a stolen session cannot turn into a lasting one. */
export const tokenRequestSchema = z.strictObject({
  user: z.string().min(1).max(100),
  password: passwordSchema,
  code: codeSchema.optional(),
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

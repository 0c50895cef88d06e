import * as z from 'zod';
import { idSchema, timeSchema } from './common.schema.ts';

/** A file in the folder of scripts; never a path, never an argument. */
const scriptNameSchema = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'must be the name of a file in the folder of scripts');

export const scriptsSchema = z.strictObject({
  /** Before anything is done; when it fails, nothing is backed up. */
  before: scriptNameSchema.nullable().default(null),
  /** After every end, whatever it was. */
  after: scriptNameSchema.nullable().default(null),
  timeoutMinutes: z.number().int().min(1).max(720).default(10),
});
export type Scripts = z.infer<typeof scriptsSchema>;

export const jobHooksSchema = z
  .object({
    /** Whether scripts may be run at all: `DOZO_SCRIPTS_DIR` names their folder. */
    scriptsAllowed: z.boolean(),
    scripts: scriptsSchema,
    /** Files in the folder of scripts that can be run. */
    availableScripts: z.array(z.string()),
    /** Address that starts the job when it is called with a signature; null: none. */
    trigger: z.object({ path: z.string(), createdAtMs: timeSchema, usedAtMs: timeSchema.nullable() }).nullable(),
  })
  .meta({ id: 'JobHooks' });
export type JobHooksView = z.infer<typeof jobHooksSchema>;

/** The only answer that ever holds the secret. */
export const newTriggerSchema = z
  .object({
    path: z.string(),
    /** Key of the signature: HMAC-SHA-256 over `X-Dozo-Timestamp`, a full stop and the body, hex after `v1=`. */
    secret: z.string(),
  })
  .meta({ id: 'NewTrigger' });
export type NewTrigger = z.infer<typeof newTriggerSchema>;

export const triggeredSchema = z.object({ runId: idSchema }).meta({ id: 'Triggered' });

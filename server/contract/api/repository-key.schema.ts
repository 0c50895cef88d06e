import * as z from 'zod';
import { idSchema, timeSchema } from './common.schema.ts';

/** Long enough that scrypt makes guessing hopeless, short enough to be a request. */
export const passphraseSchema = z.string().min(12, 'must have at least 12 characters').max(1024);
/** A passphrase, or the 24 words of a recovery key. */
export const keyTextSchema = z.string().min(1).max(1024);
const labelSchema = z.string().trim().min(1).max(100);
const slotIdSchema = z.string().regex(/^[0-9a-f]{16}$/);

export const repositoryKeySchema = z
  .object({
    slotId: slotIdSchema,
    kind: z.enum(['passphrase', 'recovery', 'machine']),
    label: z.string(),
    createdAtMs: timeSchema,
    /** When somebody last proved that this key opens the repository; null: never. */
    drilledAtMs: timeSchema.nullable(),
    /** Whether it is the one that Dozo itself uses. */
    isOwn: z.boolean(),
  })
  .meta({ id: 'RepositoryKey' });
export type RepositoryKeyView = z.infer<typeof repositoryKeySchema>;

/** `replaces`: a slot of the same kind that goes once the new one is proven to open the repository. */
export const repositoryKeyAddSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('passphrase'),
    passphrase: passphraseSchema,
    label: labelSchema,
    replaces: slotIdSchema.optional(),
  }),
  z.strictObject({ kind: z.literal('recovery'), label: labelSchema, replaces: slotIdSchema.optional() }),
  z.strictObject({ kind: z.literal('machine'), label: labelSchema, replaces: slotIdSchema.optional() }),
]);

export const repositoryKeyAddedSchema = z
  .object({
    key: repositoryKeySchema,
    /** 24 words, which are shown now and never again; null for other kinds. */
    recoveryKey: z.string().nullable(),
  })
  .meta({ id: 'RepositoryKeyAdded' });

export const repositoryKeyDrillSchema = z.strictObject({ key: keyTextSchema });

export const repositoryKeyDrillResultSchema = z
  .object({
    key: repositoryKeySchema,
    /** The version whose own file was read with the key; null when there is none yet. */
    readPointId: z.string().nullable(),
  })
  .meta({ id: 'RepositoryKeyDrill' });

export const repositoryKeyParamsSchema = z.object({ id: idSchema, slotId: slotIdSchema });

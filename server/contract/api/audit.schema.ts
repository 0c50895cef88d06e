import * as z from 'zod';
import { detailsSchema, pageQuerySchema, timeSchema } from './common.schema.ts';

const hashSchema = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits');

/** See `contract/audit-chain.ts` for what the hash covers. */
export const auditEntrySchema = z
  .object({
    number: z.number().int(),
    atMs: timeSchema,
    actor: z.string().nullable(),
    by: z.enum(['cookie', 'token']).nullable(),
    address: z.string().nullable(),
    action: z.string(),
    target: z.string().nullable(),
    outcome: z.enum(['done', 'refused', 'failed']),
    details: detailsSchema,
    previousHash: hashSchema,
    hash: hashSchema,
  })
  .meta({ id: 'AuditEntry' });

export const auditQuerySchema = z.strictObject({
  ...pageQuerySchema(),
  actor: z.string().max(100).optional(),
  action: z.string().max(200).optional(),
});

export const auditPageSchema = z
  .object({ entries: z.array(auditEntrySchema), next: z.string().nullable() })
  .meta({ id: 'AuditPage' });

/** An entry that was noted down outside, to be found again. */
export const auditVerifyQuerySchema = z.strictObject({
  number: z.coerce.number().int().min(1).optional(),
  hash: hashSchema.optional(),
});

export const auditVerdictSchema = z
  .object({
    isIntact: z.boolean(),
    entries: z.number().int(),
    /** The first entry that is not as it was written; null: none. */
    problem: z
      .object({
        number: z.number().int(),
        what: z.enum(['changed', 'missing', 'cut-off', 'seal-broken', 'other-than-noted']),
      })
      .nullable(),
    /** Note it down elsewhere: a later check against it shows also what someone with the key file did. */
    head: z.object({ number: z.number().int(), hash: hashSchema }).nullable(),
  })
  .meta({ id: 'AuditVerdict' });
export type AuditVerdict = z.infer<typeof auditVerdictSchema>;

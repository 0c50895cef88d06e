import * as z from 'zod';

/** Identifier of anything in the catalogue: 16 lower-case hex digits. */
export const idSchema = z.string().regex(/^[0-9a-f]{16}$/, 'must be 16 lower-case hex digits');

/** A name that people give: one line, any script. Shown as text everywhere, never as markup. */
export const nameSchema = z
  .string()
  .trim()
  .min(1)
  .max(255)
  .regex(/^[^\u0000-\u001f\u007f\u2028\u2029]*$/, 'must be one line without control characters');

/** Absolute path on the NAS without steps upwards. */
export const pathSchema = z
  .string()
  .min(2)
  .max(1024)
  .regex(/^\/[^\u0000-\u001f]*$/, 'must be an absolute path')
  .refine((path) => !path.split('/').includes('..'), 'must not contain ".."');

export const detailsSchema = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]));

/** Wire form of an error; `code` is one of `contract/error-codes.ts`. */
export const errorBodySchema = z
  .object({
    code: z.string(),
    message: z.string(),
    hint: z.string().optional(),
    details: detailsSchema,
  })
  .meta({ id: 'Error', description: 'What happened (message) and what to do next (hint).' });

export const logLineSchema = z
  .object({
    atMs: z.number(),
    level: z.enum(['info', 'warning', 'error']),
    code: z.string(),
    text: z.string(),
    details: detailsSchema.optional(),
  })
  .meta({ id: 'LogLine' });

/** Milliseconds since 1970, UTC; others are no time (ECMA-262, *Time Values and Time Range*). */
export const timeSchema = z.number().int().min(-8.64e15).max(8.64e15);

export const emptySchema = z.strictObject({});

/** Pages go backwards in time: `before` is the `next` of the page before. */
export function pageQuerySchema(limitMax = 500) {
  return {
    limit: z.coerce.number().int().min(1).max(limitMax).default(50),
    before: z.string().max(100).optional(),
  };
}

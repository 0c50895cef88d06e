import * as z from 'zod';
import { detailsSchema, pathSchema } from './common.schema.ts';

/** What a person should know of the NAS or a folder of it. `error`: it cannot be used like this. */
export const adviceSchema = z.object({
  level: z.enum(['info', 'warning', 'error']),
  code: z.enum([
    'NAS_PORT_MOVED',
    'NAS_FIREWALL_ON',
    'FOLDER_MISSING',
    'FOLDER_READ_ONLY',
    'FOLDER_IN_MEMORY',
    'FOLDER_LOCKED',
    'FOLDER_FULL',
    'FOLDER_QUOTA',
    'FOLDER_LOW_SPACE',
    'FOLDER_NO_REFLINK',
    'FOLDER_NO_CHECKSUMS',
    'FOLDER_ENCRYPTED',
  ]),
  text: z.string(),
  details: detailsSchema,
});
export type Advice = z.infer<typeof adviceSchema>;

/** Found out by trying; null where it could not be. */
export const folderSchema = z
  .object({
    path: z.string(),
    exists: z.boolean(),
    isWritable: z.boolean(),
    isFull: z.boolean(),
    fileSystem: z.string().nullable(),
    freeBytes: z.number().nullable(),
    totalBytes: z.number().nullable(),
    quotaBytes: z.number().nullable(),
    quotaUsedBytes: z.number().nullable(),
    hasReflink: z.boolean().nullable(),
    hasChecksums: z.boolean().nullable(),
    isEncrypted: z.boolean().nullable(),
    isLocked: z.boolean(),
    advice: z.array(adviceSchema),
  })
  .meta({ id: 'Folder' });
export type FolderView = z.infer<typeof folderSchema>;

export const folderInputSchema = z.strictObject({ path: pathSchema });

export const nasSchema = z
  .object({
    /** To be shown: `DSM`, `QTS`, `Linux`. */
    name: z.string(),
    /** Whether the session of the NAS signs its administrators in. */
    hasSignIn: z.boolean(),
    /** A folder as they are called on such a system: to be shown as an example, and perhaps not there. */
    exampleFolder: z.string(),
    port: z.object({ wanted: z.number().int(), actual: z.number().int() }),
    shares: z.array(folderSchema.extend({ name: z.string() })),
    advice: z.array(adviceSchema),
  })
  .meta({ id: 'Nas' });
export type NasView = z.infer<typeof nasSchema>;

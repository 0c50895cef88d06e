import * as z from 'zod';
import { idSchema, nameSchema } from './common.schema.ts';
import { passphraseSchema } from './repository-key.schema.ts';

/** Secrets (passwords of hosts and of the mail server, addresses of webhooks) are left out without a passphrase. */
export const configurationExportInputSchema = z.strictObject({ passphrase: passphraseSchema.nullable().default(null) });

/** Form 1. What it holds is named by names, not by ids, so that it fits another installation. */
export const configurationDocumentSchema = z
  .object({
    format: z.literal('dozo-configuration'),
    version: z.literal(1),
    madeAtMs: z.number().int(),
    madeBy: z.string().max(100),
    hosts: z.array(z.looseObject({ name: nameSchema })).max(1000),
    repositories: z.array(z.looseObject({ name: nameSchema })).max(1000),
    /** Machines of tasks, which name them by their place in this list. */
    machines: z.array(z.looseObject({})).max(100_000),
    jobs: z.array(z.looseObject({ name: nameSchema })).max(10_000),
    recipients: z.array(z.looseObject({ name: nameSchema })).max(1000),
    notification: z.looseObject({}).nullable(),
    settings: z.looseObject({}),
    /** Sealed with the passphrase; null: left out. */
    secrets: z
      .object({
        kdf: z.literal('scrypt'),
        cost: z.number().int(),
        salt: z.base64(),
        nonce: z.base64(),
        sealed: z.base64(),
      })
      .nullable(),
  })
  .meta({ id: 'ConfigurationDocument' });
export type ConfigurationDocument = z.infer<typeof configurationDocumentSchema>;

export const configurationImportInputSchema = z.strictObject({
  document: configurationDocumentSchema,
  passphrase: z.string().min(1).max(1024).nullable().default(null),
  /** True: only tell what would be taken over. */
  dryRun: z.boolean().default(false),
});

/** One thing of what was imported. `changed`: it was there, and some of it is as in the document now. */
export const importItemSchema = z.object({
  kind: z.enum(['host', 'repository', 'job', 'recipient', 'notification', 'settings']),
  name: z.string(),
  outcome: z.enum(['added', 'changed', 'skipped']),
  /** One English sentence: why it was skipped, what is missing of it. */
  reason: z.string().nullable(),
});
export type ImportItem = z.infer<typeof importItemSchema>;

export const importReportSchema = z
  .object({ dryRun: z.boolean(), items: z.array(importItemSchema) })
  .meta({ id: 'ImportReport' });
export type ImportReport = z.infer<typeof importReportSchema>;

export const ghettoImportInputSchema = z.strictObject({
  /** Text of `ghettoVCB.conf`, or of a configuration of one VM. */
  configuration: z.string().max(100_000).default(''),
  /** Text of the list of VMs: a name or a path a line. Empty: all machines that are known. */
  machines: z.string().max(1_000_000).default(''),
  /** Of the task to be made. */
  name: nameSchema,
  repositoryId: idSchema,
  /** True: only tell what would be taken over. */
  dryRun: z.boolean().default(false),
});
export type GhettoImportInput = z.infer<typeof ghettoImportInputSchema>;

export const ghettoImportReportSchema = z
  .object({
    dryRun: z.boolean(),
    /** The task that was made; null: none, since no machine was found, or as it was a dry run. */
    jobId: idSchema.nullable(),
    /** `taken`: as in the file; `replaced`: Dozo reaches the same in another way; `ignored`: not taken over. */
    settings: z.array(
      z.object({
        key: z.string(),
        value: z.string(),
        outcome: z.enum(['taken', 'replaced', 'ignored']),
        reason: z.string(),
      }),
    ),
    machines: z.array(z.object({ line: z.string(), machineId: idSchema.nullable(), reason: z.string().nullable() })),
  })
  .meta({ id: 'GhettoImportReport' });
export type GhettoImportReport = z.infer<typeof ghettoImportReportSchema>;

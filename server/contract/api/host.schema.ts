import * as z from 'zod';
import { detailsSchema, errorBodySchema, idSchema, logLineSchema, nameSchema, timeSchema } from './common.schema.ts';

const portSchema = z.number().int().min(1).max(65535);

/** Name or address, without scheme, port or user. */
export const hostNameSchema = z
  .string()
  .trim()
  .min(1)
  .max(253)
  .regex(/^[A-Za-z0-9_.:%-]+$/, 'must be a host name or an IP address')
  .refine((name) => !name.startsWith('-'), 'must not begin with a hyphen');

export const hostPinsShape = {
  /** `SHA256:…` as OpenSSH prints it; null trusts what answers first. */
  sshHostKey: z
    .string()
    .regex(/^SHA256:[A-Za-z0-9+/]{43}$/, 'must look like SHA256:… as OpenSSH prints it')
    .nullable()
    .default(null),
  /** SHA-256 of the certificate, lower-case hex; null trusts what answers first. */
  tlsCertificate: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits')
    .nullable()
    .default(null),
};

const connectionShape = {
  host: hostNameSchema,
  sshPort: portSchema.default(22),
  httpsPort: portSchema.default(443),
  user: z.string().min(1).max(100).default('root'),
  /** Also beside a key: the inventory is asked over HTTPS, which takes passwords only. */
  password: z.string().min(1).max(1024).nullable().default(null),
  /** OpenSSH private key, PEM text; for SSH. */
  privateKey: z.string().min(1).max(20000).nullable().default(null),
  ...hostPinsShape,
};

function hasSecret(input: { password: string | null; privateKey: string | null }): boolean {
  return input.password !== null || input.privateKey !== null;
}

const SECRET_MESSAGE = {
  message: 'a password is needed; a privateKey takes its place for SSH only',
  path: ['password'],
};

export const hostInputSchema = z
  .strictObject({ name: nameSchema.nullable().default(null), ...connectionShape })
  .refine(hasSecret, SECRET_MESSAGE);
export type HostInput = z.infer<typeof hostInputSchema>;

export const hostProbeSchema = z
  .strictObject({
    ...connectionShape,
    /** Chosen by the caller: the steps arrive as `probe` events that carry it. */
    probeId: z.string().max(64).nullable().default(null),
  })
  .refine(hasSecret, SECRET_MESSAGE);

/** What is not named stays. */
export const hostChangeSchema = z.strictObject({
  name: nameSchema.optional(),
  host: hostNameSchema.optional(),
  sshPort: portSchema.optional(),
  httpsPort: portSchema.optional(),
  user: z.string().min(1).max(100).optional(),
  password: z.string().min(1).max(1024).optional(),
  /** Null removes it. */
  privateKey: z.string().min(1).max(20000).nullable().optional(),
  sshHostKey: hostPinsShape.sshHostKey.unwrap().optional(),
  tlsCertificate: hostPinsShape.tlsCertificate.unwrap().optional(),
});

export const hostFactsSchema = z
  .object({
    product: z.string(),
    version: z.string(),
    build: z.string(),
    edition: z.enum(['free', 'evaluation', 'licensed']),
    licenseName: z.string(),
    hostName: z.string(),
    sshHostKey: z.string(),
    tlsCertificate: z.string(),
    soapWrites: z.enum(['allowed', 'refused', 'unknown']),
    changeTracking: z.enum(['answered', 'refused', 'unknown']),
    routes: z.record(z.string(), z.string()),
    /** When a disk could last not be brought to the host over iSCSI. */
    iscsiRefusedAtMs: z.number().exactOptional(),
    /** How fast disks were read, by type of datastore and route; 0: refused. */
    rates: z
      .record(z.string(), z.record(z.string(), z.object({ bytesPerSecond: z.number(), atMs: z.number() })))
      .exactOptional(),
    warnings: z.array(
      z.object({
        level: z.enum(['info', 'warning', 'error']),
        code: z.string(),
        text: z.string(),
        details: detailsSchema.optional(),
      }),
    ),
  })
  .meta({ id: 'HostFacts' });
export type HostFactsView = z.infer<typeof hostFactsSchema>;

/** What a probe said, step by step, and what it found in the end. */
export const probeResultSchema = z
  .object({
    ok: z.boolean(),
    facts: hostFactsSchema.nullable(),
    error: errorBodySchema.nullable(),
    steps: z.array(logLineSchema),
  })
  .meta({ id: 'ProbeResult' });

export const hostSchema = z
  .object({
    id: idSchema,
    name: z.string(),
    host: z.string(),
    sshPort: z.number(),
    httpsPort: z.number(),
    user: z.string(),
    /** How SSH logs in. */
    auth: z.enum(['password', 'key']),
    sshHostKey: z.string().nullable(),
    tlsCertificate: z.string().nullable(),
    facts: hostFactsSchema.nullable(),
    /** Outcome of the last contact. */
    error: errorBodySchema.nullable(),
    checkedAtMs: timeSchema.nullable(),
    createdAtMs: timeSchema,
    machineCount: z.number(),
    /** Snapshots and other things of ours that could not be removed yet. */
    openHolds: z.number(),
  })
  .meta({ id: 'Host' });
export type HostView = z.infer<typeof hostSchema>;

export const datastoreSchema = z
  .object({
    name: z.string(),
    type: z.string(),
    capacityBytes: z.number(),
    freeBytes: z.number(),
    accessible: z.boolean(),
  })
  .meta({ id: 'Datastore' });

import * as z from 'zod';
import { errorBodySchema, idSchema, nameSchema, pageQuerySchema, timeSchema } from './common.schema.ts';
import { hostNameSchema } from './host.schema.ts';
import { timeZoneSchema } from './schedule.schema.ts';

export const languageSchema = z.enum(['en', 'de', 'ja']);
export type Language = z.infer<typeof languageSchema>;

/** One mailbox, without a display name: `backup@example.com`. Internationalised domains in their ASCII form. */
export const mailAddressSchema = z
  .string()
  .trim()
  .max(254)
  .regex(
    /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?$/,
    'must be a mail address',
  );

const fingerprintSchema = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits')
  .nullable();

/**
 * How Dozo reaches a mail server.
 * `starttls`: refuses a server that does not offer it; `opportunistic`: encrypts where the server can, and
 * never sends the password unencrypted; `tls`: from the first byte; `none`: never.
 */
const mailServerShape = {
  host: hostNameSchema,
  port: z.number().int().min(1).max(65535).default(587),
  security: z.enum(['starttls', 'opportunistic', 'tls', 'none']).default('starttls'),
  /** Null: no login. */
  user: z
    .string()
    .min(1)
    .max(254)
    .regex(/^[^\u0000-\u001f\u007f]*$/, 'must be one line')
    .nullable()
    .default(null),
  from: mailAddressSchema,
  /** SHA-256 of the certificate, lower-case hex: that one and no other; null trusts what an authority has signed. */
  tlsCertificate: fingerprintSchema.default(null),
};

export const mailServerInputSchema = z.strictObject({
  ...mailServerShape,
  /** Null: none; absent: the one that is known already. */
  password: z.string().min(1).max(1024).nullable().optional(),
});
export type MailServerInput = z.infer<typeof mailServerInputSchema>;

export const mailServerSchema = z
  .object({ ...mailServerShape, hasPassword: z.boolean() })
  .meta({ id: 'MailServer', description: 'The password is never answered.' });
export type MailServerView = z.infer<typeof mailServerSchema>;

/** What applies to all recipients. */
export const notificationSettingsSchema = z
  .object({
    mailServer: mailServerSchema.nullable(),
    /** A task that ought to have succeeded speaks up after so many days without; null: never. */
    overdueDays: z.number().int().min(1).max(365).nullable(),
    /** Where people reach the window, for links in messages: `https://nas:5510`; null: no links. */
    windowUrl: z.string().nullable(),
  })
  .meta({ id: 'NotificationSettings' });
export type NotificationSettingsView = z.infer<typeof notificationSettingsSchema>;

const httpUrlSchema = z
  .string()
  .max(2000)
  .refine(isHttpUrl, 'must be an http or https address without user and password');

/** What is not named stays. */
export const notificationSettingsChangeSchema = z.strictObject({
  mailServer: mailServerInputSchema.nullable().optional(),
  overdueDays: z.number().int().min(1).max(365).nullable().optional(),
  windowUrl: httpUrlSchema.nullable().optional(),
});

/**
 * What a recipient wants to hear of. `failure`: failed or incomplete; `recovered`: works again after a failure;
 * `missed`: a run that did not begin in time, or a task without success for too long.
 */
export const noticeResultSchema = z.enum(['success', 'warning', 'failure', 'recovered', 'missed']);
export type NoticeResult = z.infer<typeof noticeResultSchema>;

const webhookHeaderSchema = z
  .string()
  .min(1)
  .max(1024)
  .regex(/^[\u0021-\u007e]*$/, 'must be printable characters without spaces');

/** Where messages go; secrets are given here and never answered. */
export const channelInputSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('mail'),
    addresses: z
      .array(mailAddressSchema)
      .min(1)
      .max(50)
      .refine(
        (list) => new Set(list.map((one) => one.toLowerCase())).size === list.length,
        'must not name an address twice',
      ),
  }),
  z.strictObject({
    kind: z.literal('webhook'),
    format: z.enum(['json', 'slack', 'teams', 'ntfy']),
    /** Private addresses are fine; redirects are never followed. Absent in a change: the one that is known. */
    url: httpUrlSchema.optional(),
    /** `json`: key of the signature. `ntfy`: access token. Null: none; absent in a change: the one that is known. */
    secret: webhookHeaderSchema.nullable().optional(),
    /** As for the mail server. */
    tlsCertificate: fingerprintSchema.default(null),
  }),
  z.strictObject({ kind: z.literal('nas') }),
]);
export type ChannelInput = z.infer<typeof channelInputSchema>;

export const channelSchema = z
  .discriminatedUnion('kind', [
    z.object({ kind: z.literal('mail'), addresses: z.array(z.string()) }),
    z.object({
      kind: z.literal('webhook'),
      format: z.enum(['json', 'slack', 'teams', 'ntfy']),
      /** Scheme and host only: what follows is a secret with Slack, Teams and ntfy. */
      origin: z.string(),
      hasSecret: z.boolean(),
      tlsCertificate: fingerprintSchema,
    }),
    z.object({ kind: z.literal('nas') }),
  ])
  .meta({ id: 'NotificationChannel' });
export type ChannelView = z.infer<typeof channelSchema>;

const recipientShape = {
  name: nameSchema,
  enabled: z.boolean().default(true),
  language: languageSchema.default('en'),
  /** Of the times in messages and of the digest. */
  timeZone: timeZoneSchema.default('UTC'),
  results: z
    .array(noticeResultSchema)
    .max(5)
    .default(['warning', 'failure', 'recovered', 'missed'])
    .refine((list) => new Set(list).size === list.length, 'must not name a result twice'),
  /** Only of these tasks; null: of all, and of restores and checks too. */
  jobIds: z.array(idSchema).min(1).max(1000).nullable().default(null),
  /** A summary at 08:00: every day, on Mondays, on the first of the month. */
  digest: z.enum(['none', 'daily', 'weekly', 'monthly']).default('none'),
};

export const recipientInputSchema = z.strictObject({ ...recipientShape, channel: channelInputSchema });
export type RecipientInput = z.infer<typeof recipientInputSchema>;

export const recipientSchema = z
  .object({
    id: idSchema,
    ...recipientShape,
    channel: channelSchema,
    createdAtMs: timeSchema,
    /** Outcome of the newest delivery that was tried; null: none yet. */
    lastDelivery: z
      .object({ state: z.enum(['waiting', 'sent', 'failed']), atMs: timeSchema, error: errorBodySchema.nullable() })
      .nullable(),
  })
  .meta({ id: 'NotificationRecipient' });
export type RecipientView = z.infer<typeof recipientSchema>;

export const deliveryStateSchema = z.enum(['waiting', 'sent', 'failed']);

/** One message on its way to one address. */
export const deliverySchema = z
  .object({
    id: idSchema,
    recipientId: idSchema,
    recipientName: z.string(),
    /** Mail address; empty for webhooks and the NAS. */
    address: z.string(),
    kind: z.enum(['run', 'missed', 'overdue', 'digest', 'catalogue']),
    subject: z.string(),
    /** `waiting` with an error: tried in vain, and tried again at `nextAttemptAtMs`. `failed`: given up. */
    state: deliveryStateSchema,
    attempts: z.number(),
    createdAtMs: timeSchema,
    nextAttemptAtMs: timeSchema.nullable(),
    sentAtMs: timeSchema.nullable(),
    error: errorBodySchema.nullable(),
  })
  .meta({ id: 'NotificationDelivery' });
export type DeliveryView = z.infer<typeof deliverySchema>;

export const deliveryQuerySchema = z.strictObject({
  ...pageQuerySchema(),
  state: deliveryStateSchema.optional(),
  recipientId: idSchema.optional(),
});

export const deliveryPageSchema = z
  .object({
    deliveries: z.array(deliverySchema),
    next: z.string().nullable(),
    /** Of all recipients: tried in vain and still waiting, and given up in the last seven days. */
    troubled: z.object({ waiting: z.number(), failed: z.number() }),
  })
  .meta({ id: 'NotificationDeliveryPage' });

/** What the test button did. */
export const notificationTestSchema = z
  .object({
    ok: z.boolean(),
    /** One an address. */
    results: z.array(z.object({ address: z.string(), error: errorBodySchema.nullable() })),
  })
  .meta({ id: 'NotificationTest' });
export type NotificationTest = z.infer<typeof notificationTestSchema>;

export const mailServerTestSchema = z.strictObject({
  /** Absent: the one that is saved. */
  mailServer: mailServerInputSchema.optional(),
  to: mailAddressSchema,
  language: languageSchema.default('en'),
});

function isHttpUrl(text: string): boolean {
  if (!URL.canParse(text) || /[\u0000-\u0020\u007f]/.test(text)) return false;
  const url = new URL(text);
  return ['http:', 'https:'].includes(url.protocol) && url.username === '' && url.password === '';
}

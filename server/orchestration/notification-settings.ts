import * as z from 'zod';
import type {
  ChannelInput,
  ChannelView,
  Language,
  MailServerInput,
  notificationSettingsChangeSchema,
  NotificationSettingsView,
  RecipientInput,
  RecipientView,
} from '../contract/api/notification.schema.ts';
import type { Sealed } from '../contract/task.ts';
import type { RecipientRecord, Tables } from '../database/index.ts';
import { AppError } from '../errors/index.ts';
import type { MailServer } from '../notification/index.ts';
import type { Sealer } from '../queue/index.ts';
import { randomHex } from '../runtime/index.ts';
import { found, type OrchestrationContext } from './context.ts';

const SETTINGS_KEY = 'notification';
const MAIL_PURPOSE = 'mail-server';

const storedSchema = z.object({
  mailServer: z
    .object({
      host: z.string(),
      port: z.number(),
      security: z.enum(['starttls', 'opportunistic', 'tls', 'none']),
      user: z.string().nullable(),
      from: z.string(),
      tlsCertificate: z.string().nullable(),
      /** Sealed. */
      password: z.string().nullable(),
    })
    .nullable()
    .default(null),
  overdueDays: z.number().nullable().default(3),
  windowUrl: z.string().nullable().default(null),
});
type Stored = z.infer<typeof storedSchema>;

/** What a webhook keeps to itself. */
interface WebhookSecrets {
  url: string;
  secret: string | null;
}

/** Who is told what, and by which mail server. Secrets are sealed before they reach the catalogue. */
export class NotificationSettings {
  readonly #context: OrchestrationContext;

  constructor(context: OrchestrationContext) {
    this.#context = context;
  }

  async load(tables: Tables = this.#context.catalogue): Promise<NotificationSettingsView> {
    const { mailServer, overdueDays, windowUrl } = await loadStored(tables);
    if (mailServer === null) return { mailServer: null, overdueDays, windowUrl };
    const { password, ...shown } = mailServer;
    return { mailServer: { ...shown, hasPassword: password !== null }, overdueDays, windowUrl };
  }

  /** What waited because of the old settings is tried at once. */
  async change(change: z.infer<typeof notificationSettingsChangeSchema>): Promise<NotificationSettingsView> {
    const { catalogue, clock, events, sealer } = this.#context;
    await catalogue.transaction(async (tables) => {
      const before = await loadStored(tables);
      const { mailServer, overdueDays = before.overdueDays, windowUrl = before.windowUrl } = change;
      const server = mailServer === undefined ? before.mailServer : seal(sealer, mailServer, before);
      const stored: Stored = { mailServer: server, overdueDays, windowUrl: windowUrl?.replace(/\/+$/, '') ?? null };
      await tables.settings.save(SETTINGS_KEY, stored);
      await tables.outbox.hurry(clock.nowMs());
    });
    events.emit({ type: 'changed', what: 'notification', id: null });
    return this.load();
  }

  /**
   * The mail server with its password.
   * @param input one that is not saved; its password, where it names none, is that of the saved one
   * @throws NOTIFICATION_NOT_SET_UP, SECRET_UNREADABLE
   */
  async openMailServer(input?: MailServerInput): Promise<MailServer> {
    const { catalogue, sealer } = this.#context;
    const stored = await loadStored(catalogue);
    const server = input === undefined ? stored.mailServer : seal(sealer, input, stored);
    if (server === null) {
      throw new AppError('NOTIFICATION_NOT_SET_UP', 'No mail server is set up.', {
        hint: 'Enter the mail server in the settings of notifications.',
      });
    }
    const { host, port, security, user, from, tlsCertificate } = server;
    const password = server.password === null ? null : openPassword(sealer, server.password);
    return { host, port, security, user, from, tlsCertificate, password };
  }

  async listRecipients(): Promise<RecipientView[]> {
    const { catalogue } = this.#context;
    const last = new Map((await catalogue.outbox.listLastTried()).map((delivery) => [delivery.recipientId, delivery]));
    return (await catalogue.recipients.list()).map(({ secrets: _secrets, ...recipient }) => {
      const delivery = last.get(recipient.id);
      return {
        ...recipient,
        lastDelivery:
          delivery === undefined
            ? null
            : { state: delivery.state, atMs: delivery.triedAtMs ?? delivery.createdAtMs, error: delivery.error },
      };
    });
  }

  async loadRecipient(id: string): Promise<RecipientView> {
    const recipients = await this.listRecipients();
    return found(recipients.find((recipient) => recipient.id === id) ?? null, 'recipient', id);
  }

  /** @throws CONFLICT when the name is taken; INPUT_INVALID, NOT_FOUND (a job) */
  async addRecipient(input: RecipientInput): Promise<RecipientView> {
    const id = randomHex(8);
    await this.#save(id, input, null);
    return this.loadRecipient(id);
  }

  /** @throws NOT_FOUND, CONFLICT, INPUT_INVALID */
  async changeRecipient(id: string, input: RecipientInput): Promise<RecipientView> {
    const before = found(await this.#context.catalogue.recipients.load(id), 'recipient', id);
    await this.#save(id, input, before);
    return this.loadRecipient(id);
  }

  /** With what was still to be sent to them. @throws NOT_FOUND */
  async removeRecipient(id: string): Promise<void> {
    const { catalogue, events } = this.#context;
    found((await catalogue.recipients.remove(id)) ? id : null, 'recipient', id);
    events.emit({ type: 'changed', what: 'notification', id });
  }

  /** Address and key of a webhook. @throws SECRET_UNREADABLE */
  openWebhook(recipient: RecipientRecord): WebhookSecrets {
    return this.#context.sealer.open(purposeOf(recipient.id), recipient.secrets) as WebhookSecrets;
  }

  /** The NAS itself hears of what goes wrong from the first start on, until somebody says otherwise. */
  async ensureDefaultRecipient(language: Language): Promise<void> {
    const { catalogue, clock, sealer } = this.#context;
    const id = randomHex(8);
    await catalogue.transaction(async (tables) => {
      if ((await tables.outbox.loadMark(DEFAULT_MARK)) !== null) return;
      await tables.outbox.saveMark(DEFAULT_MARK, clock.nowMs());
      await tables.recipients.save({
        id,
        name: 'NAS',
        enabled: true,
        language,
        timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone,
        results: ['warning', 'failure', 'recovered', 'missed'],
        jobIds: null,
        digest: 'none',
        channel: { kind: 'nas' },
        secrets: sealer.seal(purposeOf(id), null),
        createdAtMs: clock.nowMs(),
      });
    });
  }

  async #save(id: string, input: RecipientInput, before: RecipientRecord | null): Promise<void> {
    const { catalogue, clock, events, sealer } = this.#context;
    const known = before?.channel.kind === 'webhook' ? this.openWebhook(before) : null;
    const { view, secrets } = splitChannel(input.channel, known);
    await catalogue.transaction(async (tables) => {
      const twin = (await tables.recipients.list()).find((other) => other.id !== id && other.name === input.name);
      if (twin !== undefined) {
        throw new AppError('CONFLICT', `There is a recipient named "${input.name}" already.`, {
          hint: 'Choose another name.',
          details: { recipientId: twin.id },
        });
      }
      for (const jobId of input.jobIds ?? []) found(await tables.jobs.load(jobId), 'job', jobId);
      await tables.recipients.save({
        ...input,
        id,
        channel: view,
        secrets: sealer.seal(purposeOf(id), secrets),
        createdAtMs: before?.createdAtMs ?? clock.nowMs(),
      });
      await tables.outbox.hurry(clock.nowMs(), { recipientId: id });
    });
    events.emit({ type: 'changed', what: 'notification', id });
  }
}

const DEFAULT_MARK = 'default recipient';

async function loadStored(tables: Tables): Promise<Stored> {
  return storedSchema.parse((await tables.settings.load(SETTINGS_KEY)) ?? {});
}

function seal(sealer: Sealer, input: MailServerInput | null, before: Stored): Stored['mailServer'] {
  if (input === null) return null;
  const { password, ...server } = input;
  // A password is for the server that it was entered for: nobody gets it by naming another one.
  const isSame = before.mailServer?.host === server.host && before.mailServer.user === server.user;
  const kept = isSame ? (before.mailServer?.password ?? null) : null;
  if (password === undefined) return { ...server, password: kept };
  return { ...server, password: password === null ? null : sealer.seal(MAIL_PURPOSE, password) };
}

function openPassword(sealer: Sealer, sealed: Sealed): string {
  return sealer.open(MAIL_PURPOSE, sealed) as string;
}

function purposeOf(recipientId: string): string {
  return `recipient ${recipientId}`;
}

/** @throws INPUT_INVALID when a webhook has no address */
function splitChannel(
  input: ChannelInput,
  known: WebhookSecrets | null,
): { view: ChannelView; secrets: WebhookSecrets | null } {
  if (input.kind !== 'webhook') return { view: input, secrets: null };
  const { format, tlsCertificate } = input;
  const url = input.url ?? known?.url;
  if (url === undefined) {
    throw new AppError('INPUT_INVALID', 'A webhook needs an address.', { details: { 'channel.url': 'is missing' } });
  }
  if (format === 'ntfy' && new URL(url).pathname.replace(/^\//, '') === '') {
    throw new AppError('INPUT_INVALID', 'The address of ntfy ends with the topic, as in https://ntfy.sh/topic.', {
      details: { 'channel.url': 'has no topic' },
    });
  }
  // The key of a known address is not sent to another one.
  const kept = url === known?.url ? known.secret : null;
  const secret = input.secret === undefined ? kept : input.secret;
  const { origin } = new URL(url);
  return {
    view: { kind: 'webhook', format, origin, hasSecret: secret !== null, tlsCertificate },
    secrets: { url, secret },
  };
}

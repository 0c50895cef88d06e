import type { Command } from 'commander';
import type {
  ChannelView,
  DeliveryView,
  Language,
  MailServerView,
  NoticeResult,
  NotificationSettingsView,
  NotificationTest,
  RecipientInput,
  RecipientView,
} from '../../contract/api/notification.schema.ts';
import { AppError } from '../../errors/index.ts';
import { askSecret } from '../ask.ts';
import {
  doneOutput,
  EXIT_FAILED,
  listOutput,
  showOutput,
  type Api,
  type CommandContext,
  type Output,
} from '../command-context.ts';
import { findNamed, type Named } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { collect, oneOf, parseInteger } from '../parse-options.ts';
import { cleanText } from '../table.ts';

const LANGUAGES = ['en', 'de', 'ja'] as const;
const RESULTS = ['success', 'warning', 'failure', 'recovered', 'missed'] as const;

export function addNotificationCommands(program: Command, context: CommandContext): void {
  const notifications = program.command('notifications').description('who is told what, by mail, webhook or the NAS');
  addMailCommands(notifications, context);
  addRecipientCommands(notifications, context);
  addDeliveryCommands(notifications, context);
}

interface MailOptions {
  host?: string;
  port?: number;
  security?: MailServerView['security'];
  user?: string;
  from?: string;
  certificate?: string;
  passwordStdin?: boolean;
  off?: boolean;
  overdueDays?: number;
  overdue: boolean;
  windowUrl?: string;
}

function addMailCommands(notifications: Command, context: CommandContext): void {
  context.handle(context.leaf(notifications, 'show', 'mail server and common settings'), async ({ api }) =>
    describeSettings(await api.get<NotificationSettingsView>('/notifications/settings')),
  );
  const mail = context
    .leaf(notifications, 'mail', 'set the mail server; what is not named stays')
    .option('--host <name>', 'of the mail server')
    .option('--port <port>', 'usually 587, or 465 with --security tls', parseInteger(1, 65535))
    .option(
      '--security <kind>',
      'starttls, opportunistic, tls or none',
      oneOf(['starttls', 'opportunistic', 'tls', 'none']),
    )
    .option('--user <name>', 'to log in with; "" for none')
    .option('--from <address>', 'sender')
    .option('--certificate <sha256>', 'accept this one only; "any" for those that an authority has signed')
    .option('--password-stdin', 'read the password from standard input; else DOZO_MAIL_PASSWORD')
    .option('--off', 'no mail server');
  context.handle<MailOptions>(mail, async ({ api, options }) => {
    const { mailServer: before } = await api.get<NotificationSettingsView>('/notifications/settings');
    const mailServer = options.off === true ? null : await readMailServer(context, before, options);
    return describeSettings(await api.patch<NotificationSettingsView>('/notifications/settings', { mailServer }));
  });
  const set = context
    .leaf(notifications, 'set', 'set what applies to all recipients; what is not named stays')
    .option('--overdue-days <days>', 'a task without success speaks up after', parseInteger(1, 365))
    .option('--no-overdue', 'it never does')
    .option('--window-url <url>', 'for links in messages, like https://nas:5510; "" for none');
  context.handle<MailOptions>(set, async ({ api, options }) => {
    const change = {
      ...(options.overdue ? {} : { overdueDays: null }),
      ...(options.overdueDays === undefined ? {} : { overdueDays: options.overdueDays }),
      ...(options.windowUrl === undefined ? {} : { windowUrl: options.windowUrl === '' ? null : options.windowUrl }),
    };
    return describeSettings(await api.patch<NotificationSettingsView>('/notifications/settings', change));
  });
  const test = context
    .leaf(notifications, 'test-mail <address>', 'send a test by the mail server')
    .option('--language <language>', 'en, de or ja', oneOf(LANGUAGES), 'en');
  context.handle<{ language: Language }>(test, async ({ api, args, options }) =>
    describeTest(
      await api.post<NotificationTest>('/notifications/settings/test', { to: args[0], language: options.language }),
    ),
  );
}

async function readMailServer(
  context: CommandContext,
  before: MailServerView | null,
  options: MailOptions,
): Promise<object> {
  const host = options.host ?? before?.host;
  const from = options.from ?? before?.from;
  if (host === undefined || from === undefined) {
    throw new AppError('INPUT_INVALID', 'A mail server needs --host and --from.');
  }
  const user = options.user === undefined ? (before?.user ?? null) : options.user === '' ? null : options.user;
  const environment = 'DOZO_MAIL_PASSWORD';
  const isGiven = options.passwordStdin === true || context.environment[environment] !== undefined;
  const isNew = user !== null && (before === null || before.host !== host || before.user !== user);
  const password =
    user === null
      ? null
      : isGiven || isNew
        ? await askSecret(context.terminal, {
            question: `Password of ${user} at ${host}: `,
            fromInput: options.passwordStdin === true,
            environment,
            variables: context.environment,
          })
        : undefined;
  const certificate = options.certificate ?? before?.tlsCertificate ?? null;
  return {
    host,
    from,
    user,
    port: options.port ?? before?.port,
    security: options.security ?? before?.security,
    tlsCertificate: certificate === 'any' ? null : certificate,
    ...(password === undefined ? {} : { password }),
  };
}

interface RecipientOptions {
  mail: string[];
  webhook?: 'json' | 'slack' | 'teams' | 'ntfy';
  nas?: boolean;
  certificate?: string;
  secret?: boolean;
  language?: Language;
  zone?: string;
  on: NoticeResult[];
  job: string[];
  digest?: RecipientInput['digest'];
  disabled?: boolean;
}

function addRecipientCommands(notifications: Command, context: CommandContext): void {
  const recipients = notifications.command('recipients').description('mail addresses, webhooks and the NAS');
  context.handle(context.leaf(recipients, 'list', 'all recipients'), async ({ api }) =>
    listOutput(
      await api.get<RecipientView[]>('/notifications/recipients'),
      ['ID', 'NAME', 'BY', 'ABOUT', 'DIGEST', 'LAST'],
      (recipient) => [
        recipient.id,
        cleanText(recipient.name),
        describeChannel(recipient.channel),
        recipient.enabled ? recipient.results.join(', ') : 'off',
        recipient.digest,
        recipient.lastDelivery === null ? '-' : (recipient.lastDelivery.error?.code ?? recipient.lastDelivery.state),
      ],
    ),
  );
  const add = addRecipientOptions(context.leaf(recipients, 'add <name>', 'add a recipient'));
  context.handle<RecipientOptions>(add, async ({ api, args, options }) => {
    const body = { name: args[0], ...(await readRecipient(context, api, options)) };
    return describeRecipient(await api.post<RecipientView>('/notifications/recipients', body));
  });
  const change = addRecipientOptions(
    context.leaf(recipients, 'change <recipient>', 'change a recipient; what is not named goes back to its default'),
  );
  context.handle<RecipientOptions>(change, async ({ api, args, options }) => {
    const recipient = await findRecipient(api, args[0] ?? '');
    const body = { name: recipient.name, ...(await readRecipient(context, api, options)) };
    return describeRecipient(await api.put<RecipientView>(`/notifications/recipients/${recipient.id}`, body));
  });
  context.handle(context.leaf(recipients, 'remove <recipient>', 'remove a recipient'), async ({ api, args }) => {
    const recipient = await findRecipient(api, args[0] ?? '');
    await api.delete(`/notifications/recipients/${recipient.id}`);
    return doneOutput({ removed: recipient.id }, `Removed ${cleanText(recipient.name)}.`);
  });
  context.handle(context.leaf(recipients, 'test <recipient>', 'send a test, now'), async ({ api, args }) => {
    const recipient = await findRecipient(api, args[0] ?? '');
    return describeTest(await api.post<NotificationTest>(`/notifications/recipients/${recipient.id}/test`, {}));
  });
}

function addRecipientOptions(command: Command): Command {
  return command
    .option('--mail <address>', 'by mail (several times)', collect, [])
    .option(
      '--webhook <format>',
      'json, slack, teams or ntfy; its address is read from DOZO_WEBHOOK_URL or asked for',
      oneOf(['json', 'slack', 'teams', 'ntfy']),
    )
    .option('--secret', 'key of the signature (json) or access token (ntfy): from DOZO_WEBHOOK_SECRET, or asked for')
    .option('--certificate <sha256>', 'of the webhook: accept this one only')
    .option('--nas', "by the NAS's own notices")
    .option('--language <language>', 'en, de or ja', oneOf(LANGUAGES))
    .option('--zone <zone>', 'time zone like Europe/Berlin; else that of this machine')
    .option('--on <result>', `${RESULTS.join(', ')} (several times); else all but success`, collectResults, [])
    .option('--job <job>', 'only of this task (several times)', collect, [])
    .option('--digest <period>', 'none, daily, weekly or monthly', oneOf(['none', 'daily', 'weekly', 'monthly']))
    .option('--disabled', 'keep the recipient, but send nothing');
}

function collectResults(value: string, before: NoticeResult[]): NoticeResult[] {
  return [...before, oneOf(RESULTS)(value)];
}

async function readRecipient(context: CommandContext, api: Api, options: RecipientOptions): Promise<object> {
  const jobIds: string[] = [];
  for (const job of options.job) jobIds.push((await findNamed<Named>(api, 'jobs', job)).id);
  return {
    enabled: options.disabled !== true,
    language: options.language,
    timeZone: options.zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
    digest: options.digest,
    ...(options.on.length === 0 ? {} : { results: options.on }),
    ...(jobIds.length === 0 ? {} : { jobIds }),
    channel: await readChannel(context, options),
  };
}

/** Addresses of webhooks are secrets with most services, so they are no arguments either. */
async function readChannel(context: CommandContext, options: RecipientOptions): Promise<object> {
  const kinds = [options.mail.length > 0, options.webhook !== undefined, options.nas === true].filter(Boolean).length;
  if (kinds !== 1) throw new AppError('INPUT_INVALID', 'Name one of --mail, --webhook and --nas.');
  if (options.nas === true) return { kind: 'nas' };
  if (options.webhook === undefined) return { kind: 'mail', addresses: options.mail };
  const ask = (question: string, environment: string): Promise<string> =>
    askSecret(context.terminal, { question, fromInput: false, environment, variables: context.environment });
  return {
    kind: 'webhook',
    format: options.webhook,
    url: await ask('Address of the webhook: ', 'DOZO_WEBHOOK_URL'),
    ...(options.secret === true ? { secret: await ask('Secret of the webhook: ', 'DOZO_WEBHOOK_SECRET') } : {}),
    tlsCertificate: options.certificate ?? null,
  };
}

function addDeliveryCommands(notifications: Command, context: CommandContext): void {
  const deliveries = notifications.command('deliveries').description('messages: sent, waiting, given up');
  const list = context
    .leaf(deliveries, 'list', 'newest first')
    .option('--state <state>', 'waiting, sent or failed', oneOf(['waiting', 'sent', 'failed']))
    .option('--limit <number>', 'how many', parseInteger(1, 500), 50);
  context.handle<{ state?: string; limit: number }>(list, async ({ api, options }) => {
    const { state, limit } = options;
    const page = await api.get<{ deliveries: DeliveryView[] }>('/notifications/deliveries', {
      limit,
      ...(state === undefined ? {} : { state }),
    });
    return listOutput(page.deliveries, ['ID', 'MADE', 'TO', 'STATE', 'TRIES', 'SUBJECT'], (delivery) => [
      delivery.id,
      formatTime(delivery.createdAtMs),
      cleanText(delivery.address === '' ? delivery.recipientName : delivery.address),
      delivery.error === null ? delivery.state : `${delivery.state} ${delivery.error.code}`,
      String(delivery.attempts),
      cleanText(delivery.subject),
    ]);
  });
  context.handle(context.leaf(deliveries, 'retry <delivery>', 'send it again'), async ({ api, args }) => {
    await api.post(`/notifications/deliveries/${args[0] ?? ''}/retry`, {});
    return doneOutput({ retried: args[0] }, 'It is being sent.');
  });
}

async function findRecipient(api: Api, text: string): Promise<RecipientView> {
  const recipients = await api.get<RecipientView[]>('/notifications/recipients');
  const recipient = recipients.find(({ id, name }) => id === text || name === text);
  if (recipient !== undefined) return recipient;
  throw new AppError('NOT_FOUND', `There is no recipient "${text}".`, {
    hint: '`dozo notifications recipients list` shows them all.',
  });
}

function describeChannel(channel: ChannelView): string {
  switch (channel.kind) {
    case 'mail':
      return channel.addresses.join(', ');
    case 'webhook':
      return `${channel.format} at ${channel.origin}`;
    case 'nas':
      return 'the NAS';
  }
}

function describeRecipient(recipient: RecipientView): Output {
  return showOutput(recipient, [
    ['id', recipient.id],
    ['name', cleanText(recipient.name)],
    ['by', describeChannel(recipient.channel)],
    ['about', recipient.results.join(', ')],
    ['digest', recipient.digest],
    ['language', `${recipient.language}, ${recipient.timeZone}`],
    ['enabled', recipient.enabled ? 'yes' : 'no'],
  ]);
}

function describeSettings(settings: NotificationSettingsView): Output {
  const { mailServer, overdueDays, windowUrl } = settings;
  return showOutput(settings, [
    ['mail server', mailServer === null ? 'none' : `${mailServer.host}:${mailServer.port}, ${mailServer.security}`],
    ['user', mailServer?.user ?? '-'],
    ['sender', mailServer?.from ?? '-'],
    ['certificate', mailServer?.tlsCertificate ?? 'signed by an authority'],
    ['without success', overdueDays === null ? 'never told' : `told after ${overdueDays} days`],
    ['links', windowUrl ?? 'none'],
  ]);
}

function describeTest(test: NotificationTest): Output {
  const lines = test.results.map(({ address, error }) => {
    const to = address === '' ? 'sent' : `sent to ${cleanText(address)}`;
    if (error === null) return `${to}\n`;
    const fingerprint = error.details['fingerprint'];
    const shown = typeof fingerprint === 'string' ? `Its fingerprint is ${fingerprint}.\n` : '';
    return `${error.code}: ${cleanText(error.message)}\n${cleanText(error.hint ?? '')}\n${shown}`;
  });
  return { document: test, text: lines.join(''), exitStatus: test.ok ? 0 : EXIT_FAILED };
}

import type { Language } from '../contract/api/notification.schema.ts';
import { ERROR_CODES } from '../contract/error-codes.ts';
import type { DeliveryRecord, RecipientRecord } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import {
  composeMessage,
  composeTest,
  deliverMail,
  deliverWebhook,
  renderHtml,
  renderText,
  renderWebhook,
  type MailServer,
  type Message,
  type Notice,
  type Reader,
} from '../notification/index.ts';
import { randomHex } from '../runtime/index.ts';
import type { OrchestrationContext } from './context.ts';
import type { NotificationSettings } from './notification-settings.ts';

const MINUTE_MS = 60_000;
/** Pauses between tries; the last one goes on. Greylisting wants some minutes, a server in trouble some hours. */
const PAUSES_MINUTES = [1, 2, 5, 10, 20, 40, 60];
/** Where trying again could lock an account, or a person has to do something anyway. */
const CAREFUL_MINUTES = 60;
/** After so long nobody waits for it any more. */
const GIVE_UP_MS = 3 * 86_400_000;
const DUE_MAX = 200;
/** Longest pause, with room to spare: what is further away was put there by a clock that was wrong. */
const FAR_MS = 2 * 60 * MINUTE_MS;

/** Tells the NAS; false when it did not take it. */
export type TellNas = (level: 'info' | 'warning' | 'error', text: string) => Promise<boolean>;

export interface SenderOptions {
  tellNas: TellNas;
  /** Name of this machine, for the last line of messages. */
  hostName: string;
  /** Of what the NAS is told until somebody says otherwise. */
  language?: Language;
}

/**
 * Brings what lies in the outbox to its addresses. A delivery is struck out when the other side has taken it over:
 * after a crash in between it is sent again, with the same id, and never forgotten.
 */
export class NoticeSender {
  readonly #context: OrchestrationContext;
  readonly #settings: NotificationSettings;
  readonly #options: SenderOptions;
  /** Ways that are in use: one delivery at a time on each. */
  readonly #busy = new Set<string>();

  constructor(context: OrchestrationContext, settings: NotificationSettings, options: SenderOptions) {
    this.#context = context;
    this.#settings = settings;
    this.#options = options;
  }

  /** Tries once what is due. A way that hangs holds up nobody else: it is left out until it comes back. */
  async look(): Promise<void> {
    const { catalogue, clock } = this.#context;
    await catalogue.outbox.hurry(clock.nowMs(), { notBeforeMs: clock.nowMs() + FAR_MS });
    const recipients = new Map((await catalogue.recipients.list()).map((recipient) => [recipient.id, recipient]));
    const ways = new Map<string, { delivery: DeliveryRecord; recipient: RecipientRecord }[]>();
    for (const delivery of await catalogue.outbox.listDue(clock.nowMs(), DUE_MAX)) {
      const recipient = recipients.get(delivery.recipientId);
      if (recipient === undefined) continue;
      const way = wayOf(recipient);
      ways.set(way, [...(ways.get(way) ?? []), { delivery, recipient }]);
    }
    await Promise.all(
      [...ways].map(async ([way, due]) => {
        if (this.#busy.has(way)) return;
        this.#busy.add(way);
        try {
          await this.#deliverAll(due);
        } finally {
          this.#busy.delete(way);
        }
      }),
    );
  }

  /** One message a line of `look`: a server that cannot be reached is not tried for each of them. */
  async #deliverAll(due: readonly { delivery: DeliveryRecord; recipient: RecipientRecord }[]): Promise<void> {
    const { catalogue, clock, events } = this.#context;
    let blocked: AppError | null = null;
    for (const { delivery, recipient } of due) {
      try {
        if (blocked !== null) throw blocked;
        await this.#deliver(delivery, recipient);
        await catalogue.outbox.markSent(delivery.id, clock.nowMs());
      } catch (error) {
        const failure = toAppError(error);
        if (concernsAll(failure)) blocked = failure;
        await this.#postpone(delivery, failure);
      }
      events.emit({ type: 'changed', what: 'notification', id: delivery.recipientId });
    }
  }

  async #postpone(delivery: DeliveryRecord, failure: AppError): Promise<void> {
    const { catalogue, clock, logger } = this.#context;
    const nowMs = clock.nowMs();
    const isHopeless = failure.code === 'NOTIFICATION_REFUSED' || nowMs - delivery.createdAtMs >= GIVE_UP_MS;
    const isCareful = ERROR_CODES[failure.code].retry === 'never';
    const minutes = isCareful
      ? CAREFUL_MINUTES
      : (PAUSES_MINUTES[Math.min(delivery.attempts, PAUSES_MINUTES.length - 1)] ?? CAREFUL_MINUTES);
    const nextAttemptAtMs = isHopeless ? null : nowMs + minutes * MINUTE_MS;
    logger.warn({ deliveryId: delivery.id, code: failure.code, nextAttemptAtMs }, 'a message was not delivered');
    await catalogue.outbox.markTried(delivery.id, { atMs: nowMs, nextAttemptAtMs, error: failure.toBody() });
  }

  async #deliver(delivery: DeliveryRecord, recipient: RecipientRecord): Promise<void> {
    const notice = delivery.notice as Notice;
    const message = composeMessage(notice, await this.readerOf(recipient));
    await this.#send(recipient, { id: delivery.id, address: delivery.address, notice, message });
  }

  /**
   * Sends a test to every address of a recipient, at once.
   * @returns the error of each address that it did not reach
   */
  async test(recipient: RecipientRecord): Promise<{ address: string; error: AppError | null }[]> {
    const message = composeTest(await this.readerOf(recipient));
    const { channel } = recipient;
    const results: { address: string; error: AppError | null }[] = [];
    for (const address of channel.kind === 'mail' ? channel.addresses : ['']) {
      const error = await this.#send(recipient, { id: '', address, notice: null, message }).then(
        () => null,
        (reason: unknown) => toAppError(reason),
      );
      results.push({ address, error });
      // Not once more with a password that was refused.
      if (error !== null && concernsAll(error)) break;
    }
    return results;
  }

  /** Sends past the outbox. @throws NOTIFICATION_*, of the last address that was not reached */
  async sendNow(recipient: RecipientRecord, notice: Notice): Promise<void> {
    // Without the catalogue nothing is known of the window.
    const reader = await this.readerOf(recipient).catch(() => this.#readerOf(recipient, null));
    const message = composeMessage(notice, reader);
    const { channel } = recipient;
    let failure: unknown = null;
    for (const address of channel.kind === 'mail' ? channel.addresses : ['']) {
      await this.#send(recipient, { id: randomHex(8), address, notice, message }).catch(
        (reason: unknown) => (failure = reason),
      );
    }
    if (failure !== null) throw toAppError(failure);
  }

  /** Sends a test by a mail server that need not be saved. @throws NOTIFICATION_* */
  async testMailServer(server: MailServer, to: string, language: Reader['language']): Promise<void> {
    const { windowUrl } = await this.#settings.load();
    const { hostName } = this.#options;
    await this.#mail(server, to, '', composeTest({ language, timeZone: 'UTC', windowUrl, sender: hostName }));
  }

  async readerOf(recipient: Pick<RecipientRecord, 'language' | 'timeZone'>): Promise<Reader> {
    return this.#readerOf(recipient, (await this.#settings.load()).windowUrl);
  }

  #readerOf({ language, timeZone }: Pick<RecipientRecord, 'language' | 'timeZone'>, windowUrl: string | null): Reader {
    return { language, timeZone, windowUrl, sender: this.#options.hostName };
  }

  async #send(
    recipient: RecipientRecord,
    content: { id: string; address: string; notice: Notice | null; message: Message },
  ): Promise<void> {
    const { channel } = recipient;
    const { id, address, notice, message } = content;
    switch (channel.kind) {
      case 'mail':
        return this.#mail(await this.#settings.openMailServer(), address, id, message);
      case 'webhook': {
        const { url, secret } = this.#settings.openWebhook(recipient);
        const nowMs = this.#context.clock.nowMs();
        const target = renderWebhook(channel.format, url, { id, atMs: nowMs, notice, message });
        const authorization =
          secret === null
            ? { kind: 'none' as const }
            : channel.format === 'ntfy'
              ? { kind: 'bearer' as const, token: secret }
              : { kind: 'signature' as const, secret };
        return deliverWebhook({ ...target, id, authorization, tlsCertificate: channel.tlsCertificate, nowMs });
      }
      case 'nas': {
        const level = message.tone === 'bad' ? 'error' : message.tone === 'warning' ? 'warning' : 'info';
        const reason = message.blocks[0]?.remarks[0] ?? message.lead;
        if (await this.#options.tellNas(level, reason === '' ? message.heading : `${message.heading}: ${reason}`))
          return;
        // Its program may have had no memory, or no time: of the only recipient, perhaps.
        throw new AppError('NOTIFICATION_DEFERRED', 'The NAS did not take the notice.', {
          hint: 'Dozo tries again by itself. Use mail or a webhook as well.',
        });
      }
    }
  }

  #mail(server: MailServer, to: string, id: string, message: Message): Promise<void> {
    const { subject } = message;
    const atMs = this.#context.clock.nowMs();
    return deliverMail(server, { to, subject, text: renderText(message), html: renderHtml(message), id, atMs });
  }
}

/** What stands between Dozo and the server stands before its other messages too. */
function concernsAll({ code }: AppError): boolean {
  return code !== 'NOTIFICATION_REFUSED' && code !== 'NOTIFICATION_DEFERRED';
}

/** All mails go by one server. */
function wayOf({ id, channel }: RecipientRecord): string {
  return channel.kind === 'webhook' ? id : channel.kind;
}

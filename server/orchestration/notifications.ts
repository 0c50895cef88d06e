import { setTimeout as delay } from 'node:timers/promises';
import type { z } from 'zod';
import type {
  deliveryPageSchema,
  deliveryQuerySchema,
  DeliveryView,
  Language,
  mailServerTestSchema,
  NotificationTest,
} from '../contract/api/notification.schema.ts';
import type { DeliveryRecord } from '../database/index.ts';
import { AppError, toAppError } from '../errors/index.ts';
import { composeMessage, type Notice } from '../notification/index.ts';
import { CatalogueAlarm } from './catalogue-alarm.ts';
import { found, type OrchestrationContext } from './context.ts';
import { NoticeSender, type SenderOptions } from './notice-sender.ts';
import { NoticeWatch } from './notice-watch.ts';
import { NotificationSettings } from './notification-settings.ts';

/** How often is looked for runs that have ended and for what is to be sent. */
const LOOK_EVERY_MS = 5_000;
/** … and for what time brings: with hundreds of jobs it is some work. */
const CLOCK_EVERY_MS = 60_000;
const STOP_GRACE_MS = 5_000;
const TROUBLE_SHOWN_MS = 7 * 86_400_000;

/** Telling people: settings, what is to be told, and bringing it there. */
export class Notifications {
  readonly settings: NotificationSettings;
  readonly #context: OrchestrationContext;
  readonly #watch: NoticeWatch;
  readonly #sender: NoticeSender;
  readonly #language: Language;
  readonly #alarm: CatalogueAlarm;
  readonly #stopping = new AbortController();
  #wake: () => void = () => undefined;
  #loops: Promise<unknown> = Promise.resolve();
  readonly #sending = new Set<Promise<void>>();

  constructor(context: OrchestrationContext, options: SenderOptions) {
    this.#context = context;
    this.settings = new NotificationSettings(context);
    this.#watch = new NoticeWatch(context, this.settings);
    this.#sender = new NoticeSender(context, this.settings, options);
    this.#language = options.language ?? 'en';
    this.#alarm = new CatalogueAlarm(context, { sender: this.#sender, language: this.#language });
  }

  start(): void {
    this.#listen();
    this.#loops = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#loops;
    // What a server is about to take over is not sent twice for want of a moment.
    await Promise.race([Promise.all(this.#sending), delay(STOP_GRACE_MS, undefined, { ref: false })]);
  }

  /** Looks once; for tests with a clock that is moved by hand. */
  async look(): Promise<void> {
    try {
      await this.#watch.lookAtRuns();
      await this.#watch.lookAtClock();
      await this.#sender.look();
    } finally {
      await this.#alarm.look();
    }
  }

  /** What the catalogue says of itself; null: it is well. */
  noteCatalogue(trouble: AppError | null): void {
    this.#alarm.note(trouble);
  }

  get catalogueTrouble(): AppError | null {
    return this.#alarm.trouble;
  }

  /** @throws NOT_FOUND */
  async test(recipientId: string): Promise<NotificationTest> {
    const recipient = found(await this.#context.catalogue.recipients.load(recipientId), 'recipient', recipientId);
    const results = await this.#sender.test(recipient);
    return {
      ok: results.every(({ error }) => error === null),
      results: results.map(({ address, error }) => ({ address, error: error?.toBody() ?? null })),
    };
  }

  /** @throws NOTIFICATION_NOT_SET_UP when none is given and none is saved */
  async testMailServer(input: z.infer<typeof mailServerTestSchema>): Promise<NotificationTest> {
    const { mailServer, to: address, language } = input;
    const server = await this.settings.openMailServer(mailServer);
    const error = await this.#sender.testMailServer(server, address, language).then(
      () => null,
      (reason: unknown) => toAppError(reason).toBody(),
    );
    return { ok: error === null, results: [{ address, error }] };
  }

  async listDeliveries(query: z.infer<typeof deliveryQuerySchema>): Promise<z.infer<typeof deliveryPageSchema>> {
    const { catalogue, clock } = this.#context;
    const { state, recipientId, before, limit } = query;
    const deliveries = await catalogue.outbox.list({
      state,
      recipientId,
      beforeNumber: before === undefined ? undefined : Number(before),
      limit: limit + 1,
    });
    const page = deliveries.slice(0, limit);
    return {
      deliveries: await this.#view(page),
      next: deliveries.length > limit ? String(page.at(-1)?.number) : null,
      troubled: await catalogue.outbox.countTroubled(clock.nowMs() - TROUBLE_SHOWN_MS),
    };
  }

  /** Sends again what waits or was given up. @throws NOT_FOUND, CONFLICT when it was sent */
  async retryDelivery(id: string): Promise<void> {
    const { catalogue, clock } = this.#context;
    found(await catalogue.outbox.load(id), 'delivery', id);
    if (!(await catalogue.outbox.retry(id, clock.nowMs()))) {
      throw new AppError('CONFLICT', 'This message was sent already.', { details: { deliveryId: id } });
    }
    this.#wake();
  }

  async #view(deliveries: readonly DeliveryRecord[]): Promise<DeliveryView[]> {
    const recipients = new Map(
      (await this.#context.catalogue.recipients.list()).map((recipient) => [recipient.id, recipient]),
    );
    const views: DeliveryView[] = [];
    for (const delivery of deliveries) {
      const recipient = recipients.get(delivery.recipientId);
      if (recipient === undefined) continue;
      const notice = delivery.notice as Notice;
      const { subject } = composeMessage(notice, await this.#sender.readerOf(recipient));
      const { id, recipientId, address, state, attempts, createdAtMs, nextAttemptAtMs, sentAtMs, error } = delivery;
      views.push({
        ...{ id, recipientId, recipientName: recipient.name, address, kind: notice.kind, subject },
        ...{ state, attempts, createdAtMs, nextAttemptAtMs, sentAtMs, error },
      });
    }
    return views;
  }

  async #run(): Promise<void> {
    const { clock, logger } = this.#context;
    await this.settings.ensureDefaultRecipient(this.#language).catch((error: unknown) => {
      logger.warn({ code: toAppError(error).code }, 'the NAS is not told by itself');
    });
    let nextClockMs = 0;
    while (!this.#stopping.signal.aborted) {
      const woken = new Promise<void>((resolve) => (this.#wake = resolve));
      await this.#lookSafely(() => this.#watch.lookAtRuns());
      if (clock.monotonicMs() >= nextClockMs) {
        nextClockMs = clock.monotonicMs() + CLOCK_EVERY_MS;
        await this.#lookSafely(() => this.#watch.lookAtClock());
      }
      // Not waited for: a mail server that hangs holds up neither the watch nor the stop.
      const sending = this.#lookSafely(() => this.#sender.look()).finally(() => this.#sending.delete(sending));
      this.#sending.add(sending);
      const alarm = this.#lookSafely(() => this.#alarm.look()).finally(() => this.#sending.delete(alarm));
      this.#sending.add(alarm);
      await Promise.race([woken, clock.sleep(LOOK_EVERY_MS, this.#stopping.signal).catch(() => undefined)]);
    }
  }

  async #lookSafely(look: () => Promise<void>): Promise<void> {
    try {
      await look();
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      this.#context.logger.warn({ code: toAppError(error).code, reason: toAppError(error).message }, 'notices wait');
    }
  }

  /** Looks sooner when a run has ended or settings have changed. */
  #listen(): void {
    const { unsubscribe } = this.#context.events.subscribe(null, ({ event }) => {
      const isEnd = event.type === 'run' && event.run.finishedAtMs !== null;
      const isKnown = event.type === 'changed' && (event.what === 'point' || event.what === 'settings');
      if (isEnd || isKnown) this.#wake();
    });
    this.#stopping.signal.addEventListener('abort', unsubscribe, { once: true });
  }
}

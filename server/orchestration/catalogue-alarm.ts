import type { Language } from '../contract/api/notification.schema.ts';
import type { RecipientRecord } from '../database/index.ts';
import { toAppError, type AppError } from '../errors/index.ts';
import type { CatalogueNotice } from '../notification/index.ts';
import type { OrchestrationContext } from './context.ts';
import type { NoticeSender } from './notice-sender.ts';

const MINUTE_MS = 60_000;
/** A volume that was full for a moment is no news. */
const TELL_AFTER_MS = 5 * MINUTE_MS;
const AGAIN_MS = 24 * 60 * MINUTE_MS;
const RETRY_MS = 10 * MINUTE_MS;

/**
 * Tells that the catalogue fails. As long as it does, no run begins, none can be recorded as failed, and nothing can be
 * put into the outbox: so this sends by itself, and keeps in memory whom it has told. Whom to tell is read from the
 * catalogue, which often can still be read; otherwise it is the NAS.
 */
export class CatalogueAlarm {
  readonly #context: Pick<OrchestrationContext, 'catalogue' | 'clock' | 'logger'>;
  readonly #sender: Pick<NoticeSender, 'sendNow'>;
  readonly #language: Language;
  /** When a recipient is to be told next, on the monotonic clock. */
  readonly #nextMs = new Map<string, number>();
  #trouble: { error: AppError; sinceMs: number; sinceMonotonicMs: number } | null = null;
  #isTelling = false;

  constructor(
    context: Pick<OrchestrationContext, 'catalogue' | 'clock' | 'logger'>,
    options: { sender: Pick<NoticeSender, 'sendNow'>; language: Language },
  ) {
    this.#context = context;
    this.#sender = options.sender;
    this.#language = options.language;
  }

  /** What the catalogue last said of itself; null: it is well. */
  get trouble(): AppError | null {
    return this.#trouble?.error ?? null;
  }

  note(error: AppError | null): void {
    const { clock } = this.#context;
    if (error === null) {
      this.#trouble = null;
      this.#nextMs.clear();
    } else {
      const { sinceMs, sinceMonotonicMs } = this.#trouble ?? {
        sinceMs: clock.nowMs(),
        sinceMonotonicMs: clock.monotonicMs(),
      };
      this.#trouble = { error, sinceMs, sinceMonotonicMs };
    }
  }

  /** Tells whoever is to be told now. Never rejects. */
  async look(): Promise<void> {
    const { clock, logger } = this.#context;
    if (this.#trouble === null || this.#isTelling) return;
    const { error, sinceMs, sinceMonotonicMs } = this.#trouble;
    if (clock.monotonicMs() - sinceMonotonicMs < TELL_AFTER_MS) return;
    this.#isTelling = true;
    const notice: CatalogueNotice = { kind: 'catalogue', sinceMs, error: error.toBody() };
    const due = (await this.#listRecipients()).filter(({ id }) => clock.monotonicMs() >= (this.#nextMs.get(id) ?? 0));
    // Side by side: the NAS is not to wait for a mail server that hangs.
    await Promise.all(
      due.map(async (recipient) => {
        let againMs = AGAIN_MS;
        try {
          await this.#sender.sendNow(recipient, notice);
        } catch (failure) {
          againMs = RETRY_MS;
          const { code } = toAppError(failure);
          logger.warn({ recipientId: recipient.id, code }, 'the failure of the catalogue could not be told');
        }
        this.#nextMs.set(recipient.id, clock.monotonicMs() + againMs);
      }),
    );
    this.#isTelling = false;
  }

  /** Who wants to hear of failures, whatever task they are of: this one is of all. */
  async #listRecipients(): Promise<RecipientRecord[]> {
    try {
      const recipients = await this.#context.catalogue.recipients.list();
      return recipients.filter(({ enabled, results }) => enabled && results.includes('failure'));
    } catch {
      return [theNas(this.#language)];
    }
  }
}

/** The one that Dozo makes at its first start, without the catalogue. */
function theNas(language: Language): RecipientRecord {
  return {
    id: 'nas',
    name: 'NAS',
    enabled: true,
    language,
    timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    results: ['failure'],
    jobIds: null,
    digest: 'none',
    channel: { kind: 'nas' },
    secrets: '',
    createdAtMs: 0,
  };
}

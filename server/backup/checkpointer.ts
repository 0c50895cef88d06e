import type { WriteSession } from '../repository/index.ts';
import type { Clock } from '../runtime/index.ts';

/** Decides when a run makes durable what arrived. One checkpoint at a time; writers wait for it. */
export class Checkpointer {
  readonly #session: WriteSession;
  readonly #clock: Clock;
  readonly #facts: () => unknown;
  readonly #everyBytes: number;
  readonly #everyMs: number;
  #bytes = 0;
  #lastAtMs: number;
  #running: Promise<void> | null = null;

  constructor(options: {
    session: WriteSession;
    clock: Clock;
    /** Taken before the repository is asked, so that it never claims more than what will be durable. */
    facts(): unknown;
    everyBytes: number;
    everyMs: number;
  }) {
    this.#session = options.session;
    this.#clock = options.clock;
    this.#facts = () => options.facts();
    this.#everyBytes = options.everyBytes;
    this.#everyMs = options.everyMs;
    this.#lastAtMs = options.clock.monotonicMs();
  }

  async delivered(bytes: number): Promise<void> {
    this.#bytes += bytes;
    if (this.#running === null && this.#isDue()) this.#running = this.#write();
    await this.#running;
  }

  /** A checkpoint now, whatever is due; after one that is under way, since that may know less. */
  async save(): Promise<void> {
    while (this.#running !== null) await this.#running;
    this.#running = this.#write();
    await this.#running;
  }

  #isDue(): boolean {
    if (this.#bytes === 0) return false;
    return this.#bytes >= this.#everyBytes || this.#clock.monotonicMs() - this.#lastAtMs >= this.#everyMs;
  }

  async #write(): Promise<void> {
    this.#bytes = 0;
    try {
      await this.#session.checkpoint(this.#facts());
    } finally {
      this.#lastAtMs = this.#clock.monotonicMs();
      this.#running = null;
    }
  }
}

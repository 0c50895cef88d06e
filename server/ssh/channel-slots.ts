import { cancelled } from '../errors/index.ts';

interface Waiter {
  grant: () => void;
  refuse: (error: Error) => void;
}

/** Keeps the number of open channels within what the host allows; the rest wait in line. */
export class ChannelSlots {
  #limit: number;
  #taken = 0;
  readonly #waiting: Waiter[] = [];

  constructor(limit: number) {
    this.#limit = Math.max(1, limit);
  }

  get taken(): number {
    return this.#taken;
  }

  /** Resolves when a channel may be opened. @throws CANCELLED when the signal fires while in line */
  async take(signal?: AbortSignal): Promise<void> {
    if (this.#taken < this.#limit) {
      this.#taken += 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const leave = (settle: () => void): void => {
        signal?.removeEventListener('abort', onAbort);
        const index = this.#waiting.indexOf(waiter);
        if (index >= 0) this.#waiting.splice(index, 1);
        settle();
      };
      const onAbort = (): void => leave(() => reject(cancelled(signal?.reason)));
      const waiter: Waiter = { grant: () => leave(resolve), refuse: (error) => leave(() => reject(error)) };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
    });
  }

  release(): void {
    const next = this.#taken <= this.#limit ? this.#waiting[0] : undefined;
    if (next === undefined) this.#taken -= 1;
    else next.grant();
  }

  /**
   * The host opened fewer channels than we hoped for: what is open now is the limit from here on, less the one by which
   * commands are ended.
   */
  learnLimit(): void {
    this.#limit = Math.max(1, this.#taken - 2);
  }

  refuseAll(error: Error): void {
    while (this.#waiting.length > 0) this.#waiting[0]?.refuse(error);
  }
}

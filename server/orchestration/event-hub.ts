import type { ServerEvent } from '../contract/api/event.schema.ts';
import { randomHex } from '../runtime/index.ts';

export interface NumberedEvent {
  /** `EPOCH-NUMBER`: an epoch is one life of the server. */
  id: string;
  event: ServerEvent;
}

type Listener = (event: NumberedEvent) => void;

/** Events kept for readers that come back after a break. */
const HISTORY_MAX = 2_000;

/** Passes events on to whoever listens, and remembers the last ones for those who were away. */
export class EventHub {
  readonly #epoch = randomHex(4);
  readonly #history: NumberedEvent[] = [];
  readonly #listeners = new Set<Listener>();
  #number = 0;

  emit(event: ServerEvent): void {
    this.#number += 1;
    const numbered = { id: `${this.#epoch}-${this.#number}`, event };
    // The newest progress is all that counts of it: after a break the next one comes soon enough.
    if (event.type !== 'progress') this.#history.push(numbered);
    if (this.#history.length > HISTORY_MAX) this.#history.shift();
    for (const listener of this.#listeners) listener(numbered);
  }

  /**
   * Listens from now on, after what was missed since `lastId`.
   * @param lastId of the last event that the reader had; null when it is new
   * @returns what was missed (`reset` when that is not known any more) and the way to stop listening
   */
  subscribe(lastId: string | null, listener: Listener): { missed: NumberedEvent[]; unsubscribe: () => void } {
    const missed = lastId === null ? [] : this.#since(lastId);
    this.#listeners.add(listener);
    return { missed, unsubscribe: () => void this.#listeners.delete(listener) };
  }

  #since(lastId: string): NumberedEvent[] {
    const reset: NumberedEvent = { id: `${this.#epoch}-${this.#number}`, event: { type: 'reset' } };
    const [epoch, text] = lastId.split('-');
    const last = Number(text);
    if (epoch !== this.#epoch || !Number.isInteger(last) || last > this.#number) return [reset];
    const oldest = this.#history[0];
    const isForgotten = this.#history.length >= HISTORY_MAX && oldest !== undefined && numberOf(oldest) > last + 1;
    return isForgotten ? [reset] : this.#history.filter((entry) => numberOf(entry) > last);
  }
}

function numberOf(entry: NumberedEvent): number {
  return Number(entry.id.split('-')[1]);
}

import { AppError } from '../errors/index.ts';

/** What a route keeps busy for as long as its answer lasts. */
export type Place = 'stream' | 'version';

/**
 * Of each account. A browser has six connections to a server at most; each open version takes memory and reads from the
 * disks.
 */
const PLACES: Record<Place, number> = { stream: 32, version: 8 };

/** Bounds how many long answers an account has at once: none of them ends before the one who asks wants it to. */
export class Places {
  readonly #taken = new Map<string, number>();

  /**
   * @returns gives the place back; to be called once
   * @throws TOO_MANY_AT_ONCE
   */
  take(place: Place, account: string): () => void {
    const key = `${place} ${account}`;
    const taken = this.#taken.get(key) ?? 0;
    if (taken >= PLACES[place]) {
      throw new AppError(
        'TOO_MANY_AT_ONCE',
        place === 'stream'
          ? `This account listens to ${taken} streams of events already.`
          : `This account has ${taken} downloads and looks into versions at work already.`,
        { hint: 'Wait until one of them has ended, or end one.', details: { count: taken } },
      );
    }
    this.#taken.set(key, taken + 1);
    return () => {
      const left = (this.#taken.get(key) ?? 0) - 1;
      if (left > 0) this.#taken.set(key, left);
      else this.#taken.delete(key);
    };
  }
}

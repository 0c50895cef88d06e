import pLimit from 'p-limit';
import type { Nas } from '../nas/index.ts';
import type { Clock } from '../runtime/index.ts';
import { hashSecret } from './session-secrets.ts';

type NasRequest = Parameters<Nas['identify']>[0];

/** Each question starts a program of the NAS, or asks its web server. */
const QUESTIONS_AT_ONCE = 4;
const REFUSED_FOR_MS = 30_000;
const REFUSED_MAX = 1_000;

/**
 * Asks the NAS who is signed in, and spares it the same question again and again.
 *
 * There is no limit per address: behind the proxy of QTS all browsers have the same one, and a stranger's failures
 * would lock the NAS's administrators out. A session of the NAS is too long to be guessed.
 */
export class NasSignIn {
  readonly #nas: Nas;
  readonly #clock: Clock;
  readonly #limit = pLimit(QUESTIONS_AT_ONCE);
  /** Hash of what was shown → when it was refused. */
  readonly #refused = new Map<string, number>();

  constructor(nas: Nas, clock: Clock) {
    this.#nas = nas;
    this.#clock = clock;
  }

  get isOffered(): boolean {
    return this.#nas.hasSignIn;
  }

  /** Name of the administrator, or null. @throws NAS_UNREACHABLE */
  async identify(request: NasRequest): Promise<string | null> {
    const key = hashSecret(JSON.stringify([request.cookies, request.csrfToken, request.address]));
    const refusedAtMs = this.#refused.get(key);
    if (refusedAtMs !== undefined && this.#clock.monotonicMs() - refusedAtMs < REFUSED_FOR_MS) return null;
    const name = await this.#limit(() => this.#nas.identify(request));
    this.#refused.delete(key);
    if (name === null) this.#refused.set(key, this.#clock.monotonicMs());
    if (this.#refused.size > REFUSED_MAX) this.#refused.delete(this.#refused.keys().next().value ?? '');
    return name;
  }
}

import { isIPv6 } from 'node:net';
import { AppError } from '../errors/index.ts';
import type { Clock } from '../runtime/index.ts';

interface Bucket {
  /** Failures that have not been forgiven yet. */
  failures: number;
  atMs: number;
}

interface Limit {
  burst: number;
  forgiveEveryMs: number;
}

/** An attempt counts as failed until it is said otherwise: attempts made at the same time cannot slip through. */
export interface Attempt {
  succeeded(): void;
  /** It was neither: a code was missing. */
  undo(): void;
}

const PER_ADDRESS: Limit = { burst: 8, forgiveEveryMs: 30_000 };
const PER_ACCOUNT: Limit = { burst: 40, forgiveEveryMs: 10_000 };
/** A million codes, three of them good at a time: at this pace half of one per cent of a chance in a day. */
const PER_CODE: Limit = { burst: 6, forgiveEveryMs: 60_000 };
const BUCKETS_MAX = 10_000;
/** So long an address that failed is not taken for a new one. */
const FRESH_AFTER_MS = 3600_000;
const FAILED_MAX = 50_000;

/**
 * Slows down guessing of passwords, per address and per account.
 *
 * Whoever guesses at an account, from however many addresses, must not lock its owner out: an address that has not
 * failed in the last hour has one attempt, whatever others do to the account, and one that has logged in to the
 * account before is not held up by it at all.
 */
export class LoginLimiter {
  readonly #clock: Clock;
  readonly #addresses = new Map<string, Bucket>();
  readonly #accounts = new Map<string, Bucket>();
  readonly #codes = new Map<string, Bucket>();
  readonly #trusted = new Set<string>();
  /** When addresses failed last. */
  readonly #failed = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * @param options.isAddressSure false: whoever asks may claim any address, so that a new one says nothing
   * @throws LOGIN_RATE_LIMITED
   */
  begin(from: string, account: string, { isAddressSure = true }: { isAddressSure?: boolean } = {}): Attempt {
    const address = networkOf(from);
    const isTrusted = this.#trusted.has(`${address} ${account}`);
    const addressWaitMs = this.#waitMs(this.#addresses, address, PER_ADDRESS);
    const isFresh =
      isAddressSure && this.#clock.monotonicMs() - (this.#failed.get(address) ?? -Infinity) > FRESH_AFTER_MS;
    const accountWaitMs = isTrusted || isFresh ? 0 : this.#waitMs(this.#accounts, account, PER_ACCOUNT);
    refuseUntil(Math.max(addressWaitMs, accountWaitMs));
    this.#count(this.#addresses, address);
    if (!isTrusted) this.#count(this.#accounts, account);
    this.#failed.delete(address);
    this.#failed.set(address, this.#clock.monotonicMs());
    if (this.#failed.size > FAILED_MAX) this.#failed.delete(this.#failed.keys().next().value ?? '');
    const undo = (): void => {
      uncount(this.#addresses, address);
      if (!isTrusted) uncount(this.#accounts, account);
    };
    return {
      undo,
      succeeded: () => {
        undo();
        this.#addresses.delete(address);
        this.#failed.delete(address);
        this.#trusted.add(`${address} ${account}`);
        if (this.#trusted.size > BUCKETS_MAX) this.#trusted.clear();
      },
    };
  }

  /** For one-time codes, after the password was right. @throws LOGIN_RATE_LIMITED */
  beginCode(from: string, account: string): Attempt {
    const address = networkOf(from);
    // Whoever knows the password and not the codes must not keep the owner, who was here before, out.
    const key = this.#trusted.has(`${address} ${account}`) ? `${address} ${account}` : account;
    refuseUntil(this.#waitMs(this.#codes, key, PER_CODE));
    this.#count(this.#codes, key);
    const undo = (): void => uncount(this.#codes, key);
    return { undo, succeeded: undo };
  }

  #count(buckets: Map<string, Bucket>, key: string): void {
    const bucket = buckets.get(key) ?? { failures: 0, atMs: 0 };
    if (bucket.failures === 0) bucket.atMs = this.#clock.monotonicMs();
    bucket.failures += 1;
    buckets.set(key, bucket);
    // Whoever tries from ever new addresses must not fill the memory.
    if (buckets.size > BUCKETS_MAX) buckets.delete(buckets.keys().next().value ?? '');
  }

  #waitMs(buckets: Map<string, Bucket>, key: string, limit: Limit): number {
    const bucket = buckets.get(key);
    if (bucket === undefined) return 0;
    const nowMs = this.#clock.monotonicMs();
    const forgiven = Math.floor((nowMs - bucket.atMs) / limit.forgiveEveryMs);
    if (forgiven > 0) {
      bucket.failures = Math.max(0, bucket.failures - forgiven);
      bucket.atMs += forgiven * limit.forgiveEveryMs;
    }
    if (bucket.failures === 0) buckets.delete(key);
    return bucket.failures < limit.burst ? 0 : bucket.atMs + limit.forgiveEveryMs - nowMs;
  }
}

function uncount(buckets: Map<string, Bucket>, key: string): void {
  const bucket = buckets.get(key);
  if (bucket === undefined) return;
  bucket.failures -= 1;
  if (bucket.failures <= 0) buckets.delete(key);
}

function refuseUntil(waitMs: number): void {
  if (waitMs <= 0) return;
  const retryAfterSeconds = Math.ceil(waitMs / 1000);
  throw new AppError('LOGIN_RATE_LIMITED', 'Too many failed logins.', {
    hint: `Wait ${retryAfterSeconds} seconds, then try again.`,
    details: { retryAfterSeconds },
  });
}

/** One household has 2^64 addresses of IPv6: they count as one. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address;
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const middle = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...middle, ...right]
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}

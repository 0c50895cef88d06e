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

const PER_ADDRESS: Limit = { burst: 8, forgiveEveryMs: 30_000 };
/** Wider: it must stop guessing from many addresses without locking the owner out. */
const PER_ACCOUNT: Limit = { burst: 40, forgiveEveryMs: 10_000 };
const BUCKETS_MAX = 10_000;

/**
 * Slows down guessing of passwords, per address and per account. An address that has logged in to an
 * account before is not held up by what others do to that account.
 */
export class LoginLimiter {
  readonly #clock: Clock;
  readonly #addresses = new Map<string, Bucket>();
  readonly #accounts = new Map<string, Bucket>();
  readonly #trusted = new Set<string>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Counts an attempt as failed until `succeeded` says otherwise: attempts made at the same time
   * cannot slip through together.
   * @throws LOGIN_RATE_LIMITED
   */
  begin(address: string, account: string): { succeeded(): void } {
    const isTrusted = this.#trusted.has(`${address} ${account}`);
    const addressWaitMs = this.#waitMs(this.#addresses, address, PER_ADDRESS);
    const accountWaitMs = isTrusted ? 0 : this.#waitMs(this.#accounts, account, PER_ACCOUNT);
    const waitMs = Math.max(addressWaitMs, accountWaitMs);
    if (waitMs > 0) {
      const retryAfterSeconds = Math.ceil(waitMs / 1000);
      throw new AppError('LOGIN_RATE_LIMITED', 'Too many failed logins.', {
        hint: `Wait ${retryAfterSeconds} seconds, then try again.`,
        details: { retryAfterSeconds },
      });
    }
    const add = (buckets: Map<string, Bucket>, key: string): void => {
      const bucket = buckets.get(key) ?? { failures: 0, atMs: 0 };
      bucket.failures += 1;
      bucket.atMs = this.#clock.monotonicMs();
      buckets.set(key, bucket);
    };
    add(this.#addresses, address);
    if (!isTrusted) add(this.#accounts, account);
    return {
      succeeded: () => {
        this.#addresses.delete(address);
        this.#trusted.add(`${address} ${account}`);
        if (this.#trusted.size > BUCKETS_MAX) this.#trusted.clear();
        const bucket = this.#accounts.get(account);
        if (!isTrusted && bucket !== undefined) bucket.failures = Math.max(0, bucket.failures - 1);
      },
    };
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
    // Whoever tries from ever new addresses must not fill the memory.
    if (buckets.size > BUCKETS_MAX) buckets.delete(buckets.keys().next().value ?? '');
    return bucket.failures < limit.burst ? 0 : bucket.atMs + limit.forgiveEveryMs - nowMs;
  }
}

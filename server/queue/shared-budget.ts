import type { Redis } from 'ioredis';
import { cancelled } from '../errors/index.ts';
import { KIB, MIB, type Clock } from '../runtime/index.ts';
import type { createKeys } from './keys.ts';
import { NO_LIMITS, type WorkerLimits } from './limits.ts';

/**
 * What was not used is good for so long: a reader that comes a little late does not lose its turn. So much
 * more than the limit is let through in a whole transfer.
 */
const CREDIT_MS = 200;
/** Pieces that budgets are given out in: the same for all tasks, so that they share evenly. */
const PIECE_MS = 100;
const PIECE_BYTES_MIN = 64 * KIB;
const PIECE_BYTES_MAX = 4 * MIB;
/** Redis has so much time to answer before a worker counts for itself. */
const ANSWER_MS = 1_000;
const KEPT_MS = 60_000;

/**
 * Each key holds the instant, in microseconds of Redis's own clock, up to which its budget was given out;
 * the next piece begins there. Gives how long the slowest of them makes the caller wait, in microseconds.
 * All workers of all machines ask here, so no clocks need agree.
 */
const RESERVE = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local wait = 0
for i, key in ipairs(KEYS) do
  local start = math.max(tonumber(redis.call('GET', key) or 0), now - tonumber(ARGV[1]))
  local stop = start + math.ceil(ARGV[2] * 1000000 / ARGV[i + 2])
  redis.call('SET', key, string.format('%.0f', stop), 'PX', math.ceil((stop - now) / 1000) + ${KEPT_MS})
  wait = math.max(wait, start - now)
end
return wait
`;

interface Limit {
  key: string;
  bytesPerSecond: number;
}

/**
 * Holds what backups read and restores write to the limits, over all workers together: a piece at a time is taken from
 * an account in Redis. While Redis is away, each worker takes its share of the last known limits by itself.
 */
export class SharedBudget {
  readonly #redis: Redis;
  readonly #keys: ReturnType<typeof createKeys>;
  readonly #clock: Clock;
  /** As in `RESERVE`, in milliseconds of the monotonic clock. */
  readonly #own = new Map<string, number>();
  #limits: WorkerLimits = NO_LIMITS;
  #workers = 1;

  constructor(redis: Redis, keys: ReturnType<typeof createKeys>, clock: Clock) {
    this.#redis = redis;
    this.#keys = keys;
    this.#clock = clock;
  }

  /** @param workers that share the limits */
  update(limits: WorkerLimits, workers: number): void {
    this.#limits = limits;
    this.#workers = Math.max(1, workers);
    for (const [key, untilMs] of this.#own) if (untilMs < this.#clock.monotonicMs()) this.#own.delete(key);
  }

  /** Bytes a second that the tasks of a run may move as of now; null: as many as there are. */
  allowedBytesPerSecond(runId: string): number | null {
    const limits = this.#limitsOf(runId);
    return limits.length === 0 ? null : Math.min(...limits.map(({ bytesPerSecond }) => bytesPerSecond));
  }

  /** Resolves when so many bytes may be moved. @throws CANCELLED */
  async take(runId: string, bytes: number, signal: AbortSignal): Promise<void> {
    for (let left = bytes; left > 0;) {
      if (signal.aborted) throw cancelled();
      const limits = this.#limitsOf(runId);
      if (limits.length === 0) return;
      const slowest = Math.min(...limits.map(({ bytesPerSecond }) => bytesPerSecond));
      const pieceBytes = Math.min(left, PIECE_BYTES_MAX, Math.max(PIECE_BYTES_MIN, (slowest * PIECE_MS) / 1000));
      const waitMs = await this.#reserve(limits, pieceBytes);
      if (waitMs > 0) await this.#clock.sleep(waitMs, signal);
      left -= pieceBytes;
    }
  }

  #limitsOf(runId: string): Limit[] {
    const { bytesPerSecond, runBytesPerSecond } = this.#limits;
    const ofRun = runBytesPerSecond[runId];
    return [
      ...(bytesPerSecond === null ? [] : [{ key: this.#keys.budget('all'), bytesPerSecond }]),
      ...(ofRun === undefined ? [] : [{ key: this.#keys.budget(runId), bytesPerSecond: ofRun }]),
    ];
  }

  async #reserve(limits: readonly Limit[], bytes: number): Promise<number> {
    const waitMs = this.#redis.status === 'ready' ? await this.#askRedis(limits, bytes) : null;
    return waitMs ?? this.#reserveOwn(limits, bytes);
  }

  async #askRedis(limits: readonly Limit[], bytes: number): Promise<number | null> {
    const rates = limits.map(({ bytesPerSecond }) => bytesPerSecond);
    const keys = limits.map(({ key }) => key);
    const late = new AbortController();
    try {
      const answer = await Promise.race([
        this.#redis.eval(RESERVE, keys.length, ...keys, CREDIT_MS * 1000, Math.ceil(bytes), ...rates),
        this.#clock.sleep(ANSWER_MS, late.signal).then(() => null),
      ]);
      return typeof answer === 'number' ? answer / 1000 : null;
    } catch {
      // It is just going away.
      return null;
    } finally {
      late.abort();
    }
  }

  #reserveOwn(limits: readonly Limit[], bytes: number): number {
    const nowMs = this.#clock.monotonicMs();
    let waitMs = 0;
    for (const { key, bytesPerSecond } of limits) {
      const startMs = Math.max(this.#own.get(key) ?? 0, nowMs - CREDIT_MS);
      this.#own.set(key, startMs + (bytes * this.#workers * 1000) / bytesPerSecond);
      waitMs = Math.max(waitMs, startMs - nowMs);
    }
    return waitMs;
  }
}

import type { Clock } from '../runtime/index.ts';

/** zstd's levels: threads that always have work keep to the first, those that wait for a host go up to the last. */
const LEVEL_MIN = 1;
const LEVEL_MAX = 3;
/** So long it is measured before the level changes. */
const LOOK_MS = 2000;
/** Nothing was asked for so long: what was measured before tells nothing. */
const PAUSE_MS = 30_000;
/** Of the threads' time, in which they work. A level more takes a fifth to a third more. */
const SHARE_TO_RAISE = 0.35;
const SHARE_TO_LOWER = 0.6;

/**
 * The level of zstd by measured headroom: the share of time in which the threads that compress are at work. Measured as
 * time that passes, so that it also grows when others want the processor. Readers need not know the level.
 */
export class CompressionLevel {
  readonly #clock: Clock;
  readonly #threads: number;
  #level = LEVEL_MIN;
  #busyMs = 0;
  #sinceMs: number;
  #lastMs: number;

  /** @param options.threads how many may work at a time */
  constructor(options: { threads: number; clock: Clock }) {
    this.#clock = options.clock;
    this.#threads = Math.max(1, options.threads);
    this.#sinceMs = this.#clock.monotonicMs();
    this.#lastMs = this.#sinceMs;
  }

  get level(): number {
    return this.#level;
  }

  /** @param busyMs that a thread took for a piece of work, which has just ended */
  worked(busyMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    const pausedMs = nowMs - this.#lastMs - busyMs;
    this.#lastMs = nowMs;
    if (pausedMs > PAUSE_MS) {
      this.#level = LEVEL_MIN;
      this.#restart(nowMs);
      return;
    }
    this.#busyMs += busyMs;
    const elapsedMs = nowMs - this.#sinceMs;
    if (elapsedMs < LOOK_MS) return;
    const share = this.#busyMs / (elapsedMs * this.#threads);
    if (share > SHARE_TO_LOWER) this.#level = LEVEL_MIN;
    else if (share < SHARE_TO_RAISE) this.#level = Math.min(LEVEL_MAX, this.#level + 1);
    this.#restart(nowMs);
  }

  #restart(nowMs: number): void {
    this.#busyMs = 0;
    this.#sinceMs = nowMs;
  }
}

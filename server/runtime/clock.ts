import { setTimeout as delay } from 'node:timers/promises';

/** The only door to time. Tests pass a clock that they move by hand. */
export interface Clock {
  /** Wall clock, milliseconds since 1970 UTC; may jump. For dates that people read. */
  nowMs(): number;
  /** Milliseconds that only go up. For durations and time limits. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with an AbortError as soon as the signal fires. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: async (ms, signal) => {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  },
};

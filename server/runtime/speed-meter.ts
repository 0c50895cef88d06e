import type { Clock } from './clock.ts';

/** Length of the window that a shown speed is measured over. */
const WINDOW_MS = 8000;
/** Steps of the window: fewer records than calls, however often `add` is called. */
const STEP_MS = 250;

/** Bytes per second over the last seconds, for progress displays. */
export class SpeedMeter {
  readonly #clock: Clock;
  readonly #startedAtMs: number;
  #steps: { atMs: number; bytes: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#startedAtMs = clock.monotonicMs();
  }

  add(bytes: number): void {
    const nowMs = this.#clock.monotonicMs();
    const last = this.#steps.at(-1);
    if (last !== undefined && nowMs - last.atMs < STEP_MS) last.bytes += bytes;
    else this.#steps.push({ atMs: nowMs, bytes });
    this.#forget(nowMs);
  }

  bytesPerSecond(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#forget(nowMs);
    let bytes = 0;
    for (const step of this.#steps) bytes += step.bytes;
    const spanMs = Math.min(WINDOW_MS, nowMs - this.#startedAtMs);
    return spanMs <= 0 ? 0 : Math.round((bytes * 1000) / spanMs);
  }

  #forget(nowMs: number): void {
    while ((this.#steps[0]?.atMs ?? Infinity) < nowMs - WINDOW_MS) this.#steps.shift();
  }
}

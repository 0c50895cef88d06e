import { DAY_MS } from './zoned-time.ts';

/** Clocks of machines that share a repository may differ by this; a clock that drifts is set by less. */
const STEP_MAX_MS = DAY_MS;
/** Off for longer than a season is rarer than a clock that comes up wrong. */
const OFF_MAX_MS = 100 * DAY_MS;
/** A clock that has run on for so long after it was set is taken for right. */
const SETTLES_AFTER_MS = 3 * DAY_MS;
const JITTER_MS = 3_600_000;

/** One look at the clock. */
export interface ClockLook {
  /** Of the system's start; null where it has none. */
  bootId: string | null;
  /** Since the system's start, by a clock that nobody sets. */
  uptimeMs: number;
  wallMs: number;
}

/** What is kept between two looks. */
export interface ClockTrust extends ClockLook {
  /** The time that it must be at least, by all looks so far. */
  vouchedMs: number;
  /** How long the clock has run on without being set again, while it shows another time than the one vouched for. */
  steadyMs: number;
}

/**
 * Follows the wall clock by one that nobody sets. A clock that is set forward makes grace times and locks end at once,
 * and no repository can tell; that it was set can be told as long as the system runs. Time while it was off is
 * believed, up to a season.
 */
export function followClock(before: ClockTrust | null, look: ClockLook): ClockTrust {
  if (before === null) return { ...look, vouchedMs: look.wallMs, steadyMs: 0 };
  const isSameBoot = look.bootId !== null && look.bootId === before.bootId && look.uptimeMs >= before.uptimeMs;
  const ranMs = isSameBoot ? look.uptimeMs - before.uptimeMs : look.uptimeMs;
  const shownMs = look.wallMs - before.wallMs;
  const offMs = isSameBoot ? 0 : Math.min(Math.max(shownMs - ranMs, 0), OFF_MAX_MS);
  const vouchedMs = before.vouchedMs + ranMs + offMs;
  if (Math.abs(look.wallMs - vouchedMs) <= STEP_MAX_MS) return { ...look, vouchedMs: look.wallMs, steadyMs: 0 };
  const isSteady = Math.abs(shownMs - ranMs - offMs) <= JITTER_MS;
  const steadyMs = isSteady ? before.steadyMs + ranMs : 0;
  if (steadyMs >= SETTLES_AFTER_MS) return { ...look, vouchedMs: look.wallMs, steadyMs: 0 };
  return { ...look, vouchedMs, steadyMs };
}

/**
 * By how much the clock shows more than can be vouched for, and after how long it would be believed; null: it is
 * believed.
 */
export function clockDoubt({
  wallMs,
  vouchedMs,
  steadyMs,
}: ClockTrust): { aheadMs: number; settlesInMs: number } | null {
  const aheadMs = wallMs - vouchedMs;
  return aheadMs <= STEP_MAX_MS ? null : { aheadMs, settlesInMs: SETTLES_AFTER_MS - steadyMs };
}

import type { KeepReason, Retention, RetentionSimulation } from '../contract/api/retention.schema.ts';
import type { Schedule } from '../contract/api/schedule.schema.ts';
import { AppError } from '../errors/index.ts';
import { nextStarts } from './occurrences.ts';
import { judgePoints, keepsAll, type RetainedPoint } from './retention.ts';
import { DAY_MS } from './zoned-time.ts';

/** Runs are looked for so many at a time. */
const STEP_RUNS = 200;
/** Runs that are looked for, times the rules that are asked for each: a year of every five minutes is 105,120. */
const LOOKED_FOR_MAX = 150_000;
/** Versions that are judged, over all runs: more would hold the server up. */
const JUDGED_MAX = 500_000;

/**
 * Plays a schedule through: every run makes a complete version, and what may go, goes after it.
 * @throws INPUT_INVALID when that would take too long
 */
export function simulateRetention(input: {
  retention: Retention;
  schedule: Schedule;
  fromMs: number;
  days: number;
}): RetentionSimulation {
  const { retention, schedule, fromMs, days } = input;
  const untilMs = fromMs + days * DAY_MS;
  const runs = listRuns(schedule, fromMs, untilMs);
  if (runs === null) throw tooMuch(days);
  let points: RetainedPoint[] = [];
  let reasons = new Map<string, KeepReason[]>();
  let peakCount = 0;
  let judgedCount = 0;
  for (const atMs of runs) {
    points.push({ id: String(atMs), createdAtMs: atMs, state: 'complete', lockedUntilMs: null });
    peakCount = Math.max(peakCount, points.length);
    if (keepsAll(retention) && atMs !== runs.at(-1)) continue;
    judgedCount += points.length;
    if (judgedCount > JUDGED_MAX) throw tooMuch(days);
    reasons = judgePoints(points, retention, atMs);
    points = points.filter((point) => (reasons.get(point.id) ?? []).length > 0);
  }
  return {
    runCount: runs.length,
    peakCount,
    kept: points.map((point) => ({ createdAtMs: point.createdAtMs, reasons: reasons.get(point.id) ?? [] })),
  };
}

/** Null: too many to look for. */
function listRuns(schedule: Schedule, fromMs: number, untilMs: number): number[] | null {
  const runs: number[] = [];
  for (;;) {
    const next = nextStarts(schedule, runs.at(-1) ?? fromMs, STEP_RUNS);
    for (const atMs of next) {
      if (atMs > untilMs) return runs;
      runs.push(atMs);
    }
    if (next.length < STEP_RUNS) return runs;
    if (runs.length * schedule.rules.length > LOOKED_FOR_MAX) return null;
  }
}

function tooMuch(days: number): AppError {
  return new AppError('INPUT_INVALID', `Playing ${days} days through would take too long.`, {
    hint: 'Simulate a shorter time, or fewer runs a day.',
    details: { days },
  });
}

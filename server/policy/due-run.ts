import type { Schedule } from '../contract/api/schedule.schema.ts';
import { isWindowOpen, jitterMs, lastOccurrence, opensAt } from './occurrences.ts';
import { MINUTE_MS } from './zoned-time.ts';

/** A run that begins so much later than it could have was missed: the NAS was off, or its clock wrong. */
const PUNCTUAL_MS = 10 * MINUTE_MS;
/**
 * A clock that was put back by less than this makes times come again that were dealt with: they are not
 * run again. After more, the clock was wrong before, and waiting for it would leave machines without
 * backups.
 */
const CLOCK_BACK_MS = 2 * 60 * MINUTE_MS;

export interface DueQuestion {
  schedule: Schedule;
  jobId: string;
  /** Everything due up to here was dealt with. */
  doneUntilMs: number;
  nowMs: number;
}

export type DueAnswer =
  /** `doneUntilMs` of the question is worth nothing: the clock was set back. Go on from here. */
  | { kind: 'clock-set-back'; doneUntilMs: number }
  | { kind: 'nothing' }
  /** Begin now; `isLate`: it could have begun long ago. One run stands for all that were missed. */
  | { kind: 'due'; dueMs: number; isLate: boolean };

/** Whether a run is to begin now. */
export function findDueRun({ schedule, jobId, doneUntilMs, nowMs }: DueQuestion): DueAnswer {
  if (doneUntilMs - nowMs > CLOCK_BACK_MS) return { kind: 'clock-set-back', doneUntilMs: nowMs };
  if (!schedule.enabled || !isWindowOpen(schedule, nowMs)) return { kind: 'nothing' };
  let untilMs = nowMs;
  for (;;) {
    const dueMs = lastOccurrence(schedule, doneUntilMs, untilMs);
    if (dueMs === null) return { kind: 'nothing' };
    const beginMs = opensAt(schedule, dueMs) + jitterMs(schedule, jobId, dueMs);
    // Jitter may end after the window closes again: being open now is enough.
    if (beginMs <= nowMs) return { kind: 'due', dueMs, isLate: nowMs - beginMs > PUNCTUAL_MS };
    // One that is still to wait hides an older one whose time has come.
    untilMs = dueMs - 1;
  }
}

/**
 * Whether the end of a run of the followed job lets one begin now; null: not yet.
 * @returns `isLate`: it could have begun long ago
 */
export function findDueLink(schedule: Schedule, endedAtMs: number, nowMs: number): { isLate: boolean } | null {
  if (!schedule.enabled || !isWindowOpen(schedule, nowMs)) return null;
  return { isLate: nowMs - opensAt(schedule, endedAtMs) > PUNCTUAL_MS };
}

/** When a failed run is tried again; null: not any more. */
export function retryAtMs(schedule: Schedule, failure: { attempt: number; finishedAtMs: number }): number | null {
  const { times, pauseMinutes } = schedule.retry;
  if (!schedule.enabled || failure.attempt >= times) return null;
  return failure.finishedAtMs + pauseMinutes * MINUTE_MS * 2 ** failure.attempt;
}

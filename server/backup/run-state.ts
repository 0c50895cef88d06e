import { RUN_STATE_ORDER, type BackupResult } from '../contract/run.ts';

/**
 * What can come of the steps of a run, and the state each alone would give it. The worst decides:
 * nothing that left a trace of doubt is called a success.
 */
export const STEP_OUTCOMES = {
  /** The step did what it should. */
  done: 'success',
  /** The guest was not made quiet although that was to be tried. */
  'quiesce-fell-back': 'warning',
  /** The host or the engine found something that a person should look at. */
  'warning-noted': 'warning',
  /** The change map was wrong; the disk was read in full, so the point is whole. */
  'change-map-wrong': 'warning',
  /** An earlier version could not be read and could not serve as the base. */
  'base-unreadable': 'warning',
  /** The point is committed, but a snapshot or folder of ours may still be on the host. */
  'hold-left': 'warning',
  /** The host cannot freeze this disk; the point is without it. */
  'disk-not-protectable': 'incomplete',
  /** Reading this disk failed; the point is without it. */
  'disk-failed': 'incomplete',
  /** Somebody asked to stop; no point was committed. */
  cancelled: 'cancelled',
  /** No point was committed. */
  'run-failed': 'failed',
} as const satisfies Record<string, BackupResult['state']>;

export type StepOutcome = keyof typeof STEP_OUTCOMES;

/**
 * The state of a run from the outcomes of its steps. Where no point was committed, only the reason
 * for that counts: what would have been wrong with the point no longer matters.
 */
export function decideRunState(outcomes: Iterable<StepOutcome>): BackupResult['state'] {
  let worst: BackupResult['state'] = 'success';
  const seen = new Set(outcomes);
  if (seen.has('run-failed')) return 'failed';
  if (seen.has('cancelled')) return 'cancelled';
  for (const outcome of seen) {
    const state = STEP_OUTCOMES[outcome];
    if (RUN_STATE_ORDER.indexOf(state) > RUN_STATE_ORDER.indexOf(worst)) worst = state;
  }
  return worst;
}

/** State of the point itself: it is complete exactly when every disk that it should hold is whole in it. */
export function decidePointState(outcomes: Iterable<StepOutcome>): 'complete' | 'incomplete' {
  return decideRunState(outcomes) === 'incomplete' ? 'incomplete' : 'complete';
}

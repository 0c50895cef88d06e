import assert from 'node:assert/strict';
import { test } from 'node:test';

import { RUN_STATE_ORDER } from '../contract/run.ts';

import { STEP_OUTCOMES, decidePointState, decideRunState, type StepOutcome } from './run-state.ts';

test('a run of which nothing but good is known is a success', () => {
  assert.equal(decideRunState([]), 'success');
  assert.equal(decideRunState(['done', 'done']), 'success');
});

test('the worst step decides, in whatever order', () => {
  const committed = (Object.keys(STEP_OUTCOMES) as StepOutcome[]).filter(
    (outcome) => outcome !== 'cancelled' && outcome !== 'run-failed',
  );
  for (const a of committed) {
    for (const b of committed) {
      const states = [STEP_OUTCOMES[a], STEP_OUTCOMES[b]];
      const worst = states.toSorted((x, y) => RUN_STATE_ORDER.indexOf(y) - RUN_STATE_ORDER.indexOf(x))[0];
      assert.equal(decideRunState([a, b]), worst, `${a} and ${b}`);
    }
  }
});

test('without a point only the reason for that counts', () => {
  assert.equal(decideRunState(['disk-failed', 'cancelled']), 'cancelled');
  assert.equal(decideRunState(['disk-failed', 'hold-left', 'run-failed']), 'failed');
});

test('a point is incomplete exactly when a disk is missing in it', () => {
  assert.equal(decidePointState(['quiesce-fell-back', 'change-map-wrong', 'hold-left']), 'complete');
  assert.equal(decidePointState(['warning-noted', 'disk-not-protectable']), 'incomplete');
  assert.equal(decidePointState(['disk-failed']), 'incomplete');
});

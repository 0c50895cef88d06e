import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RunState } from '../contract/run.ts';
import type { TaskOutcome } from '../queue/index.ts';
import { judgeOutcome, worstState } from './run-end.ts';

const STATS = { nominalBytes: 0, readBytes: 0, sentBytes: 0, storedBytes: 0, zeroBytes: 0, duplicateBytes: 0 };

function ended(value: unknown): TaskOutcome {
  return { ok: true, value, error: null, source: 's', log: [] };
}

function backup(changes: object): TaskOutcome {
  return ended({
    state: 'success',
    pointId: 'p',
    error: null,
    stats: STATS,
    disks: [],
    consistency: null,
    holdReleased: true,
    identity: {},
    startedAtMs: 1,
    finishedAtMs: 2,
    ...changes,
  });
}

describe('end of a part', () => {
  it('is what the worker says, and the hold is released only when it says so', () => {
    const good = judgeOutcome('backup', backup({}));
    assert.equal(good.state, 'success');
    assert.equal(good.isHoldReleased, true);
    const left = judgeOutcome('backup', backup({ state: 'warning', holdReleased: false }));
    assert.equal(left.state, 'warning');
    assert.equal(left.isHoldReleased, false);
  });

  it('is a failure with an open hold when the worker threw, was lost, or said something else', () => {
    const error = { code: 'HOST_UNREACHABLE' as const, message: 'gone', details: {} };
    const thrown = judgeOutcome('backup', { ok: false, value: null, error, source: 's', log: [] });
    assert.equal(thrown.state, 'failed');
    assert.deepEqual(thrown.error, error);
    assert.equal(thrown.isHoldReleased, false);
    for (const value of [
      null,
      'success',
      {},
      { state: 'success' },
      { ...(backup({}).value as object), state: 'fine' },
    ]) {
      const verdict = judgeOutcome('backup', ended(value));
      assert.equal(verdict.state, 'failed', JSON.stringify(value));
      assert.equal(verdict.isHoldReleased, false);
      assert.equal(verdict.error?.code, 'INTERNAL');
    }
  });

  it('is cancelled, without an error, when the worker was stopped before it began', () => {
    const error = { code: 'CANCELLED' as const, message: 'x', details: {} };
    const verdict = judgeOutcome('restore', { ok: false, value: null, error, source: 's', log: [] });
    assert.equal(verdict.state, 'cancelled');
    assert.equal(verdict.error, null);
    assert.equal(verdict.isHoldReleased, false);
  });

  it('never calls a damaged repository a success', () => {
    const result = { depth: 'hashes', points: 1, packs: 1, chunks: 1, readBytes: 1, damages: [] as object[] };
    assert.equal(judgeOutcome('check', ended(result)).state, 'success');
    const damages = [{ code: 'REPOSITORY_PACK_DAMAGED', text: 'Pack 1 is short.', name: 'packs/1', affects: [] }];
    const verdict = judgeOutcome('check', ended({ ...result, damages }));
    assert.equal(verdict.state, 'failed');
    assert.match(verdict.error?.message ?? '', /Pack 1 is short\./);
  });
});

describe('end of a run', () => {
  it('is the worst of its parts', () => {
    const cases: [RunState[], RunState][] = [
      [['success', 'success'], 'success'],
      [['success', 'warning'], 'warning'],
      [['warning', 'cancelled'], 'cancelled'],
      [['incomplete', 'cancelled', 'success'], 'incomplete'],
      [['failed', 'incomplete'], 'failed'],
    ];
    for (const [states, expected] of cases) assert.equal(worstState(states), expected);
  });
});

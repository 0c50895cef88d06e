import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { RunView } from '../contract/api/run.schema.ts';
import { EventHub } from '../orchestration/index.ts';
import { announceRuns } from './announce-runs.ts';

it('tells the NAS once about each run that did not end well', () => {
  const events = new EventHub();
  const notices: string[] = [];
  const stop = announceRuns(events, {
    name: 'test',
    notify: async (level, text) => void notices.push(`${level}: ${text}`),
  });
  const emit = (run: Partial<RunView>): void => {
    const whole: RunView = {
      id: 'r1',
      kind: 'backup',
      jobId: null,
      repositoryId: null,
      title: 'nightly',
      state: 'running',
      cancelRequested: false,
      createdAtMs: 1,
      startedAtMs: 1,
      finishedAtMs: null,
      error: null,
      startedBy: 'request',
      dueAtMs: null,
      attempt: 0,
      ...run,
    };
    events.emit({ type: 'run', run: whole });
  };
  emit({});
  emit({ id: 'r2', state: 'success', finishedAtMs: 2 });
  emit({ id: 'r3', state: 'cancelled', finishedAtMs: 2 });
  const error = { code: 'HOST_UNREACHABLE' as const, message: 'The host does not answer.', details: {} };
  emit({ state: 'failed', finishedAtMs: 2, error });
  emit({ state: 'failed', finishedAtMs: 2, error });
  emit({ id: 'r4', state: 'warning', finishedAtMs: 2 });
  emit({ id: 'r5', state: 'incomplete', finishedAtMs: 2 });
  stop();
  emit({ id: 'r6', state: 'failed', finishedAtMs: 2 });
  assert.deepEqual(notices, [
    'error: The backup "nightly" failed: The host does not answer.',
    'warning: The backup "nightly" ended with warnings',
    'error: The backup "nightly" is incomplete',
  ]);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RunDetail, ServerEvent } from '../api/types.ts';
import { withNews } from './run-news.ts';

const PART = { id: 'part-1', state: 'waiting', progress: null };
const RUN = { id: 'run-1', state: 'waiting', startedAtMs: null, parts: [PART] } as unknown as RunDetail;

function tell(run: RunDetail, ...events: unknown[]): RunDetail {
  return events.reduce((known: RunDetail, event) => withNews(known, event as ServerEvent), run);
}

test('an answer from before a run began becomes that of now by what was told meanwhile', () => {
  const progress = { stage: 'writing' };
  const now = tell(
    RUN,
    { type: 'part', runId: 'run-1', part: { ...PART, state: 'running' } },
    { type: 'run', run: { id: 'run-1', state: 'running', startedAtMs: 5 } },
    { type: 'progress', runId: 'run-1', partId: 'part-1', progress },
  );

  assert.deepEqual(now, { ...RUN, state: 'running', startedAtMs: 5, parts: [{ ...PART, state: 'running', progress }] });
});

test('news of other runs change nothing', () => {
  const now = tell(
    RUN,
    { type: 'run', run: { id: 'run-2', state: 'failed' } },
    { type: 'part', runId: 'run-2', part: { ...PART, state: 'failed' } },
    { type: 'progress', runId: 'run-2', partId: 'part-1', progress: { stage: 'writing' } },
    { type: 'reset' },
  );

  assert.equal(now, RUN);
});

test('a part that joins later is added', () => {
  const now = tell(RUN, { type: 'part', runId: 'run-1', part: { ...PART, id: 'part-2' } });

  assert.deepEqual(
    now.parts.map(({ id }) => id),
    ['part-1', 'part-2'],
  );
});

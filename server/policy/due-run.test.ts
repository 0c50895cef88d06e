import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { scheduleSchema } from '../contract/api/schedule.schema.ts';
import { findDueRun, retryAtMs } from './due-run.ts';

const at = (text: string): number => Date.parse(`${text}Z`);
const daily = { timeZone: 'UTC', rules: [{ rule: { kind: 'daily', time: '22:00' } }] };
const jobId = '0123456789abcdef';

function ask(extra: object, doneUntil: string, now: string): ReturnType<typeof findDueRun> {
  const schedule = scheduleSchema.parse({ ...daily, ...extra });
  return findDueRun({ schedule, jobId, doneUntilMs: at(doneUntil), nowMs: at(now) });
}

describe('whether a run is to begin', () => {
  it('begins when it is due, and not twice', () => {
    assert.deepEqual(ask({}, '2026-11-20T22:00', '2026-11-21T21:59'), { kind: 'nothing' });
    assert.deepEqual(ask({}, '2026-11-20T22:00', '2026-11-21T22:00'), {
      kind: 'due',
      dueMs: at('2026-11-21T22:00'),
      isLate: false,
    });
    assert.deepEqual(ask({}, '2026-11-21T22:00', '2026-11-21T22:00'), { kind: 'nothing' });
  });

  it('lets one run stand for a week of missed ones', () => {
    assert.deepEqual(ask({}, '2026-11-14T22:00', '2026-11-21T12:00'), {
      kind: 'due',
      dueMs: at('2026-11-20T22:00'),
      isLate: true,
    });
  });

  it('does not repeat what a clock set back shows again, and does not wait for one that was wrong', () => {
    assert.deepEqual(ask({}, '2026-11-21T22:00', '2026-11-21T21:30'), { kind: 'nothing' });
    assert.deepEqual(ask({}, '2099-01-01T22:00', '2026-11-21T21:30'), {
      kind: 'clock-set-back',
      doneUntilMs: at('2026-11-21T21:30'),
    });
  });

  it('waits for the window, and is not late because of it', () => {
    const mornings = Array.from({ length: 7 }, () => `${'0'.repeat(6)}11${'0'.repeat(16)}`);
    const window = { hours: mornings };

    assert.deepEqual(ask({ window }, '2026-11-20T22:00', '2026-11-22T05:59'), { kind: 'nothing' });
    assert.deepEqual(ask({ window }, '2026-11-20T22:00', '2026-11-22T06:00'), {
      kind: 'due',
      dueMs: at('2026-11-21T22:00'),
      isLate: false,
    });
  });

  it('is not starved by jitter longer than the interval', () => {
    const schedule = scheduleSchema.parse({
      timeZone: 'UTC',
      rules: [{ rule: { kind: 'interval', everyMinutes: 5 } }],
      jitterMinutes: 60,
    });
    let doneUntilMs = at('2026-11-21T00:00');
    let runs = 0;
    for (let nowMs = doneUntilMs; nowMs < at('2026-11-22T00:00'); nowMs += 60_000) {
      const answer = findDueRun({ schedule, jobId, doneUntilMs, nowMs });
      if (answer.kind !== 'due') continue;
      assert.ok(answer.dueMs > doneUntilMs);
      doneUntilMs = answer.dueMs;
      runs += 1;
    }

    assert.ok(runs > 40, `${runs} runs in a day`);
  });

  it('says nothing while the schedule is switched off', () => {
    assert.deepEqual(ask({ enabled: false }, '2026-11-14T22:00', '2026-11-21T12:00'), { kind: 'nothing' });
  });
});

describe('trying again after a failure', () => {
  it('waits longer each time, and stops', () => {
    const schedule = scheduleSchema.parse({ ...daily, retry: { times: 3, pauseMinutes: 10 } });
    const pauses = [0, 1, 2, 3].map((attempt) => retryAtMs(schedule, { attempt, finishedAtMs: 0 }));

    assert.deepEqual(pauses, [600_000, 1_200_000, 2_400_000, null]);
  });
});

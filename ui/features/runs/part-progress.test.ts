import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RunPartView } from '../../api/types.ts';
import { measure } from './part-progress.ts';

type Progress = NonNullable<RunPartView['progress']>;

const READING: Progress = {
  stage: 'reading',
  totalBytes: 400,
  doneBytes: 100,
  bytesPerSecond: 50,
  remainingSeconds: 6,
  disks: [],
};

function measured(progress: Partial<Progress> | null): ReturnType<typeof measure> {
  return measure({ state: 'running', progress: progress === null ? null : { ...READING, ...progress } });
}

describe('how far a part of a run is', () => {
  test('is said in numbers while bytes are counted', () => {
    assert.deepEqual(measured({}), {
      share: 0.25,
      doneBytes: 100,
      totalBytes: 400,
      bytesPerSecond: 50,
      remainingSeconds: 6,
    });
  });

  test('is not known while a snapshot is made, before anything is counted, and while a version is committed', () => {
    assert.equal(measured(null), null);
    assert.equal(measured({ stage: 'freezing', totalBytes: 0, doneBytes: 0 }), null);
    assert.equal(measured({ totalBytes: 0, doneBytes: 0 }), null);
    for (const stage of ['preparing', 'committing', 'thawing', 'finishing'] as const) {
      assert.equal(measured({ stage, doneBytes: 400, bytesPerSecond: 0, remainingSeconds: 0 }), null, stage);
    }
  });

  test('has no speed before the first byte, and says that it stands still later', () => {
    assert.equal(measured({ doneBytes: 0, bytesPerSecond: 0, remainingSeconds: null })?.bytesPerSecond, null);
    assert.equal(measured({ bytesPerSecond: 0, remainingSeconds: null })?.bytesPerSecond, 0);
  });

  test('is never more than all', () => {
    assert.equal(measured({ doneBytes: 500 })?.share, 1);
  });
});

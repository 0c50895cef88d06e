import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decideCapacity, type CapacityQuestion } from './worker-capacity.ts';

const ROOMY: CapacityQuestion = {
  configured: 2,
  setting: null,
  running: 0,
  restoring: 0,
  availableBytes: 8e9,
  residentBytes: 120e6,
  siblings: 1,
};

describe('how many tasks a worker takes', () => {
  it('is what it was told, where memory is no matter', () => {
    assert.deepEqual(decideCapacity(ROOMY), { concurrency: 2, restores: 2, limitedBy: 'configuration' });
    assert.deepEqual(decideCapacity({ ...ROOMY, setting: 6 }), { concurrency: 6, restores: 6, limitedBy: 'setting' });
    assert.deepEqual(decideCapacity({ ...ROOMY, setting: 1 }), { concurrency: 1, restores: 1, limitedBy: 'setting' });
  });

  it('is bounded on a NAS with two gigabytes, most of it in use', () => {
    const small = { ...ROOMY, configured: 8, availableBytes: 0.9e9 };
    assert.deepEqual(decideCapacity(small), { concurrency: 3, restores: 3, limitedBy: 'memory' });
    assert.deepEqual(decideCapacity({ ...small, availableBytes: 0.4e9 }), {
      concurrency: 1,
      restores: 1,
      limitedBy: 'memory',
    });
    // Another worker beside it sees the same memory.
    assert.deepEqual(decideCapacity({ ...small, siblings: 2 }), { concurrency: 1, restores: 1, limitedBy: 'memory' });
  });

  it('counts what tasks that have just begun are still to need', () => {
    // Two have begun and hold nothing yet: 900 MB free are not room for three more.
    const begun = { ...ROOMY, configured: 8, running: 2, availableBytes: 0.9e9 };
    assert.deepEqual(decideCapacity(begun), { concurrency: 3, restores: 1, limitedBy: 'memory' });
    // The same two, grown.
    const grown = { ...begun, availableBytes: 0.4e9, residentBytes: 620e6 };
    assert.deepEqual(decideCapacity(grown), { concurrency: 3, restores: 1, limitedBy: 'memory' });
    assert.deepEqual(decideCapacity({ ...grown, availableBytes: 0.39e9 }), {
      concurrency: 2,
      restores: 1,
      limitedBy: 'memory',
    });
  });

  it('keeps a place for a restore however many backups are at work, and counts its memory', () => {
    const full = { ...ROOMY, running: 2, availableBytes: 0.9e9 };
    assert.deepEqual(decideCapacity(full), { concurrency: 2, restores: 1, limitedBy: 'configuration' });
    assert.equal(decideCapacity({ ...full, availableBytes: 0 }).restores, 1);
    // With room for it, restores are no fewer for the backups beside them.
    assert.equal(decideCapacity({ ...full, availableBytes: 8e9 }).restores, 2);
    // What two restores are still to need is not there for a second backup.
    const restoring = { ...ROOMY, running: 1, restoring: 2, availableBytes: 1e9 };
    assert.deepEqual(decideCapacity(restoring), { concurrency: 1, restores: 2, limitedBy: 'memory' });
  });

  it('never ends what is at work, and is never nothing', () => {
    assert.equal(decideCapacity({ ...ROOMY, configured: 4, running: 3, availableBytes: 0 }).concurrency, 3);
    assert.deepEqual(decideCapacity({ ...ROOMY, availableBytes: 0 }), {
      concurrency: 1,
      restores: 1,
      limitedBy: 'memory',
    });
  });
});

import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { systemClock } from '../runtime/index.ts';
import { CompressionLevel } from './compression-level.ts';

let nowMs = 0;
const clock = { ...systemClock, monotonicMs: () => nowMs };

/** Both threads give back a piece of work every 100 ms. */
function pass(level: CompressionLevel, options: { seconds: number; share: number }): void {
  for (let turn = 0; turn < options.seconds * 10; turn += 1) {
    nowMs += 100;
    for (let thread = 0; thread < 2; thread += 1) level.worked(100 * options.share);
  }
}

describe('the level of compression', () => {
  let level: CompressionLevel;
  beforeEach(() => {
    level = new CompressionLevel({ threads: 2, clock });
  });

  it('stays the lowest while the threads are at work', () => {
    pass(level, { seconds: 20, share: 0.95 });
    assert.equal(level.level, 1);
  });

  it('rises a step at a time while they wait, and not beyond the third', () => {
    pass(level, { seconds: 1.9, share: 0.1 });
    assert.equal(level.level, 1);
    pass(level, { seconds: 0.2, share: 0.1 });
    assert.equal(level.level, 2);
    pass(level, { seconds: 2, share: 0.1 });
    assert.equal(level.level, 3);
    pass(level, { seconds: 20, share: 0.1 });
    assert.equal(level.level, 3);
  });

  it('stays where the work that it adds takes up the room', () => {
    pass(level, { seconds: 2, share: 0.3 });
    pass(level, { seconds: 20, share: 0.45 });
    assert.equal(level.level, 2);
  });

  it('falls at once when there is no room any more', () => {
    pass(level, { seconds: 6, share: 0.1 });
    pass(level, { seconds: 2, share: 0.9 });
    assert.equal(level.level, 1);
  });

  it('begins anew after a pause, which is no headroom', () => {
    pass(level, { seconds: 6, share: 0.1 });
    nowMs += 60_000;
    pass(level, { seconds: 1.5, share: 0.9 });
    assert.equal(level.level, 1);
  });
});

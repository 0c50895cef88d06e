import assert from 'node:assert/strict';
import { it } from 'node:test';
import { pauseUntilNextLook, type SpaceSight } from './space-watch.ts';

const GIB = 2 ** 30;
const LIMITS = { freeFloorBytes: GIB, watchIntervalMs: 30_000 };

function sights(...entries: [name: string, freeBytes: number, atMs: number][]): Map<string, SpaceSight> {
  return new Map(entries.map(([name, freeBytes, atMs]) => [name, { freeBytes, atMs }]));
}

it('looks soon once, to learn how fast room goes, and then seldom while it does not', () => {
  assert.equal(pauseUntilNextLook(sights(['ds', 9 * GIB, 0]), sights(), LIMITS), 5_000);
  const before = sights(['ds', 9 * GIB, 0]);
  assert.equal(pauseUntilNextLook(sights(['ds', 9 * GIB, 5_000]), before, LIMITS), 30_000);
  assert.equal(pauseUntilNextLook(sights(['ds', 20 * GIB, 5_000]), before, LIMITS), 30_000);
  assert.equal(pauseUntilNextLook(sights(['ds', 9 * GIB - 4096, 5_000]), before, LIMITS), 30_000);
});

it('looks again before the room down to the floor is gone, on whichever volume that is first', () => {
  // 200 MiB a second, and 8 GiB above the floor: 41 seconds.
  const before = sights(['ds', 10 * GIB, 0], ['other', 900 * GIB, 0]);
  const now = sights(['ds', 9 * GIB, 5_120], ['other', 900 * GIB, 5_120]);
  assert.equal(Math.round(pauseUntilNextLook(now, before, LIMITS)), 10_240);
  const late = sights(['ds', GIB + 1, 9_000]);
  assert.equal(pauseUntilNextLook(late, now, LIMITS), 2_000);
});

it('never waits longer than it is told to', () => {
  const often = { ...LIMITS, watchIntervalMs: 200 };
  assert.equal(pauseUntilNextLook(sights(['ds', 9 * GIB, 0]), sights(), often), 200);
  assert.equal(pauseUntilNextLook(sights(['ds', 2 * GIB, 9]), sights(['ds', 9 * GIB, 0]), often), 200);
});

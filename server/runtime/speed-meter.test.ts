import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SpeedMeter } from './speed-meter.ts';

test('a speed is that of the last seconds, and of all of them until there are enough', () => {
  let nowMs = 5_000;
  const meter = new SpeedMeter({ nowMs: () => 0, monotonicMs: () => nowMs, sleep: async () => undefined });
  assert.equal(meter.bytesPerSecond(), 0, 'before any time has passed');
  for (let step = 0; step < 40; step += 1) {
    nowMs += 100;
    meter.add(1_000);
  }
  assert.equal(meter.bytesPerSecond(), 10_000, 'of four seconds');
  nowMs += 4_000;
  assert.equal(meter.bytesPerSecond(), 5_000, 'of eight, half of them without anything');
  nowMs += 8_001;
  assert.equal(meter.bytesPerSecond(), 0, 'what was before is forgotten');
});

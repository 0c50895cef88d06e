import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { MachineProgress } from '../contract/run.ts';
import type { Clock } from '../runtime/index.ts';

import { BottleneckMeter, ProgressMeter, attributeBottleneck } from './transfer-meter.ts';

function handMovedClock(): Clock & { nowAtMs: number } {
  const clock = {
    nowAtMs: 0,
    nowMs: () => clock.nowAtMs,
    monotonicMs: () => clock.nowAtMs,
    sleep: () => Promise.resolve(),
  };
  return clock;
}

test('shows the speed of the last seconds, the rest of the time, and never more than all', () => {
  const clock = handMovedClock();
  const seen: MachineProgress[] = [];
  const meter = new ProgressMeter({ clock, emit: (progress) => void seen.push(progress) });
  meter.addDisk({ key: 'a', label: 'A', totalBytes: 10_000, doneBytes: 0, route: 'ssh-raw' });
  for (let step = 0; step < 8; step += 1) {
    clock.nowAtMs += 500;
    meter.arrived('a', 500);
  }
  assert.deepEqual(
    [seen.at(-1)?.doneBytes, seen.at(-1)?.bytesPerSecond, seen.at(-1)?.remainingSeconds],
    [4000, 1000, 6],
  );

  clock.nowAtMs += 60_000;
  meter.enter('committing');
  assert.deepEqual([seen.at(-1)?.bytesPerSecond, seen.at(-1)?.remainingSeconds], [0, null]);

  meter.arrived('a', 50_000);
  meter.enter('done');
  meter.stop();
  assert.equal(seen.at(-1)?.doneBytes, 10_000);
});

test('says since when nothing has moved, once that is a minute', () => {
  const clock = handMovedClock();
  let seen: MachineProgress | undefined;
  const meter = new ProgressMeter({ clock, emit: (progress) => void (seen = progress) });
  meter.addDisk({ key: 'a', label: 'A', totalBytes: 10_000, doneBytes: 0, route: 'ssh-raw' });
  const widenAt = (atMs: number): number | undefined => {
    clock.nowAtMs = atMs;
    meter.addDisk({ key: 'b', label: 'B', totalBytes: 1, doneBytes: 0, route: null });
    return seen?.stillSinceMs;
  };
  meter.enter('freezing');
  assert.equal(widenAt(59_000), undefined);
  assert.equal(widenAt(61_000), 0);
  meter.enter('reading');
  assert.equal(seen?.stillSinceMs, undefined);
  clock.nowAtMs = 100_000;
  meter.arrived('a', 500);
  assert.equal(widenAt(159_000), undefined);
  assert.equal(widenAt(200_000), 100_000);
  meter.stop();
});

test('names who is waited for', () => {
  const idle = {
    limitShare: 0,
    processorShare: 0.2,
    loopShare: 0.2,
    route: 'ssh-raw' as const,
    readBytes: 100,
    wireBytes: 100,
  };

  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.1 }), 'network');
  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.9 }), 'repository');
  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.9, processorShare: 0.95 }), 'processor');
  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.1, loopShare: 0.97 }), 'processor');
  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.1, readBytes: 1000 }), 'host');
  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.1, route: 'nfs-clone' }), 'host');
  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.1, limitShare: 0.9 }), 'limit');
  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.1, limitShare: 0.4 }), 'network', 'set, but hardly felt');
  assert.equal(attributeBottleneck({ ...idle, sinkShare: 0.9, limitShare: 0.6 }), 'repository');
});

test('counts the time in which at least one write waits, not each write', () => {
  const clock = handMovedClock();
  const meter = new BottleneckMeter(clock);
  meter.start();
  meter.beginWrite();
  meter.beginWrite();
  clock.nowAtMs = 400;
  meter.endWrite();
  meter.endWrite();
  clock.nowAtMs = 1000;
  meter.stop();

  assert.equal(meter.seconds, 1);
  assert.equal(meter.verdict({ route: 'ssh-raw', readBytes: 0, wireBytes: 0 }), null);
});

test('a speed limit that was waited for is what held the transfer up, not the host or the network', async () => {
  const clock = handMovedClock();
  const meter = new BottleneckMeter(clock);
  const turns: (() => void)[] = [];
  const watched = meter.watch(() => new Promise<void>((resolve) => turns.push(resolve)));
  // The loop of a test may be as busy as it likes: then that is what it is.
  const isToldOf = (held: string | null): void => assert.ok(['limit', 'processor'].includes(held ?? ''), `${held}`);
  meter.start();
  const waits = [watched(1), watched(1)];
  clock.nowAtMs = 8000;
  isToldOf(meter.now());
  for (const go of turns) go();
  await Promise.all(waits);
  clock.nowAtMs = 10_000;
  isToldOf(meter.now());
  meter.stop();
  isToldOf(meter.verdict({ route: 'ssh-raw', readBytes: 1, wireBytes: 1 }));

  assert.equal(meter.watch(() => null)(1), null, 'without a limit nobody waits');
  await assert.rejects(async () => meter.watch(() => Promise.reject(new Error('cancelled')))(1), /cancelled/);
});

test('says what a disk waits for while it is transferred, and not before or after', () => {
  const clock = handMovedClock();
  const seen: MachineProgress[] = [];
  const progress = new ProgressMeter({ clock, emit: (step) => void seen.push(step) });
  const meter = new BottleneckMeter(clock);
  progress.addDisk({
    key: 'a',
    label: 'A',
    totalBytes: 10,
    doneBytes: 0,
    route: 'ssh-raw',
    waitsFor: () => meter.now(),
  });
  const told = (): string | undefined => {
    progress.enter('reading');
    return seen.at(-1)?.disks[0]?.waitsFor;
  };
  assert.equal(told(), undefined);
  meter.start();
  clock.nowAtMs = 1000;
  assert.equal(told(), undefined, 'a second says nothing');
  meter.beginWrite();
  clock.nowAtMs = 600_000;
  // The loop of a test may be as busy as it likes: then that is what it is.
  assert.ok(['repository', 'processor'].includes(told() ?? ''), told());
  meter.endWrite();
  meter.stop();
  assert.equal(told(), undefined);
  progress.stop();
});

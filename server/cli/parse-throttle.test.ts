import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { throttleSchema } from '../contract/api/throttle.schema.ts';
import { collectThrottle, describeThrottle, toThrottle, type ThrottleInput } from './parse-throttle.ts';

function collectAll(...values: string[]): ThrottleInput | undefined {
  return values.reduce<ThrottleInput | undefined>((before, value) => collectThrottle(value, before), undefined);
}

describe('--throttle', () => {
  it('is read piece by piece into what the API takes', () => {
    const input = collectAll('mon-wed 08:00-18:00 2.5', ' 22:00-06:00  80 ', '20');
    const throttle = throttleSchema.parse(toThrottle(input, 'Asia/Tokyo'));
    assert.deepEqual(throttle, {
      timeZone: 'Asia/Tokyo',
      limits: [
        { days: ['monday', 'tuesday', 'wednesday'], from: '08:00', until: '18:00', megabytesPerSecond: 2.5 },
        { from: '22:00', until: '06:00', megabytesPerSecond: 80 },
      ],
      otherwise: 20,
    });
    assert.equal(
      describeThrottle(throttle),
      'mon,tue,wed 08:00-18:00 2.5 MB/s; 22:00-06:00 80 MB/s; else 20 MB/s (Asia/Tokyo)',
    );
  });

  it('sets everything free, or leaves it as it is', () => {
    assert.equal(toThrottle(collectAll('10', 'off'), undefined), null);
    assert.equal(toThrottle(collectAll('off', '10'), 'UTC')?.otherwise, 10);
    assert.equal(toThrottle(undefined, 'UTC'), undefined);
    assert.equal(describeThrottle(null), 'none');
  });

  it('refuses what it does not understand', () => {
    for (const text of ['fast', '-5', '8-18 5', 'mon 08:00-25:00 5', 'someday 08:00-18:00 5', '08:00-18:00']) {
      assert.throws(() => collectAll(text), { code: 'commander.invalidArgument' }, text);
    }
  });
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { throttleSchema } from '../contract/api/throttle.schema.ts';
import { allowedBytesPerSecond } from './throttle.ts';

function at(throttle: object, time: string): number | null {
  return allowedBytesPerSecond(throttleSchema.parse(throttle), Date.parse(time));
}

describe('a throttle', () => {
  const officeHours = {
    timeZone: 'Europe/Berlin',
    limits: [
      { days: ['friday'], from: '22:00', until: '06:00', megabytesPerSecond: 80 },
      { days: ['monday', 'friday'], from: '08:00', until: '18:00', megabytesPerSecond: 2.5 },
    ],
    otherwise: 20,
  };

  it('holds from its first to before its last minute, on its days, by the clock of its zone', () => {
    // Friday, 20 November 2026; Berlin is an hour ahead of UTC.
    assert.equal(at(officeHours, '2026-11-20T06:59:59.999Z'), 20e6);
    assert.equal(at(officeHours, '2026-11-20T07:00Z'), 2.5e6);
    assert.equal(at(officeHours, '2026-11-20T16:59:59.999Z'), 2.5e6);
    assert.equal(at(officeHours, '2026-11-20T17:00Z'), 20e6);
    assert.equal(at(officeHours, '2026-11-19T10:00Z'), 20e6);
  });

  it('lasts over midnight into a day that is not named', () => {
    assert.equal(at(officeHours, '2026-11-20T21:00Z'), 80e6);
    assert.equal(at(officeHours, '2026-11-21T04:59Z'), 80e6);
    assert.equal(at(officeHours, '2026-11-21T05:00Z'), 20e6);
    assert.equal(at(officeHours, '2026-11-20T00:00Z'), 20e6);
  });

  it('follows the clocks when they change', () => {
    const night = { timeZone: 'Europe/Berlin', limits: [{ from: '02:00', until: '03:00', megabytesPerSecond: 1 }] };
    // 28 March 2027: there is no such hour.
    assert.equal(at(night, '2027-03-28T00:59Z'), null);
    assert.equal(at(night, '2027-03-28T01:00Z'), null);
    // 31 October 2027: it is there twice.
    assert.equal(at(night, '2027-10-31T00:30Z'), 1e6);
    assert.equal(at(night, '2027-10-31T01:30Z'), 1e6);
    assert.equal(at(night, '2027-10-31T02:00Z'), null);
  });

  it('lets the first of two that hold count, and takes the same begin and end for a whole day', () => {
    const both = {
      timeZone: 'UTC',
      limits: [
        { days: ['sunday'], from: '12:00', until: '12:00', megabytesPerSecond: 5 },
        { from: '00:00', until: '00:00', megabytesPerSecond: 1 },
      ],
    };
    assert.equal(at(both, '2026-11-22T11:59Z'), 1e6);
    assert.equal(at(both, '2026-11-22T12:00Z'), 5e6);
    assert.equal(at(both, '2026-11-23T11:59Z'), 5e6);
    assert.equal(at(both, '2026-11-23T12:00Z'), 1e6);
  });

  it('refuses what would let nothing through, and times that are none', () => {
    const takes = (limit: object): boolean =>
      throttleSchema.safeParse({ timeZone: 'UTC', limits: [{ from: '08:00', until: '18:00', ...limit }] }).success;
    assert.equal(takes({ megabytesPerSecond: 1 }), true);
    assert.equal(takes({ megabytesPerSecond: 0 }), false);
    assert.equal(takes({ megabytesPerSecond: -1 }), false);
    assert.equal(takes({ megabytesPerSecond: NaN }), false);
    assert.equal(takes({ megabytesPerSecond: 1, from: '24:00' }), false);
    assert.equal(takes({ megabytesPerSecond: 1, days: [] }), false);
  });
});

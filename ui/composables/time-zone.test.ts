import assert from 'node:assert/strict';
import { test } from 'node:test';
import { timeInZone, zoneForNew } from './time-zone.ts';

const WINTER = Date.UTC(2026, 0, 15, 12);
const SUMMER = Date.UTC(2026, 6, 15, 12);

test('a time of day is told by the clock of another zone, also over midnight and in summer', () => {
  for (const [time, from, to, atMs, told] of [
    ['12:36', 'UTC', 'Europe/Berlin', WINTER, '13:36'],
    ['12:36', 'UTC', 'Europe/Berlin', SUMMER, '14:36'],
    ['23:30', 'Europe/Berlin', 'Asia/Tokyo', WINTER, '07:30'],
    ['02:00', 'Asia/Kolkata', 'America/New_York', WINTER, '15:30'],
    ['04:00', 'UTC', 'UTC', WINTER, '04:00'],
  ] as const) {
    assert.equal(timeInZone(time, from, to, atMs), told, `${time} ${from} in ${to}`);
  }
});

test('a new time is meant by the clock of the NAS, unless the NAS does not know its zone', () => {
  assert.equal(zoneForNew('Asia/Tokyo', 'Europe/Berlin'), 'Asia/Tokyo');
  for (const unknown of ['UTC', 'Etc/UTC', 'Etc/Unknown', 'GMT']) {
    assert.equal(zoneForNew(unknown, 'Europe/Berlin'), 'Europe/Berlin', unknown);
  }
});

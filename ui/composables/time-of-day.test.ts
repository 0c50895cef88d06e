import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readTimeOfDay } from './time-of-day.ts';

test('a time of day is understood as people write it', () => {
  for (const [written, time] of [
    ['22:00', '22:00'],
    [' 7:05 ', '07:05'],
    ['22.30', '22:30'],
    ['7', '07:00'],
    ['2215', '22:15'],
    ['7 Uhr', '07:00'],
    ['22.30 Uhr', '22:30'],
    ['10 PM', '22:00'],
    ['10:30 p.m.', '22:30'],
    ['12:05 am', '00:05'],
    ['12 PM', '12:00'],
    ['22時', '22:00'],
    ['22時30分', '22:30'],
    ['午後10:30', '22:30'],
    ['午前0時', '00:00'],
    ['２３：１５', '23:15'],
    ['10:00\u202fPM', '22:00'],
  ]) {
    assert.equal(readTimeOfDay(written ?? ''), time, written);
  }
});

test('what is no time of day is refused', () => {
  for (const written of ['', '24:00', '25', '7:60', '13 pm', 'ten', '7:5', '-1:00', '22:00:00', '1e1', '7 am x']) {
    assert.equal(readTimeOfDay(written), null, written);
  }
});

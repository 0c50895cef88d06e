import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Formats } from './formats.ts';

const AT = Date.parse('2026-11-03T09:05:07Z');

test('times, days and durations are written as in the window', () => {
  for (const [language, day, time, none, hour, both] of [
    ['en', '3 Nov 2026', '3 Nov 2026, 09:05', 'under 1 s', '1 h', '1 min 5 s'],
    ['de', '03.11.2026', '03.11.2026, 09:05', 'unter 1 Sek.', '1 Std.', '1 Min. 5 Sek.'],
    ['ja', '2026/11/03', '2026/11/03 09:05', '1 秒未満', '1 時間', '1 分 5 秒'],
  ] as const) {
    const formats = new Formats(language, 'UTC');
    const spaced = (text: string): string => text.replaceAll('\u00a0', ' ');
    assert.equal(formats.day(AT), day);
    assert.equal(formats.time(AT), time);
    assert.equal(spaced(formats.duration(400)), none);
    assert.equal(spaced(formats.duration(3600_000)), hour);
    assert.equal(spaced(formats.duration(65_000)), both);
  }
});

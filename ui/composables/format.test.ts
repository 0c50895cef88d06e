import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { i18n } from '../i18n/index.ts';
import {
  formatCalendarDay,
  formatDay,
  formatDayTime,
  formatDuration,
  formatExactTime,
  formatIsoTime,
  formatList,
  formatSpokenDay,
  formatTime,
  formatTimeOfDay,
} from './format.ts';

const AT = new Date(2026, 10, 3, 9, 5, 7).getTime();

beforeEach(() => {
  for (const [language, underSecond] of Object.entries({
    en: 'under 1 second',
    de: 'unter 1 Sekunde',
    ja: '1 秒未満',
  })) {
    i18n.global.setLocaleMessage(language, { common: { underSecond } } as never);
  }
});

test('a date has one form in each language, whatever stands beside it', () => {
  for (const [language, day, calendarDay, timeOfDay, spoken] of [
    ['de', '03.11.2026', 'Di., 03.11.2026', '09:05', 'Dienstag, 3. November 2026'],
    ['ja', '2026/11/03', '2026/11/03(火)', '09:05', '2026年11月3日火曜日'],
    ['en', 'Nov 3, 2026', 'Tue, Nov 3, 2026', '9:05 AM', 'Tuesday, November 3, 2026'],
  ] as const) {
    i18n.global.locale.value = language;
    const spaced = (text: string): string => text.replaceAll('\u202f', ' ');
    const between = language === 'ja' ? ' ' : ', ';
    assert.equal(formatDay(AT), day);
    assert.equal(formatCalendarDay(AT), calendarDay);
    assert.equal(formatSpokenDay(AT), spoken);
    assert.equal(spaced(formatTime(AT)), `${day}${between}${timeOfDay}`);
    assert.equal(spaced(formatDayTime(AT)), `${calendarDay}${between}${timeOfDay}`);
    assert.equal(spaced(formatExactTime(AT)), `${day}${between}${timeOfDay.replace('05', '05:07')}`);
    assert.equal(spaced(formatTimeOfDay('09:05')), timeOfDay);
  }
});

test('a duration is never nothing, and its smaller unit is left out when it is', () => {
  for (const [language, none, hour, both] of [
    ['de', 'unter 1 Sekunde', '1 Std.', '1 Min. 5 Sek.'],
    ['ja', '1 秒未満', '1 時間', '1 分 5 秒'],
    ['en', 'under 1 second', '1 hr', '1 min 5 sec'],
  ] as const) {
    i18n.global.locale.value = language;
    const spaced = (text: string): string => text.replaceAll('\u00a0', ' ');
    assert.equal(spaced(formatDuration(0.3)), none);
    assert.equal(spaced(formatDuration(3600)), hour);
    assert.equal(spaced(formatDuration(65)), both);
  }
});

test('several things are joined as a sentence joins them', () => {
  for (const [language, list] of [
    ['de', 'a, b und c'],
    ['ja', 'a、b、c'],
    ['en', 'a, b, and c'],
  ] as const) {
    i18n.global.locale.value = language;
    assert.equal(formatList(['a', 'b', 'c']), list);
  }
});

test('a time for a file says how far the reader is from UTC', () => {
  const told = formatIsoTime(AT);
  assert.match(told, /^2026-11-03T09:05:07[+-]\d\d:\d\d$/);
  assert.equal(Date.parse(told), AT);
});

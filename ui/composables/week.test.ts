import assert from 'node:assert/strict';
import { test } from 'node:test';
import { daysIntoWeek, firstDayByRegion, firstDayOfWeek, inWeekOrder } from './week.ts';

const SUNDAY = 0;
const MONDAY = 1;

test('weeks begin as it is the custom where the language is spoken', () => {
  for (const firstDay of [firstDayOfWeek, firstDayByRegion]) {
    assert.equal(firstDay('ja'), SUNDAY);
    assert.equal(firstDay('ja-JP'), SUNDAY);
    assert.equal(firstDay('en-US'), SUNDAY);
    assert.equal(firstDay('en'), SUNDAY);
    assert.equal(firstDay('de'), MONDAY);
    assert.equal(firstDay('de-CH'), MONDAY);
    assert.equal(firstDay('en-GB'), MONDAY);
    assert.equal(firstDay('en-IE'), MONDAY);
  }
});

test('a browser that knows no weeks is told the same by the table', () => {
  const regions = ['AT', 'AU', 'CA', 'CH', 'DE', 'GB', 'HK', 'IE', 'IN', 'JP', 'NZ', 'PH', 'SG', 'US', 'ZA'];
  for (const language of ['ja', 'de', 'en']) {
    for (const region of regions) {
      const tag = `${language}-${region}`;
      assert.equal(firstDayByRegion(tag), firstDayOfWeek(tag), tag);
    }
  }
});

test('days are counted and put in order from the first day of the week', () => {
  // A Sunday.
  const day = new Date(2026, 10, 22);
  assert.equal(daysIntoWeek(day, SUNDAY), 0);
  assert.equal(daysIntoWeek(day, MONDAY), 6);
  assert.equal(daysIntoWeek(new Date(2026, 10, 23), SUNDAY), 1);
  assert.equal(daysIntoWeek(new Date(2026, 10, 23), MONDAY), 0);
  const days = ['mo', 'tu', 'we', 'th', 'fr', 'sa', 'su'];
  assert.deepEqual(inWeekOrder(days, MONDAY), days);
  assert.deepEqual(inWeekOrder(days, SUNDAY), ['su', 'mo', 'tu', 'we', 'th', 'fr', 'sa']);
});

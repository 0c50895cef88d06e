import assert from 'node:assert/strict';
import { test } from 'node:test';
import { daysUntilFull, growthOf } from './growth.ts';

test('says nothing of the future from three days', () => {
  const growth = growthOf(
    [
      { date: '2027-01-30', storedBytes: 10 },
      { date: '2027-02-01', storedBytes: 30 },
    ],
    30,
  );

  assert.deepEqual(growth, {
    dates: ['2027-01-30', '2027-01-31', '2027-02-01'],
    known: [10, 10, 30],
    ahead: [],
    bytesPerDay: null,
  });
});

test('leads a steady growth on', () => {
  const points = [28, 29, 30, 31].map((day, index) => ({ date: `2027-01-${day}`, storedBytes: 100 + index * 5 }));

  const growth = growthOf(points, 2);

  assert.equal(growth.bytesPerDay, 5);
  assert.deepEqual(growth.dates.slice(-2), ['2027-02-01', '2027-02-02']);
  assert.deepEqual(growth.known, [100, 105, 110, 115, null, null]);
  assert.deepEqual(growth.ahead, [null, null, null, 115, 120, 125]);
});

test('never falls below nothing', () => {
  const points = [1, 2, 3, 4].map((day) => ({ date: `2027-03-0${day}`, storedBytes: 50 - day * 10 }));

  assert.deepEqual(growthOf(points, 3).ahead, [null, null, null, 10, 0, 0, 0]);
});

test('says when the room that is left is used up, and nothing where it is not', () => {
  assert.equal(daysUntilFull(5, 100), 20);
  assert.equal(daysUntilFull(5, 0), 0);
  for (const [perDay, free] of [
    [0, 100],
    [-5, 100],
    [null, 100],
    [5, null],
  ] as const) {
    assert.equal(daysUntilFull(perDay, free), null);
  }
});

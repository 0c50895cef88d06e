import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { workAhead } from './work-ahead.ts';

test('results come in the order of the items, with no more than so many at work', async () => {
  let running = 0;
  let most = 0;
  const results: number[] = [];
  const work = async (item: number): Promise<number> => {
    running += 1;
    most = Math.max(most, running);
    // The first ones take longest.
    await delay(12 - item);
    running -= 1;
    return item * 10;
  };
  for await (const result of workAhead([1, 2, 3, 4, 5, 6, 7, 8], 3, work)) results.push(result);
  assert.deepEqual(results, [10, 20, 30, 40, 50, 60, 70, 80]);
  assert.equal(most, 3);
});

test('a failure is told at its turn, and what had begun is waited for', async () => {
  const ended: number[] = [];
  const work = async (item: number): Promise<number> => {
    if (item === 2) throw new Error('the second');
    await delay(5 * item);
    ended.push(item);
    return item;
  };
  const results: number[] = [];
  await assert.rejects(async () => {
    for await (const result of workAhead([1, 2, 3, 4, 5], 4, work)) results.push(result);
  }, /the second/);
  assert.deepEqual(results, [1]);
  // The fifth began when the first was taken.
  assert.deepEqual(ended, [1, 3, 4, 5]);
});

test('who leaves early waits for what had begun, and nothing else begins', async () => {
  const begun: number[] = [];
  const ended: number[] = [];
  const work = async (item: number): Promise<number> => {
    begun.push(item);
    await delay(5);
    ended.push(item);
    return item;
  };
  for await (const result of workAhead([1, 2, 3, 4, 5, 6], 2, work)) if (result === 2) break;
  assert.deepEqual(ended, begun);
  assert.ok(begun.length < 6, String(begun));
});

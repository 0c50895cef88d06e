import assert from 'node:assert/strict';
import { test } from 'node:test';

import { joinChunks } from './write-disk.ts';

async function* chunks(...list: [number, string][]) {
  await Promise.resolve();
  for (const [offsetBytes, text] of list) yield { offsetBytes, data: Buffer.from(text) };
}

async function joined(max: number, ...list: [number, string][]): Promise<[number, string][]> {
  const pieces: [number, string][] = [];
  for await (const { offsetBytes, data } of joinChunks(chunks(...list), max))
    pieces.push([offsetBytes, data.toString()]);
  return pieces;
}

test('joins chunks that follow each other, and only those', async () => {
  assert.deepEqual(await joined(100, [0, 'ab'], [2, 'cd'], [8, 'ef'], [10, 'g'], [4, 'hi']), [
    [0, 'abcd'],
    [8, 'efg'],
    [4, 'hi'],
  ]);
});

test('keeps joined pieces below the size, whatever the chunks', async () => {
  assert.deepEqual(await joined(4, [0, 'ab'], [2, 'cd'], [4, 'e'], [5, 'fghij'], [10, 'k']), [
    [0, 'abcd'],
    [4, 'e'],
    [5, 'fghij'],
    [10, 'k'],
  ]);
  assert.deepEqual(await joined(4), []);
});

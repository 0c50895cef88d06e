import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { firstDifference } from './compare.ts';

const folder = await mkdtemp(join(tmpdir(), 'dozo-compare-'));
after(() => rm(folder, { recursive: true }));

async function file(name: string, content: Buffer): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

test('finds the first different byte, in the first and in a later block', async () => {
  const zeros = Buffer.alloc(9 * 1024 * 1024);
  const a = await file('a', zeros);
  for (const offset of [0, 5, 4 * 1024 * 1024, zeros.length - 1]) {
    const changed = Buffer.from(zeros);
    changed[offset] = 1;
    assert.equal(await firstDifference(a, await file('b', changed)), offset);
  }
});

test('equal files have no difference, a shorter one differs at its end', async () => {
  const content = Buffer.from('the same');
  const a = await file('c', content);

  assert.equal(await firstDifference(a, await file('d', content)), null);
  assert.equal(await firstDifference(a, await file('e', content.subarray(0, 5))), 5);
  assert.equal(await firstDifference(await file('f', Buffer.alloc(0)), a), 0);
});

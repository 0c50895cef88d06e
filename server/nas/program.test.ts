import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { runProgram } from './program.ts';

const folder = await mkdtemp(join(tmpdir(), 'dozo-program-'));
after(() => rm(folder, { recursive: true, force: true }));

async function script(name: string, ...lines: string[]): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, ['#!/bin/sh', ...lines, ''].join('\n'));
  await chmod(path, 0o755);
  return path;
}

it('ends a program that does not end when it is asked to', { timeout: 120_000 }, async () => {
  const stubborn = await script('stubborn', "trap '' TERM", 'exec sleep 60');
  assert.deepEqual(await runProgram(stubborn, [], undefined, 300), { status: null, output: '' });
});

it('does not wait for what a program has left behind', { timeout: 120_000 }, async () => {
  // It holds the output open, and ends by itself once this test is over.
  const parent = await script('parent', 'sleep 100 &', 'echo "$!"', 'exit 0');
  const { status, output } = await runProgram(parent, [], undefined, 300);
  process.kill(Number(output));
  assert.equal(status, 0);
});

it('tells how a program ended, and what it said', async () => {
  const said = await script('said', 'echo "$1 $NAME"', 'exit 3');
  assert.deepEqual(await runProgram(said, ['a b'], { NAME: 'c', PATH: '/bin:/usr/bin' }), {
    status: 3,
    output: 'a b c\n',
  });
  assert.deepEqual(await runProgram(join(folder, 'none'), []), { status: null, output: '' });
});

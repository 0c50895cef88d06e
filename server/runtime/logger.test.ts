import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';

/**
 * Logs on until `said` lines were given, each of a thousand characters, then tells that it is alive, and its memory.
 */
const PROGRAM = `
  const { createLogger } = await import(process.argv[1]);
  const logger = createLogger('test');
  const before = process.memoryUsage().rss;
  for (let line = 0; line < 20_000; line += 1) logger.info({ line, text: 'x'.repeat(1000) }, 'goes on');
  await new Promise((resolve) => setImmediate(resolve));
  console.log(JSON.stringify({ isAlive: true, grownBytes: process.memoryUsage().rss - before }));
`;

it('goes on, and keeps little, while standard error is on a full volume', () => {
  // Every write to it meets a full volume (full(4)).
  const full = openSync('/dev/full', 'w');
  try {
    const args = ['--input-type=module', '--eval', PROGRAM, join(import.meta.dirname, 'logger.ts')];
    const child = spawnSync(process.execPath, args, { stdio: ['ignore', 'pipe', full], timeout: 120_000 });
    assert.equal(child.status, 0);
    const { isAlive, grownBytes } = JSON.parse(child.stdout.toString()) as { isAlive: boolean; grownBytes: number };
    assert.ok(isAlive);
    assert.ok(grownBytes < 64 * 1024 * 1024, `${grownBytes} bytes more`);
  } finally {
    closeSync(full);
  }
});

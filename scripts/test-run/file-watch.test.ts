import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type EventData } from 'node:test';
import { FileWatch } from './file-watch.ts';

test('a file that hangs is ended by force, and it is told which test was at work', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'dozo-watch-'));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'hangs.test.ts');
  writeFileSync(file, "process.on('SIGTERM', () => undefined); setInterval(() => undefined, 1_000);");
  const child = spawn(process.execPath, [file], { stdio: 'ignore' });
  const ended = once(child, 'exit');
  const told: string[] = [];
  const watch = new FileWatch([file], 100, (text) => told.push(text));
  const event = (name: string, line: number) =>
    ({ name, file, line, column: 1, nesting: 0, type: 'test' }) as EventData.TestDequeue;

  watch.begun(event(file, 1));
  watch.begun(event('is over', 2));
  watch.ended(event('is over', 2) as unknown as EventData.TestComplete);
  watch.begun(event('hangs', 3));
  watch.said({ file, message: 'its last words\n' });

  const [, signal] = (await ended) as [number | null, string | null];
  assert.equal(signal, 'SIGKILL');
  const text = told.join('\n');
  assert.match(text, /HANG .*hangs\.test\.ts/);
  assert.match(text, /at work: hangs, .*:3\)/);
  assert.doesNotMatch(text, /is over/);
  assert.match(text, /its last words/);
  watch.close();
});

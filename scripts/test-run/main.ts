/**
 * Runs the kinds of tests one after the other and ends with one line that any CI can read. A kind
 * without a single executed test is a failure: a suite that ran nothing has proven nothing.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, globSync, readdirSync, statSync } from 'node:fs';
import { relative } from 'node:path';
import { run, type EventData } from 'node:test';
import { FileWatch } from './file-watch.ts';

/** One hung test file must not hold up the rest; the longest takes less than half of this where all runs. */
const FILE_TIMEOUT_MS = 15 * 60_000;
/** So many files at a time: most of them wait for hosts, servers and browsers more than they compute. */
const FILES_AT_ONCE = 2;
/** These look at the time that something takes: each runs alone, after the others of its kind. */
const MEASURING = new Set(['test/e2e/scale.test.ts']);

/** Kinds that look at what the build made. */
const BUILT = new Set(['e2e']);
/** Files that take that long are named with their time. */
const LONG_MS = 20_000;

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

const total: Tally = { passed: 0, failed: 0, skipped: 0 };
const testFolders = readdirSync('test', { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && globSync(`test/${entry.name}/**/*.test.ts`).length > 0)
  .map((entry) => entry.name)
  .sort();
const kinds = ['check', 'build', 'unit', ...testFolders];
const wanted = process.argv.slice(2);
const unknown = wanted.filter((kind) => !kinds.includes(kind));
if (unknown.length > 0) {
  console.error(`test: no such kind: ${unknown.join(', ')}; there are ${kinds.join(', ')}`);
  process.exit(2);
}

for (const kind of kinds) {
  if (wanted.length > 0 && !wanted.includes(kind) && !(kind === 'build' && wanted.some((name) => BUILT.has(name))))
    continue;
  const startedAt = performance.now();
  const tally = kind === 'check' || kind === 'build' ? runScript(kind) : await runTests(kind);
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(`-- ${kind}: ${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped in ${seconds} s`);
  total.passed += tally.passed;
  total.failed += tally.failed;
  total.skipped += tally.skipped;
}

if (total.skipped > 0) console.log(`${total.skipped} tests were skipped; each names its reason above`);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1);

function runScript(kind: 'check' | 'build'): Tally {
  const script = kind === 'check' ? 'scripts/check/check.ts' : 'scripts/build/build.ts';
  const result = spawnSync(process.execPath, [script], { stdio: 'inherit', timeout: FILE_TIMEOUT_MS });
  if (result.error !== undefined) console.log(`FAIL ${kind}: ${result.error.message}`);
  return result.status === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 };
}

async function runTests(kind: string): Promise<Tally> {
  const patterns =
    kind === 'unit'
      ? ['server/**/*.test.ts', 'scripts/**/*.test.ts', 'ui/**/*.test.ts']
      : [`test/${kind}/**/*.test.ts`];
  const files = globSync(patterns, { exclude: (name) => name.includes('node_modules') })
    .filter((name) => existsSync(name))
    // What is long begins first, so that both lanes end together; a large file is mostly a long one.
    .sort((one, other) => statSync(other).size - statSync(one).size || (one < other ? -1 : 1));
  const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  await runFiles(
    files.filter((name) => !MEASURING.has(name)),
    FILES_AT_ONCE,
    tally,
  );
  await runFiles(
    files.filter((name) => MEASURING.has(name)),
    1,
    tally,
  );
  if (tally.passed + tally.failed === 0) {
    console.log(`FAIL ${kind}: no test ran`);
    tally.failed += 1;
  }
  return tally;
}

async function runFiles(files: string[], concurrency: number, tally: Tally): Promise<void> {
  if (files.length === 0) return;
  const stream = run({ files, concurrency });
  const watch = new FileWatch(files, FILE_TIMEOUT_MS);
  // Without a listener the stream stays paused, and the run never ends.
  stream.on('test:fail', (data: EventData.TestFail) => {
    if (data.details.type === 'suite' || isFileWrapper(data, files)) {
      // A file that could not even be loaded reports only itself.
      if (!isFileWrapper(data, files) || !isLoadFailure(data)) {
        if (isHookFailure(data)) console.log(`hook ${data.file ?? ''}:\n${indent(describeError(data.details.error))}`);
        return;
      }
    }
    tally.failed += 1;
    console.log(`FAIL ${data.file ?? ''} > ${data.name}`);
    console.log(indent(describeError(data.details.error)));
  });
  stream.on('test:pass', (data: EventData.TestPass) => {
    if (data.details.type === 'suite' || isFileWrapper(data, files)) return;
    if (data.skip !== undefined && data.skip !== false) {
      tally.skipped += 1;
      console.log(`skip ${data.file ?? ''} > ${data.name}: ${String(data.skip)}`);
    } else {
      tally.passed += 1;
    }
  });
  stream.on('test:summary', nameLong);
  stream.on('test:dequeue', (data: EventData.TestDequeue) => watch.begun(data));
  stream.on('test:complete', (data: EventData.TestComplete) => watch.ended(data));
  stream.on('test:stderr', (data: EventData.TestStderr) => {
    watch.said(data);
    if (process.env['DOZO_TEST_VERBOSE'] !== undefined) process.stderr.write(data.message);
  });
  for await (const _event of stream) {
    // Drained for its end; the listeners above see every event.
  }
  watch.close();
}

function nameLong({ file, duration_ms }: EventData.TestSummary): void {
  if (file === undefined || duration_ms < LONG_MS) return;
  console.log(`   ${relative('.', file)}: ${(duration_ms / 1000).toFixed(1)} s`);
}

/** With process isolation each file reports itself as a test around its tests. */
function isFileWrapper(data: { name: string; nesting: number }, files: string[]): boolean {
  return data.nesting === 0 && files.some((file) => data.name === file || data.name.endsWith(`/${file}`));
}

function isLoadFailure(data: EventData.TestFail): boolean {
  const error = data.details.error as Error & { failureType?: string; exitCode?: number };
  return (
    error.failureType === 'testCodeFailure' ||
    error.failureType === 'testTimeoutFailure' ||
    error.exitCode !== undefined
  );
}

/** What cleans up after the last test has failed: told, and no test's failure. */
function isHookFailure(data: EventData.TestFail): boolean {
  return (data.details.error as Error & { failureType?: string }).failureType === 'hookFailed';
}

function describeError(error: Error): string {
  const cause = error.cause;
  return cause instanceof Error
    ? (cause.stack ?? cause.message)
    : `${error.stack ?? error.message}${cause === undefined ? '' : `\n${String(cause)}`}`;
}

function indent(text: string): string {
  return text
    .split('\n')
    .slice(0, 40)
    .map((line) => `    ${line}`)
    .join('\n');
}

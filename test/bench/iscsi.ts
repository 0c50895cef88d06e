/**
 * The iSCSI target against Debian's tgt on the same raw file, and the ingest disk against the chunker alone, in turns:
 * `node test/bench/iscsi.ts [IMAGE] [--rounds 3] [--write-docs]`. IMAGE is read, a copy beside it written over; without
 * one an image of 512 MiB of files is made. `--write-docs` puts the result into docs/performance.md. The initiators are
 * libiscsi's `iscsi-perf` (reads) and QEMU's (`qemu-img bench -w`, `qemu-img convert`). Prints medians and the medians
 * of the rounds' ratios as Markdown. Dozo's processes get the settings of its workers. Needs root for tgt, and the
 * packages of `scripts/setup test`.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { format } from 'prettier';
import { SMALL_PROCESS } from '../../server/app/small-process.ts';
import { makeDiskImage } from './disk-image.ts';
import type { TargetOrder } from './iscsi-target.ts';
import { replaceSection } from './report.ts';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '3' }, 'write-docs': { type: 'boolean', default: false } },
});
const DOCUMENT = path.join(import.meta.dirname, '../../docs/performance.md');
const MARKS = {
  begin: '<!-- iscsi: begin (written by node test/bench/iscsi.ts --write-docs) -->',
  end: '<!-- iscsi: end -->',
};
const OWN_IMAGE_BYTES = 512 * 2 ** 20;
const madeFolder = positionals[0] === undefined ? mkdtempSync(path.join(tmpdir(), 'dozo-iscsi-bench-')) : null;
if (madeFolder !== null) {
  process.once('exit', () => rmSync(madeFolder, { recursive: true, force: true }));
  await makeDiskImage(path.join(madeFolder, 'image'), OWN_IMAGE_BYTES, madeFolder);
}
const IMAGE = path.resolve(positionals[0] ?? path.join(madeFolder ?? '', 'image'));
const FOLDER = path.join(path.dirname(IMAGE), 'iscsi-bench');
const SIZE_BYTES = statSync(IMAGE).size;
const TARGET = 'iqn.2020-01.test.dozo:bench';
const OWN_INITIATOR = 'iqn.2020-01.test.dozo:own';
const [USER, SECRET] = ['initiator', 'a-secret-of-a-run'];
const TGT_PORT = 23_261;
const TGT_CONTROL = '97';
const READ_SECONDS = '3';

/** A target that answers, and what it is reached by. */
interface Served {
  url: string;
  /** Highest resident memory so far, bytes. */
  peakMemoryBytes(): number;
  close(): Promise<void>;
}

async function serveByDozo(kind: TargetOrder['kind'], file: string): Promise<Served & { ended: Promise<void> }> {
  const program = path.join(import.meta.dirname, 'iscsi-target.ts');
  const child = spawn(process.execPath, [...SMALL_PROCESS.execArgv, program], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...SMALL_PROCESS.environment },
  });
  const initiators = [OWN_INITIATOR, 'iqn.2008-11.org.linux-kvm'];
  const order: TargetOrder = {
    kind,
    path: file,
    sizeBytes: SIZE_BYTES,
    target: TARGET,
    initiators,
    user: USER,
    secret: SECRET,
  };
  const ended = new Promise<void>((resolve, reject) =>
    child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`the target ended with ${String(code)}`)))),
  );
  child.stdin.write(`${JSON.stringify(order)}\n`);
  const port = await new Promise<string>((resolve) => createInterface({ input: child.stdout }).once('line', resolve));
  return {
    url: `iscsi://${USER}%${SECRET}@127.0.0.1:${port}/${TARGET}/0`,
    peakMemoryBytes: () => peakMemoryBytes(child),
    ended,
    close: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

async function serveByTgt(file: string): Promise<Served> {
  const daemon = spawn('tgtd', ['-f', '-C', TGT_CONTROL, '--iscsi', `portal=127.0.0.1:${TGT_PORT}`], {
    stdio: 'ignore',
  });
  const control = (...words: string[]): number | null =>
    spawnSync('tgtadm', ['-C', TGT_CONTROL, '--lld', 'iscsi', ...words], { stdio: 'ignore' }).status;
  for (let attempt = 0; control('--op', 'show', '--mode', 'sys') !== 0; attempt += 1) {
    if (attempt > 100) throw new Error('tgtd does not answer');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  control('--op', 'new', '--mode', 'target', '--tid', '1', '-T', TARGET);
  control('--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '-b', file);
  control('--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL');
  return {
    url: `iscsi://127.0.0.1:${TGT_PORT}/${TARGET}/1`,
    peakMemoryBytes: () => peakMemoryBytes(daemon),
    close: async () => {
      const ended = new Promise((resolve) => daemon.once('exit', resolve));
      daemon.kill('SIGKILL');
      await ended;
    },
  };
}

function peakMemoryBytes({ pid }: ChildProcess): number {
  const file = `/proc/${String(pid)}/status`;
  const status = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024;
}

function run(command: string, args: string[], env = process.env): { output: string; seconds: number } {
  const startedMs = performance.now();
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', env });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${stderr}`);
  return { output: stdout, seconds: (performance.now() - startedMs) / 1000 };
}

/** MB/s of reads of so many blocks, so many at a time. */
function readRate(url: string, blocks: number, depth: number, order: 'random' | 'sequential'): number {
  const args = ['-i', OWN_INITIATOR, '-m', String(depth), '-b', String(blocks), '-t', READ_SECONDS];
  const { output } = run('iscsi-perf', [...args, ...(order === 'random' ? ['-r'] : []), url]);
  const found = [...output.matchAll(/iops average (\d+)/g)].at(-1)?.[1];
  if (found === undefined) throw new Error(`iscsi-perf said no rate:\n${output}`);
  return (Number(found) * blocks * 512) / 1e6;
}

function writeRate(url: string): number {
  const count = Math.floor(SIZE_BYTES / 2 ** 20);
  const args = ['bench', '-w', '-c', String(count), '-d', '8', '-s', '1M', '-t', 'none', '-f', 'raw', url];
  const { output } = run('qemu-img', args);
  const seconds = Number(/completed in ([\d.]+) seconds/.exec(output)?.[1]);
  return (count * 2 ** 20) / 1e6 / seconds;
}

/** Several initiators that write at full speed: what each disk more costs. */
async function writeAtOnce(url: string, sessions: number): Promise<void> {
  const args = ['bench', '-w', '-c', '256', '-d', '8', '-s', '1M', '-t', 'none', '-f', 'raw', url];
  const writers = Array.from({ length: sessions }, () => spawn('qemu-img', args, { stdio: 'ignore' }));
  await Promise.all(writers.map(async (writer) => await new Promise((resolve) => writer.once('exit', resolve))));
}

const rates = new Map<string, { dozo: number[]; other: number[] }>();
const peaks = { idle: 0, dozo: 0, four: 0, tgt: 0, ingestIdle: 0, ingest: 0 };

function note(name: string, side: 'dozo' | 'other', value: number): void {
  const row = rates.get(name) ?? { dozo: [], other: [] };
  row[side].push(value);
  rates.set(name, row);
}

/** Each of the two right after the other, so that both meet the same load of the machine. */
function compare(dozo: Served, tgt: Served): void {
  const steps: [name: string, rate: (url: string) => number][] = [
    ['sequential read, 1 MiB, 8 at a time', (url) => readRate(url, 2048, 8, 'sequential')],
    ['random read, 4 KiB, 1 at a time', (url) => readRate(url, 8, 1, 'random')],
    ['random read, 4 KiB, 32 at a time', (url) => readRate(url, 8, 32, 'random')],
    ['sequential write, 1 MiB, 8 at a time', writeRate],
  ];
  for (const [name, rate] of steps) {
    note(name, 'dozo', rate(dozo.url));
    note(name, 'other', rate(tgt.url));
  }
}

const load = (loadavg()[0] ?? 0).toFixed(1);
const written = path.join(path.dirname(IMAGE), 'iscsi-bench.img');
for (let round = 0; round < Number(options.rounds); round += 1) {
  run('cp', [IMAGE, written]);
  const dozo = await serveByDozo('file', written);
  const tgt = await serveByTgt(written);
  peaks.idle = Math.max(peaks.idle, dozo.peakMemoryBytes());
  compare(dozo, tgt);
  peaks.dozo = Math.max(peaks.dozo, dozo.peakMemoryBytes());
  await writeAtOnce(dozo.url, 4);
  peaks.four = Math.max(peaks.four, dozo.peakMemoryBytes());
  await dozo.close();
  peaks.tgt = Math.max(peaks.tgt, tgt.peakMemoryBytes());
  await tgt.close();

  rmSync(FOLDER, { recursive: true, force: true });
  const name = 'ingest of the image, to the commit';
  const startedMs = performance.now();
  const ingest = await serveByDozo('ingest', FOLDER);
  peaks.ingestIdle = Math.max(peaks.ingestIdle, ingest.peakMemoryBytes());
  const convert = ['convert', '-n', '-W', '-m', '8', '-t', 'none', '-S', '0', '-f', 'raw', '-O', 'raw', IMAGE];
  const child = spawn('qemu-img', [...convert, ingest.url], { stdio: 'inherit' });
  const watch = setInterval(() => (peaks.ingest = Math.max(peaks.ingest, ingest.peakMemoryBytes())), 50);
  child.once('exit', () => clearInterval(watch));
  await ingest.ended;
  note(name, 'dozo', SIZE_BYTES / 1e6 / ((performance.now() - startedMs) / 1000));
  rmSync(FOLDER, { recursive: true, force: true });
  const task = [...SMALL_PROCESS.execArgv, path.join(import.meta.dirname, 'repository-task.ts'), 'full', FOLDER, IMAGE];
  const alone = run(process.execPath, task, { ...process.env, ...SMALL_PROCESS.environment });
  note(name, 'other', SIZE_BYTES / 1e6 / alone.seconds);
}
rmSync(FOLDER, { recursive: true, force: true });
rmSync(written, { force: true });

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
const aims = new Map([...rates.keys()].map((name) => [name, name.startsWith('random') ? 0.5 : 0.8]));
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
const lines = [
  `Taken on ${new Date().toISOString().slice(0, 10)}, load average before the start ${load}; ${options.rounds === '1' ? '1 round' : `${options.rounds} rounds`}, an image of ${String(SIZE_BYTES / 2 ** 20)} MiB of files:`,
  '',
  '| | Dozo, MB/s | tgt or chunker alone, MB/s | ratio | aim |',
  '|---|---:|---:|---:|---:|',
  ...[...rates].map(([name, { dozo, other }]) => {
    const ratio = median(dozo.map((value, index) => value / (other[index] ?? Number.NaN)));
    const cells = [name, median(dozo).toFixed(1), median(other).toFixed(1), ratio.toFixed(2), String(aims.get(name))];
    return `| ${cells.join(' | ')} |`;
  }),
  '',
  `Memory of the target's process: ${megabytes(peaks.idle)} MB before the first login, ${megabytes(peaks.dozo)} MB at most with one disk under all of the above, ` +
    `${megabytes(peaks.four)} MB with four more initiators writing at full speed; tgt took ${megabytes(peaks.tgt)} MB. ` +
    `The ingest process took ${megabytes(peaks.ingest)} MB, of which ${megabytes(peaks.ingestIdle)} MB before the first login; its codec threads are in it.`,
];
const report = lines.join('\n');
console.log(report);
if (options['write-docs']) {
  const section = await format(report, { parser: 'markdown', printWidth: 120, proseWrap: 'always' });
  writeFileSync(DOCUMENT, replaceSection(readFileSync(DOCUMENT, 'utf8'), section.trim(), MARKS));
}

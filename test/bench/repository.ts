/**
 * The repository alone against zstd, plain and encrypted, on the same bytes in turns:
 * `node test/bench/repository.ts IMAGE`. `open` has what unlocking with a passphrase costs on purpose.
 * Prints seconds, processor seconds and peak memory of each, medians of three rounds; all write to the
 * folder of the image. For a whole backup see `bench.ts`.
 */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';

interface Measured {
  seconds: number;
  cpuSeconds: number;
  peakMemoryBytes: number;
}

const ROUNDS = 3;
const image = process.argv[2];
if (image === undefined) throw new Error('usage: node test/bench/repository.ts IMAGE');
const folder = path.join(path.dirname(path.resolve(image)), 'repository-bench');
const results = new Map<string, Measured[]>();

function run(name: string, command: string, args: string[]): void {
  // GNU time reports on standard error: wall, user, system seconds, peak KiB.
  const { status, stderr } = spawnSync('time', ['-f', '%e %U %S %M', command, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${name} failed: ${stderr}`);
  const [seconds = 0, user = 0, system = 0, kib = 0] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  const measured = { seconds, cpuSeconds: user + system, peakMemoryBytes: kib * 1024 };
  results.set(name, [...(results.get(name) ?? []), measured]);
}

const task = path.join(import.meta.dirname, 'repository-task.ts');
const packed = path.join(folder, 'image.zst');
const restored = path.join(folder, 'image');
const repository = path.join(folder, 'repository');
const encrypted = path.join(folder, 'encrypted');
for (let round = 0; round < ROUNDS; round += 1) {
  rmSync(folder, { recursive: true, force: true });
  const step = (name: string, file: string): void => {
    run(`repository ${name}`, process.execPath, [task, name, repository, file]);
    process.env['DOZO_BENCH_PASSPHRASE'] = 'bench';
    run(`encrypted ${name}`, process.execPath, [task, name, encrypted, file]);
    delete process.env['DOZO_BENCH_PASSPHRASE'];
  };
  spawnSync('mkdir', ['-p', folder]);
  run('zstd -1 -T0', 'zstd', ['-q', '-1', '-T0', '-f', image, '-o', packed]);
  step('full', image);
  step('open', '-');
  step('again', image);
  step('check', image);
  run('zstd -d', 'zstd', ['-q', '-d', '-f', packed, '-o', restored]);
  step('restore', restored);
  if (spawnSync('cmp', [image, restored]).status !== 0) throw new Error('the restored image is another one');
}
rmSync(folder, { recursive: true, force: true });

const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
console.log('step                  seconds   cpu s   peak MB');
for (const [name, rounds] of results) {
  const seconds = median(rounds.map((round) => round.seconds));
  const cpuSeconds = median(rounds.map((round) => round.cpuSeconds));
  const megabytes = median(rounds.map((round) => round.peakMemoryBytes)) / 1e6;
  console.log(
    `${name.padEnd(20)} ${seconds.toFixed(2).padStart(8)} ${cpuSeconds.toFixed(2).padStart(7)} ${megabytes.toFixed(0).padStart(9)}`,
  );
}

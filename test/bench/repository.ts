/**
 * The repository alone against zstd, plain and encrypted, on the same bytes in turns:
 * `node test/bench/repository.ts IMAGE [ROUNDS]`. Prints seconds, processor seconds and peak memory of each, medians of
 * the rounds, and what encryption costs: the median of the rounds' ratios, and the smallest and largest of them.
 * Encrypted repositories are opened with a machine key, as a worker does. All write to the folder of the image. For a
 * whole backup see `bench.ts`.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { SMALL_PROCESS } from '../../server/app/small-process.ts';

interface Measured {
  seconds: number;
  cpuSeconds: number;
  peakMemoryBytes: number;
}

const [image, roundsText = '3'] = process.argv.slice(2);
if (image === undefined) throw new Error('usage: node test/bench/repository.ts IMAGE [ROUNDS]');
const folder = path.join(path.dirname(path.resolve(image)), 'repository-bench');
const results = new Map<string, Measured[]>();

function note(name: string, measured: Measured): void {
  results.set(name, [...(results.get(name) ?? []), measured]);
}

function zstd(...args: string[]): Measured {
  // GNU time reports on standard error: wall, user, system seconds, peak KiB.
  const { status, stderr } = spawnSync('time', ['-f', '%e %U %S %M', 'zstd', '-q', '-f', ...args], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`zstd failed: ${stderr}`);
  const [seconds = 0, user = 0, system = 0, kib = 0] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  return { seconds, cpuSeconds: user + system, peakMemoryBytes: kib * 1024 };
}

const task = [...SMALL_PROCESS.execArgv, path.join(import.meta.dirname, 'repository-task.ts')];

function dozo(kind: 'plain' | 'encrypted', step: string, file: string): Measured {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...task, step, path.join(folder, kind), file], {
    encoding: 'utf8',
    env: {
      ...process.env,
      ...SMALL_PROCESS.environment,
      ...(kind === 'encrypted' ? { DOZO_BENCH_MACHINE_KEY: path.join(folder, 'key') } : {}),
    },
  });
  if (status !== 0) throw new Error(`${kind} ${step} failed: ${stderr}`);
  const { seconds, stepCpuSeconds, peakMemoryBytes } = JSON.parse(stdout) as Record<string, number>;
  return { seconds: seconds ?? 0, cpuSeconds: stepCpuSeconds ?? 0, peakMemoryBytes: peakMemoryBytes ?? 0 };
}

const STEPS = ['full', 'again', 'check', 'restore'] as const;
const packed = path.join(folder, 'image.zst');
const restored = path.join(folder, 'image');
const isRestored = (): void => {
  if (spawnSync('cmp', [image, restored]).status !== 0) throw new Error('the restored image is another one');
};
for (let round = 0; round < Number(roundsText); round += 1) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  note('zstd -1 -T0', zstd('-1', '-T0', image, '-o', packed));
  note('zstd -d', zstd('-d', packed, '-o', restored));
  isRestored();
  rmSync(packed);
  // Whoever goes first finds caches and the disk's queue in another state.
  const kinds = round % 2 === 0 ? (['plain', 'encrypted'] as const) : (['encrypted', 'plain'] as const);
  for (const kind of kinds) dozo(kind, 'create', '-');
  for (const step of STEPS) {
    for (const kind of kinds) {
      rmSync(restored, { force: true });
      spawnSync('sync', ['-f', folder]);
      note(`${kind} ${step}`, dozo(kind, step === 'full' ? 'add' : step, step === 'restore' ? restored : image));
      if (step === 'restore') isRestored();
    }
  }
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
console.log('\nencrypted : plain     seconds (min–max)    cpu s (min–max)');
for (const step of STEPS) {
  const ratios = (unit: 'seconds' | 'cpuSeconds'): string => {
    const plain = results.get(`plain ${step}`) ?? [];
    const all = (results.get(`encrypted ${step}`) ?? []).map((one, round) => one[unit] / (plain[round]?.[unit] ?? 0));
    return `${median(all).toFixed(3)} (${Math.min(...all).toFixed(2)}–${Math.max(...all).toFixed(2)})`;
  };
  console.log(`${step.padEnd(20)} ${ratios('seconds').padStart(18)} ${ratios('cpuSeconds').padStart(18)}`);
}

/**
 * How fast a repository is checked against reading its files alone: `node test/bench/check.ts IMAGE [ROUNDS]`; as root,
 * since nothing may be cached. A repository of the image is made beside it; in each round all its files are read by
 * `cat`, checked by checksums and checked by hashes, each after the system's caches were dropped. Prints medians
 * (smallest to largest) of the rounds, with the start of each program.
 */
import { spawnSync } from 'node:child_process';
import { globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { SMALL_PROCESS } from '../../server/app/small-process.ts';
import { bundleServer } from '../../scripts/build/bundle-server.ts';
import { folderBytes } from './contender.ts';

const [image, roundsText = '3'] = process.argv.slice(2);
if (image === undefined) throw new Error('usage: node test/bench/check.ts IMAGE [ROUNDS]');
const folder = mkdtempSync(path.join(path.dirname(path.resolve(image)), 'dozo-check-'));
const bundle = path.join(folder, 'bundle');
const store = path.join(folder, 'store');

interface Cost {
  seconds: number;
  cpuSeconds: number;
}

function run(command: string): Cost {
  spawnSync('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
  // GNU time reports on standard error: wall, user, system seconds.
  const { status, stderr } = spawnSync('time', ['-f', '%e %U %S', 'bash', '-c', command], {
    encoding: 'utf8',
    env: { ...process.env, ...SMALL_PROCESS.environment },
  });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
  const [seconds = 0, user = 0, system = 0] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  return { seconds, cpuSeconds: user + system };
}

function summary(values: number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const [middle, least, most] = [sorted[sorted.length >> 1], sorted[0], sorted.at(-1)];
  return `${middle?.toFixed(2)} (${least?.toFixed(2)}–${most?.toFixed(2)})`;
}

try {
  await bundleServer(['test/bench/repository-task.ts', ...globSync('server/repository/*-thread.ts')], bundle);
  const task = `${process.execPath} ${SMALL_PROCESS.execArgv.join(' ')} ${path.join(bundle, 'repository-task.js')}`;
  run(`${task} full ${store} ${image}`);
  const commands = {
    'reading alone': `find ${store} -type f -print0 | sort -z | xargs -0 cat > /dev/null`,
    'check by checksums': `${task} checksums ${store} -`,
    'check by hashes': `${task} check ${store} -`,
  };
  const rounds = Array.from({ length: Number(roundsText) }, () => Object.values(commands).map(run));
  console.log(`${(folderBytes(store) / 1e6).toFixed(0)} MB in the store, ${rounds.length} rounds\n`);
  console.log('| | seconds | CPU s | speed of reading |\n|---|---:|---:|---:|');
  for (const [index, name] of Object.keys(commands).entries()) {
    const costs = rounds.map((round) => round[index] as Cost);
    const ratios = rounds.map((round) => (round[0] as Cost).seconds / (round[index] as Cost).seconds);
    const cpu = summary(costs.map(({ cpuSeconds }) => cpuSeconds));
    console.log(`| ${name} | ${summary(costs.map(({ seconds }) => seconds))} | ${cpu} | ${summary(ratios)} |`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

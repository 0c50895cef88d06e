/**
 * The store alone against restic and borg on the same raw disks, without a host and without change tracking:
 * everybody reads the whole disk every time. `node test/bench/versions.ts [--size MIB] [--versions N]
 * [--only NAME] [--directory FOLDER]`; 4096 and 100 unless told; the names: linux, twins, versions, ntfs, random.
 * Prints Markdown tables, what it is at goes to standard error. Every restored disk is compared. What it made is
 * removed at the end, and when it is stopped by SIGINT or SIGTERM, after the command that is running.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { folderBytes } from './contender.ts';
import { applyChanges, BLOCK_BYTES, chooseFiles, findDataBlocks, makeDiskImage, planChanges } from './disk-image.ts';
import { bundleServer } from '../../scripts/build/bundle-server.ts';
import { SMALL_PROCESS } from '../../server/app/small-process.ts';

const { values: options } = parseArgs({
  options: {
    size: { type: 'string', default: '4096' },
    versions: { type: 'string', default: '100' },
    only: { type: 'string', multiple: true },
    directory: { type: 'string', default: '/var/tmp' },
  },
});
const sizeBytes = Number(options.size) * 2 ** 20;
const versions = Number(options.versions);
const folder = mkdtempSync(join(options.directory, 'dozo-versions-'));
const bundle = join(folder, 'bundle');
const CHANGED_SHARE = 0.01;
const TWINS = 10;

interface Cost {
  seconds: number;
  cpuSeconds: number;
  memoryBytes: number;
  writtenBytes: number;
}

/** One store: what it is told to run, with the disk at `image`. */
interface Store {
  name: string;
  env: Record<string, string>;
  init: string | null;
  /** @param isFirst nothing is in it yet; `isNext` the disk is a later state of the one before */
  backup(image: string, at: { isFirst: boolean; isNext: boolean; number: number }): string;
  verify: string;
  restore(target: string, number: number): string;
  prune(count: number): string;
}

function stores(at: string): Store[] {
  const task = `node ${SMALL_PROCESS.execArgv.join(' ')} ${join(bundle, 'repository-task.js')}`;
  const dozo = join(at, 'dozo');
  return [
    {
      name: 'Dozo',
      env: SMALL_PROCESS.environment,
      init: null,
      backup: (image, { isFirst, isNext }) => `${task} ${isFirst ? 'full' : isNext ? 'again' : 'add'} ${dozo} ${image}`,
      verify: `${task} check ${dozo} -`,
      restore: (target) => `${task} restore ${dozo} ${target}`,
      prune: () => `${task} prune ${dozo} -`,
    },
    {
      name: 'restic',
      env: {
        RESTIC_REPOSITORY: join(at, 'restic'),
        RESTIC_PASSWORD: 'bench',
        RESTIC_CACHE_DIR: join(at, 'restic-cache'),
      },
      init: 'restic init --quiet --repository-version 2',
      backup: (image, { number }) =>
        `restic backup --quiet --stdin --stdin-filename disk.raw --tag v${String(number)} < ${image}`,
      verify: 'restic check --quiet --read-data',
      restore: (target) => `restic dump --quiet latest disk.raw > ${target}`,
      prune: (count) =>
        `restic forget --quiet --prune $(restic snapshots --quiet --compact --tag v${String(Math.floor(count / 2))} | grep -oE '^[0-9a-f]{8}')`,
    },
    {
      name: 'borg',
      env: {
        BORG_REPO: join(at, 'borg'),
        BORG_BASE_DIR: join(at, 'borg-base'),
        BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
      },
      init: 'borg init --encryption=none',
      backup: (image, { number }) => `borg create -C zstd,1 --stdin-name disk.raw ::v${String(number)} - < ${image}`,
      verify: 'borg check --verify-data',
      restore: (target, number) => `borg extract --stdout ::v${String(number)} disk.raw > ${target}`,
      prune: (count) => `borg delete ::v${String(Math.floor(count / 2))} && borg compact`,
    },
  ];
}

let isStopped = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => (isStopped = true));

/** GNU time's record: memory is the largest process's, what was written in blocks of 512 bytes. */
async function run(store: Store, script: string): Promise<Cost> {
  await turn();
  if (isStopped) throw new Error('stopped');
  const { status, stderr } = spawnSync('time', ['-f', '%e %U %S %M %O', 'bash', '-ec', script], {
    encoding: 'utf8',
    env: { ...process.env, ...store.env },
    maxBuffer: 2 ** 26,
  });
  if (status !== 0) throw new Error(`${store.name}: ${script}\n${stderr}`);
  const numbers = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number);
  const [seconds = 0, user = 0, system = 0, kib = 0, blocks = 0] = numbers;
  return { seconds, cpuSeconds: user + system, memoryBytes: kib * 1024, writtenBytes: blocks * 512 };
}

function sum(costs: readonly Cost[]): Cost {
  return costs.reduce(
    (all, one) => ({
      seconds: all.seconds + one.seconds,
      cpuSeconds: all.cpuSeconds + one.cpuSeconds,
      memoryBytes: Math.max(all.memoryBytes, one.memoryBytes),
      writtenBytes: all.writtenBytes + one.writtenBytes,
    }),
    { seconds: 0, cpuSeconds: 0, memoryBytes: 0, writtenBytes: 0 },
  );
}

/** The disk's next state: 4 KiB in so many of its blocks. */
function change(image: string, seed: string): void {
  const blocks = findDataBlocks(image);
  const count = Math.min(blocks.length, Math.round((sizeBytes / BLOCK_BYTES) * CHANGED_SHARE));
  applyChanges(image, planChanges(blocks, count, seed));
}

function makeNtfs(image: string): void {
  writeFileSync(image, '');
  must(`truncate -s ${String(sizeBytes)} ${image} && mkfs.ntfs -q -F -f ${image}`);
  const files = readdirSync('/usr/bin', { withFileTypes: true, recursive: false })
    .filter((entry) => entry.isFile())
    .map(({ name }) => join('/usr/bin', name));
  // One call of ntfscp a file: archives of an eighth of the half that is to be filled.
  for (let part = 0; part < 8; part += 1) {
    const mine = files.filter((path) => (createHash('sha256').update(path).digest()[0] ?? 0) % 8 === part);
    const sized = mine.map((path) => ({ path, sizeBytes: Number(must(`stat -c %s ${path}`)) }));
    const chosen = chooseFiles(sized, sizeBytes / 16);
    const archive = join(folder, 'part.tar');
    must(`tar -cf ${archive} ${chosen.map(({ path }) => path).join(' ')} 2>/dev/null`);
    must(`ntfscp -f ${image} ${archive} part${String(part)}.tar`);
    rmSync(archive);
  }
}

function makeRandom(image: string): void {
  writeFileSync(image, '');
  for (let at = 0; at < sizeBytes / 4; at += 2 ** 20) appendFileSync(image, randomBytes(2 ** 20));
}

function must(script: string): string {
  const { status, stdout, stderr } = spawnSync('bash', ['-c', script], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout;
}

function countFiles(store: Store, at: string): { bytes: number; files: number } {
  const place = join(at, store.name.toLowerCase());
  const files = readdirSync(place, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length;
  return { bytes: folderBytes(place), files };
}

/**
 * The whole disk into the page cache and nothing left to write, before the first one's turn: it would otherwise pay
 * for fetching what the next ones find there. Holes cost the most: 3.3 GiB of them took 5 s.
 */
function readThrough(image: string): void {
  must(`sync && cat ${image} > /dev/null`);
}

/** The same for what a restore writes: memory that this machine has not touched for a while comes slowly. */
function writeOnce(image: string, target: string): void {
  must(`cp --sparse=never ${image} ${target} && sync && rm ${target} && cat ${image} > /dev/null`);
}

/**
 * Everybody backs up the same states of a disk, then verifies, restores the last one and, where several were
 * kept, deletes the one in the middle.
 * @param next makes the disk's next state; its number begins at 1
 */
async function compare(
  title: string,
  plan: { image: string; count: number; isChain: boolean; next(number: number): void },
): Promise<void> {
  const at = join(folder, 'stores');
  mkdirSync(at);
  const all = stores(at);
  for (const store of all) if (store.init !== null) await run(store, store.init);
  const first = new Map<string, Cost>();
  const later = new Map<string, Cost[]>(all.map(({ name }) => [name, []]));
  for (let number = 0; number < plan.count; number += 1) {
    if (number > 0) plan.next(number);
    readThrough(plan.image);
    for (const store of all) {
      const cost = await run(store, store.backup(plan.image, { isFirst: number === 0, isNext: plan.isChain, number }));
      if (number === 0) first.set(store.name, cost);
      else later.get(store.name)?.push(cost);
    }
    console.error(`${title}: ${String(number + 1)} of ${String(plan.count)}`);
  }
  const rows: string[] = [];
  const add = (step: string, store: Store, cost: Cost): void => {
    const { bytes, files } = countFiles(store, at);
    const cells = [
      step,
      store.name,
      cost.seconds.toFixed(1),
      cost.cpuSeconds.toFixed(1),
      (cost.memoryBytes / 1e6).toFixed(0),
      (cost.writtenBytes / 1e6).toFixed(0),
      (bytes / 1e6).toFixed(1),
      String(files),
    ];
    rows.push(`| ${cells.join(' | ')} |`);
  };
  writeOnce(plan.image, join(folder, 'restored.raw'));
  for (const store of all) {
    const full = first.get(store.name);
    if (full !== undefined) add('first', store, full);
    const costs = later.get(store.name) ?? [];
    if (costs.length > 0) add(`${String(costs.length)} further ones`, store, sum(costs));
    add('verify', store, await run(store, store.verify));
    const target = join(folder, 'restored.raw');
    add('restore', store, await run(store, store.restore(target, plan.count - 1)));
    must(`cmp ${plan.image} ${target}`);
    rmSync(target);
    if (plan.count > 2) add('prune of one', store, await run(store, store.prune(plan.count)));
  }
  rmSync(at, { recursive: true });
  console.log(`\n### ${title}\n`);
  console.log('| step | store | seconds | CPU s | memory MB | written MB | store after, MB | files after |');
  console.log('|---|---|---:|---:|---:|---:|---:|---:|');
  for (const row of rows) console.log(row);
}

const size = `${options.size} MiB`;
const linux = join(folder, 'linux.raw');
const image = join(folder, 'disk.raw');
const fresh = async (): Promise<void> => {
  if (!existsSync(linux)) await makeDiskImage(linux, sizeBytes, folder);
  copyFileSync(linux, image);
};

const scenarios: Record<string, () => Promise<void>> = {
  async linux() {
    await fresh();
    await compare(`A Linux disk of ${size}, then 1 % of its blocks changed`, {
      image,
      count: 2,
      isChain: true,
      next: (number) => change(image, `linux ${String(number)}`),
    });
  },
  async twins() {
    await fresh();
    await compare(`${String(TWINS)} near-identical Linux disks of ${size}, 1 % of the blocks of each its own`, {
      image,
      count: TWINS,
      isChain: false,
      next(number) {
        copyFileSync(linux, image);
        change(image, `twin ${String(number)}`);
      },
    });
  },
  async versions() {
    await fresh();
    await compare(`${String(versions)} versions of a Linux disk of ${size}, 1 % changed in each`, {
      image,
      count: versions,
      isChain: true,
      next: (number) => change(image, `version ${String(number)}`),
    });
  },
  async ntfs() {
    makeNtfs(image);
    await compare(`An NTFS disk of ${size}`, { image, count: 1, isChain: true, next: () => undefined });
  },
  async random() {
    makeRandom(image);
    await compare(`Random bytes, a quarter of ${size}`, { image, count: 1, isChain: true, next: () => undefined });
  },
};

try {
  // As it is shipped: the sources as they are would be read and stripped of their types by every process.
  await bundleServer(['test/bench/repository-task.ts', ...globSync('server/repository/*-thread.ts')], bundle);
  const unknown = (options.only ?? []).filter((name) => !(name in scenarios));
  if (unknown.length > 0)
    throw new Error(`no part ${unknown.join(', ')}; there are ${Object.keys(scenarios).join(', ')}`);
  for (const [name, carryOut] of Object.entries(scenarios)) {
    if (options.only?.includes(name) ?? true) await carryOut();
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

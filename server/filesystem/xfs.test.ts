import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { copyFile, link, mkdir, rename, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import type { Extent } from '../disk/index.ts';
import { isAppError } from '../errors/index.ts';
import type { GuestFileSystem, Volume } from './filesystem.ts';
import {
  blankedCopy,
  collect,
  deepFolder,
  openImage,
  patterned,
  readGuest,
  readMounted,
  Workshop,
} from './testing/guest-images.ts';
import { openXfs } from './xfs.ts';

const BLOCK = 4096;
const MOUNT = ['mount', '-t', 'xfs', '-o', 'loop,nouuid'] as const;
const SEED = Number(process.env['DOZO_SEED'] ?? 1);
const NOT_MOUNTABLE =
  process.getuid?.() === 0 && /\bxfs\b/.test(readFileSync('/proc/filesystems', 'utf8'))
    ? false
    : 'mounting XFS takes root and a kernel that has it';

async function openKnown(volume: Volume): Promise<GuestFileSystem> {
  const fileSystem = await openXfs(volume);
  assert.ok(fileSystem !== null, 'an XFS volume');
  return fileSystem;
}

/** Every second block a hole: an extent a block, more than an inode holds. */
function plantHoles(file: string, pieces: number): void {
  const descriptor = openSync(file, 'w');
  for (let piece = 0; piece < pieces; piece += 1)
    writeSync(descriptor, patterned(BLOCK, piece), 0, BLOCK, piece * 2 * BLOCK);
  closeSync(descriptor);
}

async function plant(root: string): Promise<void> {
  await writeFile(`${root}/small.txt`, 'a few bytes');
  await writeFile(`${root}/empty`, '');
  await writeFile(`${root}/big.bin`, patterned(5_000_001, 3));
  await mkdir(`${root}/Öffentlich – 公開 🦉`);
  await writeFile(`${root}/Öffentlich – 公開 🦉/${'n'.repeat(255)}`, 'long name');
  await writeFile(`${root}/Öffentlich – 公開 🦉/new\nline\x1b[31m \\ : * ? "<>|`, 'hostile name');
  await mkdir(`${root}/some`);
  for (let index = 0; index < 60; index += 1) await writeFile(`${root}/some/entry ${index}`, `${index}`);
  await mkdir(`${root}/many`);
  for (let index = 0; index < 1200; index += 1)
    closeSync(openSync(`${root}/many/an entry with a longer name, number ${index}.txt`, 'w'));
  await symlink('../over/there', `${root}/link`);
  await symlink(`/${'far/'.repeat(250)}`, `${root}/long link`);
  await link(`${root}/big.bin`, `${root}/the same`);
  await writeFile(`${await deepFolder(root, 40)}/bottom`, 'deep');
  plantHoles(`${root}/holes`, 1500);
  const sparse = openSync(`${root}/sparse`, 'w');
  writeSync(sparse, 'middle', 20_000_000);
  ftruncateSync(sparse, 40_000_000);
  closeSync(sparse);
  execFileSync('xfs_io', ['-f', '-c', 'falloc 0 2m', '-c', 'pwrite -q 1m 4k', `${root}/preallocated`]);
  await writeFile(`${root}/gone`, patterned(3_000_000, 9));
  await unlink(`${root}/gone`);
}

/** Free blocks by another program, one string a run that touches no other. */
function freeByTool(image: string): Set<number> {
  const free = new Set<number>();
  const geometry = execFileSync('xfs_db', ['-r', '-c', 'sb 0', '-c', 'p agblocks', image], { encoding: 'utf8' });
  const groupBlocks = Number(/= (\d+)/.exec(geometry)?.[1]);
  const lines = execFileSync('xfs_db', ['-r', '-c', 'freesp -d', image], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  for (const line of lines.split('\n')) {
    const run = /^\s*(\d+)\s+(\d+)\s+(\d+)\s*$/.exec(line);
    if (run === null) continue;
    const first = Number(run[1]) * groupBlocks + Number(run[2]);
    for (let block = first; block < first + Number(run[3]); block += 1) free.add(block);
  }
  return free;
}

/** Blocks that groups keep for trees yet to grow. */
function keptByGroups(image: string): number {
  const field = (name: string, of: string): number =>
    Number(
      /= (\d+)/.exec(execFileSync('xfs_db', ['-r', '-c', of, '-c', `p ${name}`, image], { encoding: 'utf8' }))?.[1],
    );
  let kept = 0;
  for (let group = 0; group < field('agcount', 'sb 0'); group += 1) kept += field('flcount', `agf ${group}`);
  return kept;
}

function blocksOf(extents: readonly Extent[], blockBytes = BLOCK): number[] {
  return extents.flatMap(({ offsetBytes, lengthBytes }) =>
    Array.from({ length: lengthBytes / blockBytes }, (_, index) => offsetBytes / blockBytes + index),
  );
}

/** Numbers that look random and are the same for a seed. */
function randomBelow(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** Makes, grows, shortens, moves and removes files, some of it made durable. */
async function keepBusy(root: string, seed: number, steps: number): Promise<void> {
  const random = randomBelow(seed);
  await mkdir(`${root}/busy ${seed}`, { recursive: true });
  for (let step = 0; step < steps; step += 1) {
    const file = `${root}/busy ${seed}/${random(40)}`;
    const what = random(8);
    if (what < 3) {
      const descriptor = openSync(file, 'a');
      writeSync(descriptor, patterned(1 + random(200_000), step));
      if (random(3) === 0) fsyncSync(descriptor);
      closeSync(descriptor);
    } else if (what === 3) await rm(file, { force: true });
    else if (what === 4) await truncate(file, random(50_000)).catch(() => undefined);
    else if (what === 5) await rename(file, `${root}/busy ${seed}/${random(40)}`).catch(() => undefined);
    else if (what === 6) plantHoles(file, 1 + random(120));
    else await mkdir(`${root}/busy ${seed}/folder ${step}/within`, { recursive: true });
  }
}

/** The image as a power cut leaves it, and as the kernel brings it back. */
async function assertSameAsKernel(workshop: Workshop, image: string, seed: number): Promise<void> {
  const recovered = workshop.path('recovered.xfs');
  await copyFile(image, recovered);
  const mounted = await workshop.mount(recovered, MOUNT);
  const truth = await readMounted(mounted);
  workshop.unmount(mounted);
  workshop.run('xfs_repair', '-n', recovered);
  const volume = await openImage(image);
  const fileSystem = await openKnown(volume);

  assert.equal(fileSystem.freeUnknown, null, `seed ${seed}`);
  const free = await collect(fileSystem.freeExtents());
  const guest = await readGuest(fileSystem);

  await volume.close();
  assert.deepEqual(new Map([...guest].sort()), new Map([...truth].sort()), `seed ${seed}`);
  const trulyFree = freeByTool(recovered);
  const wrong = blocksOf(free).filter((block) => !trulyFree.has(block));
  assert.deepEqual(wrong.slice(0, 10), [], `seed ${seed}: named free, and in use`);
  assert.ok(trulyFree.size > 0);
  const blank = workshop.path('blank.xfs');
  await blankedCopy(image, blank, free);
  const again = await workshop.mount(blank, MOUNT);
  assert.deepEqual(await readMounted(again), truth, `seed ${seed}`);
  workshop.unmount(again);
  workshop.run('xfs_repair', '-n', blank);
}

describe('XFS', { skip: NOT_MOUNTABLE, timeout: 600_000 }, () => {
  let workshop: Workshop;
  let image: string;
  let truth: Awaited<ReturnType<typeof readMounted>>;

  before(async () => {
    workshop = await Workshop.open();
    image = workshop.path('plain.xfs');
    workshop.run('truncate', '-s', '320M', image);
    workshop.run('mkfs.xfs', '-q', '-L', 'Bänder', '-m', 'rmapbt=1', image);
    const mounted = await workshop.mount(image, MOUNT);
    await plant(mounted);
    truth = await readMounted(mounted);
    workshop.unmount(mounted);
  });
  after(() => workshop.close());

  it('gives every file, folder and link as a mount does', async (t) => {
    const volume = await openImage(image);
    t.after(() => volume.close());

    const fileSystem = await openKnown(volume);
    const guest = await readGuest(fileSystem);

    assert.equal(fileSystem.label, 'Bänder');
    assert.ok(truth.size > 1300);
    assert.deepEqual(new Map([...guest].sort()), new Map([...truth].sort()));
    for (const path of ['/none', '/small.txt/x', '/many', '/link', '/BIG.bin'])
      await assert.rejects(fileSystem.open(path), { code: 'FILESYSTEM_PATH_NOT_FOUND' }, path);
  });

  it('says where a file lies', async (t) => {
    const volume = await openImage(image);
    t.after(() => volume.close());
    const file = await (await openKnown(volume)).open('/big.bin');
    assert.ok(file.extents !== undefined);

    const extents = await collect(file.extents());

    const content = Buffer.concat(await Promise.all(extents.map((e) => volume.read(e.offsetBytes, e.lengthBytes))));
    assert.ok(content.equals(patterned(5_000_001, 3)));
  });

  it('names as free exactly what is free, and the volume is whole without it', async (t) => {
    const volume = await openImage(image);
    t.after(() => volume.close());
    const fileSystem = await openKnown(volume);

    const free = await collect(fileSystem.freeExtents());

    assert.equal(fileSystem.freeUnknown, null);
    const [ours, tool] = [new Set(blocksOf(free)), freeByTool(image)];
    assert.deepEqual([...ours].filter((block) => !tool.has(block)).slice(0, 10), []);
    // The tool counts what a group keeps for its own trees; the kernel writes there without asking.
    assert.equal(tool.size - ours.size, keptByGroups(image));
    const blank = workshop.path('blank.xfs');
    await blankedCopy(image, blank, free);
    workshop.run('xfs_repair', '-n', blank);
    const mounted = await workshop.mount(blank, MOUNT);
    assert.deepEqual(await readMounted(mounted), truth);
    workshop.unmount(mounted);
  });

  it('sees a frozen volume as the kernel would after a cut', async () => {
    const live = workshop.path('live.xfs');
    workshop.run('truncate', '-s', '320M', live);
    workshop.run('mkfs.xfs', '-q', live);
    const mounted = await workshop.mount(live, MOUNT);
    await keepBusy(mounted, SEED, 80);
    workshop.run('xfs_freeze', '-f', mounted);
    const frozen = workshop.path('frozen.xfs');
    try {
      await copyFile(live, frozen);
    } finally {
      workshop.run('xfs_freeze', '-u', mounted);
    }
    workshop.unmount(mounted);

    await assertSameAsKernel(workshop, frozen, SEED);
  });

  for (const [number, flush] of ['-f', ''].entries()) {
    it(`sees a volume that was cut off ${flush === '' ? 'without' : 'after'} a flush of its log as the kernel does`, async () => {
      const live = workshop.path('cut.xfs');
      workshop.run('rm', '-f', live);
      workshop.run('truncate', '-s', '320M', live);
      workshop.run('mkfs.xfs', '-q', live);
      for (let round = 0; round < 2; round += 1) {
        const seed = SEED * 100 + number * 10 + round;
        const mounted = await workshop.mount(live, MOUNT);
        await keepBusy(mounted, seed, 100);
        workshop.run('sync', '-f', mounted);
        await keepBusy(mounted, seed + 1, 100);
        // The ioctl of the kernel's own crash tests: from here on nothing more is written.
        workshop.run('xfs_io', '-x', '-c', `shutdown ${flush}`, mounted);
        workshop.unmount(mounted);

        await assertSameAsKernel(workshop, live, seed);
      }
    });
  }

  it('tells nothing of free space when a record of an open log is damaged', async () => {
    const live = workshop.path('torn.xfs');
    workshop.run('truncate', '-s', '320M', live);
    workshop.run('mkfs.xfs', '-q', '-f', live);
    const mounted = await workshop.mount(live, MOUNT);
    await keepBusy(mounted, SEED, 60);
    workshop.run('xfs_io', '-x', '-c', 'shutdown -f', mounted);
    workshop.unmount(mounted);
    const logBytes = logOffsetBytes(live);
    const descriptor = openSync(live, 'r+');
    // Of the first record that is to be replayed, in its data.
    writeSync(descriptor, Buffer.from('torn'), 0, 4, logBytes + 3 * 512 + 100);
    closeSync(descriptor);
    const volume = await openImage(live);

    const fileSystem = await openKnown(volume);

    assert.match(String(fileSystem.freeUnknown), /log/);
    assert.deepEqual(await collect(fileSystem.freeExtents()), []);
    await volume.close();
  });

  it('is null for something else, and ends with a value or a named error whatever the bytes are', async (t) => {
    assert.equal(await openXfs({ sizeBytes: 1_000_000, read: async (_, length) => Buffer.alloc(length) }), null);
    const cut = workshop.path('fuzzed.xfs');
    workshop.run('truncate', '-s', '320M', cut);
    workshop.run('mkfs.xfs', '-q', '-f', cut);
    const mounted = await workshop.mount(cut, MOUNT);
    await keepBusy(mounted, SEED, 100);
    workshop.run('xfs_io', '-x', '-c', 'shutdown -f', mounted);
    workshop.unmount(mounted);
    const random = randomBelow(SEED);
    let refused = 0;
    for (const file of [image, cut]) {
      const volume = await openImage(file);
      t.after(() => volume.close());
      const logBytes = logOffsetBytes(file);
      for (let round = 0; round < 50; round += 1) {
        const areas = [
          [0, 264],
          [0, 4096],
          [0, 64 * 1024],
          [0, 200 * 1024],
          [logBytes, 300 * 1024],
        ] as const;
        const [areaAt, areaBytes] = areas[round % areas.length] as (typeof areas)[number];
        const patches = new Map<number, number>();
        for (let flip = 0; flip <= round % 7; flip += 1) patches.set(areaAt + random(areaBytes), random(256));
        try {
          await readSome(patched(volume, patches));
        } catch (error) {
          assert.ok(isAppError(error), `${file}, round ${round}: ${String((error as Error).stack)}`);
          refused += 1;
        }
      }
    }
    assert.ok(refused > 5, `the damage was met: ${refused}`);
  });
});

function logOffsetBytes(image: string): number {
  const field = (name: string): number =>
    Number(
      /= (\d+)/.exec(execFileSync('xfs_db', ['-r', '-c', 'sb 0', '-c', `p ${name}`, image], { encoding: 'utf8' }))?.[1],
    );
  const [start, places] = [field('logstart'), 2 ** field('agblklog')];
  return (Math.floor(start / places) * field('agblocks') + (start % places)) * BLOCK;
}

/** The volume with some of its bytes exchanged. */
function patched(volume: Volume, patches: ReadonlyMap<number, number>): Volume {
  return {
    sizeBytes: volume.sizeBytes,
    async read(offsetBytes, lengthBytes) {
      const bytes = await volume.read(offsetBytes, lengthBytes);
      for (const [at, value] of patches)
        if (at >= offsetBytes && at < offsetBytes + lengthBytes) bytes[at - offsetBytes] = value;
      return bytes;
    },
  };
}

async function readSome(volume: Volume): Promise<void> {
  const fileSystem = await openXfs(volume);
  if (fileSystem === null) return;
  for await (const entry of fileSystem.list('/')) {
    if (entry.name.startsWith('busy') || entry.name === 'some') await collect(fileSystem.list(`/${entry.name}`));
    if (entry.type !== 'file') continue;
    const file = await fileSystem.open(`/${entry.name}`);
    await file.read(0, Math.min(file.sizeBytes, 100_000));
  }
  await collect(fileSystem.freeExtents());
}

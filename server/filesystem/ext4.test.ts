import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, mkdtemp, open, readdir, readFile, readlink, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fillGuest, makeExt4, readImage, useMounted, writeThrough } from '../../test/guest-images/ext4-image.ts';
import type { Extent } from '../disk/index.ts';
import { isAppError } from '../errors/index.ts';
import { MIB } from '../runtime/index.ts';
import { openExt4 } from './ext4.ts';
import type { GuestFileSystem, Volume } from './filesystem.ts';

const KINDS: { name: string; options: string[]; end: 'journaled' | 'cut' }[] = [
  { name: 'ext4 as made by default, 4 KiB blocks', options: ['-b', '4096'], end: 'journaled' },
  { name: 'ext4 with 1 KiB blocks, cut', options: ['-b', '1024'], end: 'cut' },
  {
    name: 'ext4 with groups in one place off and CRC-16',
    options: ['-b', '4096', '-O', '^metadata_csum,uninit_bg,^flex_bg'],
    end: 'journaled',
  },
  {
    name: 'ext4 with meta groups, 2 KiB blocks',
    options: ['-b', '2048', '-O', 'meta_bg,^resize_inode'],
    end: 'journaled',
  },
  { name: 'ext4 with inline data', options: ['-b', '4096', '-I', '512', '-O', 'inline_data'], end: 'journaled' },
  {
    name: 'ext4 of 32 bits with two copies',
    options: ['-b', '1024', '-g', '2048', '-O', '^64bit,sparse_super2'],
    end: 'journaled',
  },
  { name: 'ext3, by pointers', options: ['-t', 'ext3', '-b', '1024'], end: 'journaled' },
];

describe('ext4', () => {
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dozo-ext4-'));
  });

  after(async () => {
    await rm(folder, { recursive: true });
  });

  for (const [index, { name, options, end }] of KINDS.entries()) {
    it(`names no used block free, and reads every file, of a frozen ${name}`, async () => {
      const image = join(folder, `${String(index)}.img`);
      const recovered = `${image}.recovered`;
      await makeExt4(image, 48 * MIB, options);
      await useMounted(image, 'clean', (mounted) => fillGuest(mounted, 7));
      const before = `${image}.before`;
      await cp(image, before);
      const stale = await freeBlocks(before, 48 * MIB);
      await useMounted(image, end, async (mounted) => {
        await rm(join(mounted, 'folder 2'), { recursive: true });
        for (let number = 0; number < 12; number += 1) {
          await writeThrough(join(mounted, `late ${String(number)}`), Buffer.alloc(number * 30_000 + 7, number));
        }
      });
      await putBitmapsBack(image, before);
      await cp(image, recovered);
      // 0 and 1: nothing is left to mend.
      assert.ok((spawnSync('e2fsck', ['-fy', recovered]).status ?? 9) <= 1);

      const volume = await readImage(image);
      const system = await openExt4(volume);

      assert.equal(system?.freeUnknown, null);
      const free = await collect(system.freeExtents());
      const { blockBytes, isFree } = await freeBlocks(recovered, volume.sizeBytes);
      assertWithin(free, volume.sizeBytes);
      const named = blocksOf(free, blockBytes);
      assert.deepEqual(
        named.filter((block) => isFree[block] !== 1),
        [],
      );
      assert.equal(
        named.length,
        isFree.reduce((sum, bit) => sum + bit, 0),
        'all that is free is named',
      );
      assert.ok(
        stale.isFree.some((bit, block) => bit === 1 && isFree[block] === 0),
        'without the journal a used block would have been free',
      );
      await useMounted(recovered, 'clean', async (mounted) => {
        assert.deepEqual(await describeSystem(system, ''), await describeFolder(mounted));
      });
      await volume.close();
    });
  }

  it('says why free space is unknown: clusters, no journal, a damaged journal', async () => {
    const image = join(folder, 'unsure.img');
    const reason = async (isUnsettled: boolean): Promise<string | null | undefined> => {
      const volume = await readImage(image);
      const system = await openExt4(volume);
      const free = system === null ? [] : await collect(system.freeExtents());
      assert.deepEqual(free, []);
      assert.equal(system?.isUnsettled, isUnsettled);
      await volume.close();
      return system?.freeUnknown;
    };
    await makeExt4(image, 32 * MIB, ['-b', '4096', '-O', 'bigalloc']);
    assert.match((await reason(false)) ?? '', /bigalloc/);
    await makeExt4(image, 32 * MIB, ['-b', '4096', '-O', '^has_journal']);
    await useMounted(image, 'cut', (mounted) => fillGuest(join(mounted, 'lost+found')));
    assert.match((await reason(true)) ?? '', /no journal/);

    await makeExt4(image, 96 * MIB, ['-b', '4096']);
    await useMounted(image, 'journaled', (mounted) => fillGuest(mounted));
    await damageJournal(image);
    assert.match((await reason(true)) ?? '', /journal is damaged/);
  });

  it('is not what it does not find', async () => {
    const bytes = Buffer.alloc(4 * MIB, 0x5a);
    assert.equal(await openExt4(inMemory(bytes)), null);
    assert.equal(await openExt4(inMemory(Buffer.alloc(512))), null);
  });

  it('gives a value or an error of its own for any damage, and ends', async () => {
    const image = join(folder, 'fuzz.img');
    await makeExt4(image, 6 * MIB, ['-b', '1024', '-O', '^metadata_csum,^uninit_bg', '-N', '256']);
    await useMounted(image, 'journaled', async (mounted) => {
      await cp(join(import.meta.dirname, 'README.md'), join(mounted, 'a'));
      for (let number = 0; number < 40; number += 1) {
        await cp(join(import.meta.dirname, 'index.ts'), join(mounted, `number ${String(number)}`));
      }
    });
    const sound = await readFile(image);
    let random = 20_261_122;
    const next = (below: number): number => {
      random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
      return Math.floor((random / 2 ** 32) * below);
    };
    const used = Array.from({ length: sound.length / 1024 }, (_, block) => block).filter((block) =>
      sound.subarray(block * 1024, block * 1024 + 1024).some((byte) => byte !== 0),
    );
    const outcomes = { value: 0, refused: 0 };
    for (let round = 0; round < 120; round += 1) {
      const bytes = Buffer.from(sound);
      for (let flip = 0; flip <= next(12); flip += 1) {
        // Every other round hits what comes first: superblock, descriptors, bitmaps, inodes.
        const block = round % 2 === 0 ? 1 + next(40) : (used[next(used.length)] ?? 1);
        bytes.writeUInt8([0, 1, 0x7f, 0x80, 0xff, next(256)][next(6)] ?? 0, block * 1024 + next(1024));
      }
      try {
        const system = await openExt4(inMemory(bytes));
        if (system !== null) {
          assertWithin(await collect(system.freeExtents()), bytes.length);
          await walk(system, '', { left: 300 });
        }
        outcomes.value += 1;
      } catch (error) {
        assert.ok(
          isAppError(error) && /^(FILESYSTEM|INPUT)_/.test(error.code),
          `round ${String(round)}: ${String(error)}`,
        );
        outcomes.refused += 1;
      }
    }
    assert.ok(outcomes.value > 5 && outcomes.refused > 5, JSON.stringify(outcomes));
  });
});

async function collect(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const all: Extent[] = [];
  for await (const extent of extents) all.push(extent);
  return all;
}

function inMemory(bytes: Buffer): Volume {
  return {
    sizeBytes: bytes.length,
    read: (offsetBytes, lengthBytes) => {
      assert.ok(offsetBytes >= 0 && offsetBytes + lengthBytes <= bytes.length, 'a read is within the volume');
      return Promise.resolve(Buffer.from(bytes.subarray(offsetBytes, offsetBytes + lengthBytes)));
    },
  };
}

/** Lists and reads as somebody looking around would, with an end to what a circle of folders offers. */
async function walk(system: GuestFileSystem, path: string, budget: { left: number }): Promise<void> {
  for await (const entry of system.list(path)) {
    if ((budget.left -= 1) < 0) return;
    const inner = `${path}/${entry.name}`;
    if (entry.type === 'folder') await walk(system, inner, budget);
    if (entry.type !== 'file') continue;
    const file = await system.open(inner);
    await file.read(Math.max(0, file.sizeBytes - 5000), Math.min(file.sizeBytes, 5000));
  }
}

function assertWithin(extents: readonly Extent[], sizeBytes: number): void {
  let endBytes = 0;
  for (const { offsetBytes, lengthBytes } of extents) {
    assert.ok(offsetBytes >= endBytes && lengthBytes > 0, 'free runs ascend');
    endBytes = offsetBytes + lengthBytes;
  }
  assert.ok(endBytes <= sizeBytes);
}

function blocksOf(extents: readonly Extent[], blockBytes: number): number[] {
  return extents.flatMap(({ offsetBytes, lengthBytes }) =>
    Array.from({ length: lengthBytes / blockBytes }, (_, index) => offsetBytes / blockBytes + index),
  );
}

/** What dumpe2fs says, which replays nothing. */
async function freeBlocks(image: string, sizeBytes: number): Promise<{ blockBytes: number; isFree: Uint8Array }> {
  const text = execFileSync('dumpe2fs', [image], {
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 64 * MIB,
  }).toString();
  const blockBytes = Number(/^Block size:\s+(\d+)$/m.exec(text)?.[1]);
  const isFree = new Uint8Array(sizeBytes / blockBytes);
  for (const [, runs = ''] of text.matchAll(/^ {2}Free blocks: (.+)$/gm)) {
    for (const run of runs.split(', ')) {
      const [first = 0, last = first] = run.split('-').map(Number);
      isFree.fill(1, first, last + 1);
    }
  }
  return Promise.resolve({ blockBytes, isFree });
}

/**
 * Bitmaps and descriptors as they were before the last mount: nobody can tell when the kernel brings them home, and
 * the journal has all that happened since.
 */
async function putBitmapsBack(image: string, before: string): Promise<void> {
  const text = execFileSync('dumpe2fs', [image], {
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 64 * MIB,
  }).toString();
  const blockBytes = Number(/^Block size:\s+(\d+)$/m.exec(text)?.[1]);
  const [from, to] = [await open(before), await open(image, 'r+')];
  const bytes = Buffer.alloc(blockBytes);
  for (const [, first, last] of text.matchAll(/(?:Block bitmap|Group descriptors?) at (\d+)(?:-(\d+))?/g)) {
    for (let block = Number(first); block <= Number(last ?? first); block += 1) {
      await from.read(bytes, 0, blockBytes, block * blockBytes);
      await to.write(bytes, 0, blockBytes, block * blockBytes);
    }
  }
  await from.close();
  await to.close();
}

/** Flips a byte in a journaled block of the first transaction. */
async function damageJournal(image: string): Promise<void> {
  const listing = execFileSync('debugfs', ['-R', 'blocks <8>', image], { stdio: ['ignore', 'pipe', 'ignore'] });
  const file = await open(image, 'r+');
  const second = Number(listing.toString().trim().split(/\s+/)[2]);
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, second * 4096 + 100);
  await file.write(Buffer.of((byte[0] ?? 0) ^ 0x10), 0, 1, second * 4096 + 100);
  await file.close();
}

type Described = Record<string, string>;

async function describeSystem(system: GuestFileSystem, path: string): Promise<Described> {
  const described: Described = {};
  for await (const entry of system.list(path)) {
    const inner = `${path}/${entry.name}`;
    if (entry.type === 'folder') Object.assign(described, { [inner]: 'folder' }, await describeSystem(system, inner));
    else if (entry.type === 'link') described[inner] = `-> ${entry.linkTarget ?? '?'}`;
    else {
      const file = await system.open(inner);
      const hash = createHash('sha256').update(await file.read(0, file.sizeBytes));
      assert.equal(file.sizeBytes, entry.sizeBytes);
      described[inner] = `${String(entry.modifiedAtMs)} ${hash.digest('hex')}`;
    }
  }
  return sorted(described);
}

async function describeFolder(root: string, path = ''): Promise<Described> {
  const described: Described = {};
  for (const entry of await readdir(root + path, { withFileTypes: true })) {
    const inner = `${path}/${entry.name}`;
    if (entry.isDirectory()) Object.assign(described, { [inner]: 'folder' }, await describeFolder(root, inner));
    else if (entry.isSymbolicLink()) described[inner] = `-> ${await readlink(root + inner)}`;
    else {
      const { mtimeNs } = await stat(root + inner, { bigint: true });
      const hash = createHash('sha256').update(await readFile(root + inner));
      described[inner] = `${String(mtimeNs / 1_000_000n)} ${hash.digest('hex')}`;
    }
  }
  return sorted(described);
}

function sorted(described: Described): Described {
  return Object.fromEntries(Object.entries(described).sort(([a], [b]) => (a < b ? -1 : 1)));
}

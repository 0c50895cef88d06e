import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { copyFile, link, mkdir, readFile, symlink, unlink, writeFile } from 'node:fs/promises';
import { after, before, describe, it } from 'node:test';
import { isAppError } from '../errors/index.ts';
import { openNtfs } from './ntfs.ts';
import { decompressLznt1 } from './ntfs-lznt1.ts';
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

const CLUSTER = 4096;
/** ntfs-3g packs what is written in folders that are marked so. */
const MOUNT = ['ntfs-3g', '-o', 'compression'] as const;
const NOT_MOUNTABLE =
  process.getuid?.() === 0 && existsSync('/dev/fuse') ? false : 'mounting NTFS takes root and /dev/fuse';
const SEED = Number(process.env['DOZO_SEED'] ?? 1);

function markCompressed(folder: string): void {
  execFileSync('python3', [
    '-c',
    'import os,struct,sys; os.setxattr(sys.argv[1], "system.ntfs_attrib", struct.pack("<I", 0x810))',
    folder,
  ]);
}

/** Two files that grow in turns, of which every second cluster is a hole. */
function plantFragmented(first: string, second: string, pieces: number): void {
  const files = [openSync(first, 'w'), openSync(second, 'w')];
  for (let piece = 0; piece < pieces; piece += 1) {
    for (const [index, file] of files.entries())
      writeSync(file, patterned(CLUSTER, piece * 2 + index), 0, CLUSTER, piece * 2 * CLUSTER);
  }
  files.forEach(closeSync);
}

async function plant(root: string): Promise<void> {
  await writeFile(`${root}/small.txt`, 'within its record');
  await writeFile(`${root}/empty`, '');
  await writeFile(`${root}/big.bin`, patterned(5_000_001, 3));
  await mkdir(`${root}/Öffentlich – 公開 🦉`);
  await writeFile(`${root}/Öffentlich – 公開 🦉/${'ü'.repeat(255)}`, 'long name');
  await writeFile(`${root}/Öffentlich – 公開 🦉/new\nline\x1b[31m \\ : * ? "<>|`, 'hostile name');
  await mkdir(`${root}/many`);
  for (let index = 0; index < 1500; index += 1) await writeFile(`${root}/many/entry number ${index}.txt`, '');
  await mkdir(`${root}/packed`);
  markCompressed(`${root}/packed`);
  const text = Buffer.from('All work and no play makes a dull test. '.repeat(8000));
  await writeFile(
    `${root}/packed/mixed`,
    Buffer.concat([text, patterned(200_000, 1), Buffer.alloc(300_000), text, Buffer.from('end')]),
  );
  await writeFile(`${root}/packed/zeros`, Buffer.alloc(1_000_000));
  await symlink('../over/there', `${root}/link`);
  await link(`${root}/big.bin`, `${root}/the same`);
  await writeFile(`${await deepFolder(root, 40)}/bottom`, 'deep');
  plantFragmented(`${root}/fragments a`, `${root}/fragments b`, 1500);
  const sparse = openSync(`${root}/sparse`, 'w');
  writeSync(sparse, 'middle', 20_000_000);
  ftruncateSync(sparse, 40_000_000);
  closeSync(sparse);
  await writeFile(`${root}/gone`, patterned(3_000_000, 9));
  await unlink(`${root}/gone`);
}

/** Clusters that $Bitmap says are free, by another program. */
function freeByTool(image: string, clusters: number): number {
  const bitmap = execFileSync('ntfscat', ['-i', '6', image], { maxBuffer: 2 ** 28 });
  let free = 0;
  for (let cluster = 0; cluster < clusters; cluster += 1)
    if (((bitmap[cluster >> 3] as number) & (1 << (cluster & 7))) === 0) free += 1;
  return free;
}

/** The volume with some of its bytes exchanged. */
function patched(volume: Volume, patches: ReadonlyMap<number, number>): Volume {
  return {
    sizeBytes: volume.sizeBytes,
    async read(offsetBytes, lengthBytes, signal) {
      const bytes = await volume.read(offsetBytes, lengthBytes, signal);
      for (const [at, value] of patches)
        if (at >= offsetBytes && at < offsetBytes + lengthBytes) bytes[at - offsetBytes] = value;
      return bytes;
    },
  };
}

async function openKnown(volume: Volume): Promise<GuestFileSystem> {
  const fileSystem = await openNtfs(volume);
  assert.ok(fileSystem !== null, 'an NTFS volume');
  return fileSystem;
}

describe('NTFS', { skip: NOT_MOUNTABLE, timeout: 600_000 }, () => {
  let workshop: Workshop;
  let image: string;
  let truth: Awaited<ReturnType<typeof readMounted>>;

  before(async () => {
    workshop = await Workshop.open();
    image = workshop.path('plain.ntfs');
    workshop.run('truncate', '-s', '150M', image);
    workshop.run('mkfs.ntfs', '-F', '-Q', '-q', '-L', 'Tests\x1b und Bänder', image);
    const mounted = await workshop.mount(image, MOUNT);
    await plant(mounted);
    workshop.unmount(mounted);
    const again = await workshop.mount(image, MOUNT);
    truth = await readMounted(again);
    workshop.unmount(again);
  });
  after(() => workshop.close());

  it('gives every file, folder and link as a mount does', async (t) => {
    const volume = await openImage(image);
    t.after(() => volume.close());

    const fileSystem = await openKnown(volume);
    const guest = await readGuest(fileSystem);

    assert.equal(fileSystem.label, 'Tests und Bänder');
    assert.ok(truth.size > 1550);
    assert.deepEqual(new Map([...guest].sort()), new Map([...truth].sort()));
    assert.equal((await fileSystem.open('/packed/mixed')).extents, undefined, 'it was packed');
  });

  it('finds a name in other case, the exact one first, and nothing that is not there', async (t) => {
    const volume = await openImage(image);
    t.after(() => volume.close());
    const fileSystem = await openKnown(volume);

    const file = await fileSystem.open('/PACKED/Mixed');

    assert.equal(file.sizeBytes, truth.get('/packed/mixed')?.sizeBytes);
    for (const path of ['/none', '/small.txt/x', '/many', '/link', '/$MFT'])
      await assert.rejects(fileSystem.open(path), { code: 'FILESYSTEM_PATH_NOT_FOUND' }, path);
  });

  it('says where a plain file lies', async (t) => {
    const volume = await openImage(image);
    t.after(() => volume.close());
    const file = await (await openKnown(volume)).open('/fragments a');
    assert.ok(file.extents !== undefined);

    const extents = await collect(file.extents());

    assert.ok(extents.length > 1000, `it lies in pieces: ${extents.length}`);
    const content = Buffer.concat(
      await Promise.all(extents.map((extent) => volume.read(extent.offsetBytes, extent.lengthBytes))),
    );
    const written = Buffer.concat(Array.from({ length: 1500 }, (_, piece) => patterned(CLUSTER, piece * 2)));
    assert.ok(content.equals(written));
  });

  it('names as free what is free, and the volume is whole without it', async (t) => {
    const volume = await openImage(image);
    t.after(() => volume.close());
    const fileSystem = await openKnown(volume);

    const free = await collect(fileSystem.freeExtents());

    assert.equal(fileSystem.freeUnknown, null);
    const freeBytes = free.reduce((total, extent) => total + extent.lengthBytes, 0);
    assert.equal(freeBytes, freeByTool(image, Math.floor(fileSystem.sizeBytes / CLUSTER)) * CLUSTER);
    const copy = workshop.path('blank.ntfs');
    await blankedCopy(image, copy, free);
    workshop.run('ntfsfix', '--no-action', copy);
    const mounted = await workshop.mount(copy, MOUNT);
    assert.deepEqual(await readMounted(mounted), truth);
    workshop.unmount(mounted);
  });

  it('never names as free what a volume in use holds', async () => {
    const live = workshop.path('live.ntfs');
    await copyFile(image, live);
    const mounted = await workshop.mount(live, MOUNT);
    for (let round = 0; round < 2; round += 1) {
      await writeFile(`${mounted}/live ${round}`, patterned(2_000_000 * (round + 1), round));
      if (round > 0) await unlink(`${mounted}/live ${round - 1}`);
      plantFragmented(`${mounted}/live a${round}`, `${mounted}/live b${round}`, 20);
      const frozen = workshop.path('frozen.ntfs');
      await copyFile(live, frozen);
      const volume = await openImage(frozen);
      const free = await collect((await openKnown(volume)).freeExtents());
      await volume.close();
      assert.ok(free.length > 0, 'ntfs-3g leaves an empty log, so free space is known');
      const copy = workshop.path('frozen-blank.ntfs');
      await blankedCopy(frozen, copy, free);
      const [whole, blank] = [await workshop.mount(frozen, MOUNT), await workshop.mount(copy, MOUNT)];
      assert.deepEqual(await readMounted(blank), await readMounted(whole));
      workshop.unmount(whole);
      workshop.unmount(blank);
    }
    workshop.unmount(mounted);
  });

  it('says that free space is unknown when Windows has, or may have, more in its log or memory', async () => {
    const open = async (change: (bytes: Buffer, mft: (record: number) => number) => void): Promise<string | null> => {
      const bytes = await readFile(image);
      const table = Number(bytes.readBigUInt64LE(0x30)) * CLUSTER;
      change(bytes, (record) => table + record * 1024);
      const { freeUnknown, isUnsettled } = await openKnown(memoryVolume(bytes));
      assert.equal(isUnsettled, freeUnknown !== null);
      return freeUnknown;
    };
    const logAt = (bytes: Buffer, mft: (record: number) => number): number => firstRunAt(bytes, mft(2));

    assert.equal(await open(() => undefined), null);
    assert.match(
      String(
        await open((bytes, mft) => {
          const value = attributeAt(bytes, mft(3), 0x70);
          bytes.writeUInt16LE(1, value + bytes.readUInt16LE(value + 20) + 10);
        }),
      ),
      /marked for a check/,
    );
    const restart = { major: 1, clients: 0, flags: 0 };
    const withLog = (...pages: (typeof restart)[]): Promise<string | null> =>
      open((bytes, mft) =>
        pages.forEach((page, index) => restartPage(page, index).copy(bytes, logAt(bytes, mft) + index * 4096)),
      );
    assert.match(String(await withLog(restart, restart)), /in use/);
    assert.equal(await withLog(restart, { ...restart, flags: 2 }), null, 'the newer page says that it was closed');
    assert.match(String(await withLog({ ...restart, flags: 2 }, restart)), /in use/);
    assert.equal(await withLog({ ...restart, clients: 0xffff }, { ...restart, clients: 0xffff }), null);
    assert.match(String(await withLog({ ...restart, major: 2, flags: 2 }, { ...restart, major: 2, flags: 2 })), /open/);
    assert.match(String(await withLog({ ...restart, flags: 2 })), /cannot be read/);
    assert.match(String(await open((bytes, mft) => bytes.writeUInt8(0, logAt(bytes, mft) + 100_000))), /erased page/);
  });

  it('says that free space is unknown beside the memory of a sleeping Windows', async () => {
    const asleep = workshop.path('asleep.ntfs');
    await copyFile(image, asleep);
    const reasons: (string | null)[] = [];
    for (const head of ['\0\0\0\0', 'hibr']) {
      const mounted = await workshop.mount(asleep, MOUNT);
      await writeFile(`${mounted}/hiberfil.sys`, Buffer.concat([Buffer.from(head), Buffer.alloc(100_000)]));
      workshop.unmount(mounted);
      const volume = await openImage(asleep);
      reasons.push((await openKnown(volume)).freeUnknown);
      await volume.close();
    }

    assert.match(String(reasons[1]), /hibernated/);
    assert.equal(reasons[0], null);
  });

  it('refuses encrypted files by name', async () => {
    const bytes = await readFile(image);
    const at = bytes.indexOf(Buffer.from('within its record'));
    const record = Math.floor(at / 1024) * 1024;
    bytes.writeUInt16LE(0x4000, attributeAt(bytes, record, 0x80) + 12);

    const fileSystem = await openKnown(memoryVolume(bytes));

    await assert.rejects(fileSystem.open('/small.txt'), { code: 'FILESYSTEM_UNSUPPORTED', message: /encrypted/ });
  });

  it('is null for something else, and ends with a value or a named error whatever the bytes are', async (t) => {
    assert.equal(await openNtfs(memoryVolume(Buffer.alloc(1024 * 1024))), null);
    const volume = await openImage(image);
    t.after(() => volume.close());
    const head = await volume.read(0, 512);
    const table = Number(head.readBigUInt64LE(0x30)) * CLUSTER;
    const index = firstRunAt(await volume.read(0, table + 64 * 1024), table + 5 * 1024, 0xa0);
    const random = randomBelow(SEED);
    let refused = 0;
    for (let round = 0; round < 100; round += 1) {
      const patches = new Map<number, number>();
      const [areaAt, areaBytes] = [
        [0, 512],
        [table, 80 * 1024],
        [table, 8 * 1024],
        [index, 4096],
      ][round % 4] as [number, number];
      for (let flip = 0; flip <= round % 6; flip += 1) patches.set(areaAt + random(areaBytes), random(256));
      try {
        const fileSystem = await openNtfs(patched(volume, patches));
        if (fileSystem === null) continue;
        for await (const entry of fileSystem.list('/')) {
          if (entry.type !== 'file') continue;
          const file = await fileSystem.open(`/${entry.name}`);
          await file.read(0, Math.min(file.sizeBytes, 100_000));
        }
        await collect(fileSystem.freeExtents());
      } catch (error) {
        assert.ok(isAppError(error), `round ${round}: ${String((error as Error).stack)}`);
        refused += 1;
      }
    }
    assert.ok(refused > 5, `the damage was met: ${refused}`);
  });
});

it('unfolds LZNT1: plain chunks, and copies that reach into themselves', () => {
  // Two plain bytes and one pair: ten bytes from two bytes back. Then a chunk that is not packed.
  const packed = Buffer.from([0x04, 0xb0, 0x04, 0x61, 0x62, 0x07, 0x10, 0x02, 0x30, 0x78, 0x79, 0x7a, 0, 0, 0xff]);

  const plain = decompressLznt1(packed, 3 * CLUSTER);

  const expected = Buffer.alloc(3 * CLUSTER);
  expected.write('abababababab', 0, 'latin1');
  expected.write('xyz', CLUSTER, 'latin1');
  assert.deepEqual(plain, expected);
  for (const broken of [packed.subarray(0, 5), Buffer.from([0x02, 0xb0, 0x01, 0x07, 0x10])])
    assert.throws(() => decompressLznt1(broken, CLUSTER), { code: 'FILESYSTEM_DAMAGED' });
});

function memoryVolume(bytes: Buffer): Volume {
  return {
    sizeBytes: bytes.length,
    read: (offsetBytes, lengthBytes) => {
      assert.ok(offsetBytes + lengthBytes <= bytes.length, 'nothing is read behind the volume');
      return Promise.resolve(Buffer.from(bytes.subarray(offsetBytes, offsetBytes + lengthBytes)));
    },
  };
}

function attributeAt(bytes: Buffer, record: number, type: number): number {
  let at = record + bytes.readUInt16LE(record + 0x14);
  while (bytes.readUInt32LE(at) !== type) at += bytes.readUInt32LE(at + 4);
  return at;
}

/** Where the first run of a non-resident attribute lies. */
function firstRunAt(bytes: Buffer, record: number, type = 0x80): number {
  const at = attributeAt(bytes, record, type);
  const runs = at + bytes.readUInt16LE(at + 0x20);
  const head = bytes[runs] as number;
  return bytes.readUIntLE(runs + 1 + (head & 15), head >> 4) * CLUSTER;
}

function restartPage(form: { major: number; clients: number; flags: number }, index: number): Buffer {
  const page = Buffer.alloc(4096);
  page.write('RSTR', 0, 'latin1');
  page.writeUInt16LE(0x1e, 4);
  page.writeUInt16LE(9, 6);
  page.writeUInt32LE(4096, 0x10);
  page.writeUInt32LE(4096, 0x14);
  page.writeUInt16LE(0x30, 0x18);
  page.writeInt16LE(1, 0x1a);
  page.writeInt16LE(form.major, 0x1c);
  page.writeBigUInt64LE(BigInt(1000 + index), 0x30);
  page.writeUInt16LE(1, 0x38);
  page.writeUInt16LE(0xffff, 0x3a);
  page.writeUInt16LE(form.clients, 0x3c);
  page.writeUInt16LE(form.flags, 0x3e);
  page.writeUInt16LE(7, 0x1e);
  for (let stride = 1; stride <= 8; stride += 1) page.writeUInt16LE(7, stride * 512 - 2);
  return page;
}

/** Numbers that look random and are the same for a seed. */
function randomBelow(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

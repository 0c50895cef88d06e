import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, lstat, mkdir, readdir, readFile, readlink, symlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createRepository } from '../../server/repository/index.ts';
import { MIB } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { CHUNK, request, sparseContent } from '../fakes/small-repository.ts';
import { fillGuest, makeExt4, useMounted } from '../guest-images/ext4-image.ts';
import { openLvmDisk, stripesOf } from '../guest-images/lvm-image.ts';
import { mbrSector } from '../guest-images/partition-table.ts';
import { hashFolder, installNode, openToolScene, type ToolRun, type ToolScene } from './scene.ts';

const OLDEST_NODE = '20.3.1';
const DATA_AT = MIB;
const HOSTILE_AT = 40 * MIB;
const DISK_BYTES = 52 * MIB;
const MODIFIED = new Date('2021-03-04T05:06:07Z');
const NOISE = sparseContent(32 * CHUNK, 7);
const OTHER_NOISE = sparseContent(32 * CHUNK, 8);

/** Files of a guest, out of a copied repository folder, by the tool alone. */
describe('single files with the restore tool', () => {
  let scene: ToolScene;
  let repository: string;
  /** What the guest's own system finds on its volume. */
  let truth: Record<string, string>;
  let links: string[];

  before(async () => {
    scene = await openToolScene();
    const data = path.join(scene.folder, 'data.img');
    await makeExt4(data, 32 * MIB, ['-b', '4096', '-L', 'data']);
    await useMounted(data, 'clean', async (mounted) => {
      await fillGuest(mounted);
      await mkdir(path.join(mounted, 'home/anna'), { recursive: true });
      await writeFile(path.join(mounted, 'home/anna/notes.txt'), NOISE);
      await utimes(path.join(mounted, 'home/anna/notes.txt'), MODIFIED, MODIFIED);
      await writeFile(path.join(mounted, 'home/anna/.profile'), 'umask 077\n');
      await writeFile(path.join(mounted, 'home/anna/empty'), '');
      await mkdir(path.join(mounted, 'home/anna/no files'));
      await symlink('/etc/passwd', path.join(mounted, 'home/anna/link'));
      execFileSync('mkfifo', [path.join(mounted, 'home/anna/pipe')]);
      await chmod(path.join(mounted, 'home/anna/empty'), 0o000);
      truth = await hashFolder(mounted);
      links = (await readdir(mounted, { recursive: true, withFileTypes: true }))
        .filter((entry) => !entry.isFile() && !entry.isDirectory())
        .map((entry) => path.relative(mounted, path.join(entry.parentPath, entry.name)))
        .sort();
    });
    const disk = Buffer.alloc(DISK_BYTES);
    mbrSector([
      { type: 0x83, firstSector: DATA_AT / 512, sectorCount: (32 * MIB) / 512 },
      { type: 0x83, firstSector: HOSTILE_AT / 512, sectorCount: (8 * MIB) / 512 },
    ]).copy(disk);
    (await readFile(data)).copy(disk, DATA_AT);
    (await hostileImage(scene.folder)).copy(disk, HOSTILE_AT);
    repository = path.join(scene.folder, 'repository');
    await makeRepository(repository, {
      d0: disk,
      d1: sparseContent(3 * MIB, 3),
      ...(await logicalDisks(scene.folder)),
    });
  });

  after(() => scene.close());

  let cases = 0;
  /** A folder that nothing has been put into. */
  async function newFolder(): Promise<string> {
    cases += 1;
    const folder = path.join(scene.folder, `case-${cases}`);
    await mkdir(folder);
    return folder;
  }

  const run = (args: readonly string[], node = process.execPath): Promise<ToolRun> =>
    scene.run([...args, '--repository', repository], { node });

  it('names the volumes of all disks, or of one', async () => {
    const all = await run(['files', 'web']);
    assert.equal(all.status, 0, all.errors);
    assert.match(all.output, /^d0 .*\n {4}volume 1 {2}32\.0 MiB {2}ext4 {2}"data"\n {4}volume 2 .* ext4/);
    assert.match(all.output, /\nd1 .*\n {4}volume 0 .*nothing that is read\n/);
    assert.match(
      all.output,
      /\n {4}volume 1 .*lvm, see its volumes\n(?:.*\n)? {4}volume 1001 .* ext4 {2}rhel\/home {2}"people"\n/,
    );

    const one = await run(['files', 'web', '--disk', 'd1', '--json']);
    const { disks } = JSON.parse(one.output) as { disks: { key: string; volumes: { fileSystem: unknown }[] }[] };
    assert.deepEqual(
      disks.map(({ key, volumes }) => [key, volumes.map(({ fileSystem }) => fileSystem)]),
      [['d1', [null]]],
    );
  });

  it('lists a folder', async () => {
    const listed = await run(['files', 'web', '/home/anna', '--volume', '1', '--json']);
    assert.equal(listed.status, 0, listed.errors);
    const entries = JSON.parse(listed.output) as { name: string; type: string; sizeBytes: number }[];
    assert.deepEqual(entries.map(({ name, type, sizeBytes }) => `${type} ${name} ${sizeBytes}`).sort(), [
      'file .profile 10',
      'file empty 0',
      `file notes.txt ${NOISE.length}`,
      'folder no files 0',
      'link link 0',
      'other pipe 0',
    ]);
    const text = await run(['files', 'web', 'home/anna/', '--volume', '1']);
    assert.match(text.output, new RegExp(`^- +${NOISE.length} {2}2021-03-04T05:06:07 {2}notes.txt$`, 'm'));
    assert.match(text.output, /^l +0 .* link -> \/etc\/passwd$/m);
  });

  it(`writes one file, in this Node and in ${OLDEST_NODE}`, async (t) => {
    const untouched = await hashFolder(repository);
    const older = await installNode(scene.folder, OLDEST_NODE);
    if ('why' in older) t.diagnostic(`only in this Node: ${older.why}`);
    for (const node of [process.execPath, ...('node' in older ? [older.node] : [])]) {
      const target = path.join(await newFolder(), 'out');
      const { status, errors, output } = await run(
        ['extract', 'web', '/home/anna/notes.txt', target, '--volume', '1'],
        node,
      );
      assert.equal(status, 0, errors);
      assert.match(output, /^1 files and 0 folders, 2\.00 MiB/);
      assert.deepEqual(await readdir(target), ['notes.txt']);
      assert.ok((await readFile(path.join(target, 'notes.txt'))).equals(NOISE));
      assert.equal((await lstat(path.join(target, 'notes.txt'))).mtimeMs, MODIFIED.getTime());

      const logical = path.join(await newFolder(), 'out');
      const second = await run(['extract', 'web', '/ben/noise', logical, '--disk', 'd2'], node);
      assert.equal(second.status, 0, second.errors);
      assert.ok((await readFile(path.join(logical, 'noise'))).equals(OTHER_NOISE));
    }
    assert.deepEqual(await hashFolder(repository), untouched, 'nothing was written into the repository');
  });

  it('writes a whole volume as its own system reads it, with holes, and names what it leaves out', async () => {
    const target = path.join(await newFolder(), 'all');
    const { status, errors, output } = await run(['extract', 'web', '/', target, '--volume', '1', '--json']);
    assert.equal(status, 3, errors);
    const result = JSON.parse(output) as { files: number; leftOut: number; damaged: number; notes: { path: string }[] };
    assert.deepEqual(await hashFolder(target), truth);
    assert.equal(result.files, Object.keys(truth).length);
    assert.equal(result.damaged, 0);
    assert.deepEqual(result.notes.map((note) => note.path.slice(1)).sort(), links);
    assert.equal(result.leftOut, links.length);
    assert.ok((await lstat(path.join(target, 'home/anna/no files'))).isDirectory());
    const sparse = await lstat(path.join(target, 'sparse'));
    assert.ok(sparse.blocks * 512 < sparse.size / 4, 'zeros are holes');
  });

  it('keeps what a hostile guest calls its files within the folder, and the terminal safe', async () => {
    const outside = await newFolder();
    const target = path.join(outside, 'target');
    const { status, errors, output } = await run(['extract', 'web', '/', target, '--volume', '2']);

    assert.equal(status, 1, 'what leads out of its folder is damage');
    assert.doesNotMatch(output + errors, /[\u0000-\u0009\u000b-\u001f]/);
    assert.match(errors, /LEFT OUT \/out: a link to \.\.\/\.\.\n/);
    assert.match(errors, /RENAMED \/red\?\[31m\\:\*: red_\[31m\\:\*\n/);
    assert.deepEqual(await readdir(outside), ['target']);
    const found = await hashFolder(target);
    assert.deepEqual(
      Object.keys(found)
        .filter((name) => name.startsWith('case'))
        .sort(),
      ['case/A', 'case/a', 'case/con', 'case/nul.txt'],
    );
    assert.ok('red_[31m\\:*' in found);
    assert.deepEqual(
      (await readdir(target, { recursive: true, withFileTypes: true })).filter((entry) => entry.isSymbolicLink()),
      [],
    );
    assert.doesNotMatch(Object.keys(found).join('\n'), /up$|slash$/);
    assert.match(errors, /DAMAGED \/\.\.\/\.\.\/\.\.\/\.\.\/up/);
  });

  it('refuses what could be more than one volume, what is not there, and a folder that is not its own', async () => {
    const full = await newFolder();
    await writeFile(path.join(full, 'mine'), 'x');
    await symlink(repository, path.join(scene.folder, 'way in'));
    const into = path.join(await newFolder(), 'new');
    for (const [args, status, what] of [
      [['files', 'web', '/'], 1, /--disk d0 --volume 1, --disk d0 --volume 2, --disk d2 --volume 1001/],
      [['files', 'web', '/', '--volume', '7'], 1, /no such volume/],
      [['files', 'web', '/', '--volume', 'x'], 2, /is a number/],
      [['files', 'web', '/', '--disk', 'd7'], 1, /Its disks are: d0, d1, d2, d3/],
      [['files', 'web', '/', '--disk', 'd1'], 1, /no file system that Dozo reads/],
      [['files', 'web', '/nowhere', '--volume', '1'], 1, /no such file or folder/],
      [['files', 'web', '/home/../home', '--volume', '1'], 1, /without/],
      [['extract', 'web', '/home/anna/link', into, '--volume', '1'], 1, /no such file or folder/],
      [['extract', 'web', '/home/anna', full, '--volume', '1'], 1, /not empty/],
      [
        ['extract', 'web', '/home', path.join(scene.folder, 'way in/new'), '--volume', '1'],
        1,
        /lies in the repository/,
      ],
      [['extract', 'web', '/home'], 2, /VERSION is/],
    ] as const) {
      const refused = await run(args);
      assert.equal(refused.status, status, `${args.join(' ')}: ${refused.errors}`);
      assert.match(refused.errors, what);
      assert.doesNotMatch(refused.errors, / {4}at /);
    }
    assert.deepEqual(await readdir(full), ['mine']);
  });

  it('leaves out a file whose data is damaged, and writes the others', async () => {
    await damageContent(repository, NOISE);
    const target = path.join(await newFolder(), 'out');
    const { status, errors } = await run(['extract', 'web', '/home/anna', target, '--volume', '1']);

    assert.equal(status, 1);
    assert.match(errors, /DAMAGED home\/anna\/notes\.txt: Chunk [0-9a-f]{64} in packs\/.* is damaged/);
    assert.deepEqual((await readdir(path.join(target, 'anna'))).sort(), ['.profile', 'empty', 'no files']);
    assert.equal(await readFile(path.join(target, 'anna/.profile'), 'utf8'), 'umask 077\n');
  });
});

async function makeRepository(folder: string, disks: Record<string, Buffer>): Promise<void> {
  await mkdir(folder);
  const storage = await openLocalStorage({ folder });
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 1 });
  const session = await repository.startWrite({ sessionId: 'a' });
  for (const [key, content] of Object.entries(disks)) {
    const writer = await session.openDisk({ key, sizeBytes: content.length, base: null });
    for (let at = 0; at < content.length; at += MIB)
      await writer.write(at, Buffer.from(content.subarray(at, at + MIB)));
    await writer.finish();
  }
  const keys = Object.keys(disks).map((key) => ({ key, changeToken: null, facts: null }));
  await session.commit(request({ disks: keys }));
  await repository.close();
}

/** Two disks with a file system on a logical volume of LVM, which lies in pieces on both. */
async function logicalDisks(folder: string): Promise<{ d2: Buffer; d3: Buffer }> {
  const image = path.join(folder, 'logical.img');
  const system = path.join(folder, 'people.img');
  await makeExt4(system, 12 * MIB, ['-b', '1024', '-L', 'people']);
  await useMounted(system, 'clean', async (mounted) => {
    await mkdir(path.join(mounted, 'ben'));
    await writeFile(path.join(mounted, 'ben/noise'), OTHER_NOISE);
  });
  const lvm = await openLvmDisk(image, [12 * MIB, 12 * MIB]);
  try {
    const make = ['-an', '-Zn', '-Wn'];
    for (const place of ['$1', '$2']) lvm.lvm('pvcreate', place);
    lvm.lvm('vgcreate', '-s', '1m', 'rhel', '$1', '$2');
    lvm.lvm('lvcreate', ...make, '-L', '5m', '-n', 'home', 'rhel', '$1');
    lvm.lvm('lvcreate', ...make, '-L', '3m', '-n', 'between', 'rhel', '$1');
    lvm.lvm('lvextend', '-L', '12m', 'rhel/home');
    const content = await readFile(system);
    const disk = await readFile(image);
    for (const { atBytes, offsetBytes, lengthBytes } of stripesOf(lvm.stretches('rhel', 'home')))
      content.copy(disk, offsetBytes, atBytes, atBytes + lengthBytes);
    const second = lvm.partitions[1]?.offsetBytes ?? 0;
    const pieces = lvm.stretches('rhel', 'home').map(({ offsets }) => (offsets[0] ?? 0) < second);
    assert.deepEqual([...new Set(pieces)], [true, false], 'it lies on both');
    return { d2: Buffer.from(disk).fill(0, second), d3: Buffer.from(disk.subarray(second)) };
  } finally {
    lvm.close();
  }
}

/** A volume whose names would lead out of a folder, act on a terminal, or fall together elsewhere. */
async function hostileImage(folder: string): Promise<Buffer> {
  const image = path.join(folder, 'hostile.img');
  // Without check sums of its folders, which are changed below.
  await makeExt4(image, 8 * MIB, ['-b', '1024', '-O', '^metadata_csum,^dir_index,^has_journal']);
  await useMounted(image, 'clean', async (mounted) => {
    await symlink('../..', path.join(mounted, 'out'));
    assert.equal(await readlink(path.join(mounted, 'out')), '../..');
    await mkdir(path.join(mounted, 'case'));
    for (const name of ['a', 'A', 'con', 'nul.txt']) await writeFile(path.join(mounted, 'case', name), name);
    await writeFile(path.join(mounted, 'red\u001b[31m\\:*'), 'red');
    await writeFile(path.join(mounted, 'xx.xx.xx.xx.up'), 'upwards');
    await writeFile(path.join(mounted, 'xtmpxslash'), 'from the root');
  });
  const bytes = await readFile(image);
  for (const [from, to] of [
    ['xx.xx.xx.xx.up', '../../../../up'],
    ['xtmpxslash', '/tmp/slash'],
  ] as const) {
    const at = bytes.indexOf(from);
    assert.ok(at > 0, from);
    bytes.write(to, at);
  }
  return bytes;
}

/** Flips a bit in what is stored of a content; it must be stored as it is somewhere. */
async function damageContent(repository: string, content: Buffer): Promise<void> {
  // The volumes begin at whole chunks, and files lie at any block of 4 KiB.
  for (const name of await readdir(path.join(repository, 'packs'), { recursive: true })) {
    const file = path.join(repository, 'packs', name);
    if (!name.endsWith('.pack')) continue;
    const pack = await readFile(file);
    for (let from = 0; from + 4096 <= content.length; from += 4096) {
      const at = pack.indexOf(content.subarray(from, from + 4096));
      if (at < 0) continue;
      pack[at + 5] = (pack[at + 5] as number) ^ 1;
      await writeFile(file, pack);
      return;
    }
  }
  assert.fail('nothing of the content lies there as it is');
}

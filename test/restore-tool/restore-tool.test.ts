import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { parsePoint, encodePoint } from '../../server/repository/point-file.ts';
import { createRepository, openKeyring, openRepository, type PointManifest } from '../../server/repository/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { CHUNK, commitDisk, request, sparseContent } from '../fakes/small-repository.ts';
import { GOLDEN_PASSPHRASE } from '../format/make-golden.ts';
import { hashFolder, installNode, openToolScene, sha256, type ToolScene } from './scene.ts';

const GOLDEN = path.join(import.meta.dirname, '../format/format-1');
/** The oldest Node that the tool promises to run with. */
const OLDEST_NODE = '20.3.1';

interface Expected {
  [kind: string]: { points: { disks: Record<string, string>; files: Record<string, string> }[] };
}

let scene: ToolScene;

before(async () => {
  scene = await openToolScene();
});
after(() => scene.close());

async function newFolder(): Promise<string> {
  return mkdtemp(path.join(scene.folder, 'case-'));
}

/** A repository in a folder: two versions of one disk of an odd size, the second on the first. */
async function makeRepository(passphrase?: string): Promise<{
  folder: string;
  contents: Buffer[];
  manifests: PointManifest[];
}> {
  const folder = path.join(await newFolder(), 'repository');
  await mkdir(folder);
  const storage = await openLocalStorage({ folder });
  const secret = passphrase === undefined ? {} : { passphrase };
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 1, ...secret });
  const first = sparseContent(700 * CHUNK + 512, 1);
  const second = Buffer.concat([first]);
  sparseContent(40 * CHUNK, 2).copy(second, 300 * CHUNK);
  const files = [{ name: 'web.vmx', kind: 'vmx', content: Buffer.from('displayName = "web"\n') }];
  const one = await commitDisk(repository, 'a', first, { files });
  const base = await (await repository.openPoint(one.pointId)).openDisk('d0');
  const part = { files, createdAtMs: 1_700_000_100_000, previousPointId: one.pointId };
  const two = await commitDisk(repository, 'b', second, part, base);
  await repository.close();
  return { folder, contents: [first, second], manifests: [one, two] };
}

describe('the one-file restore tool', () => {
  for (const kind of ['plain', 'encrypted'] as const) {
    it(`restores the ${kind} golden repository from a copied folder, in this Node and in ${OLDEST_NODE}`, async (t) => {
      const folder = path.join(await newFolder(), 'copy');
      await cp(path.join(GOLDEN, kind), folder, { recursive: true });
      // As it lies in a repository: the folder is the tool's own.
      const tool = path.join(folder, 'dozo-restore-0.1.0.js');
      await cp(scene.tool, tool);
      const untouched = await hashFolder(folder);
      const expected = (JSON.parse(await readFile(path.join(GOLDEN, 'expected.json'), 'utf8')) as Expected)[kind];
      assert.ok(expected !== undefined);
      const key = kind === 'plain' ? [] : ['--key-file', '-'];
      const older = await installNode(scene.folder, OLDEST_NODE);
      if ('why' in older) t.diagnostic(`only in this Node: ${older.why}`);
      for (const node of [process.execPath, ...('node' in older ? [older.node] : [])]) {
        const run = (args: string[]): ReturnType<ToolScene['run']> =>
          scene.run([...args, ...key], { node, tool, input: `${GOLDEN_PASSPHRASE}\n` });
        const listed = await run(['list', '--json']);
        assert.equal(listed.status, 0, listed.errors);
        const points = JSON.parse(listed.output) as { pointId: string }[];
        assert.equal(points.length, expected.points.length);
        for (const [index, { disks, files }] of expected.points.entries()) {
          const target = path.join(await newFolder(), 'restored');
          const restored = await run(['restore', points[index]?.pointId ?? '', target]);
          assert.equal(restored.status, 0, restored.errors);
          for (const [disk, hash] of Object.entries(disks))
            assert.equal(sha256(await readFile(path.join(target, `${disk.replace(':', '_')}.raw`))), hash);
          for (const [name, hash] of Object.entries(files))
            assert.equal(sha256(await readFile(path.join(target, name))), hash);
          const machine = JSON.parse(await readFile(path.join(target, 'machine.json'), 'utf8')) as PointManifest;
          assert.deepEqual(machine.machine, { cpus: 2 });
        }
        const verified = await run(['verify']);
        assert.equal(verified.status, 0, verified.errors);
        assert.match(verified.output, /all is well/);
      }
      assert.deepEqual(await hashFolder(folder), untouched, 'nothing was written into the repository');
    });
  }

  it('writes raw disks with holes, and VMDKs that QEMU reads alike', async () => {
    const { folder, contents, manifests } = await makeRepository();
    const target = await newFolder();
    for (const format of ['raw', 'vmdk']) {
      const args = ['restore', manifests[1]?.pointId ?? '', path.join(target, format), '--format', format];
      const { status, errors } = await scene.run([...args, '--repository', folder]);
      assert.equal(status, 0, errors);
    }
    const raw = path.join(target, 'raw/d0.raw');
    assert.ok((await readFile(raw)).equals(contents[1] as Buffer));
    const { size, blocks } = await stat(raw);
    assert.ok(blocks * 512 < size, 'zeros are holes');
    const compared = spawnSync('qemu-img', [
      'compare',
      '-f',
      'raw',
      '-F',
      'vmdk',
      raw,
      path.join(target, 'vmdk/d0.vmdk'),
    ]);
    assert.equal(compared.status, 0, String(compared.stdout) + String(compared.stderr));
  });

  it('takes a machine’s name for its newest version, and one disk of it', async () => {
    const { folder, contents } = await makeRepository();
    const target = path.join(await newFolder(), 'one');
    const { status, errors } = await scene.run(['restore', 'web', target, '--disk', 'd0', '--repository', folder]);
    assert.equal(status, 0, errors);
    assert.deepEqual(await readdir(target), ['d0.raw']);
    assert.ok((await readFile(path.join(target, 'd0.raw'))).equals(contents[1] as Buffer));
  });

  it('opens an encrypted repository with its passphrase or its recovery key, and with nothing else', async () => {
    const { folder, contents } = await makeRepository('a long passphrase');
    const storage = await openLocalStorage({ folder });
    const ring = await openKeyring({ storage, secret: { passphrase: 'a long passphrase' } });
    const { recoveryKey } = await ring.addRecoveryKey('safe');
    const words = recoveryKey.split(' ').map((word, index) => `${index + 1}. ${word}`);
    const target = path.join(await newFolder(), 'restored');
    const restore = ['restore', 'web', target, '--repository', folder];

    for (const [input, what] of [
      ['a longer passphrase', /does not open/],
      [[...words.slice(1), 'zoo'].join('\n'), /check sum|does not open/],
      ['', /does not open/],
    ] as const) {
      const refused = await scene.run([...restore, '--key-file', '-'], { input });
      assert.equal(refused.status, 1);
      assert.match(refused.errors, what);
      assert.doesNotMatch(refused.errors, / {4}at /);
    }
    const nothing = await scene.run(restore);
    assert.equal(nothing.status, 1);
    assert.match(nothing.errors, /--key-file/);
    await assert.rejects(stat(target), { code: 'ENOENT' });

    const opened = await scene.run([...restore, '--key-file', '-'], { input: words.join('\n') });
    assert.equal(opened.status, 0, opened.errors);
    assert.ok((await readFile(path.join(target, 'd0.raw'))).equals(contents[1] as Buffer));
  });

  it('names a damaged chunk with its versions, disk and place, and leaves no wrong file behind', async () => {
    const { folder, manifests } = await makeRepository();
    const pack = await damageLargestPack(folder);

    const all = await scene.run(['verify', '--repository', folder]);
    assert.equal(all.status, 1);
    assert.match(all.output, new RegExp(`DAMAGED ${pack}`));
    assert.match(all.output, /version .* of web, disk d0, bytes \d+\+65536/);
    const one = await scene.run(['verify', manifests[0]?.pointId ?? '', '--repository', folder]);
    assert.equal(one.status, 1);
    assert.match(one.output, /Chunk [0-9a-f]{64} in packs\/.* is damaged.*\(bytes \d+ to \d+\)/);
    assert.equal(one.output.match(/Chunk [0-9a-f]{64}/g)?.length, 1, 'one chunk is damaged');

    const target = path.join(await newFolder(), 'restored');
    const restored = await scene.run(['restore', manifests[0]?.pointId ?? '', target, '--repository', folder]);
    assert.equal(restored.status, 1);
    assert.match(restored.errors, /Chunk [0-9a-f]{64} in packs\/.* is damaged/);
    assert.deepEqual(
      (await readdir(target)).filter((name) => name.startsWith('d0')),
      [],
    );
  });

  it('refuses wrong usage, a folder that is not empty, one in the repository and one that is none', async () => {
    const { folder } = await makeRepository();
    const full = await newFolder();
    await writeFile(path.join(full, 'mine'), 'x');
    const at = ['--repository', folder];
    for (const [args, status, what] of [
      [[], 2, /VERSION is/],
      [['explode', ...at], 2, /VERSION is/],
      [['restore', 'web', ...at], 2, /VERSION is/],
      [['list', '--nonsense', ...at], 2, /nonsense/],
      [['restore', 'web', full, '--format', 'qcow2', ...at], 2, /qcow2/],
      [['verify', '--root', 'abc', ...at], 2, /64 hex/],
      [['list'], 2, /--repository/],
      [['list', '--repository', full], 1, /no repository/],
      [['restore', 'web', full, ...at], 1, /not empty/],
      [['restore', 'web', path.join(folder, 'new'), ...at], 1, /lies in the repository/],
      [['restore', 'no such', path.join(full, 'new'), ...at], 1, /no version or machine/],
    ] as const) {
      const run = await scene.run(args);
      assert.equal(run.status, status, `${args.join(' ')}: ${run.errors}`);
      assert.match(run.errors, what);
    }
    assert.deepEqual(await readdir(full), ['mine']);
  });

  it('keeps what a hostile repository names within the folder, and the terminal safe', async () => {
    const folder = path.join(await newFolder(), 'hostile');
    await mkdir(folder);
    const repository = await createRepository({
      storage: await openLocalStorage({ folder }),
      chunkSizeBytes: CHUNK,
      threads: 0,
    });
    const content = Buffer.from('x');
    const session = await repository.startWrite({ sessionId: 'evil' });
    const key = '../../evil\u001b[2J';
    const writer = await session.openDisk({ key, sizeBytes: CHUNK, base: null });
    await writer.write(0, Buffer.alloc(CHUNK, 'e'));
    await writer.finish();
    const names = [
      '../evil',
      '/etc/evil',
      '..',
      '.',
      '',
      'a/b',
      'A',
      'a',
      '.bashrc',
      'machine.json',
      'x'.repeat(5000),
      'nul\0',
    ];
    await session.commit(
      request({
        machineName: 'evil\u001b]0;owned\u0007',
        stateReasons: ['\u001b[31mred'],
        disks: [{ key, changeToken: null, facts: null }],
        files: names.map((name) => ({ name, kind: 'vmx', content })),
      }),
    );
    await repository.close();
    const outside = await newFolder();
    const target = path.join(outside, 'target');

    const listed = await scene.run(['list', '--repository', folder]);
    assert.doesNotMatch(listed.output, /[\u0000-\u0009\u000b-\u001f]/);
    const restored = await scene.run(['restore', '2', target, '--repository', folder]);
    assert.equal(restored.status, 0, restored.errors);
    assert.doesNotMatch(restored.output + restored.errors, /[\u0000-\u0009\u000b-\u001f]/);
    assert.deepEqual(await readdir(outside), ['target']);
    assert.equal((await readdir(target)).length, names.length + 2);
    await assert.rejects(stat('/etc/evil'), { code: 'ENOENT' });
  });
});

describe('a proof against a root hash', () => {
  it('covers a version, its disks and the versions before it', async () => {
    const { folder, manifests } = await makeRepository();
    const [first, second] = manifests as [PointManifest, PointManifest];
    const whole = await scene.run([
      'verify',
      '--root',
      second.rootHash.toUpperCase(),
      '--json',
      '--repository',
      folder,
    ]);
    assert.equal(whole.status, 0, whole.errors);
    const proof = JSON.parse(whole.output) as Record<string, unknown>;
    assert.equal(proof['pointId'], second.pointId);
    assert.deepEqual(proof['chain'], [first.pointId]);

    const disk = await scene.run(['verify', '--root', second.disks[0]?.rootHash ?? '', '--repository', folder]);
    assert.equal(disk.status, 0, disk.errors);
    assert.match(disk.output, /disk d0: all \d+ bytes of data are right/);
  });

  it('fails when a former version was exchanged, by whoever knows the format', async () => {
    const { folder, manifests } = await makeRepository();
    const [first, second] = manifests as [PointManifest, PointManifest];
    const name = `points/${first.pointId}.point`;
    const file = path.join(folder, name);
    const content = parsePoint(await readFile(file), name, null);
    const forged = { ...content, manifest: { ...content.manifest, machineName: 'forged' } };
    await rename(file, path.join(await newFolder(), 'kept'));
    await writeFile(file, encodePoint(forged, null).bytes);
    const alone = await scene.run(['verify', first.pointId, '--repository', folder]);
    assert.equal(alone.status, 0, 'by itself it is whole');
    assert.equal(
      (await scene.run(['verify', '--repository', folder])).status,
      1,
      'a check of everything sees the chain',
    );

    const newest = await scene.run(['verify', '--root', second.rootHash, '--repository', folder]);
    assert.equal(newest.status, 1);
    assert.match(newest.output, new RegExp(`CHANGED: version ${first.pointId}`));
    const gone = await scene.run(['verify', '--root', first.rootHash, '--repository', folder]);
    assert.equal(gone.status, 1);
    assert.match(gone.errors, /Nothing here has the root hash/);
  });

  it('says where the chain ends when a version was deleted, and finds damaged data', async () => {
    const { folder, manifests } = await makeRepository();
    const [first, second] = manifests as [PointManifest, PointManifest];
    await rename(path.join(folder, `points/${first.pointId}.point`), path.join(await newFolder(), 'gone'));
    const proven = await scene.run(['verify', '--root', second.rootHash, '--repository', folder]);
    assert.equal(proven.status, 0, proven.errors);
    assert.match(proven.output, new RegExp(`${first.pointId} before it is not here any more`));

    await damageLargestPack(folder);
    const damaged = await scene.run(['verify', '--root', second.rootHash, '--repository', folder]);
    assert.equal(damaged.status, 1);
    assert.match(damaged.output, /DAMAGED/);
  });
});

/** Flips one bit of a chunk of the first version. @returns the pack's name */
async function damageLargestPack(folder: string): Promise<string> {
  const packs = (await readdir(path.join(folder, 'packs'), { recursive: true })).filter((name) =>
    name.endsWith('.pack'),
  );
  const sizes = await Promise.all(packs.map(async (name) => (await stat(path.join(folder, 'packs', name))).size));
  const name = packs[sizes.indexOf(Math.max(...sizes))] ?? '';
  const file = path.join(folder, 'packs', name);
  const bytes = await readFile(file);
  bytes[100] = (bytes[100] as number) ^ 0x10;
  await writeFile(file, bytes);
  const storage = await openLocalStorage({ folder });
  await (await openRepository({ storage, threads: 0 })).close();
  return `packs/${name}`;
}

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { after, before, describe, it } from 'node:test';
import type { Language } from '../contract/api/notification.schema.ts';
import { isAppError } from '../errors/index.ts';
import { damaged, pathNotFound } from '../filesystem/filesystem.ts';
import type { GuestEntry, GuestFile, GuestFileSystem } from '../filesystem/index.ts';
import { GIB, MIB } from '../runtime/index.ts';
import { archiveFolder } from './guest-archive.ts';
import { archiveName, uniqueName } from './archive-names.ts';

const SIGNAL = new AbortController().signal;
const MODIFIED_MS = Date.UTC(2026, 9, 1, 12, 0, 0);
/** Names of an archive with what is in it, as Python's zipfile has them, every checksum looked at. */
const READ_BY_PYTHON = `
import hashlib, json, sys, zipfile
found = {}
with zipfile.ZipFile(sys.argv[1]) as archive:
    for entry in archive.infolist():
        digest = hashlib.sha256()
        with archive.open(entry) as content:
            for piece in iter(lambda: content.read(1 << 22), b''):
                digest.update(piece)
        assert entry.filename not in found, entry.filename
        found[entry.filename] = [entry.file_size, digest.hexdigest(), entry.date_time[0]]
print(json.dumps(found))
`;

const READ_TEXT = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    sys.stdout.buffer.write(archive.read(sys.argv[2]))
`;

type Node = Buffer | Error | Folder | GuestFile | 'link' | 'device';
interface Folder {
  [name: string]: Node;
}

/** A file system of whatever names and contents. */
function systemOf(root: Folder, label = 'system'): GuestFileSystem {
  const find = (path: string): Node => {
    let node: Node = root;
    // A guest's own reader goes by names, whatever they are; only the slash is no part of any.
    for (const name of path.split('/').filter((part) => part !== '')) {
      if (!isFolder(node) || !Object.hasOwn(node, name)) throw pathNotFound(path);
      node = node[name] as Node;
    }
    return node;
  };
  return {
    kind: 'ext4',
    label,
    sizeBytes: GIB,
    freeUnknown: null,
    isUnsettled: false,
    freeExtents: async function* () {},
    list: async function* (path) {
      const node = find(path);
      if (!isFolder(node)) throw pathNotFound(path);
      for (const [name, inner] of Object.entries(node)) {
        yield entryOf(name, inner);
        if (inner instanceof Error && name === 'and then damage') throw inner;
      }
    },
    open: (path) => {
      const node = find(path);
      if (node instanceof Error) return Promise.reject(node);
      return Promise.resolve(Buffer.isBuffer(node) ? fileOf(node) : (node as GuestFile));
    },
  };
}

function isFolder(node: Node): node is Folder {
  return typeof node === 'object' && !Buffer.isBuffer(node) && !(node instanceof Error) && !('read' in node);
}

function entryOf(name: string, node: Node): GuestEntry {
  const type = node === 'link' ? 'link' : node === 'device' ? 'other' : isFolder(node) ? 'folder' : 'file';
  const sizeBytes = Buffer.isBuffer(node) ? node.length : 0;
  return { name, type, sizeBytes, modifiedAtMs: MODIFIED_MS, linkTarget: type === 'link' ? '/etc/passwd' : null };
}

function fileOf(content: Buffer): GuestFile {
  return {
    sizeBytes: content.length,
    modifiedAtMs: MODIFIED_MS,
    read: (at, length) => Promise.resolve(content.subarray(at, at + length)),
  };
}

describe('a folder of a guest as an archive', () => {
  let folder: string;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'dozo-archive-'));
  });
  after(async () => {
    await rm(folder, { recursive: true });
  });

  async function pack(
    system: GuestFileSystem,
    path: string,
    language: Language = 'en',
  ): Promise<{ file: string; files: number; bytes: number }> {
    const archive = await archiveFolder(system, path, { signal: SIGNAL, language });
    const file = join(folder, archive.name);
    await pipeline(Readable.from(archive.bytes(SIGNAL)), createWriteStream(file));
    return { file, files: archive.files, bytes: archive.fileBytes };
  }

  function readByPython(file: string): Record<string, [size: number, sha256: string, year: number]> {
    const text = execFileSync('python3', ['-c', READ_BY_PYTHON, file], { encoding: 'utf8', maxBuffer: 64 * MIB });
    return JSON.parse(text) as Record<string, [number, string, number]>;
  }

  it('is unpacked by unzip to the same folders, files and bytes', async () => {
    const large = randomBytes(9 * MIB + 17);
    const root = {
      home: { anna: { 'report.bin': large, empty: Buffer.alloc(0), hollow: {}, 売上: { a: Buffer.from('1') } } },
    };
    const { file, files, bytes } = await pack(systemOf(root), '/home/anna');
    assert.equal(files, 3);
    assert.equal(bytes, large.length + 1);
    const target = join(folder, 'unpacked');
    execFileSync('unzip', ['-q', file, '-d', target]);
    assert.deepEqual((await readdir(target, { recursive: true })).sort(), [
      'anna',
      'anna/empty',
      'anna/hollow',
      'anna/report.bin',
      'anna/売上',
      'anna/売上/a',
    ]);
    assert.ok((await readFile(join(target, 'anna/report.bin'))).equals(large));
    assert.equal((await readFile(join(target, 'anna/売上/a'))).toString(), '1');
    assert.equal(readByPython(file)['anna/report.bin']?.[2], 2026);
  });

  it('leads nowhere out of the folder it is unpacked in, follows no link, and names what is missing', async () => {
    const root: Folder = {
      '..': { passwd: Buffer.from('above') },
      ' . ': Buffer.from('points'),
      'C:\\Windows\\evil.dll': Buffer.from('drive'),
      'a:b': Buffer.from('first'),
      a_b: Buffer.from('second'),
      'photo\u202egpj.exe': Buffer.from('turned'),
      'line\nfeed\0': Buffer.from('feed'),
      'lone\ud800': Buffer.from('lone'),
      ['long'.repeat(100)]: Buffer.from('long'),
      'Not in this archive.txt': Buffer.from('of the guest'),
      shadow: 'link',
      sda: 'device',
      'not to be read': damaged('ext4', 'a test'),
      broken: { good: Buffer.from('good'), 'and then damage': damaged('ext4', 'another test') },
    };
    const { file } = await pack(systemOf(root, '../../etc'), '/');
    const found = readByPython(file);
    for (const name of Object.keys(found)) {
      assert.match(name, /^\.\._\.\._etc\/|^Not in this archive\.txt$/, name);
      assert.ok(!/[\\:\u0000-\u001f\u202e\ufffe]/.test(name), name);
      for (const part of name.split('/')) assert.ok(!/^\.+$/.test(part) && part.length <= 255, name);
    }
    const target = join(folder, 'hostile');
    execFileSync('unzip', ['-q', file, '-d', target]);
    const top = join(target, '.._.._etc');
    const texts = new Map<string, string>();
    for (const name of await readdir(top, { recursive: true, withFileTypes: true })) {
      assert.ok(name.isFile() || name.isDirectory(), `${name.name} is a link`);
      if (name.isFile()) texts.set(name.name, await readFile(join(name.parentPath, name.name), 'utf8'));
    }
    assert.deepEqual(Object.fromEntries(texts), {
      passwd: 'above',
      '_ (2)': 'points',
      'C__Windows_evil.dll': 'drive',
      a_b: 'first',
      'a_b (2)': 'second',
      'photo_gpj.exe': 'turned',
      line_feed_: 'feed',
      'lone\ufffd': 'lone',
      ['long'.repeat(100).slice(0, 255)]: 'long',
      'Not in this archive.txt': 'of the guest',
      good: 'good',
    });
    const leftOut = await readFile(join(target, 'Not in this archive.txt'), 'utf8');
    for (const line of [
      /^\/shadow: a link to \/etc\/passwd\r$/m,
      /^\/sda: neither/m,
      /^\/not to be read: cannot be read \(.*a test/m,
    ]) {
      assert.match(leftOut, line);
    }
    assert.match(leftOut, /^\/broken\/: .*another test/m);
    assert.match(leftOut, /^\/broken\/and then damage: .*another test/m);
  });

  it('names what is missing in the language of who takes it', async () => {
    const root: Folder = { home: { shadow: 'link', sda: 'device', bad: damaged('ext4', 'a test') } };
    const said = async (language: Language, name: string): Promise<string> => {
      const { file } = await pack(systemOf(root), '/home', language);
      return execFileSync('python3', ['-c', READ_TEXT, file, name], { encoding: 'utf8' });
    };
    assert.match(
      await said('de', 'Nicht in diesem Archiv.txt'),
      /^\/home\/shadow: eine Verknüpfung mit \/etc\/passwd\r\n\/home\/sda: weder .*\r\n\/home\/bad: nicht lesbar \(.*a test.*\)\r\n$/,
    );
    assert.match(
      await said('ja', 'このアーカイブに含まれないもの.txt'),
      /^\/home\/shadow: \/etc\/passwd へのリンク\r\n\/home\/sda: ファイルでも.*\r\n\/home\/bad: 読み取れません（.*a test.*）\r\n$/,
    );
  });

  it('holds only what was chosen of the folder, folders with all that is in them', async () => {
    const [report, photo] = [randomBytes(70_000), randomBytes(300)];
    const root: Folder = {
      home: {
        'report.bin': report,
        'secret.txt': Buffer.from('not chosen'),
        photos: { 'one.jpg': photo, album: { 'two.jpg': photo, 'report.bin': Buffer.from('another one') } },
        mail: { letter: Buffer.from('not chosen') },
        shadow: 'link',
      },
    };
    const names = ['photos', 'report.bin', 'shadow'];
    const archive = await archiveFolder(systemOf(root), '/home', { signal: SIGNAL, names });
    assert.equal(archive.files, 4);
    assert.equal(archive.fileBytes, report.length + 2 * photo.length + 'another one'.length);
    const file = join(folder, 'chosen.zip');
    await pipeline(Readable.from(archive.bytes(SIGNAL)), createWriteStream(file));
    const target = join(folder, 'chosen');
    execFileSync('unzip', ['-q', file, '-d', target]);
    assert.deepEqual((await readdir(target, { recursive: true })).sort(), [
      'Not in this archive.txt',
      'home',
      'home/photos',
      'home/photos/album',
      'home/photos/album/report.bin',
      'home/photos/album/two.jpg',
      'home/photos/one.jpg',
      'home/report.bin',
    ]);
    assert.ok((await readFile(join(target, 'home/report.bin'))).equals(report));
    assert.ok((await readFile(join(target, 'home/photos/album/two.jpg'))).equals(photo));

    await assert.rejects(archiveFolder(systemOf(root), '/home', { signal: SIGNAL, names: ['photos', 'gone'] }), {
      code: 'FILESYSTEM_PATH_NOT_FOUND',
      details: { path: '/home/gone' },
    });
  });

  it('is packed from what was found before, without looking again', async () => {
    const system = systemOf({ home: { anna: { letter: Buffer.from('dear') } } });
    const { contents } = await archiveFolder(system, '/home', { signal: SIGNAL });
    const blind: GuestFileSystem = {
      ...system,
      list: () => {
        throw new Error('looked again');
      },
    };
    const archive = await archiveFolder(blind, '/home', { signal: SIGNAL, known: contents });
    const file = join(folder, archive.name);
    await pipeline(Readable.from(archive.bytes(SIGNAL)), createWriteStream(file));
    assert.equal(archive.files, 1);
    assert.equal(readByPython(file)['home/anna/letter']?.[0], 4);
  });

  const tooLong = process.env['DOZO_LARGE_ARCHIVE'] === undefined && 'minutes; asked for by DOZO_LARGE_ARCHIVE=1';
  it('has the right size of a file of more than 4 GiB', { skip: tooLong }, async () => {
    const sizeBytes = 4 * GIB + 5;
    const zeros = Buffer.alloc(4 * MIB);
    const end = Buffer.from('ENDED');
    const large: GuestFile = {
      sizeBytes,
      modifiedAtMs: null,
      read: (at, length) => Promise.resolve(at === 4 * GIB ? end : zeros.subarray(0, length)),
    };
    const { file } = await pack(systemOf({ disks: { large, behind: Buffer.from('it') } }), '/disks');
    const listed = execFileSync('unzip', ['-v', file], { encoding: 'utf8' });
    assert.match(listed, new RegExp(`^ *${String(sizeBytes)} +Defl.* disks/large$`, 'm'));
    execFileSync('unzip', ['-tqq', file]);
    // Its checksum was found right; that the end is there shows only to who looks.
    const tail = execFileSync('sh', ['-c', 'unzip -p "$0" disks/large | tail -c 6', file]);
    assert.ok(tail.equals(Buffer.concat([zeros.subarray(0, 1), end])));
  });

  it('refuses more than it could keep count of, and comes to an end where a folder lists itself', async () => {
    const many: Folder = {};
    for (let number = 0; number < 50_001; number += 1) many[`n${String(number)}`] = Buffer.alloc(0);
    await assert.rejects(archiveFolder(systemOf({ many }), '/many', { signal: SIGNAL }), (error: unknown) => {
      assert.ok(isAppError(error));
      return error.code === 'FOLDER_TOO_LARGE';
    });
    const loop: Folder = { file: Buffer.from('x') };
    loop['loop'] = loop;
    const { files } = await archiveFolder(systemOf(loop), '/', { signal: SIGNAL });
    assert.ok(files > 1 && files <= 202, `${files} files`);
    const huge: GuestFile = {
      sizeBytes: 2 ** 60,
      modifiedAtMs: null,
      read: () => Promise.reject(new Error('not yet')),
    };
    const system = systemOf({ huge });
    const claims: GuestFileSystem = {
      ...system,
      list: async function* () {
        yield { ...entryOf('huge', huge), sizeBytes: huge.sizeBytes };
      },
    };
    await assert.rejects(archiveFolder(claims, '/', { signal: SIGNAL }), { code: 'FOLDER_TOO_LARGE' });
    await assert.rejects(archiveFolder(system, '/not/there', { signal: SIGNAL }), {
      code: 'FILESYSTEM_PATH_NOT_FOUND',
    });
  });

  it('reads no further than is taken, and stops when nobody takes any more', async () => {
    const noise = randomBytes(4 * MIB);
    let reads = 0;
    const large: GuestFile = {
      sizeBytes: 4 * GIB,
      modifiedAtMs: null,
      read: (_at, length) => {
        reads += 1;
        return Promise.resolve(noise.subarray(0, length));
      },
    };
    const gone = new AbortController();
    const archive = await archiveFolder(systemOf({ large }), '/', { signal: SIGNAL });
    const bytes = archive.bytes(gone.signal)[Symbol.asyncIterator]();
    await bytes.next();
    await bytes.next();
    // However long it is waited: what the streams hold together is a few pieces.
    for (let turn = 0; turn < 2_000; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    assert.ok(reads <= 8, `${reads} pieces were read ahead`);
    gone.abort();
    await assert.rejects(async () => {
      for (;;) if ((await bytes.next()).done === true) return;
    });
    const readsUntilThen = reads;
    for (let turn = 0; turn < 2_000; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(reads, readsUntilThen);

    const left = archive.bytes(SIGNAL);
    for await (const piece of left) {
      assert.ok(piece.length > 0);
      break;
    }
  });

  it('fails as a whole where a file breaks off, instead of ending as if all were there', async () => {
    const file: GuestFile = {
      sizeBytes: 9 * MIB,
      modifiedAtMs: null,
      read: (at, length) => (at === 0 ? Promise.resolve(Buffer.alloc(length)) : Promise.reject(new Error('rotten'))),
    };
    await assert.rejects(pack(systemOf({ file }), '/'), /rotten/);
  });
});

describe('names in an archive', () => {
  it('are never empty, and never the same twice', () => {
    assert.equal(archiveName(''), '_');
    assert.equal(archiveName('...'), '_');
    assert.equal(archiveName('.hidden'), '.hidden');
    assert.equal(archiveName('a/b'), 'a_b');
    const taken = new Map<string, number>();
    const names = Array.from({ length: 4 }, () => uniqueName('x'.repeat(255), taken));
    assert.equal(new Set(names).size, 4);
    for (const name of names) assert.ok(name.length <= 255);
    assert.equal(uniqueName('a (2)', taken), 'a (2)');
    assert.deepEqual([uniqueName('a', taken), uniqueName('a', taken)], ['a', 'a (3)']);
  });

  it('cost no more where a hostile folder has nothing but names that become the same', () => {
    const taken = new Map<string, number>();
    const names = Array.from({ length: 200_000 }, () => uniqueName('_', taken));
    assert.equal(new Set(names).size, names.length);
  });
});

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fsModule, * as fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { isAppError } from '../errors/index.ts';
import { systemClock } from '../runtime/index.ts';
import { openLocalStorage, storageError } from './index.ts';

let folder = '';

describe('local storage', () => {
  beforeEach(async () => {
    folder = await fs.mkdtemp(path.join(tmpdir(), 'dozo-storage-'));
  });
  afterEach(() => fs.rm(folder, { recursive: true, force: true }));

  it('does not make a root folder that is missing', async () => {
    const missing = path.join(folder, 'share');

    await assert.rejects(openLocalStorage({ folder: missing }), { code: 'STORAGE_MISSING' });
    await assert.rejects(fs.stat(missing), { code: 'ENOENT' });
  });

  it('refuses a root that is a file', async () => {
    const file = path.join(folder, 'file');
    await fs.writeFile(file, 'x');

    await assert.rejects(openLocalStorage({ folder: file }), { code: 'STORAGE_MISSING' });
  });

  it('writes nothing into another folder that took the place of the root', async () => {
    const root = path.join(folder, 'share');
    await fs.mkdir(root);
    const storage = await openLocalStorage({ folder: root });
    const begun = await storage.create('b');
    await fs.rename(root, path.join(folder, 'was-mounted'));
    await fs.mkdir(root);

    await assert.rejects(storage.publish('a', Buffer.from('x')), { code: 'STORAGE_MISSING' });
    await assert.rejects(begun.publish(), { code: 'STORAGE_MISSING' });
    assert.deepEqual(await fs.readdir(root), []);
  });

  it('leaves no temporary file behind, published or refused', async () => {
    const storage = await openLocalStorage({ folder });
    await storage.publish('a/b', Buffer.from('x'));
    await assert.rejects(storage.publish('a/b', Buffer.from('y')), { code: 'STORAGE_EXISTS' });

    assert.deepEqual(await fs.readdir(path.join(folder, 'tmp')), []);
    assert.equal((await fs.stat(path.join(folder, 'a/b'))).nlink, 1);
  });

  it('removes what a process left unfinished long ago, and nothing younger', async () => {
    await fs.mkdir(path.join(folder, 'tmp'));
    const old = path.join(folder, 'tmp', `${'a'.repeat(32)}.tmp`);
    const young = path.join(folder, 'tmp', `${'b'.repeat(32)}.tmp`);
    await fs.writeFile(old, 'x');
    await fs.writeFile(young, 'x');
    await fs.utimes(old, new Date(0), new Date(Date.now() - 48 * 3600 * 1000));
    const storage = await openLocalStorage({ folder, clock: systemClock });
    await storage.publish('a', Buffer.from('x'));

    assert.deepEqual(await fs.readdir(path.join(folder, 'tmp')), [path.basename(young)]);
  });

  it('removes a folder with its last file, and makes it again when it is needed', async () => {
    const one = await openLocalStorage({ folder });
    const other = await openLocalStorage({ folder });
    await one.publish('sessions/a/1', Buffer.from('x'));
    const begun = await one.create('sessions/a/2');
    await other.remove('sessions/a/1');
    assert.deepEqual(await fs.readdir(path.join(folder, 'sessions')), []);

    await begun.publish();
    assert.equal((await other.read('sessions/a/2')).length, 0);
  });

  it('publishes without hard links, and still never over another file', async (t) => {
    const storage = await openLocalStorage({ folder });
    const link = t.mock.method(fsModule, 'link', () =>
      Promise.reject(Object.assign(new Error('no links here'), { code: 'EPERM' })),
    );
    syncBuiltinESMExports();
    t.after(() => {
      link.mock.restore();
      syncBuiltinESMExports();
    });
    await storage.publish('a/b', Buffer.from('first'));
    assert.equal(link.mock.callCount(), 1);
    const tries = [1, 2, 3, 4, 5].map((turn) => storage.publish('a/c', Buffer.from(`turn ${turn}`)));
    const settled = await Promise.allSettled(tries);

    await assert.rejects(storage.publish('a/b', Buffer.from('second')), { code: 'STORAGE_EXISTS' });
    assert.equal((await storage.read('a/b')).toString(), 'first');
    assert.equal(settled.filter((one) => one.status === 'fulfilled').length, 1);
    assert.deepEqual(await fs.readdir(path.join(folder, 'tmp')), []);
  });

  it('takes away the claim of a publisher that was killed where there are no hard links, and of no other', async (t) => {
    const noLink = (): Promise<never> => Promise.reject(Object.assign(new Error('no links here'), { code: 'EPERM' }));
    const link = t.mock.method(fsModule, 'link', noLink);
    syncBuiltinESMExports();
    t.after(() => {
      link.mock.restore();
      syncBuiltinESMExports();
    });
    const storage = await openLocalStorage({ folder });
    const publish = (text: string): Promise<string> =>
      storage.publish('marks/1', Buffer.from(text)).then(
        () => 'published',
        (error: unknown) => (isAppError(error) ? error.code : String(error)),
      );
    // A process that stands still between its look at the name and giving it.
    const script = `
      import fs from 'node:fs/promises';
      import { syncBuiltinESMExports } from 'node:module';
      fs.link = () => Promise.reject(Object.assign(new Error('no links here'), { code: 'EPERM' }));
      fs.rename = () => { console.log('ready'); return new Promise(() => setInterval(() => undefined, 1000)); };
      syncBuiltinESMExports();
      const { openLocalStorage } = await import(${JSON.stringify(path.join(import.meta.dirname, 'index.ts'))});
      await (await openLocalStorage({ folder: ${JSON.stringify(folder)} })).publish('marks/1', Buffer.from('never'));`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const gone = once(child, 'exit');
    try {
      await once(child.stdout, 'data');
      assert.equal(await publish('beside it'), 'STORAGE_EXISTS');
      assert.equal(await storage.exists('marks/1'), false);
    } finally {
      child.kill('SIGKILL');
      await gone;
    }
    const tries = await Promise.all(['a', 'b', 'c', 'd'].map(publish));
    assert.deepEqual(tries.sort(), ['STORAGE_EXISTS', 'STORAGE_EXISTS', 'STORAGE_EXISTS', 'published']);

    // From before a power cut; and one of which nobody can tell whose it is.
    const claim = path.join(folder, 'tmp', `${createHash('sha256').update('marks/2').digest('hex')}.claim`);
    for (const owner of ['', '0', 'a b c d', '01234567-89ab-cdef-0123-456789abcdef pid:[1] 5 x']) {
      await fs.writeFile(claim, owner);
      await assert.rejects(storage.publish('marks/2', Buffer.from('x')), { code: 'STORAGE_EXISTS' });
    }
    await fs.writeFile(claim, '01234567-89ab-cdef-0123-456789abcdef pid:[4026531836] 5 77');
    // Where other machines write too, it may be the boot of one of them.
    if ((storage.namesLagMs ?? 0) > 0) return;
    await storage.publish('marks/2', Buffer.from('y'));
    assert.equal((await storage.read('marks/2')).toString(), 'y');
    assert.deepEqual(
      (await fs.readdir(path.join(folder, 'tmp'))).filter((name) => name.endsWith('.claim')),
      [],
    );
  });

  it('opens a file once for reads that overlap, anew after one that failed, and leaves none open', async (t) => {
    const { open } = fs;
    let opened = 0;
    /** Reads of that many bytes wait for it. */
    const held = { bytes: 1000, until: Promise.withResolvers<undefined>() };
    t.mock.method(fsModule, 'open', async (...asked: Parameters<typeof fs.open>) => {
      opened += 1;
      const handle = await open(...asked);
      const read = handle.read.bind(handle) as (...parts: unknown[]) => unknown;
      const patient = async (...parts: unknown[]): Promise<unknown> => {
        if (parts[2] === held.bytes) await held.until.promise;
        return read(...parts);
      };
      return Object.assign(handle, { read: patient });
    });
    syncBuiltinESMExports();
    t.after(() => {
      t.mock.restoreAll();
      syncBuiltinESMExports();
    });
    const storage = await openLocalStorage({ folder });
    const content = Buffer.from(Array.from({ length: 1000 }, (_, at) => at % 251));
    await storage.publish('pack', content);
    opened = 0;
    const ranges = Array.from({ length: 10 }, (_, at) => ({ offsetBytes: at * 100, lengthBytes: 100 }));
    const parts = await Promise.all(ranges.map((range) => storage.read('pack', range)));
    assert.deepEqual([Buffer.concat(parts), opened], [content, 1]);

    const early = storage.read('pack', { offsetBytes: 0, lengthBytes: held.bytes });
    await assert.rejects(storage.read('pack', { offsetBytes: 950, lengthBytes: 100 }), { code: 'STORAGE_FAILED' });
    await fs.unlink(path.join(folder, 'pack'));
    await storage.publish('pack', Buffer.from('another'));
    assert.equal((await storage.read('pack', { offsetBytes: 0, lengthBytes: 7 })).toString(), 'another');
    held.until.resolve(undefined);
    assert.deepEqual(await early, content);

    for (const { status } of await Promise.allSettled(ranges.map((range) => storage.read('gone', range)))) {
      assert.equal(status, 'rejected');
    }
    const files = (await fs.readdir('/proc/self/fd')).map((fd) => fs.readlink(`/proc/self/fd/${fd}`).catch(() => ''));
    const ours = (await Promise.all(files)).filter((file) => file.startsWith(folder));
    assert.deepEqual(ours, []);
  });

  it('does not list what is not ours', async () => {
    const storage = await openLocalStorage({ folder });
    await storage.publish('packs/a.pack', Buffer.from('x'));
    await fs.mkdir(path.join(folder, 'packs', '@eaDir'));
    await fs.writeFile(path.join(folder, 'packs', '@eaDir', 'a.pack'), 'thumbnail');
    await fs.writeFile(path.join(folder, 'packs', '.DS_Store'), 'x');
    await fs.symlink('/etc/passwd', path.join(folder, 'packs', 'link'));

    const names = [];
    for await (const name of storage.listNames('packs')) names.push(name);
    assert.deepEqual(names, ['packs/a.pack']);
  });

  it('answers at once what only a writer of the share can have put there', { timeout: 90_000 }, async () => {
    const storage = await openLocalStorage({ folder });
    await storage.publish('packs/ab/one', Buffer.from('x'));
    const elsewhere = await fs.mkdtemp(path.join(tmpdir(), 'dozo-elsewhere-'));
    try {
      // A pipe that nobody writes to, whole and by range: opened without care it never answers.
      for (const name of ['pipe', 'packs/ab/pipe']) execFileSync('mkfifo', [path.join(folder, name)]);
      await assert.rejects(storage.read('pipe'), { code: 'STORAGE_FAILED' });
      await assert.rejects(storage.read('packs/ab/pipe', { offsetBytes: 64, lengthBytes: 8 }), {
        code: 'STORAGE_FAILED',
      });
      // A file of holes that no memory holds.
      for (const sizeBytes of [3 * 2 ** 30, 2 ** 42]) {
        await fs.writeFile(path.join(folder, 'huge'), '');
        await fs.truncate(path.join(folder, 'huge'), sizeBytes);
        await assert.rejects(storage.read('huge'), { code: 'STORAGE_FAILED', message: /bytes long/ });
        const end = await storage.read('huge', { offsetBytes: sizeBytes - 8, lengthBytes: 8 });
        assert.ok(end.equals(Buffer.alloc(8)));
      }
      // Links, to a file and to a folder: nothing is read or written where they lead.
      await fs.symlink('/etc/passwd', path.join(folder, 'packs/ab/link'));
      await assert.rejects(storage.read('packs/ab/link'), { code: 'STORAGE_FAILED' });
      await fs.symlink(elsewhere, path.join(folder, 'packs/cd'));
      await assert.rejects(storage.publish('packs/cd/two', Buffer.from('y')), { code: 'STORAGE_FAILED' });
      assert.deepEqual(await fs.readdir(elsewhere), []);
      // Folders within folders, until no name is long enough.
      await fs.mkdir(path.join(folder, 'marks', ...Array.from({ length: 300 }, () => 'aa')), { recursive: true });
      const names: string[] = [];
      for await (const name of storage.listNames('.')) names.push(name);
      assert.deepEqual(names.sort(), ['huge', 'packs/ab/one']);
      assert.deepEqual((await fs.readdir(path.join(folder, 'tmp'))).length, 0);
    } finally {
      await fs.rm(elsewhere, { recursive: true });
    }
  });

  it('reports a full volume as STORAGE_FULL', async () => {
    // /dev/full accepts nothing: every write fails with ENOSPC, as on a full volume.
    const handle = await fs.open('/dev/full', 'w');
    const error = await handle.write(Buffer.alloc(10)).then(
      () => null,
      (caught: unknown) => storageError(caught, 'write', 'a.pack', folder),
    );
    await handle.close();

    assert.ok(isAppError(error));
    assert.equal(error.code, 'STORAGE_FULL');
    assert.match(error.message, /a\.pack/);
    assert.ok((error.hint ?? '').length > 0);
  });

  it('gives each errno the code that tells what to do', () => {
    const codes = {
      EDQUOT: 'STORAGE_FULL',
      EROFS: 'STORAGE_READ_ONLY',
      EACCES: 'STORAGE_READ_ONLY',
      ESTALE: 'STORAGE_MISSING',
    };
    for (const [errno, code] of Object.entries({
      ...codes,
      EIO: 'STORAGE_FAILED',
      EMFILE: 'STORAGE_FAILED',
      EEXIST: 'STORAGE_EXISTS',
    })) {
      assert.equal(storageError(Object.assign(new Error(errno), { code: errno }), 'write', 'x', '/here').code, code);
    }
    // A used-up quota, as Node tells it: libuv has no name for it.
    const unnamed = { code: 'Unknown system error -122', errno: -122 };
    assert.equal(storageError(Object.assign(new Error('EDQUOT'), unnamed), 'write', 'x', '/here').code, 'STORAGE_FULL');
    const forbidden = Object.assign(new Error('EACCES'), { code: 'EACCES' });
    // Of one file, that file's trouble; of what lies at the top, the folder's.
    assert.equal(storageError(forbidden, 'read', 'points/x', '/here').code, 'STORAGE_FAILED');
    assert.equal(storageError(forbidden, 'read', 'x', '/here').code, 'STORAGE_READ_ONLY');
    assert.equal(storageError(forbidden, 'list', 'points', '/here').code, 'STORAGE_READ_ONLY');
    for (const doing of ['open', 'read', 'list', 'look at']) {
      assert.match(storageError(forbidden, doing, 'x', '/here').message, /no permission to read it\.$/, doing);
    }
    assert.match(storageError(forbidden, 'write', 'x', '/here').message, /cannot be written to\.$/);
    const refused = Object.assign(new Error('EPERM'), { code: 'EPERM' });
    assert.equal(storageError(refused, 'write', 'x', '/here').code, 'STORAGE_READ_ONLY');
    assert.equal(storageError(refused, 'remove', 'x', '/here').code, 'STORAGE_WRITE_ONCE');
  });
});

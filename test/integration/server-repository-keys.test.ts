import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startServer, type RunningServer } from '../../server/app/start-server.ts';
import { createRepository, openRepository } from '../../server/repository/index.ts';
import { silentLogger } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { CHUNK, commitDisk, sparseContent } from '../fakes/small-repository.ts';
import { Api } from '../product/api.ts';
import { quietDay } from '../product/quiet-day.ts';
import type { Answer } from './server-lab.ts';

const PASSWORD = 'a password for the test';
const PASSPHRASE = 'a passphrase for the test, with Grüßen';
const root = mkdtempSync(path.join(tmpdir(), 'dozo-keys-'));
const folder = path.join(root, 'repository');
const CONTENT = sparseContent(20 * CHUNK + 99, 3);

/** The whole way: command line, API, catalogue, queue, worker, repository. */
describe('keys of an encrypted repository, from the command line to the files', { timeout: 900_000 }, () => {
  let server: RunningServer;
  let recoveryKey = '';
  let pointId = '';

  before(async () => {
    server = await startServer(
      {
        dataFolder: path.join(root, 'data'),
        bind: '127.0.0.1',
        port: 0,
        tls: { kind: 'own' },
        adminPassword: PASSWORD,
        redis: { kind: 'embedded', binary: null },
        redisPrefix: 'dozo',
        workers: 1,
        workerConcurrency: 2,
        uiFolder: path.join(root, 'ui'),
      },
      { logger: silentLogger },
    );
    const login = ['login', '--server', server.url, '--accept-new', '--password-stdin'];
    assert.equal((await dozo(login, `${PASSWORD}\n`)).status, 0);
    const api = new Api(server.url, server.fingerprint ?? '');
    await api.login('admin', PASSWORD);
    await api.patch('/settings', quietDay());
  });
  after(async () => {
    await server.stop();
    rmSync(root, { recursive: true, force: true });
  });

  async function dozo(args: string[], input = ''): Promise<{ status: number | null; out: string; errors: string }> {
    const child = spawn(process.execPath, [path.join(import.meta.dirname, '../../server/cli/main.ts'), ...args], {
      env: { PATH: process.env['PATH'] ?? '', DOZO_CONFIG: path.join(root, 'cli.json') },
    });
    child.stdin.end(input);
    let out = '';
    let errors = '';
    child.stdout.on('data', (piece: Buffer) => (out += piece.toString()));
    child.stderr.on('data', (piece: Buffer) => (errors += piece.toString()));
    const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
    return { status, out, errors };
  }

  async function json(args: string[], input = ''): Promise<{ status: number | null; document: Answer }> {
    const { status, out, errors } = await dozo([...args, '--json'], input);
    assert.equal(errors, '');
    return { status, document: JSON.parse(out) };
  }

  const keys = async (): Promise<Answer[]> => (await json(['repositories', 'keys', 'list', 'main'])).document;

  it('makes one whose recovery key is shown once, and which a run opens by itself', async () => {
    const short = await json(
      ['repositories', 'create', 'main', folder, '--encrypted', '--passphrase-stdin'],
      'short\n',
    );
    assert.equal(short.document.error.code, 'INPUT_INVALID');
    const made = await json(
      ['repositories', 'create', 'main', folder, '--encrypted', '--passphrase-stdin'],
      `${PASSPHRASE}\n`,
    );
    assert.equal(made.status, 0, JSON.stringify(made.document));
    assert.equal(made.document.encrypted, true);
    recoveryKey = made.document.recoveryKey;
    assert.equal(recoveryKey.split(' ').length, 24);
    assert.deepEqual(
      (await keys()).map((key) => [key.kind, key.isOwn, key.drilledAtMs]),
      [
        ['passphrase', false, null],
        ['machine', true, null],
        ['recovery', false, null],
      ],
    );

    const storage = await openLocalStorage({ folder });
    const repository = await openRepository({ storage, threads: 0, recoveryKey });
    ({ pointId } = await commitDisk(repository, 's', CONTENT, { machineId: '00000000000000ab' }));
    await repository.close();
    const seen = await json(['repositories', 'refresh', 'main']);
    assert.equal(seen.document.stats.points, 1, 'the worker reads it without being asked');
    const file = path.join(root, 'disk.img');
    const downloaded = await dozo(['points', 'download', pointId, 'd0', file]);
    assert.equal(downloaded.status, 0, downloaded.errors);
    assert.ok(readFileSync(file).equals(CONTENT));
    const checked = await dozo(['repositories', 'check', 'main', '--depth', 'hashes', '--wait']);
    assert.equal(checked.status, 0, checked.errors);
  });

  it('proves a key in a drill and remembers when; a wrong one proves nothing', async () => {
    const drill = ['repositories', 'keys', 'drill', 'main', '--passphrase-stdin'];
    const done = await json(drill, `${recoveryKey.toUpperCase()}\n`);
    assert.equal(done.status, 0);
    assert.equal(done.document.readPointId, pointId);
    assert.equal(done.document.key.kind, 'recovery');
    assert.ok(done.document.key.drilledAtMs > 0);
    const wrong = await json(drill, 'not the passphrase\n');
    assert.equal(wrong.status, 1);
    assert.equal(wrong.document.error.code, 'REPOSITORY_KEY_WRONG');

    const times = (await keys()).map((key) => [key.kind, key.drilledAtMs !== null]);
    assert.deepEqual(times, [
      ['passphrase', false],
      ['machine', false],
      ['recovery', true],
    ]);
  });

  it('adds, replaces and removes keys without writing data, and keeps one for people', async () => {
    const packs = (): string[] => readdirSync(path.join(folder, 'packs'), { recursive: true }).map(String).sort();
    const before = packs();
    const [first] = await keys();
    const replaced = await json(
      ['repositories', 'keys', 'add', 'main', 'passphrase', '--replaces', first.slotId, '--passphrase-stdin'],
      'a second secret of the test\n',
    );
    assert.equal(replaced.status, 0, JSON.stringify(replaced.document));
    const sheet = await dozo(['repositories', 'keys', 'add', 'main', 'recovery', '--label', 'second sheet']);
    assert.equal(sheet.status, 0);
    assert.match(sheet.out, /^ 1\. [a-z]+ +2\. [a-z]+/m);
    assert.match(sheet.out, /[▀▄█]{8}/, 'a QR code');
    const own = (await keys()).find((key) => key.isOwn) as Answer;
    const renewed = await json(['repositories', 'keys', 'add', 'main', 'machine', '--replaces', own.slotId]);
    assert.equal(renewed.status, 0, JSON.stringify(renewed.document));

    const now = await keys();
    assert.deepEqual(now.map((key) => [key.kind, key.isOwn]).sort(), [
      ['machine', true],
      ['passphrase', false],
      ['recovery', false],
      ['recovery', false],
    ]);
    const refused = await json(['repositories', 'keys', 'remove', 'main', now.find((key) => key.isOwn)?.slotId]);
    assert.equal(refused.document.error.code, 'CONFLICT');
    const forPeople = now.filter((key) => key.kind !== 'machine');
    for (const [index, key] of forPeople.entries()) {
      const removed = await dozo(['repositories', 'keys', 'remove', 'main', key.slotId]);
      assert.equal(removed.status, index === forPeople.length - 1 ? 1 : 0, removed.errors);
    }
    assert.equal((await json(['repositories', 'refresh', 'main'])).document.error, null);
    assert.deepEqual(packs(), before);
    const storage = await openLocalStorage({ folder });
    for (const secret of [{ passphrase: PASSPHRASE }, { recoveryKey }]) {
      await assert.rejects(openRepository({ storage, threads: 0, ...secret }), { code: 'REPOSITORY_KEY_WRONG' });
    }
  });

  it('has a new key of its own once somebody has proven one, where an older copy of the files was put back', async () => {
    const { recoveryKey: words } = (await json(['repositories', 'keys', 'add', 'main', 'recovery'])).document;
    const drill = ['repositories', 'keys', 'drill', 'main', '--passphrase-stdin'];
    const own = (await keys()).find((key) => key.isOwn) as Answer;
    rmSync(path.join(folder, `keys/${own.slotId}.key`));
    const { error } = (await json(['repositories', 'refresh', 'main'])).document;
    assert.equal(error.code, 'REPOSITORY_KEY_WRONG');
    assert.match(error.hint, /a new key of its own/);

    // Not one of another repository that lies there just now.
    renameSync(folder, `${folder}-away`);
    mkdirSync(folder);
    const storage = await openLocalStorage({ folder });
    await (await createRepository({ storage, threads: 0, passphrase: PASSPHRASE })).close();
    const foreign = await json(drill, `${PASSPHRASE}\n`);
    assert.equal(foreign.document.error.code, 'REPOSITORY_EXCHANGED');
    assert.equal(readdirSync(path.join(folder, 'keys')).length, 1);
    rmSync(folder, { recursive: true });
    renameSync(`${folder}-away`, folder);

    assert.equal((await json(drill, `${words}\n`)).status, 0);
    assert.equal((await json(['repositories', 'refresh', 'main'])).document.error, null);
    const proven = await keys();
    assert.deepEqual(
      proven.filter((key) => key.isOwn || key.drilledAtMs !== null).map((key) => key.kind),
      ['recovery', 'machine'],
    );
    assert.equal((await json(drill, `${words}\n`)).status, 0);
    assert.equal((await keys()).length, proven.length, 'one that opens it stays');
  });

  it('takes up an encrypted repository with a key that somebody has, and not without', async () => {
    const { recoveryKey: words } = (await json(['repositories', 'keys', 'add', 'main', 'recovery'])).document;
    assert.equal((await dozo(['repositories', 'remove', 'main'])).status, 0);
    const without = await json(['repositories', 'adopt', 'again', folder]);
    assert.equal(without.document.error.code, 'REPOSITORY_KEY_NEEDED');
    const adopt = ['repositories', 'adopt', 'main', folder, '--encrypted', '--passphrase-stdin'];
    const wrong = await json(adopt, 'a wrong passphrase\n');
    assert.equal(wrong.document.error.code, 'REPOSITORY_KEY_WRONG');
    const adopted = await json(adopt, `${words}\n`);
    assert.equal(adopted.status, 0, JSON.stringify(adopted.document));
    assert.equal(adopted.document.encrypted, true);
    assert.equal(adopted.document.stats.points, 1);
    assert.equal((await json(['repositories', 'refresh', 'main'])).document.error, null);
  });

  it('copies versions into another repository, once, and restores from there', async () => {
    const target = path.join(root, 'second');
    assert.equal((await dozo(['repositories', 'create', 'second', target])).status, 0);
    const copied = await dozo(['repositories', 'copy', 'main', 'second', '--wait']);
    assert.equal(copied.status, 0, copied.out + copied.errors);
    const points = (await json(['points', 'list', '--repository', 'second', '--refresh'])).document as Answer[];
    assert.equal(points.length, 1);
    assert.notEqual(points[0].id, pointId);
    const file = path.join(root, 'copied.img');
    assert.equal((await dozo(['points', 'download', points[0].id, 'd0', file])).status, 0);
    assert.ok(readFileSync(file).equals(CONTENT), 'from encrypted to plain, byte for byte');

    const packs = readdirSync(path.join(target, 'packs'), { recursive: true }).length;
    assert.equal((await dozo(['repositories', 'copy', 'main', 'second', '--wait'])).status, 0);
    assert.equal(readdirSync(path.join(target, 'packs'), { recursive: true }).length, packs);
    assert.equal((await dozo(['retention', 'set-copies', 'second', '--last', '3', '--zone', 'UTC'])).status, 0);
    const { retention } = (await json(['repositories', 'show', 'second'])).document;
    assert.deepEqual([retention.last, retention.days, retention.timeZone], [3, null, 'UTC']);
    assert.equal((await dozo(['retention', 'clear-copies', 'second'])).status, 0);
    assert.equal((await json(['repositories', 'show', 'second'])).document.retention, null);
    const itself = await json(['repositories', 'copy', 'main', 'main']);
    assert.equal(itself.document.error.code, 'CONFLICT');
    const runs = (await json(['runs', 'list', '--kind', 'copy'])).document as Answer[];
    assert.deepEqual(
      runs.map((run) => [run.title, run.state]),
      [
        ['main → second', 'success'],
        ['main → second', 'success'],
      ],
    );
  });

  it('has no keys where nothing is encrypted, and keeps no secret in the open', async () => {
    mkdirSync(path.join(root, 'share'));
    const plain = await json(['repositories', 'create', 'plain', path.join(root, 'share/plain')]);
    assert.equal(plain.document.encrypted, false);
    assert.equal(plain.document.recoveryKey, null);
    const list = await json(['repositories', 'keys', 'list', 'plain']);
    assert.equal(list.document.error.code, 'CONFLICT');

    const words = recoveryKey.split(' ').slice(0, 6).join(' ');
    for (const name of readdirSync(path.join(root, 'data'), { recursive: true, withFileTypes: true })) {
      if (!name.isFile()) continue;
      const bytes = readFileSync(path.join(name.parentPath, name.name));
      for (const secret of [PASSPHRASE, 'a second secret of the test', words]) {
        assert.equal(bytes.indexOf(secret), -1, `${name.name} holds a secret`);
      }
    }
  });
});

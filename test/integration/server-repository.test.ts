import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startServer, type RunningServer } from '../../server/app/start-server.ts';
import { createRepository } from '../../server/repository/index.ts';
import { silentLogger } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { quietDay } from '../product/quiet-day.ts';
import type { Answer } from './server-lab.ts';

const root = mkdtempSync(join(tmpdir(), 'dozo-real-'));
const PASSWORD = 'a password for the test';
const MACHINE_ID = '00000000000000ab';
const SIZE_BYTES = 3 * 1024 * 1024 + 512;

/** A disk with data, a hole, and an end that fills no chunk. */
function makeDisk(): Buffer {
  const disk = Buffer.alloc(SIZE_BYTES);
  randomFillSync(disk, 0, 700_001);
  randomFillSync(disk, 2_000_000, 400_000);
  randomFillSync(disk, SIZE_BYTES - 100, 100);
  return disk;
}

async function makeRepository(path: string, disk: Buffer): Promise<string> {
  mkdirSync(path);
  const repository = await createRepository({
    storage: await openLocalStorage({ folder: path }),
    chunkSizeBytes: 65536,
    threads: 1,
  });
  const session = await repository.startWrite({ sessionId: 's' });
  const writer = await session.openDisk({ key: 'scsi0:0', sizeBytes: disk.length, base: null });
  await writer.write(0, Buffer.from(disk));
  await writer.finish();
  const identity = { name: 'web', instanceUuid: 'i', biosUuid: 'b', path: '[ds] web/web.vmx', diskUuids: ['d'] };
  const manifest = await session.commit({
    machineId: MACHINE_ID,
    machineName: 'web',
    createdAtMs: 1_000,
    state: 'complete',
    stateReasons: [],
    previousPointId: null,
    disks: [{ key: 'scsi0:0', changeToken: null, facts: { label: 'Hard disk 1' } }],
    files: [],
    machine: { version: 1, identity },
    evidence: { consistency: { level: 'filesystem' } },
  });
  await repository.close();
  return manifest.pointId;
}

describe('a server with the real engine and a repository', { timeout: 900_000 }, () => {
  const path = join(root, 'repository');
  const disk = makeDisk();
  let server: RunningServer;
  let token = '';
  let pointId = '';
  let repositoryId = '';

  before(async () => {
    pointId = await makeRepository(path, disk);
    const uiFolder = join(root, 'ui');
    mkdirSync(join(uiFolder, 'assets'), { recursive: true });
    writeFileSync(join(uiFolder, 'index.html'), '<!doctype html><title>Dozo</title>');
    writeFileSync(join(uiFolder, 'assets/app-1234.js'), 'export {};');
    server = await startServer(
      {
        dataFolder: join(root, 'data'),
        bind: '127.0.0.1',
        port: 0,
        tls: { kind: 'own' },
        adminPassword: PASSWORD,
        redis: { kind: 'embedded', binary: null },
        redisPrefix: 'dozo',
        workers: 1,
        workerConcurrency: 2,
        uiFolder,
      },
      { logger: silentLogger },
    );
    const made = await send('POST', '/tokens', { user: 'admin', password: PASSWORD, name: 'test' });
    token = made.json.token;
    assert.equal((await send('PATCH', '/settings', quietDay())).status, 200);
  });
  after(async () => {
    await server.stop();
    rmSync(root, { recursive: true, force: true });
  });

  function send(
    method: string,
    where: string,
    body?: unknown,
  ): Promise<{ status: number; bytes: Buffer; json: Answer; headers: Answer }> {
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          host: '127.0.0.1',
          port: server.port,
          path: where.startsWith('/ui') ? where.slice(3) : `/api/v1${where}`,
          method,
          rejectUnauthorized: false,
          agent: false,
          headers: {
            'x-dozo-request': '1',
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
            ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
            ...(where.startsWith('/ui') ? { accept: 'text/html' } : {}),
          },
        },
        (response) => {
          const pieces: Buffer[] = [];
          response.on('data', (piece: Buffer) => pieces.push(piece));
          response.on('error', reject);
          response.on('end', () => {
            const bytes = Buffer.concat(pieces);
            const isJson = /json/.test(response.headers['content-type'] ?? '');
            resolve({
              status: response.statusCode ?? 0,
              bytes,
              json: isJson ? JSON.parse(bytes.toString()) : null,
              headers: response.headers,
            });
          });
        },
      );
      outgoing.on('error', reject);
      outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async function waitForRun(started: Answer): Promise<Answer> {
    for (;;) {
      const { json: run } = await send('GET', `/runs/${started.id}`);
      if (run.state !== 'waiting' && run.state !== 'running') return run;
      await sleep(100);
    }
  }

  it('adopts a repository with its versions and the machines they are of', async () => {
    const adopted = await send('POST', '/repositories/adopt', { name: 'old', path });
    assert.equal(adopted.status, 201);
    repositoryId = adopted.json.id;
    assert.equal(adopted.json.stats.points, 1);
    assert.equal(adopted.json.chunkSizeBytes, 65536);

    const { json: machines } = await send('GET', '/machines');
    assert.deepEqual(
      machines.map((machine: Answer) => [
        machine.id,
        machine.name,
        machine.hostId,
        machine.present,
        machine.pointCount,
      ]),
      [[MACHINE_ID, 'web', null, false, 1]],
    );
    const { json: point } = await send('GET', `/points/${pointId}`);
    assert.equal(point.consistency, 'filesystem');
    assert.equal(point.disks[0].label, 'Hard disk 1');
    assert.equal((await send('POST', '/repositories/adopt', { name: 'twin', path: `${path}/` })).status, 409);
  });

  it('sends a disk as it was, byte for byte', async () => {
    const download = await send('GET', `/points/${pointId}/disks/scsi0:0/download`);
    assert.equal(download.status, 200);
    assert.equal(download.headers['content-length'], String(SIZE_BYTES));
    assert.match(download.headers['content-disposition'], /^attachment; filename\*=UTF-8''web%20scsi0%3A0\.img$/);
    assert.ok(download.bytes.equals(disk));
    assert.equal((await send('GET', `/points/${pointId}/disks/scsi0:9/download`)).status, 404);
    assert.equal((await send('GET', '/points/none/disks/scsi0:0/download')).status, 404);
  });

  it('writes a disk to a file, and not over one', async () => {
    const target = join(root, 'disk.img');
    const body = { pointId, diskKey: 'scsi0:0', format: 'raw', path: target };
    const run = await waitForRun((await send('POST', '/exports', body)).json);
    assert.equal(run.state, 'success');
    assert.ok(readFileSync(target).equals(disk));
    const again = await waitForRun((await send('POST', '/exports', body)).json);
    assert.equal(again.state, 'failed');
    assert.equal(again.error.code, 'CONFLICT');
    assert.ok(readFileSync(target).equals(disk));
  });

  it('creates repositories in empty folders only, and never above an unmounted volume', async () => {
    const made = await send('POST', '/repositories', { name: 'new', path: join(root, 'new') });
    assert.equal(made.status, 201);
    assert.ok(readdirSync(join(root, 'new')).includes('repository.dozo'));
    const nested = await send('POST', '/repositories', { name: 'x', path: join(root, 'not/there') });
    assert.equal(nested.json.code, 'STORAGE_MISSING');
    const used = await send('POST', '/repositories', { name: 'x', path: join(root, 'ui') });
    assert.equal(used.json.code, 'CONFLICT');
    assert.deepEqual(readdirSync(join(root, 'ui')).sort(), ['assets', 'index.html']);
    await send('DELETE', `/repositories/${made.json.id}`);
    const there = await send('POST', '/repositories', { name: 'x', path: join(root, 'new') });
    assert.equal(there.json.code, 'REPOSITORY_EXISTS');
    const empty = await send('POST', '/repositories/adopt', { name: 'x', path: join(root, 'ui') });
    assert.equal(empty.json.code, 'REPOSITORY_NOT_FOUND');
  });

  it('keeps what it knows while the volume is away, and says so', async () => {
    renameSync(path, `${path}.away`);
    const refresh = await send('POST', `/repositories/${repositoryId}/refresh`, {});
    assert.equal(refresh.json.code, 'STORAGE_MISSING');
    assert.equal((await send('GET', '/points')).json.points.length, 1);
    assert.equal((await send('GET', `/repositories/${repositoryId}`)).json.error.code, 'STORAGE_MISSING');
    renameSync(`${path}.away`, path);
    assert.equal((await send('POST', `/repositories/${repositoryId}/refresh`, {})).json.error, null);
  });

  it('finds damage by a check', async () => {
    const good = await waitForRun(
      (await send('POST', `/repositories/${repositoryId}/check`, { depth: 'hashes' })).json,
    );
    assert.equal(good.state, 'success');
    const byChecksums = await waitForRun(
      (await send('POST', `/repositories/${repositoryId}/check`, { depth: 'checksums' })).json,
    );
    assert.equal(byChecksums.state, 'success');
    assert.equal(byChecksums.parts[0].result.depth, 'checksums');
    assert.ok(byChecksums.parts[0].result.readBytes >= good.parts[0].result.readBytes * 0.9, 'all bytes were read');
    const packs = readdirSync(path, { recursive: true, encoding: 'utf8' }).filter(
      (name) => /pack/.test(name) && /\.\w+$/.test(name),
    );
    truncateSync(join(path, packs[0] ?? ''), 1000);
    const short = await waitForRun(
      (await send('POST', `/repositories/${repositoryId}/check`, { depth: 'checksums' })).json,
    );
    assert.equal(short.state, 'failed');
    assert.match(short.error.code, /^REPOSITORY_/);
    const bad = await waitForRun((await send('POST', `/repositories/${repositoryId}/check`, { depth: 'hashes' })).json);
    assert.equal(bad.state, 'failed');
    assert.ok(bad.parts[0].result.damages.length > 0);
    assert.match(bad.error.code, /^REPOSITORY_/);
  });

  it('names what is wrong with a host that is not there', async () => {
    const reply = await send('POST', '/hosts/probe', { host: '127.0.0.1', httpsPort: 1, sshPort: 1, password: 'x' });
    assert.equal(reply.status, 200);
    assert.equal(reply.json.ok, false);
    assert.equal(reply.json.error.code, 'HOST_PORT_REFUSED');
    assert.ok(reply.json.error.hint.length > 0);
    assert.ok(reply.json.steps.length > 0);
  });

  it('serves the window to everyone, and nothing beside it', async () => {
    for (const where of ['/ui/', '/ui/hosts/1', '/ui/runs?x=1']) {
      const page = await send('GET', where);
      assert.equal(page.status, 200, where);
      assert.match(page.bytes.toString(), /<title>Dozo/);
      assert.equal(page.headers['cache-control'], 'no-cache');
    }
    assert.match((await send('GET', '/ui/assets/app-1234.js')).headers['cache-control'], /immutable/);
    for (const where of ['/ui/assets/none.js', '/ui/assets/..%2f..%2fdata%2fsecret.key', '/ui/../data/secret.key']) {
      const reply = await send('GET', where);
      assert.ok(!/^[0-9a-f]{64}/.test(reply.bytes.toString()), where);
      assert.ok(reply.status === 404 || reply.bytes.toString().includes('<title>Dozo'), where);
    }
    assert.equal((await send('POST', '/ui/hosts', {})).status, 404);
  });
});

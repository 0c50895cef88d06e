import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAppError } from '../errors/index.ts';
import { silentLogger, systemClock } from '../runtime/index.ts';
import { startEmbeddedRedis, type EmbeddedRedis } from './embedded-redis.ts';

const root = await mkdtemp(join(tmpdir(), 'dozo-redis-'));
after(() => rm(root, { recursive: true, force: true }));

function start(folder: string, binary: string | null = null): Promise<EmbeddedRedis> {
  return startEmbeddedRedis({ folder, binary, clock: systemClock, logger: silentLogger });
}

function tell(path: string, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.on('error', reject);
    socket.on('connect', () => socket.write(`${command}\r\n`));
    socket.on('data', (data) => {
      socket.destroy();
      resolve(data.toString().trim());
    });
  });
}

async function eventually(look: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 900; attempt += 1) {
    if (await look().catch(() => false)) return;
    await sleep(100);
  }
  assert.fail('it did not come about within ninety seconds');
}

describe('embedded Redis', { timeout: 900_000 }, () => {
  it('answers on a private socket and on no port', async () => {
    const folder = join(root, 'private');
    const redis = await start(folder);
    assert.equal((await stat(folder)).mode & 0o777, 0o700);
    assert.equal((await stat(redis.socketPath)).mode & 0o777, 0o700);
    assert.match(await tell(redis.socketPath, 'CONFIG GET port'), /\$1\r\n0$/);
    assert.match(await tell(redis.socketPath, 'CONFIG GET maxmemory-policy'), /noeviction/);
    assert.match(await tell(redis.socketPath, 'CONFIG GET appendonly'), /yes/);
    await redis.stop();
    assert.equal(redis.pid(), null);
    assert.equal(existsSync(redis.socketPath), false);
  });

  it('is started again when it is killed, with what it held', async () => {
    const redis = await start(join(root, 'killed'));
    await tell(redis.socketPath, 'SET a 1');
    await sleep(1100);
    const first = redis.pid();
    assert.ok(first !== null);
    process.kill(first, 'SIGKILL');
    await eventually(async () => (await tell(redis.socketPath, 'GET a')) === '$1\r\n1');
    assert.notEqual(redis.pid(), first);
    await redis.stop();
  });

  it('ends one that a killed server left behind, and takes its data over', async () => {
    const folder = join(root, 'leftover');
    const first = await start(folder);
    await first.stop();
    const orphan = spawn('redis-server', [join(folder, 'redis.conf')], { stdio: 'ignore' });
    await eventually(async () => (await tell(first.socketPath, 'PING')) === '+PONG');
    await tell(first.socketPath, 'SET kept yes');

    const second = await start(folder);

    await eventually(async () => orphan.exitCode !== null);
    assert.equal(await tell(second.socketPath, 'GET kept'), '$3\r\nyes');
    await second.stop();
  });

  it('ends one that answers nothing any more before it starts its own', async () => {
    const folder = join(root, 'stuck');
    const first = await start(folder);
    await first.stop();
    const orphan = spawn('redis-server', [join(folder, 'redis.conf')], { stdio: 'ignore', cwd: folder });
    await eventually(async () => (await tell(first.socketPath, 'PING')) === '+PONG');
    // As one that waits for its disk.
    orphan.kill('SIGSTOP');

    const second = await start(folder);

    await eventually(async () => orphan.signalCode !== null);
    assert.equal(orphan.signalCode, 'SIGKILL');
    assert.equal(await tell(second.socketPath, 'SET a 1'), '+OK');
    await second.stop();
  });

  it('is not held up by a socket that nobody listens on', async () => {
    const folder = join(root, 'stale');
    await mkdir(folder);
    await writeFile(join(folder, 'redis.sock'), '');
    const redis = await start(folder);
    assert.equal(await tell(redis.socketPath, 'PING'), '+PONG');
    await redis.stop();
  });

  it('sets data aside that it cannot read', async () => {
    const folder = join(root, 'damaged');
    const first = await start(folder);
    await tell(first.socketPath, 'SET a 1');
    await first.stop();
    await writeFile(join(folder, 'appendonlydir/appendonly.aof.manifest'), 'rubbish\n');
    const redis = await start(folder);
    assert.equal(await tell(redis.socketPath, 'GET a'), '$-1');
    assert.equal(await readFile(join(folder, 'appendonlydir.unreadable/appendonly.aof.manifest'), 'utf8'), 'rubbish\n');
    await redis.stop();
  });

  it('says what is wrong when there is no Redis or no room for its socket', async () => {
    const isUnavailable = (error: unknown): boolean => isAppError(error) && error.code === 'QUEUE_UNAVAILABLE';
    await assert.rejects(start(join(root, 'none'), '/no/such/redis'), isUnavailable);
    await assert.rejects(start(join(root, 'x'.repeat(120))), isUnavailable);
  });
});

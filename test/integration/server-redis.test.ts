import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadCertificate } from '../../server/http/index.ts';
import { systemClock } from '../../server/runtime/index.ts';
import { freePort } from '../lab/free-port.ts';
import { ServerLab } from './server-lab.ts';

async function isListening(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  const isConnected = await once(socket, 'connect').then(
    () => true,
    () => false,
  );
  socket.destroy();
  return isConnected;
}

describe('a server with an external Redis behind TLS and a password', { timeout: 900_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'dozo-external-'));
  let redis: ChildProcess;
  let lab: ServerLab;
  let port = 0;

  async function startRedis(): Promise<void> {
    redis = spawn('redis-server', [join(folder, 'redis.conf')], { stdio: 'ignore' });
    while (!(await isListening(port))) await sleep(50);
  }

  before(async () => {
    port = await freePort();
    await loadCertificate(join(folder, 'tls'), systemClock);
    writeFileSync(join(folder, 'password'), 'the password of Redis\n');
    writeFileSync(
      join(folder, 'redis.conf'),
      [
        'port 0',
        `tls-port ${port}`,
        'bind 127.0.0.1',
        `tls-cert-file ${folder}/tls/certificate.pem`,
        `tls-key-file ${folder}/tls/key.pem`,
        `tls-ca-cert-file ${folder}/tls/certificate.pem`,
        'tls-auth-clients no',
        'requirepass "the password of Redis"',
        'save ""',
        `dir ${folder}`,
        '',
      ].join('\n'),
    );
    await startRedis();
  });
  after(async () => {
    await lab.destroy();
    redis.kill('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  });

  it('runs a job over it', async () => {
    lab = new ServerLab({
      DOZO_REDIS_URL: `rediss://localhost:${port}`,
      DOZO_REDIS_PASSWORD_FILE: join(folder, 'password'),
      DOZO_REDIS_CA_FILE: join(folder, 'tls/certificate.pem'),
      DOZO_REDIS_PREFIX: 'dozo-test',
    });
    await lab.start();
    const ids = await lab.setUp();

    const run = await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);

    assert.equal(run.state, 'success');
    assert.equal((await lab.pids()).redis, null);
  });

  it('says that the queue is away while it is, and goes on with the rest', async () => {
    redis.kill('SIGSTOP');
    try {
      const host = await lab.send('/hosts');
      assert.equal(host.status, 200);
      const [known] = host.json;
      const test = await lab.call('POST', `/hosts/${known.id}/test`, {});
      assert.equal(test.ok, false);
      assert.equal(test.error.code, 'QUEUE_UNAVAILABLE');
    } finally {
      redis.kill('SIGCONT');
    }
    await lab.until(async () => {
      const [known] = await lab.call('GET', '/hosts');
      return (await lab.call('POST', `/hosts/${known.id}/test`, {})).ok ? true : null;
    }, 'the queue to be back');
  });

  it('stops in order with tasks at work while the queue is gone, and goes on at the next start', async () => {
    lab.script({ hold: true });
    const [job] = await lab.call('GET', '/jobs');
    const { id } = await lab.call('POST', `/jobs/${job.id}/run`, {});
    await lab.until(async () => {
      const { parts } = await lab.call('GET', `/runs/${id}`);
      return parts.every(({ state }: { state: string }) => state === 'running') ? true : null;
    }, 'both machines to run');
    const ended = once(redis, 'exit');
    redis.kill('SIGKILL');
    await ended;

    const status = await lab.stop();

    assert.equal(status, 0);
    await startRedis();
    lab.script({});
    await lab.start();
    assert.equal((await lab.waitForRun(id)).state, 'success');
  });
});

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { readServerConfiguration, readWorkerConfiguration } from './configuration.ts';

const folder = await mkdtemp(join(tmpdir(), 'dozo-configuration-'));
after(() => rm(folder, { recursive: true, force: true }));

describe('settings of the server', () => {
  it('have safe defaults', () => {
    const configuration = readServerConfiguration({ DOZO_DATA_DIR: '/var/dozo' });
    assert.equal(configuration.port, 5510);
    assert.deepEqual(configuration.tls, { kind: 'own' });
    assert.deepEqual(configuration.redis, { kind: 'embedded', binary: null });
    assert.equal(configuration.adminPassword, null);
    assert.equal(configuration.workers, 1);
    assert.equal(configuration.language, 'en');
  });

  it('take the language that the scripts of a package have found', () => {
    const languages = ['ger', 'jpn', 'enu', 'def', 'fre', ''].map(
      (language) => readServerConfiguration({ DOZO_DATA_DIR: '/x', DOZO_LANGUAGE: language }).language,
    );
    assert.deepEqual(languages, ['de', 'ja', 'en', 'en', 'en', 'en']);
  });

  it('take secrets from files', async () => {
    const path = join(folder, 'password');
    await writeFile(path, 'from a file\n');
    const configuration = readServerConfiguration({
      DOZO_DATA_DIR: '/x',
      DOZO_ADMIN_PASSWORD_FILE: path,
      DOZO_REDIS_URL: 'rediss://r:6380',
      DOZO_REDIS_PASSWORD_FILE: path,
    });
    assert.equal(configuration.adminPassword, 'from a file');
    assert.ok(configuration.redis.kind === 'external' && configuration.redis.address.kind === 'tcp');
    assert.equal(configuration.redis.address.password, 'from a file');
  });

  it('refuse what cannot be meant', () => {
    const base = { DOZO_DATA_DIR: '/x' };
    for (const wrong of [
      {},
      { ...base, DOZO_PORT: '70000' },
      { ...base, DOZO_PORT: 'http' },
      { ...base, DOZO_WORKERS: '-1' },
      { ...base, DOZO_TLS: 'off', DOZO_BIND: '0.0.0.0' },
      { ...base, DOZO_TLS_KEY: '/k' },
      { ...base, DOZO_REDIS_URL: 'nonsense' },
      { ...base, DOZO_ADMIN_PASSWORD_FILE: '/no/such/file' },
    ]) {
      assert.throws(() => readServerConfiguration(wrong), /DOZO_/, JSON.stringify(wrong));
    }
    assert.equal(readServerConfiguration({ ...base, DOZO_TLS: 'off' }).bind, '127.0.0.1');
  });
});

describe('settings of a worker', () => {
  it('name a Redis and a key', () => {
    assert.throws(() => readWorkerConfiguration({ DOZO_KEY_FILE: '/k' }), /DOZO_REDIS_URL/);
    assert.throws(() => readWorkerConfiguration({ DOZO_REDIS_URL: 'redis://x' }), /DOZO_KEY_FILE/);
    const local = readWorkerConfiguration({ DOZO_REDIS_SOCKET: '/s', DOZO_KEY_FILE: '/k' });
    assert.deepEqual(local.redis, { kind: 'socket', path: '/s' });
    assert.deepEqual(local.iscsi, { address: null, port: null, bind: null });
  });

  it('tell a worker where hosts reach its iSCSI disks, or that they do not', () => {
    const base = { DOZO_REDIS_SOCKET: '/s', DOZO_KEY_FILE: '/k' };
    const told = readWorkerConfiguration({ ...base, DOZO_ISCSI_ADDRESS: '192.0.2.7', DOZO_ISCSI_PORT: '3270' });
    assert.deepEqual(told.iscsi, { address: '192.0.2.7', port: 3270, bind: null });
    assert.equal(readWorkerConfiguration({ ...base, DOZO_ISCSI: 'off' }).iscsi, null);
    assert.throws(() => readWorkerConfiguration({ ...base, DOZO_ISCSI_ADDRESS: 'nas.local' }), /DOZO_ISCSI_ADDRESS/);
    assert.throws(() => readWorkerConfiguration({ ...base, DOZO_ISCSI: 'yes' }), /DOZO_ISCSI/);
  });
});

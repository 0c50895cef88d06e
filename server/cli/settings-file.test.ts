import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { loadConnection, normalizeServer, saveConnection, settingsPath } from './settings-file.ts';

const folder = await mkdtemp(join(tmpdir(), 'dozo-settings-'));
after(() => rm(folder, { recursive: true, force: true }));

describe('connection of the command line', () => {
  it('is kept for its owner, and not told to another server', async () => {
    const environment = { DOZO_CONFIG: join(folder, 'a/cli.json') };
    const kept = { server: 'https://nas:5510', fingerprint: 'ab'.repeat(32), token: 'dozo_secret' };
    await saveConnection(settingsPath(environment), kept);
    assert.equal((await stat(environment.DOZO_CONFIG)).mode & 0o777, 0o600);
    assert.deepEqual(await loadConnection({}, environment), kept);
    assert.deepEqual(await loadConnection({ server: 'nas' }, environment), kept);
    assert.deepEqual(await loadConnection({ server: 'other' }, environment), {
      server: 'https://other:5510',
      fingerprint: null,
      token: null,
    });
    const env = { ...environment, DOZO_TOKEN: 't', DOZO_SERVER: 'third:1', DOZO_FINGERPRINT: 'CD:'.repeat(31) + 'CD' };
    assert.deepEqual(await loadConnection({}, env), {
      server: 'https://third:1',
      fingerprint: 'cd'.repeat(32),
      token: 't',
    });
  });

  it('says what is missing or broken', async () => {
    await assert.rejects(loadConnection({}, { DOZO_CONFIG: join(folder, 'none') }), /No server is known/);
    const path = join(folder, 'broken');
    await writeFile(path, '{');
    await assert.rejects(loadConnection({}, { DOZO_CONFIG: path }), /cannot be read/);
    await assert.rejects(
      loadConnection({ server: 'nas', fingerprint: 'short' }, { DOZO_CONFIG: join(folder, 'none') }),
      /64 hex digits/,
    );
  });

  it('is never open on a network', () => {
    assert.equal(normalizeServer('nas'), 'https://nas:5510');
    assert.equal(normalizeServer('https://nas:443'), 'https://nas');
    assert.equal(normalizeServer('http://localhost:5510'), 'http://localhost:5510');
    for (const bad of ['http://nas:5510', 'ftp://nas', 'https://user:pw@nas', '', 'https://']) {
      assert.throws(() => normalizeServer(bad), bad);
    }
  });
});

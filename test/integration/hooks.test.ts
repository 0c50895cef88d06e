import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type Reply, ServerLab } from './server-lab.ts';

describe('hooks of a job', { timeout: 900_000 }, () => {
  const scripts = mkdtempSync(join(tmpdir(), 'dozo-scripts-'));
  const lab = new ServerLab({ DOZO_SCRIPTS_DIR: scripts, DOZO_REDIS_PASSWORD: 'a secret of the server' });
  let jobId = '';

  before(async () => {
    await lab.start();
    ({ jobId } = await lab.setUp());
    lab.script({ backupMs: 50 });
  });
  after(async () => {
    await lab.destroy();
    rmSync(scripts, { recursive: true, force: true });
  });

  const place = (name: string, text: string, mode = 0o755): void => {
    writeFileSync(join(scripts, name), `#!/bin/sh\n${text}\n`);
    chmodSync(join(scripts, name), mode);
  };
  const setScripts = (body: object): Promise<Reply> => lab.send(`/jobs/${jobId}/scripts`, { method: 'PUT', body });
  const run = async (): ReturnType<ServerLab['waitForRun']> =>
    lab.waitForRun((await lab.call('POST', `/jobs/${jobId}/run`, {})).id);
  const journal = (name: string): string => readFileSync(join(scripts, name), 'utf8');

  it('runs a script before and one after, told by their environment only', async () => {
    place('around', `env > ${scripts}/env-$DOZO_EVENT; echo "$DOZO_EVENT $DOZO_STATE" >> ${scripts}/order; echo hello`);
    assert.equal((await setScripts({ before: 'around', after: 'around' })).status, 200);
    const ended = await run();
    await lab.until(async () => (journal('order').includes('after') ? true : null), 'the script after');

    assert.equal(ended.state, 'success');
    assert.equal(journal('order'), 'before waiting\nafter success\n');
    const environment = journal('env-before');
    assert.match(environment, new RegExp(`^DOZO_RUN_ID=${ended.id}$`, 'm'));
    assert.match(environment, /^DOZO_JOB_NAME=nightly$/m);
    assert.doesNotMatch(environment, /secret|DOZO_DATA_DIR|DOZO_ADMIN/);
    const { lines } = await lab.call('GET', `/runs/${ended.id}/log`);
    assert.ok(
      lines.some(({ code, text }: { code: string; text: string }) => code === 'SCRIPT_DONE' && text.includes('hello')),
    );
  });

  it('backs nothing up when the script before fails, and says what it said', async () => {
    place('fails', 'echo "the database does not answer" >&2; exit 7');
    place('cleanup', `echo "$DOZO_STATE" > ${scripts}/cleanup-done`);
    await setScripts({ before: 'fails', after: 'cleanup' });
    const before = lab.journal('backup-start').length;
    const ended = await run();

    assert.equal(ended.state, 'failed');
    assert.equal(ended.error.code, 'HOOK_FAILED');
    assert.match(ended.error.message, /fails .*ended with 7.*the database does not answer/);
    assert.equal(lab.journal('backup-start').length, before);
    await lab.until(async () => (journal('cleanup-done') === '' ? null : true), 'the script after');
    assert.equal(journal('cleanup-done'), 'failed\n');
    assert.equal((await lab.call('GET', '/system')).openHolds, 0);
  });

  it('begins again with the script when the server was killed in it', async () => {
    place('slow', `echo begun >> ${scripts}/slow-begun; [ -e ${scripts}/go ] || sleep 60`);
    await setScripts({ before: 'slow' });
    const { id } = await lab.call('POST', `/jobs/${jobId}/run`, {});
    await lab.until(async () => (existsSync(join(scripts, 'slow-begun')) ? true : null), 'the script');
    assert.equal((await lab.call('GET', `/runs/${id}`)).state, 'waiting');
    await lab.killServer();
    writeFileSync(join(scripts, 'go'), '');
    await lab.start();

    assert.equal((await lab.waitForRun(id)).state, 'success');
    assert.equal(journal('slow-begun'), 'begun\nbegun\n');
  });

  it('runs files of its folder only', async () => {
    place('not-executable', 'true', 0o644);
    place('open-to-all', 'true', 0o777);
    mkdirSync(join(scripts, 'folder'));
    symlinkSync('/bin/true', join(scripts, 'link'));
    for (const name of [
      'not-executable',
      'open-to-all',
      'folder',
      'link',
      'missing',
      '../around',
      '/bin/true',
      'a b',
      '-x',
    ]) {
      assert.equal((await setScripts({ before: name })).status, 400, name);
    }
    const hooks = await lab.call('GET', `/jobs/${jobId}/hooks`);
    assert.deepEqual(hooks.availableScripts, ['around', 'cleanup', 'fails', 'slow']);
    await setScripts({});
  });

  it('is started by a signed call, once each', async () => {
    const { path, secret } = await lab.call('POST', `/jobs/${jobId}/trigger`, {});
    let at = Math.floor(Date.now() / 1000);
    const call = (
      changes: { secret?: string; at?: number; body?: string; signed?: string; path?: string } = {},
    ): Promise<Reply> => {
      const { body = '{}' } = changes;
      const seconds = changes.at ?? at;
      const hmac = createHmac('sha256', changes.secret ?? secret)
        .update(`${seconds}.${changes.signed ?? body}`)
        .digest('hex');
      return lab.send(changes.path ?? path, {
        method: 'POST',
        token: null,
        rawBody: body,
        headers: {
          'content-type': 'application/json',
          'x-dozo-timestamp': String(seconds),
          'x-dozo-signature': `v1=${hmac}`,
        },
      });
    };
    const refused = async (reply: Promise<Reply>): Promise<void> => {
      const { status, json } = await reply;
      assert.deepEqual([status, json.code], [403, 'FORBIDDEN']);
    };

    await refused(call({ secret: 'wrong' }));
    await refused(call({ at: at - 400 }));
    await refused(call({ at: at + 400 }));
    await refused(call({ body: '{"fullRead":true}', signed: '{}' }));
    await refused(call({ path: '/api/v1/triggers/0123456789abcdef' }));
    await refused(lab.send(path, { method: 'POST', token: null, body: {} }));
    const started = await call();
    assert.equal(started.status, 202, started.text);
    const ended = await lab.waitForRun(started.json.runId);
    assert.equal(ended.jobId, jobId);
    await refused(call());

    at += 1;
    const full = await call({ body: '{ "fullRead": true }' });
    assert.equal(full.status, 202, full.text);
    await lab.waitForRun(full.json.runId);
    const renewed = await lab.call('POST', `/jobs/${jobId}/trigger`, {});
    at += 1;
    await refused(call());
    await lab.call('DELETE', `/jobs/${jobId}/trigger`);
    await refused(call({ secret: renewed.secret }));
    assert.equal((await lab.call('GET', `/jobs/${jobId}/hooks`)).trigger, null);
    assert.doesNotMatch(JSON.stringify(await lab.call('GET', `/jobs/${jobId}/hooks`)), new RegExp(renewed.secret));
  });
});

it('scripts are off where nobody has switched them on', { timeout: 180_000 }, async () => {
  const lab = new ServerLab();
  await lab.start();
  try {
    const { jobId } = await lab.setUp();
    const reply = await lab.send(`/jobs/${jobId}/scripts`, { method: 'PUT', body: { before: 'true' } });
    assert.deepEqual([reply.status, reply.json.code], [409, 'CONFLICT']);
    assert.equal((await lab.call('GET', `/jobs/${jobId}/hooks`)).scriptsAllowed, false);
  } finally {
    await lab.destroy();
  }
});

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ADMIN_PASSWORD, ServerLab } from './server-lab.ts';

describe('a monitor', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;
  let token = '';

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
    const made = await lab.send('/tokens', {
      method: 'POST',
      token: null,
      body: { user: 'admin', password: ADMIN_PASSWORD, name: 'prometheus', scope: 'monitor' },
    });
    assert.equal(made.json.scope, 'monitor');
    token = made.json.token;
  });
  after(() => lab.destroy());

  it('reads what became of jobs, machines, hosts and repositories', async () => {
    const run = await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
    await lab.until(async () => {
      const { points } = await lab.call('GET', '/points');
      return points.length === 2 ? true : null;
    }, 'two versions');
    // Of some machines only: no success of the job.
    const { id } = await lab.call('POST', `/jobs/${ids.jobId}/run`, { machineIds: ids.machineIds.slice(1) });
    const part = await lab.waitForRun(id);
    assert.ok(part.finishedAtMs > run.finishedAtMs);
    const reply = await lab.send('/metrics', { token });

    assert.equal(reply.status, 200);
    assert.match(String(reply.headers['content-type']), /^application\/openmetrics-text; version=1\.0\.0/);
    const lines = reply.text.split('\n');
    assert.deepEqual(lines.slice(-2), ['# EOF', '']);
    for (const line of [
      'dozo_queue_up 1',
      'dozo_notifications_failed 0',
      'dozo_job_last_run_state{job="nightly",state="success"} 1',
      `dozo_job_last_success_seconds{job="nightly"} ${run.finishedAtMs / 1000}`,
      `dozo_machine_versions{machine="one",id="${ids.machineIds[0]}"} 1`,
      `dozo_machine_protected{machine="two",id="${ids.machineIds[1]}"} 1`,
      'dozo_repository_up{repository="store"} 1',
    ]) {
      assert.ok(lines.includes(line), `${line}\nis not in\n${reply.text}`);
    }
    const form = /^(# (TYPE|HELP) dozo_\w+ .+|# EOF|dozo_\w+(\{(\w+="([^"\\]|\\.)*",?)+\})? -?\d+(\.\d+)?|)$/;
    assert.deepEqual(
      lines.filter((line) => !form.test(line)),
      [],
    );
  });

  it('may do nothing else: every other function of the API refuses its token', async () => {
    const document = await lab.call('GET', '/openapi.json');
    const allowed: string[] = [];
    for (const [path, methods] of Object.entries(document.paths as Record<string, Record<string, object>>)) {
      for (const [method, operation] of Object.entries(methods)) {
        // What is open to strangers asks for no token.
        if ('security' in operation) continue;
        // It would log itself out.
        if (method === 'delete' && path === '/session') continue;
        const reply = await lab.send(path.replaceAll(/\{\w+\}/g, '0123456789abcdef'), {
          method: method.toUpperCase(),
          token,
          ...(method === 'get' || method === 'delete' ? {} : { body: {} }),
        });
        if (reply.status === 403 && reply.json.code === 'FORBIDDEN') continue;
        allowed.push(`${method} ${path}`);
      }
    }

    assert.deepEqual(allowed.sort(), [
      'get /health/details',
      'get /metrics',
      'get /openapi.json',
      'get /session',
      'get /system',
    ]);
    assert.equal((await lab.send('/metrics', { token: null })).status, 401);
    assert.equal((await lab.send(`/metrics?token=${token}`, { token: null })).status, 400);
  });
});

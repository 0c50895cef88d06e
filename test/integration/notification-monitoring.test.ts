import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { ADMIN_PASSWORD, ServerLab } from './server-lab.ts';

const MONITORING = join(import.meta.dirname, '../../docs/monitoring');
const CHECK = join(MONITORING, 'check_dozo');

/** Runs the plugin as a monitor does. */
function check(...args: string[]): Promise<{ status: number; out: string }> {
  return new Promise((resolve) => {
    execFile('python3', [CHECK, '--timeout', '120', ...args], { encoding: 'utf8', timeout: 300_000 }, (error, out) => {
      resolve({ status: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, out });
    });
  });
}

describe('files for monitors', { timeout: 900_000 }, () => {
  const lab = new ServerLab();
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;
  let token = '';
  let names: Set<string>;
  let fingerprint = '';

  before(async () => {
    await lab.start();
    ids = await lab.setUp();
    const body = { user: 'admin', password: ADMIN_PASSWORD, name: 'monitor', scope: 'monitor' };
    token = (await lab.send('/tokens', { method: 'POST', token: null, body })).json.token;
    const { text } = await lab.send('/metrics', { token });
    names = new Set([...text.matchAll(/^# TYPE (dozo_\w+) /gm)].map((match) => match[1] ?? ''));
    const { X509Certificate } = await import('node:crypto');
    const pem = readFileSync(join(lab.dataFolder, 'tls/certificate.pem'), 'utf8');
    fingerprint = new X509Certificate(pem).fingerprint256.replaceAll(':', '').toLowerCase();
    writeFileSync(join(lab.folder, 'token'), `${token}\n`);
  });
  after(() => lab.destroy());

  it('name only metrics and labels that are there', async () => {
    assert.ok(names.size > 15);
    for (const file of ['grafana-dashboard.json', 'prometheus-rules.yml', 'zabbix-template.yaml', '../monitoring.md']) {
      const used = [...readFileSync(join(MONITORING, file), 'utf8').matchAll(/\bdozo_[a-z_]+/g)].map(([name]) => name);
      const unknown = used.filter((name) => !names.has(name));
      assert.deepEqual(
        unknown.filter((name) => name !== 'dozo_check'),
        [],
        file,
      );
      assert.ok(used.length > 5, file);
    }
    const documented = readFileSync(join(MONITORING, '../monitoring.md'), 'utf8');
    assert.deepEqual(
      [...names].filter((name) => !documented.includes(`\`${name}\``)),
      [],
      'docs/monitoring.md names every metric',
    );
  });

  it('ask nothing of a metric that its samples do not have', async () => {
    const rule = { kind: 'once', at: '2099-12-31T22:00' };
    await lab.call('PUT', `/jobs/${ids.jobId}/schedule`, { timeZone: 'UTC', rules: [{ rule }] });
    await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
    await lab.until(async () => ((await lab.call('GET', '/points')).points.length === 2 ? true : null), 'the versions');
    const { text } = await lab.send('/metrics', { token });
    // What Prometheus puts beside them.
    const labels = new Map([...names].map((name) => [name, new Set(['instance'])]));
    const sampled = new Set<string>();
    for (const [, name = '', pairs = ''] of text.matchAll(/^(dozo_\w+)(?:\{(.*)\})? \S+$/gm)) {
      sampled.add(name);
      for (const [, label = ''] of pairs.matchAll(/(?:^|",)(\w+)="/g)) labels.get(name)?.add(label);
    }

    const dashboard = JSON.parse(readFileSync(join(MONITORING, 'grafana-dashboard.json'), 'utf8'));
    const asked: { expr: string; shown: string }[] = dashboard.panels.flatMap(
      ({ targets }: { targets: { expr: string; legendFormat?: string }[] }) =>
        targets.map(({ expr, legendFormat = '' }) => ({ expr, shown: legendFormat })),
    );
    const rules = readFileSync(join(MONITORING, 'prometheus-rules.yml'), 'utf8');
    for (const [, expr = '', shown = ''] of rules.matchAll(/expr: (.*)\n(?:(?!expr:).*\n)*? +annotations: (.*)/g)) {
      asked.push({ expr, shown });
    }
    assert.ok(asked.length > 20, `${asked.length} queries`);
    for (const { expr, shown } of asked) {
      const metrics = [...expr.matchAll(/\bdozo_\w+/g)].map(([name]) => name);
      assert.ok(metrics.length > 0, expr);
      for (const name of metrics) assert.ok(sampled.has(name), `${expr}: no sample of ${name}`);
      for (const [, name = '', selectors = ''] of expr.matchAll(/\b(dozo_\w+)\{([^}]*)\}/g)) {
        for (const [, label = ''] of selectors.matchAll(/(\w+)(?:=~|!~|!=|=)"/g)) {
          assert.ok(labels.get(name)?.has(label), `${expr}: ${name} has no label ${label}`);
        }
      }
      const wanted = [
        ...[...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(/, */)),
        ...[...shown.matchAll(/\{\{ *(?:\$labels\.)?(\w+) *\}\}/g)].map(([, label = '']) => label),
      ];
      for (const label of wanted) {
        assert.ok(
          metrics.some((name) => labels.get(name)?.has(label)),
          `${expr}: nothing in it has the label ${label}`,
        );
      }
    }
  });

  it('have a dashboard of the form that Grafana imports', () => {
    const dashboard = JSON.parse(readFileSync(join(MONITORING, 'grafana-dashboard.json'), 'utf8'));
    const variables = dashboard.templating.list.map(({ name }: { name: string }) => name);
    assert.deepEqual(variables, ['datasource', 'instance']);
    const seen = new Set<number>();
    for (const panel of dashboard.panels) {
      assert.ok(!seen.has(panel.id) && panel.gridPos.x + panel.gridPos.w <= 24, panel.title);
      seen.add(panel.id);
      for (const { expr } of panel.targets) assert.match(expr, /instance=~"\$instance"/, panel.title);
    }
  });

  it('tell Nagios how the server is', async () => {
    const url = `https://127.0.0.1:${lab.port}`;
    const tokenFile = join(lab.folder, 'token');
    const well = await check('--url', url, '--token-file', tokenFile, '--fingerprint', fingerprint);
    assert.equal(well.status, 0, well.out);
    assert.match(well.out, /^DOZO OK - all is well \| queue=0;;;0;2 /);

    lab.script({ backupMs: 50, fail: ['two'] });
    await lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
    const bad = await check('--url', url, '--token-file', tokenFile, '--fingerprint', fingerprint);
    assert.equal(bad.status, 2, bad.out);
    assert.match(bad.out, /^DOZO CRITICAL - tasks: In trouble: nightly\..*\ntasks: nightly: failed$/m);
    assert.equal(
      (await check('--url', url, '--token-file', tokenFile, '--fingerprint', fingerprint, '--only', 'queue')).status,
      0,
    );

    for (const args of [
      ['--url', url, '--token-file', tokenFile],
      ['--url', url, '--token-file', tokenFile, '--fingerprint', 'ab'.repeat(32)],
      ['--url', 'https://127.0.0.1:1', '--token-file', tokenFile, '--fingerprint', fingerprint],
      ['--url', url, '--token-file', join(lab.folder, 'none'), '--fingerprint', fingerprint],
      ['--url', url],
    ]) {
      const { status, out } = await check(...args);
      assert.equal(status, 3, `${args.join(' ')}: ${out}`);
    }
    writeFileSync(join(lab.folder, 'old'), 'dozo_0123456789012345678901234567890123456789012');
    const revoked = await check('--url', url, '--token-file', join(lab.folder, 'old'), '--fingerprint', fingerprint);
    assert.deepEqual([revoked.status, revoked.out.trim()], [3, 'DOZO UNKNOWN - the server answered 401']);
  });
});

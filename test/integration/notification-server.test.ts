import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { MAIL_PASSWORD, MAIL_USER, MailServerLab, type ReceivedMail } from './notification-mail-server.ts';
import { HOSTILE_NAME } from './notification-samples.ts';
import { type Answer, fakeMachine, ServerLab } from './server-lab.ts';

describe('a server that sends mail', { timeout: 900_000 }, () => {
  const mail = new MailServerLab();
  // The server trusts the authority that signed the mail server's certificate, as it trusts the public ones.
  const lab = new ServerLab({ NODE_EXTRA_CA_CERTS: mail.authority });
  let ids: Awaited<ReturnType<ServerLab['setUp']>>;
  const thisMonth = (): string => new Date().toISOString().slice(0, 7);
  const firstMonth = thisMonth();

  before(async () => {
    await mail.start();
    await lab.start();
    ids = await lab.setUp();
  });
  after(async () => {
    await lab.destroy();
    await mail.destroy();
  });

  const settings = (changes: object = {}): object => ({
    host: 'localhost',
    port: mail.ports.starttls,
    user: MAIL_USER,
    password: MAIL_PASSWORD,
    from: 'dozo@example.test',
    ...changes,
  });
  const addRecipient = (body: object): Promise<Answer> => lab.call('POST', '/notifications/recipients', body);
  const run = async (script: object): Promise<Answer> => {
    lab.script({ backupMs: 50, ...script });
    return lab.waitForRun((await lab.call('POST', `/jobs/${ids.jobId}/run`, {})).id);
  };
  const deliveries = async (state: string): Promise<Answer[]> =>
    (await lab.call('GET', `/notifications/deliveries?state=${state}&limit=500`)).deliveries;
  const to = (address: string): ReceivedMail[] =>
    mail.mails().filter(({ headers }) => headers['envelope-to'] === address);

  it('tries a mail server out before it is saved, and says what is wrong with it', async () => {
    const test = (mailServer: object | undefined): Promise<Answer> =>
      lab.call('POST', '/notifications/settings/test', { mailServer, to: 'try@example.test', language: 'ja' });
    const codeOf = async (changes: object): Promise<string> => (await test(settings(changes))).results[0].error?.code;

    assert.equal(
      (await lab.send('/notifications/settings/test', { method: 'POST', body: { to: 'a@b.test' } })).json.code,
      'NOTIFICATION_NOT_SET_UP',
    );
    assert.equal(await codeOf({ password: 'wrong' }), 'NOTIFICATION_LOGIN_REFUSED');
    assert.equal(await codeOf({ host: '127.0.0.1' }), 'NOTIFICATION_CERTIFICATE', 'it is signed for another name');
    assert.equal(await codeOf({ host: '127.0.0.1', tlsCertificate: mail.fingerprint }), undefined, 'but can be pinned');
    assert.equal(await codeOf({ port: mail.ports.plain }), 'NOTIFICATION_TLS_MISSING');
    assert.equal(await codeOf({ port: 1 }), 'NOTIFICATION_UNREACHABLE');
    await lab.call('PATCH', '/notifications/settings', {
      mailServer: settings(),
      windowUrl: `https://localhost:${lab.port}/`,
    });
    assert.equal((await test(undefined)).ok, true);
    const received = await mail.waitFor(({ subject }) => subject === 'Dozo: Dozo からの通知が届きました');
    assert.match(received.html, /<html lang="ja">/);
  });

  it('refuses what could become a header, an address of somebody else, or a rule that says nothing', async () => {
    const refused = async (body: object): Promise<void> => {
      const reply = await lab.send('/notifications/recipients', { method: 'POST', body });
      assert.equal(reply.status, 400, JSON.stringify(body));
    };
    for (const address of [
      'a@b.test\r\nBcc: thief@example.test',
      'a@b.test, c@d.test',
      '<a@b.test>',
      'a b@c.test',
      '',
      '@b.test',
      'a@',
    ]) {
      await refused({ name: 'x', channel: { kind: 'mail', addresses: [address] } });
    }
    await refused({ name: 'x\r\nSubject: y', channel: { kind: 'nas' } });
    await refused({ name: 'x', channel: { kind: 'mail', addresses: [] } });
    await refused({ name: 'x', channel: { kind: 'mail', addresses: ['a@b.test', 'A@B.test'] } });
    await refused({ name: 'x', channel: { kind: 'webhook', format: 'json' } });
    await refused({ name: 'x', channel: { kind: 'webhook', format: 'json', url: 'ftp://example.test/' } });
    await refused({ name: 'x', channel: { kind: 'webhook', format: 'json', url: 'https://user:pw@example.test/' } });
    await refused({ name: 'x', channel: { kind: 'webhook', format: 'json', url: 'https://example.test/\r\nX: y' } });
    await refused({ name: 'x', timeZone: 'Mars/Base', channel: { kind: 'nas' } });
    const from = await lab.send('/notifications/settings', {
      method: 'PATCH',
      body: { mailServer: settings({ from: 'a@b.test\nX: y' }) },
    });
    assert.equal(from.status, 400);
  });

  it('tells everybody in their language, once each, and shows whom it could not reach', async () => {
    await addRecipient({
      name: 'Anna',
      results: ['success', 'failure', 'recovered'],
      channel: { kind: 'mail', addresses: ['anna@example.test', 'nobody-here@example.test'] },
    });
    await addRecipient({
      name: 'Jürgen',
      language: 'de',
      timeZone: 'Europe/Berlin',
      results: ['failure', 'warning'],
      channel: { kind: 'mail', addresses: ['juergen@example.test'] },
    });
    await addRecipient({
      name: '花子',
      language: 'ja',
      timeZone: 'Asia/Tokyo',
      results: ['failure', 'recovered'],
      channel: { kind: 'mail', addresses: ['greylisted@example.test'] },
    });

    await run({});
    const success = await mail.waitFor(
      ({ headers, subject }) => headers['envelope-to'] === 'anna@example.test' && subject.includes('succeeded'),
    );
    assert.equal(success.subject, 'Dozo: Backup “nightly” succeeded');
    const points = await lab.until(async () => {
      const known = (await lab.call('GET', '/points')).points;
      return known.length === 2 ? known : null;
    }, 'both versions');
    for (const { machineName, rootHash } of points) {
      assert.match(success.text, new RegExp(`^\\* ${machineName}: Success$`, 'm'));
      assert.ok(success.text.includes(`Root hash: ${rootHash}`), success.text);
    }
    for (const label of ['Start', 'End', 'Duration', 'Disks', 'Read', 'Added to storage', 'Storage: store']) {
      assert.ok(success.text.includes(label), label);
    }

    const failed = await run({ fail: ['two'] });
    const german = await mail.waitFor(({ headers }) => headers['envelope-to'] === 'juergen@example.test');
    assert.equal(german.subject, 'Dozo: Sicherung „nightly“ fehlgeschlagen');
    assert.match(german.text, /^\* two: Fehlgeschlagen\n {2}Der Host hat keinen VM-Snapshot erstellt\./m);
    assert.match(german.text, /^\* one: Erfolgreich$/m);
    assert.ok(german.html.includes(`https://localhost:${lab.port}/#/activities/${failed.id}`));
    assert.match(german.headers['content-type'] ?? '', /^multipart\/alternative/);

    const waiting = await lab.until(async () => {
      const list = await deliveries('waiting');
      return list.find(({ address, attempts }) => address === 'greylisted@example.test' && attempts > 0) ?? null;
    }, 'the greylisted mail');
    assert.equal(waiting.error.code, 'NOTIFICATION_DEFERRED');
    assert.ok(waiting.nextAttemptAtMs > waiting.createdAtMs);
    assert.deepEqual(to('greylisted@example.test'), []);
    await lab.call('POST', `/notifications/deliveries/${waiting.id}/retry`, {});
    const japanese = await mail.waitFor(({ headers }) => headers['envelope-to'] === 'greylisted@example.test');
    assert.equal(japanese.subject, 'Dozo: バックアップ「nightly」: 失敗');

    await lab.until(async () => ((await deliveries('waiting')).length === 0 ? true : null), 'the others');
    const given = await deliveries('failed');
    assert.ok(
      given.length >= 1 && given.every(({ address }) => address === 'nobody-here@example.test'),
      JSON.stringify(given),
    );
    assert.match(given[0].error.message, /no such mailbox/);
    const anna = (await lab.call('GET', '/notifications/recipients')).find(
      ({ name }: { name: string }) => name === 'Anna',
    );
    assert.equal(anna.lastDelivery.state, 'failed');
    const health = await lab.call('GET', '/health/details');
    const byName = Object.fromEntries(health.checks.map((check: Answer) => [check.name, check.status]));
    assert.deepEqual([health.status, byName['notifications'], byName['tasks']], ['critical', 'warning', 'critical']);

    await run({ leaveHold: ['one'] });
    await mail.waitFor(
      ({ headers, subject }) => headers['envelope-to'] === 'juergen@example.test' && subject.includes('Warnungen'),
    );
    await mail.waitFor(
      ({ headers, subject }) => headers['envelope-to'] === 'greylisted@example.test' && subject.includes('警告あり'),
    );
    await mail.waitFor(
      ({ headers, subject }) => headers['envelope-to'] === 'anna@example.test' && subject.includes('warnings'),
    );
    const subjects = to('anna@example.test').map(({ subject }) => subject);
    assert.deepEqual(subjects.sort(), [
      'Dozo: Backup “nightly” ended with warnings',
      'Dozo: Backup “nightly” failed',
      'Dozo: Backup “nightly” succeeded',
    ]);
  });

  it('sends names of strangers as text, in the header and in the body', async () => {
    lab.script({ machines: [fakeMachine('one', 1), fakeMachine(HOSTILE_NAME, 2)] });
    await lab.call('GET', `/hosts/${ids.hostId}/machines?refresh=true`);
    await run({ machines: [fakeMachine('one', 1), fakeMachine(HOSTILE_NAME, 2)], fail: [HOSTILE_NAME] });
    const hostile = await mail.waitFor(({ text }) => text.includes('onerror'));

    assert.ok(
      hostile.html.includes('&lt;img src=x onerror=alert(1)&gt;&quot;web&quot; Bcc: thief@example.test gnp.exe'),
    );
    assert.ok(!hostile.html.includes('<img'));
    assert.equal(hostile.headers['bcc'], undefined);
    assert.doesNotMatch(hostile.text + hostile.html + hostile.subject, /[\u0007\u202e]/);
    assert.deepEqual(to('thief@example.test'), []);
  });

  it('forgets nothing when the mail server is away and the server is killed, and sends nothing twice', async () => {
    await lab.until(async () => ((await deliveries('waiting')).length === 0 ? true : null), 'everything to be sent');
    await mail.stop();
    const before = to('juergen@example.test').length;
    await run({ fail: ['one'], machines: [fakeMachine('one', 1), fakeMachine('two', 2)] });
    await lab.until(async () => {
      const list = await deliveries('waiting');
      return list.some(({ error }) => error?.code === 'NOTIFICATION_UNREACHABLE') ? true : null;
    }, 'a try in vain');
    await lab.killServer();
    await mail.start();
    await lab.start();
    // Changed settings are a reason to try again at once.
    await lab.call('PATCH', '/notifications/settings', { overdueDays: 5 });
    await lab.until(async () => (to('juergen@example.test').length === before + 1 ? true : null), 'the mail');
    await lab.until(async () => ((await deliveries('waiting')).length === 0 ? true : null), 'the rest');

    const seen = mail.mails().map(({ headers }) => `${headers['message-id']}`);
    assert.equal(new Set(seen).size, seen.length, 'no mail came twice');
    const sent = await deliveries('sent');
    const expected = sent.filter(({ address }) => address.endsWith('@example.test'));
    const messageIds = new Set(seen);
    for (const { id } of expected) assert.ok(messageIds.has(`<${id}.dozo@example.test>`), `${id} was said to be sent`);
  });

  it('keeps the password to itself', async () => {
    const shown = JSON.stringify([
      await lab.call('GET', '/notifications/settings'),
      await lab.call('GET', '/notifications/deliveries?limit=500'),
    ]);
    assert.doesNotMatch(shown, /horse/);
    for (const name of readdirSync(lab.dataFolder).filter((file) => file.startsWith('catalogue'))) {
      assert.ok(!readFileSync(join(lab.dataFolder, name)).includes(MAIL_PASSWORD), name);
    }
    // Nor is it sent to another server that somebody names.
    const stolen = await lab.call('PATCH', '/notifications/settings', {
      mailServer: { ...settings({ host: '127.0.0.1' }), password: undefined },
    });
    assert.equal(stolen.mailServer.hasPassword, false);
  });

  it('has the monthly report, as data and as a page', async () => {
    // Two when the month has changed since the first run.
    const month = thisMonth();
    let failures = 0;
    for (const each of new Set([firstMonth, month])) {
      const report = await lab.call('GET', `/reports/${each}`);
      assert.equal(report.protected.length, 2);
      assert.equal(report.failed.length, report.runs.failure);
      failures += report.runs.failure;
    }
    assert.ok(failures >= 3, `${failures} failures`);
    const page = await lab.send(`/reports/${month}/page?language=ja&timeZone=Asia/Tokyo`);
    assert.match(String(page.headers['content-type']), /^text\/html; charset=utf-8/);
    assert.match(page.text, /バックアップ レポート/);
    assert.match(page.text, /&lt;img src=x/);
    assert.doesNotMatch(page.text, /<img/);
    assert.equal((await lab.send('/reports/2027-13')).status, 400);
    assert.equal((await lab.send('/reports/2099-01')).status, 404);
    assert.equal((await lab.send(`/reports/${month}/page?language=xx`)).status, 400);
  });
});

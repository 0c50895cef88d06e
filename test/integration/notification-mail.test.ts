import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { isAppError } from '../../server/errors/index.ts';
import {
  composeMessage,
  deliverMail,
  renderHtml,
  renderText,
  type MailServer,
} from '../../server/notification/index.ts';
import { MAIL_PASSWORD, MAIL_USER, MailServerLab } from './notification-mail-server.ts';
import { SAMPLE_END_MS, SAMPLES } from './notification-samples.ts';

const lab = new MailServerLab();

function server(changes: Partial<MailServer> = {}): MailServer {
  return {
    host: 'localhost',
    port: lab.ports.starttls,
    security: 'starttls',
    user: MAIL_USER,
    password: MAIL_PASSWORD,
    from: 'dozo@example.test',
    tlsCertificate: lab.fingerprint,
    ...changes,
  };
}

function send(target: MailServer, to: string, id: string, limits?: Parameters<typeof deliverMail>[2]): Promise<void> {
  const mail = { to, subject: `Dozo: ${id} 「夜間」`, text: `Text of ${id}: 日本語 ü\n.\n`, html: `<p>${id} ü</p>` };
  return deliverMail(target, { ...mail, id, atMs: Date.parse('2027-01-02T03:04:05Z') }, limits);
}

function refusedWith(code: string, text = /./): (error: unknown) => boolean {
  return (error) => {
    assert.ok(isAppError(error), String(error));
    assert.equal(error.code, code, `${error.message}`);
    assert.match(`${error.message} ${JSON.stringify(error.details)}`, text);
    assert.equal(error.details['way'], 'mail');
    assert.doesNotMatch(JSON.stringify(error.toBody()), /horse/);
    return true;
  };
}

describe('mail to a real mail server', { timeout: 900_000 }, () => {
  before(() => lab.start());
  after(() => lab.destroy());

  it('arrives by STARTTLS and by TLS, after a login, word for word', async () => {
    await send(server(), 'anna@example.test', 'by-starttls');
    await send(server({ port: lab.ports.tls, security: 'tls' }), 'anna@example.test', 'by-tls');

    for (const id of ['by-starttls', 'by-tls']) {
      const mail = await lab.waitFor(({ subject }) => subject.includes(id));
      assert.equal(mail.subject, `Dozo: ${id} 「夜間」`);
      assert.equal(mail.text.trimEnd().replaceAll('\r', ''), `Text of ${id}: 日本語 ü\n.`);
      assert.equal(mail.html.trimEnd(), `<p>${id} ü</p>`);
      assert.equal(mail.headers['message-id'], `<${id}.dozo@example.test>`);
      assert.equal(mail.headers['auto-submitted'], 'auto-generated');
      assert.equal(mail.headers['from'], 'Dozo <dozo@example.test>');
      assert.equal(mail.headers['envelope-to'], 'anna@example.test');
      assert.equal(mail.headers['date'], 'Sat, 02 Jan 2027 03:04:05 +0000');
      assert.match(mail.raw, /with esmtpsa/i, 'encrypted and logged in, as the server saw it');
    }
  });

  it('carries every kind of message in every language, word for word', async () => {
    for (const language of ['en', 'de', 'ja'] as const) {
      for (const [name, notice] of Object.entries(SAMPLES)) {
        const reader = { language, timeZone: 'Asia/Tokyo', windowUrl: 'https://nas.example.test:5510', sender: 'nas' };
        const message = composeMessage(notice, reader);
        const [text, html] = [renderText(message), renderHtml(message)];
        const id = `${name}-${language}`;
        const mail = { to: 'anna@example.test', subject: message.subject, text, html, id, atMs: SAMPLE_END_MS };
        await deliverMail(server(), mail);

        const received = await lab.waitFor(({ headers }) => headers['message-id'] === `<${id}.dozo@example.test>`);
        assert.equal(received.subject, message.subject);
        assert.equal(received.text.replaceAll('\r', ''), text);
        assert.equal(received.html.replaceAll('\r', ''), html);
        assert.equal(received.headers['bcc'], undefined);
        // Lines that a mail server need not take: RFC 5322, 2.1.1.
        assert.ok(
          received.raw.split('\n').every((line) => Buffer.byteLength(line) < 998),
          id,
        );
      }
    }
  });

  it('sends nothing to a server whose certificate nobody has signed, and tells its fingerprint', async () => {
    const before = lab.mails().length;
    await assert.rejects(
      send(server({ tlsCertificate: null }), 'anna@example.test', 'untrusted'),
      refusedWith('NOTIFICATION_CERTIFICATE', new RegExp(lab.fingerprint)),
    );
    await assert.rejects(
      send(server({ tlsCertificate: 'ab'.repeat(32) }), 'anna@example.test', 'another pin'),
      refusedWith('NOTIFICATION_CERTIFICATE', /agreed/),
    );
    await assert.rejects(
      send(server({ tlsCertificate: null, security: 'tls', port: lab.ports.tls }), 'anna@example.test', 'untrusted'),
      refusedWith('NOTIFICATION_CERTIFICATE', new RegExp(lab.fingerprint)),
    );
    // Nor is the password told to one that only looks encrypted.
    await assert.rejects(
      send(server({ tlsCertificate: null, security: 'opportunistic' }), 'anna@example.test', 'untrusted'),
      refusedWith('NOTIFICATION_CERTIFICATE'),
    );
    assert.equal(lab.mails().length, before);
    assert.doesNotMatch(lab.log, /untrusted|another pin/);
  });

  it('insists on encryption where the settings or a password do', async () => {
    const plain = { port: lab.ports.plain };
    await assert.rejects(
      send(server({ ...plain, security: 'starttls' }), 'anna@example.test', 'no-starttls'),
      refusedWith('NOTIFICATION_TLS_MISSING'),
    );
    await assert.rejects(
      send(server({ ...plain, security: 'opportunistic' }), 'anna@example.test', 'no-starttls'),
      refusedWith('NOTIFICATION_TLS_MISSING'),
    );
    await assert.rejects(
      send(server({ ...plain, security: 'tls' }), 'anna@example.test', 'no-tls'),
      refusedWith('NOTIFICATION_TLS_MISSING'),
    );
    const stranger = { user: null, password: null, tlsCertificate: null };
    await send(server({ ...plain, ...stranger, security: 'opportunistic' }), 'anna@example.test', 'in-the-open');
    await send(server({ ...stranger, security: 'opportunistic' }), 'anna@example.test', 'encrypted-by-chance');
    await send(server({ ...stranger, security: 'none' }), 'anna@example.test', 'on-purpose');

    assert.match((await lab.waitFor(({ subject }) => subject.includes('in-the-open'))).raw, /with esmtp /i);
    assert.match((await lab.waitFor(({ subject }) => subject.includes('encrypted-by-chance'))).raw, /with esmtps /i);
    assert.match((await lab.waitFor(({ subject }) => subject.includes('on-purpose'))).raw, /with esmtp /i);
    assert.doesNotMatch(lab.log, /no-starttls|no-tls/);
  });

  it('tells a wrong login from a refusal and from a try that comes too early', async () => {
    await assert.rejects(
      send(server({ password: 'wrong' }), 'anna@example.test', 'wrong-login'),
      refusedWith('NOTIFICATION_LOGIN_REFUSED'),
    );
    await assert.rejects(
      send(server(), 'nobody-here@example.test', 'no-such-mailbox'),
      refusedWith('NOTIFICATION_REFUSED', /no such mailbox/),
    );
    await assert.rejects(
      send(server(), 'greylisted@example.test', 'greylisted'),
      refusedWith('NOTIFICATION_DEFERRED', /Greylisted/),
    );
    await send(server(), 'greylisted@example.test', 'greylisted');
    await lab.waitFor(({ headers }) => headers['message-id'] === '<greylisted.dozo@example.test>');
  });

  it('gives up on a server that hangs, that is not there, or that has no name', async () => {
    const silent = createServer(() => undefined).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const chatty = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.write('220-one\r\n');
      const timer = setInterval(() => socket.write('220-more\r\n'), 20);
      socket.on('close', () => clearInterval(timer));
    }).listen(0, '127.0.0.1');
    await once(chatty, 'listening');
    const portOf = (one: typeof silent): number => (one.address() as AddressInfo).port;
    try {
      const limits = { stepMs: 300, wholeMs: 1_000 };
      for (const port of [portOf(silent), portOf(chatty)]) {
        await assert.rejects(
          send(server({ host: '127.0.0.1', port }), 'anna@example.test', 'hanging', limits),
          refusedWith('NOTIFICATION_UNREACHABLE'),
        );
      }
      const gone = portOf(silent);
      silent.close();
      await assert.rejects(
        send(server({ host: '127.0.0.1', port: gone }), 'anna@example.test', 'gone'),
        refusedWith('NOTIFICATION_UNREACHABLE'),
      );
      await assert.rejects(
        send(server({ host: 'no-such-host.invalid' }), 'anna@example.test', 'nameless'),
        refusedWith('NOTIFICATION_UNREACHABLE'),
      );
    } finally {
      silent.close();
      chatty.close();
    }
  });
});

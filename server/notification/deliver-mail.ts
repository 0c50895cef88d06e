import { randomUUID } from 'node:crypto';
import MailComposer from 'nodemailer/lib/mail-composer';
import SMTPConnection from 'nodemailer/lib/smtp-connection';
import { AppError, isAppError } from '../errors/index.ts';
import { assertPeer } from './peer-certificate.ts';

/** How a mail server is reached; as in `contract/api/notification.schema.ts`, with the password. */
export interface MailServer {
  host: string;
  port: number;
  security: 'starttls' | 'opportunistic' | 'tls' | 'none';
  user: string | null;
  password: string | null;
  from: string;
  tlsCertificate: string | null;
}

export interface Mail {
  /** One mailbox. */
  to: string;
  subject: string;
  text: string;
  html: string;
  /** Same for every try, so that a mail that arrives twice is one in the reader's program. */
  id: string;
  atMs: number;
}

/** Time limits: of a step, and of the whole delivery. */
const STEP_MS = 20_000;
const WHOLE_MS = 90_000;

/**
 * Hands one mail to the server, once. Resolves when the server has taken it over.
 * @param limits for tests
 * @throws NOTIFICATION_UNREACHABLE, NOTIFICATION_CERTIFICATE, NOTIFICATION_TLS_MISSING, NOTIFICATION_LOGIN_REFUSED,
 * NOTIFICATION_DEFERRED, NOTIFICATION_REFUSED
 */
export async function deliverMail(
  server: MailServer,
  mail: Mail,
  limits: { stepMs?: number; wholeMs?: number } = {},
): Promise<void> {
  const { stepMs = STEP_MS, wholeMs = WHOLE_MS } = limits;
  const { host, port, security, user, password, from } = server;
  const raw = await encodeMail(from, mail);
  const connection = new SMTPConnection({
    host,
    port,
    secure: security === 'tls',
    requireTLS: security === 'starttls',
    ignoreTLS: security === 'none',
    opportunisticTLS: security === 'opportunistic',
    // The name in the greeting: the machine's own says nothing outside, and may hold characters that are refused.
    name: 'dozo.invalid',
    connectionTimeout: stepMs,
    greetingTimeout: stepMs,
    socketTimeout: stepMs,
    dnsTimeout: stepMs,
    // Judged below, before anything is said over it: a pinned one is good although nobody has signed it.
    tls: { rejectUnauthorized: false, minVersion: 'TLSv1.2', servername: /[a-z]/i.test(host) ? host : '' },
  });
  const late = { fired: false };
  const timer = setTimeout(() => {
    late.fired = true;
    connection.close();
  }, wholeMs);
  try {
    await step(connection, (done) => connection.connect(done));
    assertEncryption(connection, server);
    if (user !== null && password !== null) {
      await step(connection, (done) => connection.login({ user, pass: password }, done));
    }
    await step(connection, (done) => connection.send({ from, to: [mail.to] }, raw, done));
    connection.quit();
  } catch (error) {
    throw isAppError(error) ? error : wrap(error, server, late.fired);
  } finally {
    clearTimeout(timer);
    connection.close();
  }
}

async function encodeMail(from: string, mail: Mail): Promise<Buffer> {
  const { to, subject, text, html, id, atMs } = mail;
  const domain = from.slice(from.lastIndexOf('@') + 1);
  const composer = new MailComposer({
    from: { name: 'Dozo', address: from },
    to: { name: '', address: to },
    subject,
    text,
    html,
    date: new Date(atMs),
    messageId: `<${id === '' ? randomUUID() : id}.dozo@${domain}>`,
    headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
    // Nothing in a mail names a file or an address to be loaded.
    disableFileAccess: true,
    disableUrlAccess: true,
    textEncoding: 'base64',
  });
  return composer.compile().build();
}

/** One step of the conversation; an error that comes between answers ends it too. */
function step(connection: SMTPConnection, run: (done: (error?: Error | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => reject(new Error('Connection closed'));
    connection.once('error', reject);
    connection.once('end', end);
    run((error) => {
      connection.removeListener('end', end);
      if (error === undefined || error === null) resolve();
      else reject(error);
    });
  });
}

/** Certificates are judged where the settings promise an encrypted way, and always before a password. */
function assertEncryption(connection: SMTPConnection, server: MailServer): void {
  const { host, security, user, password, tlsCertificate } = server;
  if (security === 'none') return;
  const hasPassword = user !== null && password !== null;
  if (!connection.secure) {
    if (security === 'opportunistic' && !hasPassword && tlsCertificate === null) return;
    throw new AppError('NOTIFICATION_TLS_MISSING', `The mail server ${host} offers no encryption. Nothing was sent.`, {
      hint: 'Check the port and the kind of encryption in the settings of the mail server.',
      details: { way: 'mail', host },
    });
  }
  if (security === 'opportunistic' && !hasPassword && tlsCertificate === null) return;
  const socket = connection._socket;
  if (socket === false || socket === null) throw new Error('Connection closed');
  assertPeer(socket, { way: 'mail', host }, tlsCertificate);
}

/** What the library and the server say, as errors of ours. */
function wrap(cause: unknown, server: MailServer, isLate: boolean): AppError {
  const { host, port } = server;
  const error = cause as { code?: string; responseCode?: number; response?: string; message?: string };
  const answer = (error.response ?? '').slice(0, 300);
  const details = {
    way: 'mail',
    host,
    port,
    status: error.responseCode ?? null,
    answer: answer === '' ? null : answer,
  };
  const status = error.responseCode ?? 0;
  const said = answer === '' ? '' : ` It said: ${answer}`;
  // A server without it answers the wish for encryption with a refusal, or not at all.
  if (error.code === 'ETLS' || /wrong version number|packet length too long/.test(error.message ?? '')) {
    return new AppError(
      'NOTIFICATION_TLS_MISSING',
      `No encrypted connection with the mail server ${host}: ${error.message ?? ''}`,
      {
        hint: 'Check the port and the kind of encryption in the settings of the mail server.',
        details,
        cause,
      },
    );
  }
  if (error.code === 'EAUTH' || [530, 534, 535, 538].includes(status)) {
    return new AppError('NOTIFICATION_LOGIN_REFUSED', `The mail server ${host} refused the login.${said}`, {
      hint: 'Check user name and password of the mail server; some providers ask for a password made for programs.',
      details,
      cause,
    });
  }
  if (status >= 400 && status < 500) {
    return new AppError('NOTIFICATION_DEFERRED', `The mail server ${host} does not take the mail now.${said}`, {
      hint: 'Dozo tries again by itself.',
      details,
      cause,
    });
  }
  if (status >= 500) {
    return new AppError('NOTIFICATION_REFUSED', `The mail server ${host} refused the mail.${said}`, {
      hint: 'Check the addresses of sender and recipient.',
      details,
      cause,
    });
  }
  const reason = isLate ? 'it took too long' : (error.message ?? 'no reason is known');
  return new AppError(
    'NOTIFICATION_UNREACHABLE',
    `The mail server ${host}, port ${port}, cannot be reached: ${reason}`,
    {
      hint: 'Check name, port and network. Dozo tries again by itself.',
      details,
      cause,
    },
  );
}

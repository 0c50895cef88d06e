import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../lab/free-port.ts';

/** As Debian's exim4-daemon-light places it. */
const EXIM = '/usr/sbin/exim4';
/** Whom it runs as: nobody else may start it. */
const EXIM_USER = 'Debian-exim';

export const MAIL_USER = 'dozo';
export const MAIL_PASSWORD = 'correct horse: battery $1 ü';

/** A mail as it lies in the mailbox. */
export interface ReceivedMail {
  raw: string;
  /** Unfolded, as they were sent; names in lower case, the last of each. */
  headers: Record<string, string>;
  subject: string;
  text: string;
  html: string;
}

/**
 * Exim, as a house or a provider would run it: ports for STARTTLS, for TLS from the first byte, and one that knows
 * neither; a certificate of its own; login. Of `example.test` it takes everybody but `nobody-here`, and
 * `greylisted` at the second try only.
 */
export class MailServerLab {
  readonly folder = mkdtempSync(join(tmpdir(), 'dozo-mail-'));
  readonly ports = { starttls: 0, tls: 0, plain: 0 };
  /** The authority that signed the certificate, for those who are to trust it. */
  readonly authority = join(this.folder, 'ca.pem');
  #child: ChildProcess | null = null;

  async start(): Promise<void> {
    if (this.ports.starttls === 0) {
      Object.assign(this.ports, { starttls: await freePort(), tls: await freePort(), plain: await freePort() });
      this.#prepare();
    }
    if (process.getuid?.() !== 0)
      throw new Error('Exim lets only root and its own user start it: run the test as root');
    const child = spawn(EXIM, ['-C', join(this.folder, 'exim.conf'), '-bdf', '-q1m'], {
      cwd: this.folder,
      stdio: ['ignore', 'ignore', 'pipe'],
      uid: idOf('-u'),
      gid: idOf('-g'),
    });
    let errors = '';
    child.stderr.on('data', (piece: Buffer) => (errors += piece.toString()));
    this.#child = child;
    for (let tries = 0; !(await answers(this.ports.starttls)); tries += 1) {
      if (child.exitCode !== null || tries > 1_200) throw new Error(`exim did not start: ${errors}`);
      await sleep(100);
    }
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  }

  async destroy(): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** SHA-256 of the certificate that it shows. */
  get fingerprint(): string {
    const { raw } = new X509Certificate(readFileSync(join(this.folder, 'cert.pem')));
    return createHash('sha256').update(raw).digest('hex');
  }

  /** The next mail to `greylisted` is put off once more. */
  forgetGreylist(): void {
    rmSync(join(this.folder, 'spool/seen'), { force: true });
  }

  get log(): string {
    const path = join(this.folder, 'log/mainlog');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  /** All mails so far, in no order. */
  mails(): ReceivedMail[] {
    const box = join(this.folder, 'mail/new');
    return existsSync(box) ? readdirSync(box).map((name) => parseMail(readFileSync(join(box, name), 'utf8'))) : [];
  }

  /** Waits for a mail that fits: exim answers before it has delivered. */
  async waitFor(fits: (mail: ReceivedMail) => boolean, timeoutMs = 120_000): Promise<ReceivedMail> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const mail = this.mails().find(fits);
      if (mail !== undefined) return mail;
      if (performance.now() > deadlineMs) {
        throw new Error(
          `no such mail among: ${this.mails()
            .map(({ subject }) => subject)
            .join(' | ')}\n${this.log}`,
        );
      }
      await sleep(100);
    }
  }

  #prepare(): void {
    const { folder, ports } = this;
    for (const name of ['spool', 'log', 'mail', 'mail/new', 'mail/cur', 'mail/tmp']) mkdirSync(join(folder, name));
    const openssl = (...args: string[]): void => void execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'];
    openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=Test authority');
    openssl('req', ...key.slice(0, -2), '-keyout', 'key.pem', '-out', 'request.pem', '-subj', '/CN=localhost');
    writeFileSync(join(folder, 'names'), 'subjectAltName=DNS:localhost\n');
    openssl(
      ...['x509', '-req', '-in', 'request.pem', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial'],
      ...['-days', '30', '-extfile', 'names', '-out', 'cert.pem'],
    );
    writeFileSync(join(folder, 'password'), MAIL_PASSWORD);
    writeFileSync(join(folder, 'exim.conf'), configuration(folder, ports));
    chmodSync(folder, 0o755);
    const names = ['.', ...readdirSync(folder, { recursive: true }).map(String)];
    for (const name of names) chownSync(join(folder, name), idOf('-u'), idOf('-g'));
  }
}

function idOf(which: '-u' | '-g'): number {
  return Number(execFileSync('id', [which, EXIM_USER], { encoding: 'utf8' }));
}

function configuration(folder: string, ports: MailServerLab['ports']): string {
  return `
primary_hostname = mail.example.test
spool_directory = ${folder}/spool
log_file_path = ${folder}/log/%slog
pid_file_path = ${folder}/spool/exim.pid
deliver_drop_privilege
never_users =
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = ${ports.starttls} : ${ports.tls} : ${ports.plain}
tls_on_connect_ports = ${ports.tls}
tls_certificate = ${folder}/cert.pem
tls_privatekey = ${folder}/key.pem
tls_advertise_hosts = \${if eq{$received_port}{${ports.plain}}{}{*}}
auth_advertise_hosts = \${if or{{!eq{$tls_in_cipher}{}}{eq{$received_port}{${ports.plain}}}}{*}{}}
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
host_lookup =
rfc1413_hosts =
smtp_accept_max_per_connection = 0

begin acl
rcpt:
  defer local_parts = greylisted
        condition = \${if exists{${folder}/spool/seen}{no}{yes}}
        set acl_m0 = \${run{/bin/touch ${folder}/spool/seen}}
        message = Greylisted, please try again later
  deny  local_parts = nobody-here
        message = There is no such mailbox
  accept domains = example.test
  deny  message = relay not permitted

begin routers
everybody:
  driver = accept
  domains = example.test
  transport = box

begin transports
box:
  driver = appendfile
  directory = ${folder}/mail
  maildir_format
  envelope_to_add

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = \${if and{{eq{$auth2}{${MAIL_USER}}}{eq{$auth3}{\${readfile{${folder}/password}}}}}}
  server_set_id = $auth2
`;
}

function parseMail(raw: string): ReceivedMail {
  const [head, body] = split(raw);
  const headers = parseHeaders(head);
  const parts = partsOf(headers, body);
  return {
    raw,
    headers,
    subject: decodeWords(headers['subject'] ?? ''),
    text: parts['text/plain'] ?? '',
    html: parts['text/html'] ?? '',
  };
}

function partsOf(headers: Record<string, string>, body: string): Record<string, string> {
  const type = headers['content-type'] ?? 'text/plain';
  const boundary = /boundary="?([^";]+)/.exec(type)?.[1];
  if (boundary === undefined) {
    const isBase64 = headers['content-transfer-encoding'] === 'base64';
    return { [type.split(';')[0] ?? '']: isBase64 ? Buffer.from(body, 'base64').toString('utf8') : body };
  }
  const pieces = body.split(`--${boundary}`).slice(1, -1);
  return Object.assign(
    {},
    ...pieces.map((piece) => {
      const [head, inner] = split(piece.replace(/^\r?\n/, ''));
      return partsOf(parseHeaders(head), inner);
    }),
  ) as Record<string, string>;
}

function split(text: string): [string, string] {
  const at = /\r?\n\r?\n/.exec(text);
  return at === null ? [text, ''] : [text.slice(0, at.index), text.slice(at.index + at[0].length)];
}

function parseHeaders(head: string): Record<string, string> {
  const lines = head.replaceAll(/\r?\n[ \t]+/g, ' ').split(/\r?\n/);
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf(':');
      return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
    }),
  );
}

/** RFC 2047. */
function decodeWords(text: string): string {
  return text
    .replaceAll(/\?=\s+=\?/g, '?==?')
    .replaceAll(/=\?utf-8\?([bq])\?([^?]*)\?=/gi, (_word, kind: string, value: string) => {
      if (kind.toLowerCase() === 'b') return `\u0000${value}\u0000`;
      const bytes = value
        .replaceAll('_', ' ')
        .replaceAll(/=([0-9A-F]{2})/gi, (_hex, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
      return Buffer.from(bytes, 'latin1').toString('utf8');
    })
    .replaceAll(/\u0000([^\u0000]*)\u0000/g, (_word, value: string) => Buffer.from(value, 'base64').toString('utf8'));
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('data', () => {
      socket.end();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

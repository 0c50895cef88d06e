import { readFile } from 'node:fs/promises';
import { get as getPlain, type IncomingMessage } from 'node:http';
import { get as getTls } from 'node:https';
import { join } from 'node:path';
import { AppError } from '../errors/index.ts';
import type { Logger } from '../runtime/index.ts';
import type { Nas, NasRequest, NasShare, NoticeLevel } from './nas.ts';
import { cookieValues, runProgram, tell, toLine } from './program.ts';

const SESSION_ID = /^[A-Za-z0-9]{4,64}$/;
const REMEMBERED = /^[A-Za-z0-9_-]{4,256}$/;
const USER = /^[\p{L}\p{N}][\p{L}\p{N}._-]{0,63}$/u;
const TIMEOUT_MS = 10_000;
const ANSWER_BYTES_MAX = 256 * 1024;
/** Where the answer does not name who is signed in: the cookie's name is a claim of the browser only. */
const UNNAMED = 'administrator';

/** @param root of the file system; another one in tests */
export function createQts(logger: Logger, root: string): Nas {
  return {
    name: 'QTS',
    hasSignIn: true,
    // What its proxy does with X-Forwarded-For is written nowhere.
    vouchesForAddress: false,
    exampleFolder: '/share/Dozo',
    notify: (level, text) => tell('QTS', logger, noticeWays(root, level, toLine(text))),
    identify: (request) => identify(root, request),
    listShares: () => listShares(root),
    hasFirewall: () => hasQuFirewall(root),
  };
}

/**
 * A line in the event log; rules of Notification Center pick it up by the word in front. Newer systems file it under
 * the application's name; older ones refuse the options for it.
 */
function noticeWays(root: string, level: NoticeLevel, text: string): string[][] {
  const program = join(root, 'sbin/log_tool');
  const number = { info: '0', warning: '1', error: '2' }[level];
  const line = ['-t', number, '-u', 'System', '-p', '127.0.0.1', '-m', 'localhost', '-a', `[Dozo] ${text}`];
  return [
    [program, '-N', 'Dozo', '-G', 'Backup', ...line],
    [program, ...line],
  ];
}

/** By the login page of QTS, over loopback only: never at an address taken from the request. */
async function identify(root: string, request: NasRequest): Promise<string | null> {
  const last = (name: string): string => cookieValues(request.cookies, name).at(-1) ?? '';
  const [sid, token, user] = [last('NAS_SID'), last('qtoken'), decode(last('NAS_USER'))];
  const questions = [
    ...(SESSION_ID.test(sid) ? [{ sid }] : []),
    ...(REMEMBERED.test(token) && USER.test(user) ? [{ qtoken: token, user }] : []),
  ];
  for (const question of questions) {
    const answer = await ask(root, new URLSearchParams(question));
    if (field(answer, 'authPassed') !== '1') continue;
    if (field(answer, 'isAdmin') !== '1') return null;
    const named = field(answer, 'username') ?? field(answer, 'user') ?? ('user' in question ? question.user : UNNAMED);
    return USER.test(named) ? named : null;
  }
  return null;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return '';
  }
}

/** An element of the answer, plain or as CDATA; null: it is not there. */
function field(xml: string, name: string): string | null {
  const match = new RegExp(`<${name}>\\s*(?:<!\\[CDATA\\[([^\\]]*)\\]\\]>|([^<]*))\\s*</${name}>`).exec(xml);
  return match === null ? null : (match[1] ?? match[2] ?? '').trim();
}

/** @throws NAS_UNREACHABLE */
async function ask(root: string, question: URLSearchParams): Promise<string> {
  const settings = parseSections(await readText(join(root, 'etc/config/uLinux.conf')));
  const path = `/cgi-bin/authLogin.cgi?${question.toString()}`;
  const plainPort = portOf(settings.get('System')?.get('Web Access Port'), 8080);
  const plain = await fetchText({ isTls: false, port: plainPort, path });
  // "Force secure connection": where it points to does not matter, the port is in the settings.
  if (plain.status < 300 || plain.status >= 400) return plain.text;
  const tlsPort = portOf(settings.get('Stunnel')?.get('Port'), 443);
  return (await fetchText({ isTls: true, port: tlsPort, path })).text;
}

function portOf(text: string | undefined, fallback: number): number {
  const port = Number(text);
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : fallback;
}

function fetchText(target: { isTls: boolean; port: number; path: string }): Promise<{ status: number; text: string }> {
  const { isTls, port, path } = target;
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, agent: false, timeout: TIMEOUT_MS } as const;
    const take = (response: IncomingMessage): void => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece: string) => {
        text += piece;
        if (text.length > ANSWER_BYTES_MAX) outgoing.destroy(new Error('the answer is too long'));
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', fail);
    };
    const fail = (cause: Error): void => {
      reject(
        new AppError('NAS_UNREACHABLE', `QTS cannot be asked who is signed in: ${cause.message}`, {
          hint: 'Try again, or log in with an account of Dozo.',
          cause,
        }),
      );
    };
    // The certificate is the NAS's own, and this is the NAS.
    const outgoing = isTls ? getTls({ ...options, rejectUnauthorized: false }, take) : getPlain(options, take);
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
    outgoing.on('error', fail);
  });
}

async function listShares(root: string): Promise<NasShare[]> {
  const sections = parseSections(await readText(join(root, 'etc/config/smb.conf')));
  return [...sections].flatMap(([name, values]) => {
    const path = values.get('path');
    // Homes and printers have sections too.
    return path?.startsWith('/share/') === true ? [{ name, path }] : [];
  });
}

async function hasQuFirewall(root: string): Promise<boolean | null> {
  for (const name of ['usr/sbin/iptables', 'sbin/iptables']) {
    const { status } = await runProgram(join(root, name), ['-S', 'QUFIREWALL']);
    if (status !== null) return status === 0;
  }
  return null;
}

async function readText(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

/** Section → key → value of a file of `[section]` and `key = value` lines. */
function parseSections(text: string): Map<string, Map<string, string>> {
  const sections = new Map<string, Map<string, string>>();
  let current = new Map<string, string>();
  for (const line of text.split('\n')) {
    const section = /^\s*\[([^\]]+)\]/.exec(line)?.[1];
    if (section !== undefined) {
      current = sections.get(section) ?? new Map<string, string>();
      sections.set(section, current);
      continue;
    }
    const [, key, value] = /^\s*([^#;=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) current.set(key, value);
  }
  return sections;
}

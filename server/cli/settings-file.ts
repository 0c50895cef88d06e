import { chmod, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { AppError } from '../errors/index.ts';
import type { Connection } from './connection.ts';

/** File that `dozo login` keeps the connection in, readable by its owner alone. */
export function settingsPath(environment: Record<string, string | undefined>): string {
  const own = environment['DOZO_CONFIG'];
  if (own !== undefined && own !== '') return own;
  const folder = environment['XDG_CONFIG_HOME'] ?? join(homedir(), '.config');
  return join(folder, 'dozo', 'cli.json');
}

/** The connection that options, environment and the file give, in this order. */
export async function loadConnection(
  options: { server?: string; fingerprint?: string },
  environment: Record<string, string | undefined>,
): Promise<Connection> {
  const file = await readSettings(settingsPath(environment));
  const server = options.server ?? environment['DOZO_SERVER'] ?? file?.server;
  if (server === undefined) {
    throw new AppError('LOGIN_REQUIRED', 'No server is known.', {
      hint: 'Run `dozo login --server https://NAS:5510` first, or set DOZO_SERVER and DOZO_TOKEN.',
    });
  }
  const normal = normalizeServer(server);
  // What belongs to the server of the file is not told to another one.
  const own = file !== null && file.server === normal ? file : null;
  return {
    server: normal,
    fingerprint: parseFingerprint(options.fingerprint ?? environment['DOZO_FINGERPRINT']) ?? own?.fingerprint ?? null,
    token: environment['DOZO_TOKEN'] ?? own?.token ?? null,
  };
}

export async function saveConnection(path: string, connection: Connection): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.new`;
  await rm(temporary, { force: true });
  await writeFile(temporary, `${JSON.stringify(connection, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
  await chmod(temporary, 0o600);
  await rename(temporary, path);
}

export async function forgetConnection(path: string): Promise<void> {
  await rm(path, { force: true });
}

/** @throws INPUT_INVALID */
export function normalizeServer(text: string): string {
  let url: URL;
  try {
    url = new URL(text.includes('://') ? text : `https://${text}`);
  } catch (cause) {
    throw new AppError('INPUT_INVALID', `"${text}" is no address of a server.`, {
      hint: 'It looks like https://NAS:5510.',
      cause,
    });
  }
  const isHere = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && isHere)) {
    throw new AppError('INPUT_INVALID', 'The server must be reached by https://.', {
      hint: 'Without TLS passwords would travel openly; http:// is for this machine only.',
    });
  }
  if (url.username !== '' || url.password !== '') {
    throw new AppError('INPUT_INVALID', 'An address must not hold a user or a password.', {
      hint: 'Run `dozo login`; it asks for them.',
    });
  }
  if (url.port === '' && !/:\d+$/.test(text)) url.port = '5510';
  return url.origin;
}

function parseFingerprint(text: string | undefined): string | null {
  if (text === undefined) return null;
  const hex = text.replaceAll(':', '').toLowerCase();
  if (/^[0-9a-f]{64}$/.test(hex)) return hex;
  throw new AppError('INPUT_INVALID', 'A fingerprint has 64 hex digits.', {
    hint: 'The server prints it at its start: the SHA-256 of its certificate.',
  });
}

async function readSettings(path: string): Promise<Connection | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch {
    return null;
  }
  try {
    const { server, fingerprint, token } = JSON.parse(text) as Partial<Connection>;
    if (typeof server !== 'string') return null;
    return { server, fingerprint: fingerprint ?? null, token: token ?? null };
  } catch (cause) {
    throw new AppError('INPUT_INVALID', `${path} cannot be read.`, {
      hint: 'Run `dozo login` again; it writes the file anew.',
      cause,
    });
  }
}

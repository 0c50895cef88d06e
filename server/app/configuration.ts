import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import type { Language } from '../contract/api/notification.schema.ts';
import { AppError } from '../errors/index.ts';
import { parseRedisUrl, type RedisAddress } from '../queue/index.ts';

export const DEFAULT_PORT = 5510;

export interface ServerConfiguration {
  /** Catalogue, keys, certificate, embedded Redis. */
  dataFolder: string;
  bind: string;
  /** 0: any free port. */
  port: number;
  /** The port that was meant, where a package had to take another one; null: this one. */
  wantedPort?: number | null;
  /** `own`: a certificate made at the first start; `off`: plain HTTP behind a web server on this machine. */
  tls: { kind: 'own' } | { kind: 'files'; key: string; certificate: string } | { kind: 'off' };
  /** Of `admin` at the first start; null: random, and told once. */
  adminPassword: string | null;
  redis: { kind: 'embedded'; binary: string | null } | { kind: 'external'; address: RedisAddress };
  redisPrefix: string;
  /** Worker processes of this machine; 0 where workers run elsewhere only. */
  workers: number;
  /** Tasks of runs that one worker process does at a time. */
  workerConcurrency: number;
  /** Plain HTTP on 127.0.0.1 beside the port above, for the web server of the NAS; null: none. */
  loopback?: { port: number; prefix: string | null } | null | undefined;
  /** Folder of scripts that tasks may run; null: they may run none. */
  scriptsFolder?: string | null;
  /** Of what the NAS is told from the first start on; English where nothing is said. */
  language?: Language;
  /** Folder of the built window; null: none. */
  uiFolder: string | null;
}

type Environment = Record<string, string | undefined>;

/**
 * Reads the settings of a server from the environment. `NAME_FILE` names a file that holds the value of
 * `NAME`, for secrets.
 * @throws INPUT_INVALID
 */
export function readServerConfiguration(environment: Environment): ServerConfiguration {
  const dataFolder = environment['DOZO_DATA_DIR'];
  if (dataFolder === undefined || dataFolder === '') {
    throw invalid('DOZO_DATA_DIR', 'is not set: it names the folder for the catalogue and its keys');
  }
  const tls = readTls(environment);
  const bind = environment['DOZO_BIND'] ?? (tls.kind === 'off' ? '127.0.0.1' : '0.0.0.0');
  if (tls.kind === 'off' && !['127.0.0.1', '::1', 'localhost'].includes(bind)) {
    throw invalid('DOZO_TLS', 'can only be off while DOZO_BIND is 127.0.0.1: passwords would travel openly');
  }
  return {
    dataFolder: resolve(dataFolder),
    bind,
    port: readInteger(environment, 'DOZO_PORT', { fallback: DEFAULT_PORT, min: 0, max: 65535 }),
    wantedPort: readInteger(environment, 'DOZO_WANTED_PORT', { fallback: 0, min: 0, max: 65535 }) || null,
    tls,
    adminPassword: readSecret(environment, 'DOZO_ADMIN_PASSWORD'),
    redis: readRedis(environment),
    redisPrefix: environment['DOZO_REDIS_PREFIX'] ?? 'dozo',
    workers: readInteger(environment, 'DOZO_WORKERS', { fallback: 1, min: 0, max: 16 }),
    workerConcurrency: readInteger(environment, 'DOZO_WORKER_CONCURRENCY', { fallback: 2, min: 1, max: 32 }),
    loopback: readLoopback(environment),
    scriptsFolder: readScriptsFolder(environment),
    language: readLanguage(environment),
    uiFolder: readUiFolder(environment),
  };
}

export interface WorkerConfiguration {
  redis: RedisAddress;
  redisPrefix: string;
  /** The key that sealed addresses are opened with: the same file as the server's. */
  keyFile: string;
  /** Where this machine remembers chunks of disks without change tracking; null: nowhere. */
  recallFolder: string | null;
  concurrency: number;
  /** How hosts clone onto disks that this worker serves; null: they do not. */
  iscsi: {
    /** Address that hosts are told; null: the one by which the worker reached them. */
    address: string | null;
    /** Null: 3260, else one near it, else any. */
    port: number | null;
    /** Null: all addresses. */
    bind: string | null;
  } | null;
}

/** @throws INPUT_INVALID */
export function readWorkerConfiguration(environment: Environment): WorkerConfiguration {
  const socket = environment['DOZO_REDIS_SOCKET'];
  const external = readRedis(environment);
  if (socket === undefined && external.kind === 'embedded') {
    throw invalid('DOZO_REDIS_URL', 'is not set: a worker on its own needs the Redis that the server uses');
  }
  const keyFile = environment['DOZO_KEY_FILE'];
  if (keyFile === undefined) throw invalid('DOZO_KEY_FILE', "is not set: it names a copy of the server's key file");
  return {
    redis: external.kind === 'external' ? external.address : { kind: 'socket', path: socket ?? '' },
    redisPrefix: environment['DOZO_REDIS_PREFIX'] ?? 'dozo',
    keyFile,
    recallFolder: environment['DOZO_RECALL_DIR'] ?? null,
    concurrency: readInteger(environment, 'DOZO_WORKER_CONCURRENCY', { fallback: 2, min: 1, max: 32 }),
    iscsi: readIscsi(environment),
  };
}

function readIscsi(environment: Environment): WorkerConfiguration['iscsi'] {
  const use = environment['DOZO_ISCSI'] ?? 'on';
  if (use !== 'on' && use !== 'off') throw invalid('DOZO_ISCSI', 'must be on or off');
  if (use === 'off') return null;
  const address = environment['DOZO_ISCSI_ADDRESS'] ?? '';
  if (address !== '' && isIP(address) === 0) throw invalid('DOZO_ISCSI_ADDRESS', 'must be an IP address');
  const port = readInteger(environment, 'DOZO_ISCSI_PORT', { fallback: 0, min: 0, max: 65535 });
  const bind = environment['DOZO_ISCSI_BIND'] ?? '';
  return { address: address || null, port: port || null, bind: bind || null };
}

function readTls(environment: Environment): ServerConfiguration['tls'] {
  if (environment['DOZO_TLS'] === 'off') return { kind: 'off' };
  const key = environment['DOZO_TLS_KEY'];
  const certificate = environment['DOZO_TLS_CERTIFICATE'];
  if (key === undefined && certificate === undefined) return { kind: 'own' };
  if (key === undefined || certificate === undefined) {
    throw invalid('DOZO_TLS_KEY', 'and DOZO_TLS_CERTIFICATE belong together');
  }
  return { kind: 'files', key, certificate };
}

function readLoopback(environment: Environment): ServerConfiguration['loopback'] {
  const port = readInteger(environment, 'DOZO_LOOPBACK_PORT', { fallback: 0, min: 0, max: 65535 });
  const prefix = environment['DOZO_LOOPBACK_PREFIX'] ?? '';
  if (prefix !== '' && !/^(\/[a-z0-9_-]+)+$/.test(prefix)) {
    throw invalid('DOZO_LOOPBACK_PREFIX', 'must be a path such as /dozo, without a slash at its end');
  }
  return port === 0 ? null : { port, prefix: prefix === '' ? null : prefix };
}

function readRedis(environment: Environment): ServerConfiguration['redis'] {
  const url = environment['DOZO_REDIS_URL'];
  if (url === undefined || url === '') {
    return { kind: 'embedded', binary: environment['DOZO_REDIS_BINARY'] ?? null };
  }
  const password = readSecret(environment, 'DOZO_REDIS_PASSWORD');
  const authorityFile = environment['DOZO_REDIS_CA_FILE'];
  return {
    kind: 'external',
    address: parseRedisUrl(url, {
      ...(password === null ? {} : { password }),
      ...(authorityFile === undefined ? {} : { authority: readText(authorityFile, 'DOZO_REDIS_CA_FILE') }),
    }),
  };
}

/** As DSM names languages, which the scripts of both packages do. */
function readLanguage(environment: Environment): Language {
  const named = environment['DOZO_LANGUAGE'];
  return named === 'ger' ? 'de' : named === 'jpn' ? 'ja' : 'en';
}

/** Off unless somebody who can set the environment of the server wants it. */
function readScriptsFolder(environment: Environment): string | null {
  const folder = environment['DOZO_SCRIPTS_DIR'] ?? '';
  return folder === '' ? null : resolve(folder);
}

/** The window lies beside the bundles, and two levels up from the sources. */
function readUiFolder(environment: Environment): string | null {
  const candidates = [
    environment['DOZO_UI_DIR'],
    join(import.meta.dirname, '../ui'),
    join(import.meta.dirname, '../../dist/ui'),
  ];
  return candidates.find((folder) => folder !== undefined && existsSync(join(folder, 'index.html'))) ?? null;
}

function readSecret(environment: Environment, name: string): string | null {
  const file = environment[`${name}_FILE`];
  const value = file === undefined ? environment[name] : readText(file, `${name}_FILE`).trim();
  return value === undefined || value === '' ? null : value;
}

function readText(path: string, name: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw invalid(name, `names a file that cannot be read: ${path}`, cause);
  }
}

function readInteger(
  environment: Environment,
  name: string,
  options: { fallback: number; min: number; max: number },
): number {
  const text = environment[name];
  if (text === undefined || text === '') return options.fallback;
  const value = Number(text);
  if (Number.isInteger(value) && value >= options.min && value <= options.max) return value;
  throw invalid(name, `must be a whole number from ${options.min} to ${options.max}`);
}

function invalid(name: string, reason: string, cause?: unknown): AppError {
  return new AppError('INPUT_INVALID', `${name} ${reason}.`, { details: { setting: name }, cause });
}

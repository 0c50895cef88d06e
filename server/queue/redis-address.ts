import { AppError } from '../errors/index.ts';

/** Where Redis is: the embedded one's socket, or an external one. */
export type RedisAddress =
  | { kind: 'socket'; path: string }
  | {
      kind: 'tcp';
      host: string;
      port: number;
      user: string | null;
      password: string | null;
      database: number;
      /** Certificate authority in PEM, `system` for the system's own, null: no TLS. */
      tls: { authority: string | 'system' } | null;
    };

const RECONNECT_STEP_MS = 100;
const RECONNECT_MAX_MS = 2000;

/**
 * Reads `redis://` and `rediss://` addresses. The password may stand in the address or apart from it.
 * @throws INPUT_INVALID
 */
export function parseRedisUrl(url: string, options: { password?: string; authority?: string } = {}): RedisAddress {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw invalid('it is no address', cause);
  }
  if (parsed.protocol !== 'redis:' && parsed.protocol !== 'rediss:') {
    throw invalid('it must begin with redis:// or rediss://');
  }
  if (parsed.hostname === '') throw invalid('it names no host');
  const database = parsed.pathname.replace(/^\//, '');
  if (!/^\d*$/.test(database)) throw invalid('its path must be the number of a database');
  const inUrl = parsed.password === '' ? null : decodeURIComponent(parsed.password);
  return {
    kind: 'tcp',
    host: parsed.hostname.replace(/^\[|\]$/g, ''),
    port: parsed.port === '' ? 6379 : Number(parsed.port),
    user: parsed.username === '' ? null : decodeURIComponent(parsed.username),
    password: options.password ?? inUrl,
    database: Number(database),
    tls: parsed.protocol === 'rediss:' ? { authority: options.authority ?? 'system' } : null,
  };
}

/** The message must not repeat the address: it may hold a password. */
function invalid(reason: string, cause?: unknown): AppError {
  return new AppError('INPUT_INVALID', `DOZO_REDIS_URL cannot be used: ${reason}.`, {
    hint: 'Set it to redis://host:port or rediss://user:password@host:port.',
    cause,
  });
}

/** The part of ioredis's options that Dozo uses. */
interface ConnectionSettings {
  maxRetriesPerRequest: null;
  retryStrategy(times: number): number;
  connectTimeout: number;
  keepAlive: number;
  path?: string;
  host?: string;
  port?: number;
  db?: number;
  username?: string;
  password?: string;
  tls?: { servername: string; ca?: string };
}

/** Options for ioredis: never gives up on a connection, nor on a command while it is away. */
export function toRedisOptions(address: RedisAddress): ConnectionSettings {
  const common: ConnectionSettings = {
    maxRetriesPerRequest: null,
    retryStrategy: (times) => Math.min(times * RECONNECT_STEP_MS, RECONNECT_MAX_MS),
    connectTimeout: 10_000,
    keepAlive: 10_000,
  };
  if (address.kind === 'socket') return { ...common, path: address.path };
  return {
    ...common,
    host: address.host,
    port: address.port,
    db: address.database,
    ...(address.user === null ? {} : { username: address.user }),
    ...(address.password === null ? {} : { password: address.password }),
    ...(address.tls === null
      ? {}
      : {
          tls: {
            servername: address.host,
            ...(address.tls.authority === 'system' ? {} : { ca: address.tls.authority }),
          },
        }),
  };
}

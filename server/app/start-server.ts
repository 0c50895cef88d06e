import { chmod, mkdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { openCatalogue } from '../database/index.ts';
import type { AppError } from '../errors/index.ts';
import {
  createPeople,
  loadCertificate,
  readCertificate,
  startHttpServer,
  type ServerCertificate,
} from '../http/index.ts';
import { EventHub, Orchestration } from '../orchestration/index.ts';
import { detectNas } from '../nas/index.ts';
import { createSealer, loadKeyFile, startEmbeddedRedis, TaskQueue, type RedisAddress } from '../queue/index.ts';
import { createLogger, siblingModule, systemClock, type Clock, type Logger } from '../runtime/index.ts';
import type { ServerConfiguration } from './configuration.ts';
import { createDiskDownloads } from './disk-downloads.ts';
import { takeDataFolder } from './take-data-folder.ts';
import { readVersion } from './version.ts';
import { superviseWorker, type SupervisedWorker } from './worker-supervisor.ts';

export interface RunningServer {
  /** Where the API and the window answer. */
  readonly url: string;
  readonly port: number;
  /** SHA-256 of the certificate, lower-case hex; null without TLS. */
  readonly fingerprint: string | null;
  /** Random password of `admin`, at the first start only and when none was given: to be shown once. */
  readonly adminPassword: string | null;
  /** For tests and the monitor: process ids of today. */
  pids(): { redis: number | null; workers: (number | null)[] };
  stop(): Promise<void>;
}

export interface ServerParts {
  clock?: Clock;
  logger?: Logger;
  /** Module that worker processes run; the real one by default. */
  workerModule?: URL;
}

/**
 * Starts everything that a Dozo server is: lock, catalogue, Redis, API, workers; takes up every run that
 * had not ended. Resolves when the API answers; on failure nothing is left running.
 * @throws SERVER_ALREADY_RUNNING, CATALOGUE_*, QUEUE_UNAVAILABLE, SECRET_UNREADABLE, CONFLICT (port)
 */
export async function startServer(configuration: ServerConfiguration, parts: ServerParts = {}): Promise<RunningServer> {
  const { clock = systemClock, logger = createLogger('server') } = parts;
  /** Ends what was started, newest first. */
  const undo: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) {
      await step().catch((error: unknown) => logger.error({ err: error }, 'a part did not stop in order'));
    }
  };
  try {
    return await start(configuration, { ...parts, clock, logger }, undo, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(
  configuration: ServerConfiguration,
  parts: ServerParts & { clock: Clock; logger: Logger },
  undo: (() => Promise<void>)[],
  stop: () => Promise<void>,
): Promise<RunningServer> {
  const { clock, logger } = parts;
  const { dataFolder } = configuration;
  await mkdir(dataFolder, { recursive: true, mode: 0o700 });
  await chmod(dataFolder, 0o700);
  undo.push(await takeDataFolder(lockPath(dataFolder), { clock, logger }));

  const keyFile = join(dataFolder, 'secret.key');
  const sealer = createSealer(await loadKeyFile(keyFile));
  let tellTrouble: (trouble: AppError | null) => void = () => undefined;
  const catalogue = await openCatalogue(join(dataFolder, 'catalogue.sqlite'), {
    onTrouble: (trouble) => tellTrouble(trouble),
  });
  undo.push(() => catalogue.close());

  const { address, redisPid } = await startRedis(configuration, parts, undo);
  const events = new EventHub();
  const queue = new TaskQueue({
    redis: address,
    prefix: configuration.redisPrefix,
    clock,
    logger,
    onEvent: (taskId, event) => orchestration.keeper.takeEvent(taskId, event),
    onEnd: () => orchestration.keeper.wake(),
  });
  undo.push(() => queue.close());
  const nas = detectNas(logger);
  logger.info({ nas: nas.name }, 'system');
  const downloads = createDiskDownloads({ sealer, clock, logger });
  const orchestration: Orchestration = new Orchestration(
    { catalogue, queue, sealer, events, clock, logger },
    {
      version: readVersion(),
      tellNas: (level, text) => nas.notify(level, text),
      hostName: hostname(),
      language: configuration.language ?? 'en',
      scriptsFolder: configuration.scriptsFolder ?? null,
      readPoints: (path) => downloads.readPoints(path),
    },
  );
  tellTrouble = (trouble) => orchestration.notifications.noteCatalogue(trouble);
  orchestration.start();
  undo.push(() => orchestration.stop());

  const releaseDead = (): void => {
    queue.releaseDeadWorkers().catch((error: unknown) => {
      logger.warn({ err: error }, 'tasks of dead workers come free by their time limit only');
    });
  };
  // Of a server that was killed together with its workers.
  releaseDead();
  const workers = startWorkers(configuration, parts, { address, keyFile, onDeath: releaseDead });
  undo.push(async () => {
    await Promise.all(workers.map((worker) => worker.stop()));
  });

  const people = createPeople({ catalogue, nas, sealer, clock, logger });
  const adminPassword = await people.accounts.ensureAdministrator(configuration.adminPassword);
  const certificate = await loadTls(configuration, clock);
  const port = { wanted: configuration.port, actual: configuration.port };
  const faces = {
    services: {
      orchestration,
      nas,
      port,
      certificate:
        certificate === null
          ? null
          : {
              fingerprint: certificate.fingerprint,
              validUntilMs: certificate.validUntilMs,
              isOwn: configuration.tls.kind === 'own',
            },
      ...people,
      downloads,
    },
    logger,
    version: readVersion(),
    uiFolder: configuration.uiFolder,
  };
  const http = await startHttpServer({
    ...faces,
    bind: configuration.bind,
    port: configuration.port,
    tls: certificate,
  });
  undo.push(() => http.close());
  port.actual = http.port;
  port.wanted = configuration.wantedPort ?? http.port;
  if (configuration.loopback !== null && configuration.loopback !== undefined) {
    const loopback = await startHttpServer({
      ...faces,
      bind: '127.0.0.1',
      tls: null,
      isBehindNas: true,
      ...configuration.loopback,
    });
    undo.push(() => loopback.close());
  }
  const isAnywhere = ['0.0.0.0', '::'].includes(configuration.bind);
  const name = isAnywhere
    ? 'localhost'
    : configuration.bind.includes(':')
      ? `[${configuration.bind}]`
      : configuration.bind;
  return {
    url: `${certificate === null ? 'http' : 'https'}://${name}:${http.port}`,
    port: http.port,
    fingerprint: certificate?.fingerprint ?? null,
    adminPassword,
    pids: () => ({ redis: redisPid(), workers: workers.map((worker) => worker.pid()) }),
    stop,
  };
}

/** Lock of a data folder: held by the server that uses it. */
export function lockPath(dataFolder: string): string {
  return join(dataFolder, 'server.lock');
}

async function startRedis(
  configuration: ServerConfiguration,
  { clock, logger }: { clock: Clock; logger: Logger },
  undo: (() => Promise<void>)[],
): Promise<{ address: RedisAddress; redisPid: () => number | null }> {
  if (configuration.redis.kind === 'external') return { address: configuration.redis.address, redisPid: () => null };
  const redis = await startEmbeddedRedis({
    folder: join(configuration.dataFolder, 'redis'),
    binary: configuration.redis.binary,
    clock,
    logger,
  });
  undo.push(() => redis.stop());
  return { address: { kind: 'socket', path: redis.socketPath }, redisPid: () => redis.pid() };
}

function startWorkers(
  configuration: ServerConfiguration,
  parts: ServerParts & { clock: Clock; logger: Logger },
  shared: { address: RedisAddress; keyFile: string; onDeath: () => void },
): SupervisedWorker[] {
  const environment: Record<string, string> = {
    DOZO_REDIS_PREFIX: configuration.redisPrefix,
    DOZO_KEY_FILE: shared.keyFile,
    DOZO_RECALL_DIR: join(configuration.dataFolder, 'recall'),
    DOZO_WORKER_CONCURRENCY: String(configuration.workerConcurrency),
    // An external Redis is in the environment already, which the child inherits.
    ...(shared.address.kind === 'socket'
      ? { DOZO_REDIS_SOCKET: shared.address.path, DOZO_SERVER_LOCK: lockPath(configuration.dataFolder) }
      : {}),
  };
  return Array.from({ length: configuration.workers }, () =>
    superviseWorker({
      module: parts.workerModule ?? siblingModule(import.meta.url, './worker-main'),
      environment,
      onDeath: shared.onDeath,
      clock: parts.clock,
      logger: parts.logger,
    }),
  );
}

async function loadTls(configuration: ServerConfiguration, clock: Clock): Promise<ServerCertificate | null> {
  switch (configuration.tls.kind) {
    case 'off':
      return null;
    case 'own':
      return loadCertificate(join(configuration.dataFolder, 'tls'), clock);
    case 'files':
      return readCertificate(configuration.tls.key, configuration.tls.certificate);
  }
}

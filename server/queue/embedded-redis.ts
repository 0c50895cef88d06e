import { spawn, type ChildProcess } from 'node:child_process';
import {
  access,
  chmod,
  constants,
  mkdir,
  readdir,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, delimiter, join } from 'node:path';
import { once } from 'node:events';
import { AppError } from '../errors/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';

export interface EmbeddedRedisOptions {
  /** Folder of its own; made with mode 0700. */
  folder: string;
  /** Path of the program; null: `redis-server` or `valkey-server` in PATH. */
  binary: string | null;
  clock: Clock;
  logger: Logger;
}

/** A Redis that is ours alone: child process, unix socket, no port. */
export interface EmbeddedRedis {
  readonly socketPath: string;
  /** Process id of today; changes when it had to be started again. */
  pid(): number | null;
  stop(): Promise<void>;
}

/** Longest path that fits into a socket's address on Linux, without the closing zero. */
const SOCKET_PATH_BYTES_MAX = 107;
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 8_000;
const PING_TIMEOUT_MS = 2_000;
const RESTART_FIRST_MS = 100;
const RESTART_MAX_MS = 10_000;
/** A child that lived this long was well: the next death is a new story. */
const SETTLED_MS = 30_000;
/** Deaths in a row, before its data is taken for the cause and set aside. */
const DEATHS_BEFORE_RESET = 4;

/**
 * Starts Redis and keeps it running: a child that dies is started again, with back-off; data that it
 * cannot read is set aside, since everything in it can be made again from the catalogue. Resolves when
 * it answers. A Redis left over from a killed server is ended first, in order, so that its data is used.
 * @throws QUEUE_UNAVAILABLE
 */
export async function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis> {
  const redis = new SupervisedRedis(options, await findBinary(options.binary));
  await redis.start();
  return redis;
}

class SupervisedRedis implements EmbeddedRedis {
  readonly socketPath: string;
  readonly #options: EmbeddedRedisOptions;
  readonly #binary: string;
  readonly #stopping = new AbortController();
  #child: ChildProcess | null = null;
  #supervision: Promise<void> = Promise.resolve();

  constructor(options: EmbeddedRedisOptions, binary: string) {
    this.#options = options;
    this.#binary = binary;
    this.socketPath = join(options.folder, 'redis.sock');
  }

  pid(): number | null {
    return this.#child?.pid ?? null;
  }

  async start(): Promise<void> {
    if (Buffer.byteLength(this.socketPath) > SOCKET_PATH_BYTES_MAX) {
      throw new AppError('QUEUE_UNAVAILABLE', `The path of the socket is too long: ${this.socketPath}`, {
        hint: `Choose a data folder whose path has at most ${SOCKET_PATH_BYTES_MAX - 'redis/redis.sock'.length - 1} bytes.`,
      });
    }
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
    await chmod(this.#options.folder, 0o700);
    await writeFile(this.#configurationPath(), this.#configuration(), { mode: 0o600 });
    await endLeftover(this.#options.folder, this.socketPath, this.#binary, this.#options.clock);
    this.#supervision = this.#supervise();
    const deadlineMs = this.#options.clock.monotonicMs() + START_TIMEOUT_MS;
    while (!(await answers(this.socketPath))) {
      if (this.#options.clock.monotonicMs() > deadlineMs) {
        await this.stop();
        throw new AppError('QUEUE_UNAVAILABLE', 'The embedded Redis does not start.', {
          hint: `Look into ${join(this.#options.folder, 'redis.log')}.`,
        });
      }
      await this.#options.clock.sleep(50);
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    if (child !== null && child.exitCode === null && child.signalCode === null) {
      // SIGTERM makes Redis write everything out and remove its socket.
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await this.#supervision;
      clearTimeout(timer);
    }
    await this.#supervision;
  }

  async #supervise(): Promise<void> {
    const { clock, logger } = this.#options;
    let deaths = 0;
    while (!this.#stopping.signal.aborted) {
      const startedMs = clock.monotonicMs();
      const reason = await this.#runOnce();
      if (this.#stopping.signal.aborted) return;
      deaths = clock.monotonicMs() - startedMs > SETTLED_MS ? 1 : deaths + 1;
      logger.error({ reason, deaths }, 'the embedded Redis ended; starting it again');
      if (deaths % DEATHS_BEFORE_RESET === 0) await this.#setDataAside();
      const pauseMs = Math.min(RESTART_FIRST_MS * 2 ** (deaths - 1), RESTART_MAX_MS);
      await clock.sleep(pauseMs, this.#stopping.signal).catch(() => undefined);
    }
  }

  async #runOnce(): Promise<string> {
    const child = spawn(this.#binary, [this.#configurationPath()], { stdio: 'ignore', cwd: this.#options.folder });
    this.#child = child;
    try {
      const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
      return signal ?? `exit status ${code}`;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    } finally {
      this.#child = null;
    }
  }

  async #setDataAside(): Promise<void> {
    const data = join(this.#options.folder, 'appendonlydir');
    const aside = join(this.#options.folder, 'appendonlydir.unreadable');
    this.#options.logger.warn({ aside }, 'the embedded Redis cannot use its data; starting with none');
    await rm(aside, { recursive: true, force: true });
    await rename(data, aside).catch(() => undefined);
  }

  #configurationPath(): string {
    return join(this.#options.folder, 'redis.conf');
  }

  #configuration(): string {
    const quote = (value: string): string => JSON.stringify(value);
    return [
      'port 0',
      `unixsocket ${quote(this.socketPath)}`,
      'unixsocketperm 700',
      'daemonize no',
      `dir ${quote(this.#options.folder)}`,
      'logfile redis.log',
      'loglevel warning',
      // Every change is in a file within a second; no snapshots beside it.
      'appendonly yes',
      'appendfsync everysec',
      'save ""',
      // The file is rewritten early: queues turn over far more than they hold.
      'auto-aof-rewrite-min-size 4mb',
      'auto-aof-rewrite-percentage 100',
      // A queue that loses items silently is no queue.
      'maxmemory-policy noeviction',
      '',
    ].join('\n');
  }
}

async function findBinary(configured: string | null): Promise<string> {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const candidates =
    configured === null
      ? ['redis-server', 'valkey-server'].flatMap((name) => folders.map((folder) => join(folder, name)))
      : [configured];
  for (const candidate of candidates) {
    const isExecutable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isExecutable) return candidate;
  }
  throw new AppError('QUEUE_UNAVAILABLE', `No Redis was found${configured === null ? '' : ` at ${configured}`}.`, {
    hint: 'Install redis-server, name it with DOZO_REDIS_BINARY, or use an external one with DOZO_REDIS_URL.',
  });
}

/**
 * A server that was killed leaves its Redis running on our socket: it is asked to write out and end. One that does
 * not, since its disk is stuck, is killed: beside a second one it would spoil the file that both write.
 */
async function endLeftover(folder: string, socketPath: string, binary: string, clock: Clock): Promise<void> {
  const deadlineMs = clock.monotonicMs() + STOP_TIMEOUT_MS;
  for (;;) {
    const leftovers = await findProcesses(folder, basename(binary));
    if (leftovers.length === 0 && (await exchange(socketPath, 'PING')) === null) break;
    const lateMs = clock.monotonicMs() - deadlineMs;
    if (lateMs > STOP_TIMEOUT_MS || (lateMs > 0 && leftovers.length === 0)) {
      throw new AppError('QUEUE_UNAVAILABLE', `Another Redis holds ${socketPath} and does not end.`, {
        hint: 'End that process, then start Dozo again.',
        details: { pids: leftovers.join(' ') },
      });
    }
    if (lateMs > 0) for (const pid of leftovers) endNow(pid);
    else await exchange(socketPath, 'SHUTDOWN');
    await clock.sleep(100);
  }
  await rm(socketPath, { force: true });
}

/** Processes of this program at work in this folder, as Redis is in the one of its data; by proc(5). */
async function findProcesses(folder: string, program: string): Promise<number[]> {
  const place = await realpath(folder);
  const found: number[] = [];
  for (const name of await readdir('/proc').catch(() => [])) {
    if (!/^\d+$/.test(name) || (await readlink(`/proc/${name}/cwd`).catch(() => null)) !== place) continue;
    const command = (await readFile(`/proc/${name}/comm`, 'utf8').catch(() => '')).trimEnd();
    // What is dead and not yet collected by its parent has no folder any more.
    if (command !== '' && program.startsWith(command)) found.push(Number(name));
  }
  return found;
}

function endNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone by itself.
  }
}

/** Asks a Redis that nobody supervises any more to write everything out and end. */
export async function shutDownRedis(socketPath: string): Promise<void> {
  await exchange(socketPath, 'SHUTDOWN');
}

async function answers(socketPath: string): Promise<boolean> {
  return (await exchange(socketPath, 'PING'))?.startsWith('+PONG') ?? false;
}

/** One inline command; the first piece of the answer, or null when nobody is there. */
async function exchange(socketPath: string, command: string): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    let answer: string | null = null;
    const finish = (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(PING_TIMEOUT_MS, finish);
    socket.on('connect', () => socket.write(`${command}\r\n`));
    socket.on('data', (data) => {
      answer = data.toString();
      finish();
    });
    socket.on('error', finish);
    socket.on('close', finish);
  });
}

import { AppError, isAppError, toAppError } from '../../errors/index.ts';
import type { Clock, Logger } from '../../runtime/index.ts';
import { shell, type ExecOptions, type ExecResult, type ShellCommand, type SshConnection } from '../../ssh/index.ts';
import { classifyHostText, lastWords } from './vmkfstools.ts';

/**
 * Waits before each new attempt to connect, once a connection was lost: long enough together for a switch
 * that restarts, or a host whose services do.
 */
const RECONNECT_DELAYS_MS = [0, 1_000, 3_000, 10_000, 30_000, 60_000, 120_000];
/** Names end with NUL, since they may hold line breaks. */
const LIST_FOLDER =
  'cd "$1" || exit 1; for f in * .[!.]* ..?*; do [ -e "$f" ] || [ -L "$f" ] || continue; printf "%s\\0" "$f"; done';
const ALIVE_TIMEOUT_MS = 10_000;

/**
 * The shell of a host over a connection that is made anew when it was lost. Commands that may be
 * repeated say so; the others report the loss and their caller looks at the state first.
 */
export class HostShell {
  /** Null: this shell ends with its connection. */
  readonly #connect: ((signal?: AbortSignal) => Promise<SshConnection>) | null;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #connection: SshConnection;
  #renewal: Promise<SshConnection> | null = null;
  #wireBytesBefore = 0;
  #connections = 1;
  #isDead = false;
  readonly #closing = new AbortController();

  constructor(parts: {
    connection: SshConnection;
    connect: ((signal?: AbortSignal) => Promise<SshConnection>) | null;
    clock: Clock;
    logger: Logger;
  }) {
    this.#connection = parts.connection;
    this.#connect = parts.connect;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
  }

  /** The present connection; a new one where the last attempt to make one failed. */
  async usable(signal?: AbortSignal): Promise<SshConnection> {
    if (!this.#isDead) return this.#connection;
    return await this.renew(this.#connection, signal);
  }

  /**
   * The same shell over one connection alone, which is not made anew: for commands that are right only as long as
   * something else lives on that connection. Not to be closed.
   */
  over(connection: SshConnection): HostShell {
    return new HostShell({ connection, connect: null, clock: this.#clock, logger: this.#logger });
  }

  /** How many connections there have been: another number than before means that one was lost in between. */
  get connections(): number {
    return this.#connections;
  }

  get hostKey(): string {
    return this.#connection.hostKey;
  }

  /** Address of this machine as the host sees it. */
  get localAddress(): string {
    return this.#connection.localAddress;
  }

  wireBytes(): number {
    return this.#wireBytesBefore + this.#connection.wireBytes();
  }

  /**
   * A connection that answers: the present one, or a new one. Attempts share one renewal.
   * @param broken the connection on which something failed
   */
  async renew(broken: SshConnection, signal?: AbortSignal): Promise<SshConnection> {
    signal?.throwIfAborted();
    if (broken !== this.#connection && !this.#isDead) return this.#connection;
    this.#renewal ??= this.#makeNew(this.#connection).finally(() => (this.#renewal = null));
    return await unlessAborted(this.#renewal, signal);
  }

  async exec(command: ShellCommand, options: ExecOptions & { isRepeatable?: boolean } = {}): Promise<ExecResult> {
    const { isRepeatable = false, ...rest } = options;
    const used = await this.usable(options.signal);
    try {
      return await used.exec(command, rest);
    } catch (error) {
      if (!isLost(error)) throw error;
      const connection = await this.renew(used, options.signal);
      if (!isRepeatable) throw error;
      return await connection.exec(command, rest);
    }
  }

  /**
   * Standard output of a command that must succeed and may be repeated.
   * @param what for the message: "list its files"
   * @throws HOST_COMMAND_FAILED, NOT_FOUND, DATASTORE_FULL by the words of the host
   */
  async run(command: ShellCommand, what: string, options: ExecOptions = {}): Promise<string> {
    const result = await this.exec(command, { ...options, isRepeatable: true });
    if (result.code !== 0) throw commandFailed(what, result);
    return result.stdout.toString('utf8');
  }

  /** @throws NOT_FOUND, HOST_COMMAND_FAILED */
  async readFile(path: string, signal?: AbortSignal): Promise<Buffer> {
    const result = await this.exec(shell`cat -- ${path}`, { isRepeatable: true, ...(signal && { signal }) });
    if (result.code !== 0) throw commandFailed(`read ${path}`, result);
    return result.stdout;
  }

  /** The file's bytes, or null where there is none. */
  async readFileIfThere(path: string, signal?: AbortSignal): Promise<Buffer | null> {
    try {
      return await this.readFile(path, signal);
    } catch (error) {
      if (isAppError(error) && error.code === 'NOT_FOUND') return null;
      throw error;
    }
  }

  async writeFile(path: string, content: Buffer, signal?: AbortSignal): Promise<void> {
    await this.run(shell`cat > ${path}`, `write ${path}`, { stdin: content, ...(signal && { signal }) });
  }

  async exists(path: string, signal?: AbortSignal): Promise<boolean> {
    const options = { isRepeatable: true, ...(signal && { signal }) };
    return (await this.exec(shell`[ -e ${path} ] || [ -L ${path} ]`, options)).code === 0;
  }

  /** Names in a folder, hidden ones too. Not by `ls`: BusyBox writes `?` for what is not ASCII. @throws NOT_FOUND */
  async listFolder(path: string, signal?: AbortSignal): Promise<string[]> {
    const text = await this.run(shell`sh -c ${LIST_FOLDER} dozo ${path}`, `list ${path}`, {
      ...(signal && { signal }),
    });
    return text.split('\0').filter((name) => name !== '');
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#connection.close();
  }

  async #makeNew(broken: SshConnection): Promise<SshConnection> {
    if (!this.#isDead) {
      if (await isAlive(broken)) return broken;
      this.#isDead = true;
      await broken.close().catch(() => undefined);
    }
    if (this.#connect === null) throw lost();
    let last: unknown;
    for (const delayMs of RECONNECT_DELAYS_MS) {
      await this.#clock.sleep(delayMs, this.#closing.signal).catch(() => undefined);
      if (this.#closing.signal.aborted) break;
      try {
        const connection = await this.#connect();
        this.#wireBytesBefore += broken.wireBytes();
        this.#connection = connection;
        this.#connections += 1;
        this.#isDead = false;
        this.#logger.info({ attempts: RECONNECT_DELAYS_MS.indexOf(delayMs) + 1 }, 'connected to the host anew');
        return this.#connection;
      } catch (error) {
        last = error;
        // Anything but a passing fault, above all a refused login, must not be tried again.
        if (!mayPass(error)) break;
      }
    }
    throw last === undefined || isSshOff(last) ? lost(last) : toAppError(last);
  }
}

export function isLost(error: unknown): boolean {
  return isAppError(error) && (error.code === 'HOST_CONNECTION_LOST' || error.code === 'HOST_STALLED');
}

/** A failed command as an error of ours; the host's words go into the details, never into the sentence. */
export function commandFailed(
  what: string,
  result: { code: number | null; stdout?: Buffer; stderr: string },
): AppError {
  const words = `${result.stdout?.toString('utf8') ?? ''}\n${result.stderr}`;
  const details = { status: result.code, words: lastWords(words) };
  switch (classifyHostText(words)) {
    case 'missing':
      return new AppError('NOT_FOUND', `The host could not ${what}: a file is not there.`, { details });
    case 'full':
      return new AppError('DATASTORE_FULL', `The host could not ${what}: no space is left.`, {
        hint: 'Free space on the datastore, or choose another one.',
        details,
      });
    default:
      return new AppError('HOST_COMMAND_FAILED', `The host could not ${what}.`, {
        hint: 'See the words of the host in the details, and vmkernel.log on the host.',
        details,
      });
  }
}

async function isAlive(connection: SshConnection): Promise<boolean> {
  try {
    return (await connection.exec(shell`true`, { timeoutMs: ALIVE_TIMEOUT_MS })).code === 0;
  } catch {
    return false;
  }
}

/** A service that was there a moment ago and refuses now is restarting, with its host or alone. */
function mayPass(error: unknown): boolean {
  return isAppError(error) && (error.retry === 'transient' || isSshOff(error));
}

function isSshOff(error: unknown): boolean {
  return isAppError(error) && error.code === 'HOST_SSH_OFF';
}

/** Waits for work that others wait for as well, and that an abort therefore does not end. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work;
  work.catch(() => undefined);
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(toAppError(signal.reason));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function lost(cause?: unknown): AppError {
  const because = isSshOff(cause) ? ', and its SSH service refuses new ones' : '';
  return new AppError('HOST_CONNECTION_LOST', `The connection to the host was lost${because}.`, {
    hint: 'Check the network, and whether the host restarted without its SSH service; the next run goes on.',
    cause,
  });
}

import type { Socket } from 'node:net';
import type { Client, ClientChannel } from 'ssh2';
import { AppError, assert, cancelled, toAppError } from '../errors/index.ts';
import { MIB } from '../runtime/index.ts';
import { ChannelSlots } from './channel-slots.ts';
import { shell } from './quote.ts';
import { announced, RemoteCommand } from './remote-command.ts';
import type { ExecOptions, ExecResult, ShellCommand, SshChannel, SshConnection } from './ssh.ts';

const OUTPUT_BYTES_MAX = 16 * MIB;
/** How often within the stall limit the socket is looked at. */
const STALL_LOOKS = 4;
const CLOSE_TIMEOUT_MS = 2_000;
const KILL_TIMEOUT_MS = 3_000;

interface ConnectionLimits {
  channelsMax: number;
  channelOpenTimeoutMs: number;
  stallTimeoutMs: number;
}

/** A logged-in ssh2 client as an `SshConnection`. */
export class Connection implements SshConnection {
  readonly hostKey: string;
  readonly localAddress: string;
  readonly #host: string;
  readonly #client: Client;
  readonly #socket: Socket;
  readonly #limits: ConnectionLimits;
  readonly #slots: ChannelSlots;
  readonly #commands = new Set<RemoteCommand>();
  readonly #failed = new AbortController();
  readonly #watch: NodeJS.Timeout;
  #failure: AppError | undefined;

  constructor(parts: { host: string; hostKey: string; client: Client; socket: Socket; limits: ConnectionLimits }) {
    this.#host = parts.host;
    this.hostKey = parts.hostKey;
    this.localAddress = (parts.socket.localAddress ?? '').replace(/^::ffff:/, '');
    this.#client = parts.client;
    this.#socket = parts.socket;
    this.#limits = parts.limits;
    this.#slots = new ChannelSlots(parts.limits.channelsMax);
    this.#client.on('error', (error: Error) => this.#fail(this.#lost(error)));
    this.#client.on('close', () => this.#fail(this.#lost()));
    this.#watch = this.#watchForSilence();
  }

  wireBytes(): number {
    return this.#socket.bytesRead + this.#socket.bytesWritten;
  }

  async exec(command: ShellCommand, options: ExecOptions = {}): Promise<ExecResult> {
    const remote = await this.#start(command, options.signal);
    const { timeoutMs, outputBytesMax = OUTPUT_BYTES_MAX } = options;
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => remote.fail(commandTooSlow(this.#host, timeoutMs)), timeoutMs);
    try {
      remote.stdin.end(options.stdin ?? '');
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of remote.stdout as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > outputBytesMax) {
          throw new AppError(
            'HOST_ANSWER_UNREADABLE',
            `A command on ${this.#host} answered more than ${outputBytesMax} bytes.`,
            {
              hint: 'Look at the host: a listing of this size is not expected from an ESXi host.',
              details: { host: this.#host, outputBytesMax },
            },
          );
        }
        chunks.push(chunk);
      }
      const { code, stderr } = await remote.exit;
      return { code, stdout: Buffer.concat(chunks), stderr };
    } catch (error) {
      const known = toAppError(error);
      remote.fail(known);
      throw known;
    } finally {
      clearTimeout(timer);
    }
  }

  async open(command: ShellCommand, options: { signal?: AbortSignal } = {}): Promise<SshChannel> {
    return await this.#start(command, options.signal);
  }

  async close(): Promise<void> {
    const running = [...this.#commands];
    for (const command of running) command.abort();
    await Promise.all(running.map(async (command) => await command.released));
    this.#fail(new AppError('CANCELLED', `The SSH connection to ${this.#host} was closed.`));
    if (this.#socket.closed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#socket.once('close', () => resolve());
    const timer = setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS);
    await promise;
    clearTimeout(timer);
  }

  /** Waits for a free channel and starts the command on it. */
  async #start(command: ShellCommand, signal?: AbortSignal): Promise<RemoteCommand> {
    for (;;) {
      this.#assertUsable(signal);
      await this.#slots.take(signal);
      let channel: ClientChannel;
      try {
        this.#assertUsable(signal);
        channel = await this.#openChannel(command, signal);
      } catch (error) {
        if (error instanceof ChannelRefused && this.#slots.taken > 1) {
          this.#slots.learnLimit();
          this.#slots.release();
          continue;
        }
        this.#slots.release();
        if (error instanceof ChannelRefused) throw this.#channelRefused(error);
        throw error;
      }
      return this.#adopt(channel, signal);
    }
  }

  #adopt(channel: ClientChannel, signal?: AbortSignal): RemoteCommand {
    const remote = new RemoteCommand(channel, async (processId) => await this.#kill(processId));
    const onAbort = (): void => remote.fail(cancelled(signal?.reason));
    this.#commands.add(remote);
    signal?.addEventListener('abort', onAbort, { once: true });
    void remote.released.then(() => {
      this.#commands.delete(remote);
      signal?.removeEventListener('abort', onAbort);
      this.#slots.release();
    });
    if (this.#failure !== undefined) remote.fail(this.#failure);
    return remote;
  }

  /** Rejects as soon as the signal fires; a channel that opens later is closed at once. */
  async #openChannel(command: ShellCommand, signal?: AbortSignal): Promise<ClientChannel> {
    const { promise, resolve, reject } = Promise.withResolvers<ClientChannel>();
    let isSettled = false;
    const fail = (error: Error): void => {
      isSettled = true;
      reject(error);
    };
    const onAbort = (): void => fail(cancelled(signal?.reason));
    const onFailed = (): void => fail(this.#failure ?? this.#lost());
    const timer = setTimeout(
      () => fail(commandTooSlow(this.#host, this.#limits.channelOpenTimeoutMs)),
      this.#limits.channelOpenTimeoutMs,
    );
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#failed.signal.addEventListener('abort', onFailed, { once: true });
    try {
      this.#client.exec(announced(command), (error, channel) => {
        if (error !== undefined) fail(new ChannelRefused(error.message));
        else if (isSettled) this.#discard(channel);
        else resolve(channel);
      });
      return await promise;
    } catch (error) {
      if (this.#failure !== undefined) throw this.#failure;
      if (error instanceof ChannelRefused || error instanceof AppError) throw error;
      throw this.#lost(error);
    } finally {
      isSettled = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      this.#failed.signal.removeEventListener('abort', onFailed);
    }
  }

  #discard(channel: ClientChannel): void {
    new RemoteCommand(channel, async (processId) => await this.#kill(processId)).abort();
  }

  /**
   * Ends a process group of ours. Needs a channel beyond `channelsMax`: all of those may be taken by
   * commands that are to be ended, and hosts allow more than we use.
   */
  async #kill(processId: number): Promise<void> {
    if (this.#failure !== undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, KILL_TIMEOUT_MS);
    this.#failed.signal.addEventListener('abort', () => resolve(), { once: true });
    try {
      this.#client.exec(shell`kill -TERM -- -${processId} 2>/dev/null || kill -TERM ${processId}`, (error, channel) => {
        if (error !== undefined) return resolve();
        channel.on('close', () => resolve());
        channel.resume().stderr.resume();
        channel.end();
      });
    } catch {
      resolve(); // The connection went down meanwhile, and the channel with it.
    }
    await promise;
    clearTimeout(timer);
  }

  #assertUsable(signal?: AbortSignal): void {
    if (signal?.aborted === true) throw cancelled(signal.reason);
    if (this.#failure !== undefined) throw this.#failure;
  }

  #fail(error: AppError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    clearInterval(this.#watch);
    this.#slots.refuseAll(error);
    for (const command of this.#commands) command.fail(error);
    this.#failed.abort();
    if (error.code === 'CANCELLED') this.#client.end();
    else this.#socket.destroy();
  }

  /**
   * Keepalives are answered even while a command is silent for hours, so a socket on which nothing
   * arrives is dead. Several looks in a row are needed: a stopped event loop must not look like a
   * silent host.
   */
  #watchForSilence(): NodeJS.Timeout {
    let heardBytes = this.#socket.bytesRead;
    let silentLooks = 0;
    const timer = setInterval(() => {
      silentLooks = this.#socket.bytesRead === heardBytes ? silentLooks + 1 : 0;
      heardBytes = this.#socket.bytesRead;
      if (silentLooks < STALL_LOOKS) return;
      this.#fail(
        new AppError(
          'HOST_STALLED',
          `Nothing was heard from ${this.#host} for ${this.#limits.stallTimeoutMs / 1000} s.`,
          {
            hint: 'Check the network and whether the host is overloaded or has hung; the next attempt connects anew.',
            details: { host: this.#host, stallTimeoutMs: this.#limits.stallTimeoutMs },
          },
        ),
      );
    }, this.#limits.stallTimeoutMs / STALL_LOOKS);
    return timer.unref();
  }

  #lost(cause?: unknown): AppError {
    return new AppError('HOST_CONNECTION_LOST', `The SSH connection to ${this.#host} was lost.`, {
      hint: 'Check the network and whether the host restarted; what had arrived is kept.',
      details: { host: this.#host },
      cause,
    });
  }

  #channelRefused(error: ChannelRefused): AppError {
    assert(this.#failure === undefined, 'a failed connection reports its own error');
    return new AppError('HOST_COMMAND_FAILED', `${this.#host} refused to run a command: ${error.message}.`, {
      hint: 'Check that the account has shell access and that MaxSessions in sshd_config is not 0.',
      details: { host: this.#host },
      cause: error,
    });
  }
}

class ChannelRefused extends Error {}

function commandTooSlow(host: string, timeoutMs: number): AppError {
  return new AppError('HOST_STALLED', `A command on ${host} did not end within ${timeoutMs / 1000} s.`, {
    hint: 'Check whether the host is overloaded or one of its datastores does not answer.',
    details: { host, timeoutMs },
  });
}

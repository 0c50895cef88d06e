import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
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
const KILL_TIMEOUT_MS = 5_000;
const KILL_RETRY_MS = 100;
/** How long a closing connection waits for its commands to end on the host. */
const END_ALL_TIMEOUT_MS = 8_000;

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
    // Not without end: a command that cannot be ended, or a host that does not answer, holds nobody here.
    const ended = Promise.all(running.map(async (command) => await command.released));
    await Promise.race([ended, delay(END_ALL_TIMEOUT_MS, undefined, { ref: false })]);
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
      let opening: Promise<ClientChannel>;
      try {
        this.#assertUsable(signal);
        opening = this.#openChannel(command);
      } catch (error) {
        this.#slots.release();
        throw error;
      }
      try {
        return this.#adopt(await this.#unlessGivenUp(opening, signal), signal);
      } catch (error) {
        if (!(error instanceof ChannelRefused)) {
          // A channel that opens after all is closed at once; until then it is one of those that the host counts.
          opening.then(
            (channel) => this.#adopt(channel).abort(),
            () => this.#slots.release(),
          );
          throw error;
        }
        const isLimit = this.#slots.taken > 1;
        if (isLimit) this.#slots.learnLimit();
        this.#slots.release();
        if (!isLimit) throw this.#channelRefused(error);
      }
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
    else if (signal?.aborted === true) onAbort();
    return remote;
  }

  /** Rejects when the host refuses (`ChannelRefused`); stays open where the connection is lost. */
  #openChannel(command: ShellCommand): Promise<ClientChannel> {
    const { promise, resolve, reject } = Promise.withResolvers<ClientChannel>();
    try {
      this.#client.exec(announced(command), (error, channel) => {
        if (error === undefined) resolve(channel);
        else reject(new ChannelRefused(error.message));
      });
    } catch (error) {
      throw this.#failure ?? this.#lost(error);
    }
    return promise;
  }

  /** @throws CANCELLED as soon as the signal fires, HOST_STALLED, what the connection failed with */
  async #unlessGivenUp(opening: Promise<ClientChannel>, signal?: AbortSignal): Promise<ClientChannel> {
    const { promise: givenUp, reject } = Promise.withResolvers<never>();
    const onAbort = (): void => reject(cancelled(signal?.reason));
    const onFailed = (): void => reject(this.#failure ?? this.#lost());
    const timer = setTimeout(
      () => reject(commandTooSlow(this.#host, this.#limits.channelOpenTimeoutMs)),
      this.#limits.channelOpenTimeoutMs,
    );
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#failed.signal.addEventListener('abort', onFailed, { once: true });
    try {
      return await Promise.race([opening, givenUp]);
    } catch (error) {
      throw this.#failure ?? error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      this.#failed.signal.removeEventListener('abort', onFailed);
    }
  }

  /**
   * Ends a process group of ours. Needs a channel beyond `channelsMax`, since all of those may be taken by commands
   * that are to be ended. A host that allows no more is asked again: each command that ends makes room.
   */
  async #kill(processId: number): Promise<void> {
    const giveUpAtMs = performance.now() + KILL_TIMEOUT_MS;
    while (this.#failure === undefined && performance.now() < giveUpAtMs) {
      if (await this.#sendKill(processId)) return;
      await delay(KILL_RETRY_MS);
    }
  }

  /** @returns whether the host took the command, or it is too late for any */
  async #sendKill(processId: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const onFailed = (): void => resolve(true);
    const timer = setTimeout(() => resolve(true), KILL_TIMEOUT_MS);
    this.#failed.signal.addEventListener('abort', onFailed, { once: true });
    try {
      this.#client.exec(shell`kill -TERM -- -${processId} 2>/dev/null || kill -TERM ${processId}`, (error, channel) => {
        if (error !== undefined) return resolve(false);
        channel.on('close', () => resolve(true));
        channel.resume().stderr.resume();
        channel.end();
      });
    } catch {
      resolve(true); // The connection went down meanwhile, and the channel with it.
    }
    const isTaken = await promise;
    clearTimeout(timer);
    this.#failed.signal.removeEventListener('abort', onFailed);
    return isTaken;
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

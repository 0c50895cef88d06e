import { Readable, Writable } from 'node:stream';
import type { ClientChannel } from 'ssh2';
import { AppError, cancelled } from '../errors/index.ts';
import { KIB } from '../runtime/index.ts';
import type { ShellCommand, SshChannel } from './ssh.ts';

/** What is kept of a command's standard error; the rest is read and dropped. */
const STDERR_BYTES_MAX = 64 * KIB;
/** ssh2 itself holds up to 2 MiB a channel (its window); ours only smooths the hand-over. */
const STREAM_BUFFER_BYTES = 256 * KIB;
/** How long an aborted command may take to tell its process id and to be ended. */
const END_TIMEOUT_MS = 3_000;

const PROCESS_ID_LINE = /^dozo-pid (\d+)\n/m;

/**
 * The command, preceded by its shell's process id on standard error. sshd starts every command in a
 * session of its own, so that this id is its process group too: the way to end an aborted command.
 * SSH's own signals are refused by OpenSSH for root, and closing the channel ends only what writes.
 */
export function announced(command: ShellCommand): string {
  return `echo dozo-pid $$ >&2; ${command}`;
}

export type Exit = Awaited<SshChannel['exit']>;

/**
 * One running command on one ssh2 channel. ssh2's own streams are not handed out: they end quietly
 * when the connection is lost, and writes to a closed channel never return. These end with an error.
 */
export class RemoteCommand implements SshChannel {
  readonly stdout: Readable;
  readonly stdin: Writable;
  readonly exit: Promise<Exit>;
  /** Resolves once the host has let go of the channel, and of the process where it was aborted. */
  readonly released: Promise<void>;
  readonly #channel: ClientChannel;
  readonly #kill: (processId: number) => Promise<void>;
  readonly #exit = Promise.withResolvers<Exit>();
  readonly #released = Promise.withResolvers<void>();
  readonly #processId = Promise.withResolvers<number | null>();
  #stderr: Buffer = Buffer.alloc(0);
  #failure: AppError | undefined;
  #isClosed = false;
  #isEnding = false;
  #hasProcessId = false;

  /** @param kill ends a process group on the host, through another channel */
  constructor(channel: ClientChannel, kill: (processId: number) => Promise<void>) {
    this.#channel = channel;
    this.#kill = kill;
    this.exit = this.#exit.promise;
    this.released = this.#released.promise;
    // Whoever reads the streams learns of the failure there; exit need not be awaited as well.
    this.exit.catch(() => undefined);

    this.stdout = new Readable({
      highWaterMark: STREAM_BUFFER_BYTES,
      read: () => void channel.resume(),
      destroy: (error, callback) => {
        this.#stop(error instanceof AppError ? error : cancelled(error ?? undefined));
        callback(error);
      },
    });
    this.stdin = new Writable({
      highWaterMark: STREAM_BUFFER_BYTES,
      write: (chunk: Buffer, _encoding, callback) => void channel.write(chunk, callback),
      final: (callback) => {
        channel.end();
        callback();
      },
    });
    // Both report through `exit` too; a stream that nobody watches must not end the process.
    this.stdout.on('error', () => undefined);
    this.stdin.on('error', () => undefined);

    channel.on('data', (chunk: Buffer) => {
      if (this.#failure !== undefined) return;
      if (!this.stdout.push(chunk)) channel.pause();
    });
    channel.stderr.on('data', (chunk: Buffer) => this.#keepStderr(chunk));
    channel.on('error', (error: Error) => this.fail(commandFailed(`The command's channel failed: ${error.message}.`)));
    channel.on('close', (code: number | null | undefined) => this.#close(code));
  }

  abort(): void {
    this.fail(cancelled());
  }

  /** Ends the command with an error: the streams and `exit` at once, then the process and the channel. */
  fail(error: AppError): void {
    this.#stop(error);
    this.stdout.destroy(error);
    this.stdin.destroy(error);
  }

  #stop(error: AppError): void {
    if (this.#failure !== undefined) return;
    if (this.#isClosed && this.stdout.readableEnded) return;
    this.#failure = error;
    this.#exit.reject(error);
    if (!this.#isClosed) void this.#endOnHost();
  }

  /** What still arrives is read and dropped, so that neither the process nor the channel waits for us. */
  async #endOnHost(): Promise<void> {
    this.#isEnding = true;
    this.#channel.resume();
    const timer = setTimeout(() => this.#processId.resolve(null), END_TIMEOUT_MS);
    const processId = await this.#processId.promise;
    clearTimeout(timer);
    if (processId !== null) await this.#kill(processId).catch(() => undefined);
    this.#isEnding = false;
    if (this.#isClosed) this.#released.resolve();
    else this.#channel.close();
  }

  #close(code: number | null | undefined): void {
    this.#isClosed = true;
    this.#processId.resolve(null);
    if (!this.#isEnding) this.#released.resolve();
    if (this.#failure !== undefined) return;
    if (code === undefined) {
      this.fail(commandFailed('The host ended a command without telling its status.'));
      return;
    }
    const left = this.stdin.writableLength > 0 && !this.stdin.writableFinished;
    this.stdin.destroy(left ? commandFailed('The command ended before it had read all its input.') : undefined);
    this.stdout.once('end', () => this.#exit.resolve({ code, stderr: this.#stderr.toString('utf8') }));
    this.stdout.push(null);
  }

  #keepStderr(chunk: Buffer): void {
    const room = STDERR_BYTES_MAX - this.#stderr.length;
    if (room <= 0) return;
    this.#stderr = Buffer.concat([this.#stderr, chunk.subarray(0, room)]);
    if (this.#hasProcessId) return;
    const text = this.#stderr.toString('latin1');
    const line = PROCESS_ID_LINE.exec(text);
    if (line === null) return;
    this.#hasProcessId = true;
    this.#stderr = Buffer.from(text.replace(line[0], ''), 'latin1');
    this.#processId.resolve(Number(line[1]));
  }
}

function commandFailed(message: string): AppError {
  return new AppError('HOST_COMMAND_FAILED', message);
}

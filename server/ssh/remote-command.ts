import { Readable, Writable } from 'node:stream';
import type { ClientChannel } from 'ssh2';
import { AppError, cancelled } from '../errors/index.ts';
import { KIB } from '../runtime/index.ts';
import type { SshChannel } from './ssh.ts';

/** What is kept of a command's standard error; the rest is read and dropped. */
const STDERR_BYTES_MAX = 64 * KIB;
/** ssh2 itself holds up to 2 MiB a channel (its window); ours only smooths the hand-over. */
const STREAM_BUFFER_BYTES = 256 * KIB;

/**
 * One running command on one ssh2 channel. ssh2's own streams are not handed out: they end quietly
 * when the connection is lost, and writes to a closed channel never return. These end with an error.
 */
export class RemoteCommand implements SshChannel {
  readonly stdout: Readable;
  readonly stdin: Writable;
  readonly exit: Promise<{ code: number | null; stderr: string }>;
  readonly #channel: ClientChannel;
  readonly #stderr: Buffer[] = [];
  #stderrBytes = 0;
  #failure: AppError | undefined;
  #isClosed = false;
  readonly #settle: {
    resolve: (exit: { code: number | null; stderr: string }) => void;
    reject: (error: Error) => void;
  };

  constructor(channel: ClientChannel) {
    this.#channel = channel;
    const { promise, resolve, reject } = Promise.withResolvers<{ code: number | null; stderr: string }>();
    this.exit = promise;
    this.#settle = { resolve, reject };
    // Whoever reads the streams learns of the failure there; exit need not be awaited as well.
    promise.catch(() => undefined);

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

  /** Calls back once the host has let go of the channel. */
  onClosed(callback: () => void): void {
    if (this.#isClosed) callback();
    else this.#channel.once('close', callback);
  }

  abort(): void {
    this.fail(cancelled());
  }

  /** Ends the command with an error: the streams, `exit`, and the channel on the host. */
  fail(error: AppError): void {
    this.#stop(error);
    this.stdout.destroy(error);
    this.stdin.destroy(error);
  }

  #stop(error: AppError): void {
    if (this.#failure !== undefined) return;
    if (this.#isClosed && this.stdout.readableEnded) return;
    this.#failure = error;
    this.#settle.reject(error);
    if (this.#isClosed) return;
    // The signal frees the host's session at once where its sshd supports it (OpenSSH 7.9); without,
    // a command that writes meets a closed pipe. What still arrives is read and dropped.
    sendSignal(this.#channel, 'TERM');
    this.#channel.close();
    this.#channel.resume();
  }

  #close(code: number | null | undefined): void {
    this.#isClosed = true;
    if (this.#failure !== undefined) return;
    if (code === undefined) {
      this.fail(commandFailed('The host ended a command without telling its status.'));
      return;
    }
    const left = this.stdin.writableLength > 0 && !this.stdin.writableFinished;
    this.stdin.destroy(left ? commandFailed('The command ended before it had read all its input.') : undefined);
    this.stdout.once('end', () => this.#settle.resolve({ code, stderr: this.#stderrText() }));
    this.stdout.push(null);
  }

  #keepStderr(chunk: Buffer): void {
    const room = STDERR_BYTES_MAX - this.#stderrBytes;
    if (room <= 0) return;
    const kept = chunk.subarray(0, room);
    this.#stderr.push(kept);
    this.#stderrBytes += kept.length;
  }

  #stderrText(): string {
    return Buffer.concat(this.#stderr).toString('utf8');
  }
}

/** Not `channel.signal`: that one does nothing once standard input was ended, which it mostly is. */
function sendSignal(channel: ClientChannel, name: string): void {
  const inner = channel as unknown as {
    outgoing: { id: number; state: string };
    _client: { _protocol: { signal(channel: number, name: string): void } };
  };
  if (inner.outgoing.state !== 'open' && inner.outgoing.state !== 'eof') return;
  inner._client._protocol.signal(inner.outgoing.id, name);
}

function commandFailed(message: string): AppError {
  return new AppError('HOST_COMMAND_FAILED', message);
}

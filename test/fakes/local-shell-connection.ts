import { spawn, type ChildProcess } from 'node:child_process';
import { AppError, cancelled } from '../../server/errors/index.ts';
import type { ExecOptions, ExecResult, ShellCommand, SshChannel, SshConnection } from '../../server/ssh/index.ts';

/**
 * An SSH connection whose host is this machine's BusyBox shell: what a room says to the shell is
 * tried for real, without a network. `cut` loses the connection with everything on it.
 */
export class LocalShellConnection implements SshConnection {
  readonly hostKey = 'SHA256:local';
  readonly localAddress = '127.0.0.1';
  /** Every command line that was run. */
  readonly commands: string[] = [];
  readonly #running = new Set<ChildProcess>();
  #lost: AppError | null = null;

  wireBytes(): number {
    return 0;
  }

  async exec(command: ShellCommand, options: ExecOptions = {}): Promise<ExecResult> {
    const channel = await this.open(command, options);
    channel.stdin.on('error', () => undefined);
    channel.stdin.end(options.stdin ?? '');
    const chunks: Buffer[] = [];
    for await (const chunk of channel.stdout as AsyncIterable<Buffer>) chunks.push(chunk);
    const { code, stderr } = await channel.exit;
    return { code, stdout: Buffer.concat(chunks), stderr };
  }

  async open(command: ShellCommand, options: { signal?: AbortSignal } = {}): Promise<SshChannel> {
    if (options.signal?.aborted === true) throw cancelled();
    if (this.#lost !== null) throw this.#lost;
    this.commands.push(command);
    const child = spawn('busybox', ['sh', '-c', command], { stdio: 'pipe' });
    this.#running.add(child);
    const stderr: Buffer[] = [];
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.stdin.on('error', () => undefined);
    const { promise, resolve, reject } = Promise.withResolvers<{ code: number | null; stderr: string }>();
    promise.catch(() => undefined);
    child.on('error', reject);
    child.on('close', (code) => {
      this.#running.delete(child);
      if (this.#lost !== null) reject(this.#lost);
      else resolve({ code, stderr: Buffer.concat(stderr).toString('utf8') });
    });
    const abort = (): void => {
      child.kill('SIGKILL');
      child.stdout.destroy(cancelled());
    };
    child.stdout.on('error', () => undefined);
    options.signal?.addEventListener('abort', abort, { once: true });
    return await Promise.resolve({ stdin: child.stdin, stdout: child.stdout, exit: promise, abort });
  }

  cut(): void {
    this.#lost = new AppError('HOST_CONNECTION_LOST', 'The connection was cut.');
    for (const child of this.#running) {
      child.stdout?.destroy(this.#lost);
      child.kill('SIGKILL');
    }
  }

  /** What becomes of running commands when the client's process is gone: they find the end of their input. */
  endInputs(): void {
    for (const child of this.#running) child.stdin?.end();
  }

  async close(): Promise<void> {
    this.cut();
    await Promise.resolve();
  }
}

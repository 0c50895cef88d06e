import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { buildLabSoap } from '../soap/build.ts';

/** The SOAP and /folder front, a Go program of its own beside the daemon. */
export class SoapFront {
  readonly port: number;
  readonly certificate: string;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, port: number, certificate: string) {
    this.#process = process;
    this.port = port;
    this.certificate = certificate;
  }

  static async start(options: { directory: string; address: string; port: number }): Promise<SoapFront> {
    const { directory, address, port } = options;
    const folder = join(directory, 'soap');
    mkdirSync(folder, { recursive: true });
    const child = spawn(
      await buildLabSoap(),
      ['--hostd', join(directory, 'run', 'hostd.sock'), '--listen', `${address}:${port}`, '--directory', folder],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    child.stdin.on('error', () => undefined);
    const line = await new Promise<string>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`the SOAP front ended with status ${String(code)}`)));
      createInterface({ input: child.stdout }).once('line', resolve);
    });
    const match = /^listening (\d+) ([0-9a-f]{64})$/.exec(line);
    if (match === null) {
      child.kill('SIGKILL');
      throw new Error(`the SOAP front says: ${line}`);
    }
    return new SoapFront(child, Number(match[1]), match[2] ?? '');
  }

  async close(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.stdin?.end();
    this.#process.kill('SIGTERM');
    await ended;
  }
}

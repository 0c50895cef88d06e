import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const SOURCES = join(import.meta.dirname, '..', 'soap');
const CACHE = join(import.meta.dirname, '..', '..', '..', '.cache', 'lab');

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
      buildFront(),
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

export function hasFrontSources(): boolean {
  return existsSync(join(SOURCES, 'main.go'));
}

/** Compiles the front unless the cache has it. Debian's Go libraries, no network. */
export function buildFront(): string {
  const names = readdirSync(SOURCES)
    .filter((name) => /\.(go|mod|sum)$/.test(name) && !name.endsWith('_test.go'))
    .sort();
  const digest = createHash('sha256');
  for (const name of names) digest.update(name).update(readFileSync(join(SOURCES, name)));
  const target = join(CACHE, `lab-soap-${digest.digest('hex').slice(0, 16)}`);
  if (!existsSync(target)) {
    mkdirSync(CACHE, { recursive: true });
    const temporary = `${target}.${process.pid}`;
    const sources = names.filter((name) => name.endsWith('.go'));
    execFileSync('go', ['build', '-o', temporary, ...sources], {
      cwd: SOURCES,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, GO111MODULE: 'off', GOPATH: '/usr/share/gocode', GOFLAGS: '' },
    });
    renameSync(temporary, target);
  }
  return target;
}

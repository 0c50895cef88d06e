import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, openSync, closeSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Api } from './api.ts';
import { quietDay } from './quiet-day.ts';

const STARTS_WITHIN_MS = 240_000;

export interface ProductOptions {
  /** The bundles of `npm run build` instead of the sources. */
  bundled?: boolean;
  env?: Record<string, string>;
}

/** A Dozo server in processes of its own, as a NAS would run it, that can be killed and started again. */
export class Product {
  readonly folder: string;
  readonly password = randomBytes(9).toString('base64url');
  readonly #options: ProductOptions;
  #server: ChildProcess | null = null;
  #port = 0;
  url = '';
  api: Api = new Api('', '');

  constructor(folder: string, options: ProductOptions) {
    this.folder = folder;
    this.#options = options;
  }

  get logPath(): string {
    return join(this.folder, 'server.log');
  }

  /** Starts the server, at the same port as before if there was a before. */
  async start(): Promise<void> {
    const entry = this.#options.bundled === true ? 'dist/server/server-main.js' : 'server/app/server-main.ts';
    const root = join(import.meta.dirname, '../..');
    await mkdir(this.folder, { recursive: true });
    const log = openSync(this.logPath, 'a');
    const server = spawn(process.execPath, [join(root, entry)], {
      cwd: root,
      stdio: ['ignore', 'pipe', log],
      env: {
        ...process.env,
        DOZO_DATA_DIR: join(this.folder, 'data'),
        DOZO_BIND: '127.0.0.1',
        DOZO_PORT: String(this.#port),
        DOZO_ADMIN_PASSWORD: this.password,
        ...this.#options.env,
      },
    });
    closeSync(log);
    this.#server = server;
    const { url, fingerprint } = await readAnnouncement(server, this.logPath);
    const isFirst = this.url === '';
    this.url = url;
    this.#port = Number(new URL(url).port);
    this.api = new Api(url, fingerprint);
    await this.api.login('admin', this.password);
    if (isFirst) await this.api.patch('/settings', quietDay());
  }

  /** Process ids of the server and of everything that it started, by role. */
  pids(): { server: number[]; redis: number[]; worker: number[] } {
    const found = { server: [] as number[], redis: [] as number[], worker: [] as number[] };
    const server = this.#server?.pid;
    if (server === undefined || this.#server?.exitCode !== null) return found;
    found.server.push(server);
    for (const { pid, command } of descendants(server)) {
      if (command.includes('redis-server') || command.includes('valkey-server')) found.redis.push(pid);
      else if (command.includes('worker-main')) found.worker.push(pid);
    }
    return found;
  }

  /** Kill -9 of the server alone; what it started is left to find its own end. */
  async killServer(): Promise<void> {
    const server = this.#server;
    if (server === null) return;
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGKILL');
    await ended;
  }

  async close(): Promise<void> {
    const server = this.#server;
    if (server === null || server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGTERM');
    const late = setTimeout(() => server.kill('SIGKILL'), 120_000);
    await ended;
    clearTimeout(late);
  }
}

export async function startProduct(folder: string, options: ProductOptions = {}): Promise<Product> {
  const product = new Product(folder, options);
  await product.start();
  return product;
}

function readAnnouncement(server: ChildProcess, logPath: string): Promise<{ url: string; fingerprint: string }> {
  return new Promise((resolve, reject) => {
    let text = '';
    const late = setTimeout(() => {
      server.kill('SIGKILL');
      reject(new Error(`the server did not start in time; its log is ${logPath}`));
    }, STARTS_WITHIN_MS);
    server.stdout?.on('data', (part: Buffer) => {
      text += part.toString();
      const url = /answers at (https:\S+)/.exec(text)?.[1];
      const fingerprint = /SHA-256 of its certificate: ([0-9a-f]{64})/.exec(text)?.[1];
      if (url === undefined || fingerprint === undefined) return;
      clearTimeout(late);
      resolve({ url, fingerprint });
    });
    server.once('exit', (code, signal) => {
      clearTimeout(late);
      const log = existsSync(logPath) ? readFileSync(logPath, 'utf8').slice(-3000) : '';
      reject(new Error(`the server ended (${code ?? signal ?? ''}):\n${log}`));
    });
  });
}

function descendants(ancestor: number): { pid: number; command: string }[] {
  const parents = new Map<number, { parent: number; command: string }>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ');
      parents.set(Number(name), { parent, command });
    } catch {
      // It ended meanwhile.
    }
  }
  const found: { pid: number; command: string }[] = [];
  for (const [pid, { command }] of parents) {
    for (let at = parents.get(pid)?.parent; at !== undefined && at > 1; at = parents.get(at)?.parent) {
      if (at === ancestor) {
        found.push({ pid, command });
        break;
      }
    }
  }
  return found;
}

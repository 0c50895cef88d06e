import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

export const ADMIN_PASSWORD = 'correct horse battery';

/** What the API answered: tests know what to expect, and fail when it is not so. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Answer = any;

export interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  json: Answer;
}

export interface SendOptions {
  method?: string;
  body?: unknown;
  /** As is, instead of `body`. */
  rawBody?: string | Buffer;
  token?: string | null;
  headers?: Record<string, string>;
}

/** A folder with a whole server in it that can be killed and started again. */
export class ServerLab {
  readonly folder = mkdtempSync(join(tmpdir(), 'dozo-'));
  readonly dataFolder = join(this.folder, 'data');
  readonly environment: Record<string, string>;
  port = 0;
  token: string | null = null;
  #child: ChildProcess | null = null;
  #lines: Interface | null = null;

  constructor(environment: Record<string, string> = {}) {
    this.environment = {
      DOZO_DATA_DIR: this.dataFolder,
      DOZO_PORT: '0',
      DOZO_BIND: '127.0.0.1',
      DOZO_ADMIN_PASSWORD: ADMIN_PASSWORD,
      DOZO_FAKE_FOLDER: this.folder,
      DOZO_LOG_LEVEL: process.env['DOZO_LOG_LEVEL'] ?? 'fatal',
      ...environment,
    };
    this.script({});
  }

  /** What the worker is to do; what is not named is harmless. */
  script(changes: Record<string, unknown>): void {
    const defaults = {
      backupMs: 300,
      hold: false,
      machines: [fakeMachine('one', 1), fakeMachine('two', 2)],
      fail: [],
      leaveHold: [],
      crashOnce: [],
      crashAlways: [],
      hostDown: false,
      restored: null,
    };
    // At once: a worker may be reading it.
    writeFileSync(join(this.folder, 'script.next'), JSON.stringify({ ...defaults, ...changes }));
    renameSync(join(this.folder, 'script.next'), join(this.folder, 'script.json'));
  }

  /** What the workers did, oldest first. */
  journal(what?: string): Record<string, unknown>[] {
    const path = join(this.folder, 'journal');
    if (!existsSync(path)) return [];
    return readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((entry) => what === undefined || entry['what'] === what);
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'server-fake-main.ts')], {
      env: { ...process.env, ...this.environment },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout });
    const first = await this.#nextLine();
    this.port = (JSON.parse(first) as { port: number }).port;
    this.token ??= await this.makeToken();
  }

  async makeToken(): Promise<string> {
    const reply = await this.send('/tokens', {
      method: 'POST',
      token: null,
      body: { user: 'admin', password: ADMIN_PASSWORD, name: 'test' },
    });
    if (reply.status !== 201) throw new Error(`no token: ${reply.status} ${reply.text}`);
    return (reply.json as { token: string }).token;
  }

  async pids(): Promise<{ redis: number | null; workers: (number | null)[] }> {
    this.#child?.kill('SIGUSR2');
    const { pids } = JSON.parse(await this.#nextLine()) as { pids: Awaited<ReturnType<ServerLab['pids']>> };
    return pids;
  }

  /** One command to the embedded Redis, past everything. */
  tellRedis(command: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(join(this.dataFolder, 'redis/redis.sock'));
      socket.on('error', reject);
      socket.on('connect', () => socket.write(`${command}\r\n`));
      socket.on('data', (data) => {
        socket.destroy();
        resolve(data.toString());
      });
    });
  }

  /** Tasks of runs that lie in the queue and that no worker has. */
  async countQueued(): Promise<number> {
    let count = 0;
    for (const queue of ['runs', 'restores']) {
      count += Number((await this.tellRedis(`ZCARD dozo:${queue}:prioritized`)).slice(1));
    }
    return count;
  }

  /** Kills what of these is there; null is one that is being started again. */
  kill(...pids: (number | null | undefined)[]): void {
    for (const pid of pids) {
      try {
        if (typeof pid === 'number') process.kill(pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
  }

  /** Kills the server alone: its Redis and its workers stay, as after an out-of-memory kill. */
  async killServer(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** @returns the exit status of the server; null when none ran, or a signal ended it */
  async stop(): Promise<number | null> {
    return await this.#end('SIGTERM');
  }

  /** Ends everything that could be left, and removes the folder. */
  async destroy(): Promise<void> {
    if (this.#child === null) await this.start();
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async send(path: string, options: SendOptions = {}): Promise<Reply> {
    const body = options.rawBody ?? (options.body === undefined ? undefined : JSON.stringify(options.body));
    const token = options.token === undefined ? this.token : options.token;
    return new Promise((resolve, reject) => {
      const outgoing = request(
        {
          host: '127.0.0.1',
          port: this.port,
          path: path.startsWith('/api') || options.headers?.['x-plain-path'] !== undefined ? path : `/api/v1${path}`,
          method: options.method ?? 'GET',
          rejectUnauthorized: false,
          agent: false,
          headers: {
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
            ...(token === null ? { 'x-dozo-request': '1' } : { authorization: `Bearer ${token}` }),
            ...options.headers,
          },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8');
          response.on('data', (piece: string) => (text += piece));
          response.on('end', () => {
            const isJson = /^application\/json/.test(response.headers['content-type'] ?? '');
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              text,
              json: isJson && text !== '' ? JSON.parse(text) : null,
            });
          });
          response.on('error', reject);
        },
      );
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }

  /** Like `send`, but what is not a success is an error. */
  async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const reply = await this.send(path, { method, ...(body === undefined ? {} : { body }) });
    if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.status} ${reply.text}`);
    return reply.json;
  }

  /** A host, a repository and a job over the machines of the script. */
  async setUp(): Promise<{ hostId: string; repositoryId: string; jobId: string; machineIds: string[] }> {
    const host = await this.call('POST', '/hosts', { host: '192.0.2.1', password: 'secret of the host' });
    const repository = await this.call('POST', '/repositories', { name: 'store', path: '/volume1/dozo' });
    const machines = await this.call('GET', `/hosts/${host.id}/machines`);
    const machineIds = machines.map((machine: { id: string }) => machine.id);
    const job = await this.call('POST', '/jobs', { name: 'nightly', machineIds, repositoryId: repository.id });
    return { hostId: host.id, repositoryId: repository.id, jobId: job.id, machineIds };
  }

  /** Waits until a run has ended and gives it with its parts. */
  async waitForRun(runId: string, timeoutMs = 180_000): Promise<Answer> {
    return this.until(
      async () => {
        const run = await this.call('GET', `/runs/${runId}`);
        return run.state === 'waiting' || run.state === 'running' ? null : run;
      },
      `run ${runId} to end`,
      timeoutMs,
    );
  }

  async until<T>(look: () => Promise<T | null>, what: string, timeoutMs = 120_000): Promise<T> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const value = await look().catch(() => null);
      if (value !== null) return value;
      if (performance.now() > deadlineMs) throw new Error(`waited in vain for ${what}`);
      await sleep(100);
    }
  }

  async #nextLine(): Promise<string> {
    const lines = this.#lines;
    const child = this.#child;
    if (lines === null || child === null) throw new Error('the server does not run');
    const ended = once(child, 'exit').then(() => {
      throw new Error('the server ended');
    });
    const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string];
    return line;
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (child === null) return null;
    this.#child = null;
    this.#lines?.close();
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const exited = once(child, 'exit');
    child.kill(signal);
    const [status] = (await exited) as [number | null];
    // What it had started may be left then.
    if (signal === 'SIGTERM' && status !== 0)
      console.error(`a server that was stopped ended with ${status ?? 'a signal'}`);
    return status;
  }
}

export function fakeMachine(name: string, number: number): Record<string, unknown> {
  const digits = String(number).padStart(12, '0');
  return {
    identity: {
      name,
      instanceUuid: `50000000-0000-0000-0000-${digits}`,
      biosUuid: `42000000-0000-0000-0000-${digits}`,
      path: `[ds1] ${name}/${name}.vmx`,
      diskUuids: [`6000c290-0000-0000-0000-${digits}`],
    },
    hostId: String(number),
    powerState: 'on',
    guest: 'Debian',
    hardwareVersion: 'vmx-20',
    changeTracking: true,
    toolsRunning: true,
    hasSnapshots: false,
    consolidationNeeded: false,
    annotation: '',
    networks: ['VM Network'],
    disks: [
      {
        key: 'scsi0:0',
        label: 'Hard disk 1',
        sizeBytes: 1000,
        datastore: 'ds1',
        path: `[ds1] ${name}/${name}.vmdk`,
        diskUuid: null,
        provisioning: 'thin',
        excluded: null,
      },
    ],
  };
}

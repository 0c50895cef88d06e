import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';

/** The namespace in which the host's sshd and everything started over it live. */
export class Jail {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  #buffer = '';
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(process: ChildProcessByStdio<Writable, Readable, null>) {
    this.#process = process;
    process.stdout.setEncoding('utf8');
    process.stdout.on('data', (text: string) => this.#read(text));
    process.stdin.on('error', () => undefined);
    process.on('exit', () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error('the jail ended'));
    });
  }

  static async start(options: {
    program: string;
    root: string;
    run: string;
    hostName: string;
    tmpMib: number;
  }): Promise<Jail> {
    const { program, root, run, hostName, tmpMib } = options;
    const child = spawn(program, [root, run, hostName, String(tmpMib)], { stdio: ['pipe', 'pipe', 'inherit'] });
    const jail = new Jail(child);
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      jail.#waiting.push({ resolve, reject });
    });
    return jail;
  }

  startSshd(): Promise<void> {
    return this.#command('sshd');
  }

  /** New connections are refused; sessions go on. */
  stopSshd(): Promise<void> {
    return this.#command('stop');
  }

  bind(source: string, target: string): Promise<void> {
    return this.#command(`bind ${source}\t${target}`);
  }

  unbind(target: string): Promise<void> {
    return this.#command(`unbind ${target}`);
  }

  /** Sessions of SSH: process ids as this machine sees them, with the bytes they have written. */
  sessions(): { pid: number; writtenBytes: number }[] {
    const parents = new Map<number, { parent: number; command: string }>();
    for (const entry of readdirSync('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
        const close = stat.lastIndexOf(')');
        const parent = Number(stat.slice(close + 2).split(' ')[1]);
        parents.set(Number(entry), { parent, command: stat.slice(stat.indexOf('(') + 1, close) });
      } catch {
        // Ended meanwhile.
      }
    }
    const childrenOf = (pid: number) => [...parents].filter(([, { parent }]) => parent === pid).map(([child]) => child);
    const init = childrenOf(this.#process.pid ?? -1)[0];
    if (init === undefined) return [];
    const listeners = childrenOf(init).filter((pid) => isSshd(parents.get(pid)?.command));
    // A session whose listener was stopped hangs on the namespace's first process.
    const found = new Set(listeners.flatMap((pid) => childrenOf(pid)));
    for (const pid of listeners) if (!isListener(pid)) found.add(pid);
    return [...found]
      .filter((pid) => isSshd(parents.get(pid)?.command))
      .map((pid) => ({ pid, writtenBytes: writtenBytes(pid) }));
  }

  /** Ends everything inside, at once. */
  async close(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.stdin.end();
    this.#process.kill('SIGKILL');
    await ended;
  }

  #command(line: string): Promise<void> {
    const result = this.#queue.then(
      () =>
        new Promise<void>((resolve, reject) => {
          this.#waiting.push({ resolve, reject });
          this.#process.stdin.write(line + '\n');
        }),
    );
    this.#queue = result.catch(() => undefined);
    return result;
  }

  #read(text: string): void {
    this.#buffer += text;
    for (let end = this.#buffer.indexOf('\n'); end >= 0; end = this.#buffer.indexOf('\n')) {
      const line = this.#buffer.slice(0, end);
      this.#buffer = this.#buffer.slice(end + 1);
      const waiting = this.#waiting.shift();
      if (line === 'ok') waiting?.resolve();
      else waiting?.reject(new Error(`the jail says: ${line}`));
    }
  }
}

function isSshd(command: string | undefined): boolean {
  return command?.startsWith('sshd') ?? false;
}

function isListener(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('-D');
  } catch {
    return false;
  }
}

function writtenBytes(pid: number): number {
  try {
    return Number(/wchar: (\d+)/.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

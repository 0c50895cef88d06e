import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { EventData } from 'node:test';

/** So much of what a file said last is told. */
const SAID_BYTES_MAX = 2_000;

interface Watched {
  file: string;
  timer: NodeJS.Timeout;
  said: string;
}

interface Process {
  pid: number;
  parent: number;
  words: string[];
}

/**
 * Ends a test file that runs too long, and tells where it stood still: the runner's own time-outs end a test, never
 * the process of its file, which then waits for ever for what the test had opened.
 */
export class FileWatch {
  readonly #files: Set<string>;
  readonly #timeoutMs: number;
  readonly #tell: (text: string) => void;
  readonly #watched = new Map<string, Watched>();
  /** Tests that have begun and not ended, with when they began. */
  readonly #atWork = new Map<string, { data: EventData.TestDequeue; atMs: number }>();

  constructor(files: readonly string[], timeoutMs: number, tell: (text: string) => void = console.log) {
    this.#files = new Set(files.map((file) => resolve(file)));
    this.#timeoutMs = timeoutMs;
    this.#tell = tell;
  }

  begun(data: EventData.TestDequeue): void {
    if (!this.#isFile(data)) {
      this.#atWork.set(keyOf(data), { data, atMs: performance.now() });
      return;
    }
    const file = resolve(data.name);
    const timer = setTimeout(() => this.#end(file), this.#timeoutMs);
    this.#watched.set(file, { file, timer, said: '' });
  }

  ended(data: EventData.TestComplete): void {
    if (!this.#isFile(data)) {
      this.#atWork.delete(keyOf(data));
      return;
    }
    const file = resolve(data.name);
    clearTimeout(this.#watched.get(file)?.timer);
    this.#watched.delete(file);
  }

  said({ file, message }: EventData.TestStderr): void {
    const watched = this.#watched.get(resolve(file));
    if (watched !== undefined) watched.said = (watched.said + message).slice(-SAID_BYTES_MAX);
  }

  close(): void {
    for (const { timer } of this.#watched.values()) clearTimeout(timer);
  }

  #isFile({ name, nesting }: { name: string; nesting: number }): boolean {
    return nesting === 0 && this.#files.has(resolve(name));
  }

  #end(file: string): void {
    const processes = readProcesses();
    const own = processes.find(
      ({ parent, words }) => parent === process.pid && words.some((word) => resolve(word) === file),
    );
    this.#tell(`HANG ${file}: not over after ${Math.round(this.#timeoutMs / 1000)} s, and ended by force`);
    // A test that another module defines names that one.
    const tests = [...this.#atWork].filter(([, { data }]) => data.file === file || !this.#files.has(data.file ?? ''));
    for (const [key, { data, atMs }] of tests) {
      const seconds = Math.round((performance.now() - atMs) / 1000);
      this.#tell(`    at work: ${data.name}, for ${seconds} s (${data.file ?? ''}:${data.line ?? 0})`);
      this.#atWork.delete(key);
    }
    if (tests.length === 0) this.#tell('    at work: no test; what a hook waits for, or what a test has left open');
    const started = descendants(processes, own?.pid);
    for (const { pid, words } of started) {
      this.#tell(`    process ${pid}: ${words.join(' ').slice(0, 200)}`);
    }
    const said = this.#watched.get(file)?.said.trim() ?? '';
    if (said !== '') this.#tell(`    it said last:\n${said.replaceAll(/^/gm, '      ')}`);
    end(own === undefined ? [] : [own], 'SIGKILL');
    end(started, 'SIGTERM');
  }
}

function keyOf({ file, line, column, name }: EventData.TestDequeue | EventData.TestComplete): string {
  return JSON.stringify([file, line, column, name]);
}

function readProcesses(): Process[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
        const words = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').filter(Boolean);
        return [{ pid: Number(name), parent, words }];
      } catch {
        // It ended meanwhile.
        return [];
      }
    });
}

function end(processes: Process[], signal: NodeJS.Signals): void {
  for (const { pid } of processes) {
    try {
      process.kill(pid, signal);
    } catch {
      // It has ended by itself.
    }
  }
}

function descendants(processes: Process[], ancestor: number | undefined): Process[] {
  const children = processes.filter(({ parent }) => ancestor !== undefined && parent === ancestor);
  return children.flatMap((child) => [child, ...descendants(processes, child.pid)]);
}

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';

const SOURCES = import.meta.dirname;
const CACHE = join(import.meta.dirname, '..', '..', '..', '.cache', 'lab');

/** The lab's small C programs, compiled. */
export interface NativePrograms {
  jail: string;
  client: string;
  map: string;
  nohup: string;
  /** Preloaded into the shell's commands. */
  shim: string;
}

/** Compiles what is not in the cache. Needs gcc and the C library's headers. */
export function buildNative(): NativePrograms {
  return {
    jail: compile('lab-jail.c', []),
    client: compile('lab-client.c', []),
    map: compile('lab-map.c', []),
    nohup: compile('lab-nohup.c', []),
    shim: compile('lab-shim.c', ['-shared', '-fPIC', '-ldl']),
  };
}

/** The initiator, on top of libiscsi's library and headers; compiled when a lab first logs in somewhere. */
export function buildIscsi(): string {
  return compile('lab-iscsi.c', ['-liscsi']);
}

function compile(name: string, flags: readonly string[]): string {
  const source = join(SOURCES, name);
  const digest = createHash('sha256').update(readFileSync(source)).update(flags.join(' ')).digest('hex').slice(0, 16);
  const target = join(CACHE, `${name.replace(/\.c$/, '')}-${digest}`);
  if (!existsSync(target)) {
    mkdirSync(CACHE, { recursive: true });
    const temporary = `${target}.${process.pid}`;
    const shared = flags.filter((flag) => !flag.startsWith('-l'));
    const libraries = flags.filter((flag) => flag.startsWith('-l'));
    execFileSync('gcc', ['-O2', '-Wall', '-Wextra', ...shared, '-o', temporary, source, ...libraries], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    renameSync(temporary, target);
  }
  return target;
}

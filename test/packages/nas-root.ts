import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KNOW_ARM } from '../../scripts/package/measure-memory.ts';
import type { Member } from './archives.ts';
import { TESTED, type Machine } from './machine.ts';

interface RunOptions {
  /** Numeric; 0 is root. */
  user?: number;
  env?: Record<string, string>;
}

export interface NasOptions {
  /** What `uname -m` says: TESTED where nothing is said. Programs for 64-bit Arm are run by qemu-user-static. */
  machine?: Machine;
  /** Nothing but the name is that of the processor: for packages whose programs are scripts. */
  isNamedOnly?: boolean;
  /** Runs programs that `markWithoutAvx` has marked without AVX. */
  hasMarked?: boolean;
  /** Has only the system calls of Linux 4.4. */
  isOldKernel?: boolean;
}

/** The kernel below is that of the machine that emulates. */
const UNAME = (machine: string): string => `#!/bin/sh
[ "$1" = -m ] && { echo ${machine}; exit; }
exec /bin/busybox uname "$@"
`;

/** Shell: waits until a command is true, a minute and a half at the most. */
export function waitUntil(command: string): string {
  return `n=0; until ${command} || [ $n -gt 90 ]; do n=$((n + 1)); sleep 1; done`;
}

/** Shell: waits until `letGo` is called. */
export const WAIT_UNTIL_LET_GO = 'while [ ! -e /let-go ]; do sleep 1; done';

/**
 * A root folder like that of a NAS as far as a package sees it: an old userland (BusyBox), no Node, no
 * Redis, nothing of the machine that the tests run on. Scripts run in it with their own processes, mounts
 * and network; when a script ends, everything it started is killed, as in a power cut.
 */
export class NasRoot {
  readonly folder = mkdtempSync(join(tmpdir(), 'dozo-nas-'));
  readonly machine: Machine;
  /** Shell: makes the kernel run the programs of another processor. */
  readonly #emulation: string;
  /** In front of everything: the kernel keeps what runs other programs to a user namespace, which needs all users. */
  readonly #above: readonly string[];
  /** In front of the first program in it. */
  readonly #below: string;

  /** @param shell what `/bin/sh` is */
  constructor(shell: 'busybox' | 'dash', options: NasOptions = {}) {
    const { machine = TESTED, isNamedOnly = false, hasMarked = false, isOldKernel = false } = options;
    this.machine = machine;
    const isArm = machine === 'aarch64' && !isNamedOnly;
    this.#emulation = isArm ? KNOW_ARM : hasMarked ? knowMarked(this.folder) : '';
    this.#above = this.#emulation === '' ? [] : [compileNative('all-users', this.folder)];
    this.#below = isOldKernel ? compileNative('linux-4-4', this.folder) : '';
    chmodSync(this.folder, 0o755);
    for (const name of ['bin', 'sbin', 'usr/bin', 'proc', 'tmp', 'dev', 'etc', 'var']) this.makeFolder(name);
    chmodSync(join(this.folder, 'tmp'), 0o1777);
    for (const program of ['/bin/busybox', '/bin/dash']) this.bring(program, program);
    const applets = execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n');
    for (const name of applets) {
      if (name === 'busybox' || name === 'sh') continue;
      symlinkSync('/bin/busybox', join(this.folder, 'bin', name));
    }
    symlinkSync(`/bin/${shell}`, join(this.folder, 'bin/sh'));
    symlinkSync('/bin/expr', join(this.folder, 'usr/bin/expr'));
    this.beProcessor(machine);
    for (const name of ['null', 'zero', 'random', 'urandom']) writeFileSync(join(this.folder, 'dev', name), '');
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** Has `uname -m` name a processor. */
  beProcessor(name: string): void {
    this.write('bin/uname', UNAME(name), 0o755);
  }

  makeFolder(name: string): void {
    mkdirSync(this.path(name), { recursive: true });
  }

  write(name: string, data: string | Buffer, mode = 0o644): void {
    mkdirSync(dirname(this.path(name)), { recursive: true });
    rmSync(this.path(name), { force: true });
    writeFileSync(this.path(name), data);
    chmodSync(this.path(name), mode);
  }

  /** Copies a program of this machine and the libraries that it needs. */
  bring(program: string, to: string): void {
    this.#copy(realpathSync(program), to);
    for (const library of librariesOf(program)) this.#copy(library, library);
  }

  /** Puts members of an archive below a folder. */
  unpack(members: readonly Member[], below: string): void {
    for (const { name, type, mode, data } of members) {
      if (type === '5') this.makeFolder(join(below, name));
      else this.write(join(below, name), data, mode);
    }
  }

  /**
   * Runs a script in the root.
   * @returns what it wrote, both streams together
   */
  async run(script: string, options: RunOptions = {}): Promise<string> {
    return this.start(script, options).ended;
  }

  /**
   * Starts a script in the root.
   * @returns a process in its network, what it wrote once it has ended, and the way to let go of a script that
   * waits with WAIT_UNTIL_LET_GO
   */
  start(script: string, options: RunOptions = {}): { pid: number; ended: Promise<string>; letGo(): void } {
    rmSync(this.path('let-go'), { force: true });
    const { user = 0, env = {} } = options;
    this.write('run.sh', `${script}\n`, 0o755);
    const outside = [
      // With the volumes that are mounted in it.
      'mount --rbind "$1" "$1"',
      'for d in null zero random urandom; do mount --bind /dev/$d "$1/dev/$d"; done',
      'mount -t proc proc "$1/proc"',
      // What everybody may read of the quotas of volumes.
      '[ ! -d /sys/fs/btrfs ] || { mkdir -p "$1/sys/fs/btrfs"; mount --rbind /sys/fs/btrfs "$1/sys/fs/btrfs"; }',
      '/usr/sbin/chroot "$1" /bin/ip link set lo up',
      // A locale that the root does not have, as users of a NAS do.
      `exec env -i PATH=/bin:/sbin:/usr/bin LANG=de_DE.UTF-8 ${Object.entries(env)
        .map(([name, value]) => `${name}='${value}'`)
        .join(
          ' ',
        )} ${this.#below} /usr/sbin/chroot ${user === 0 ? '' : `--userspec=${user}:${user}`} "$1" /bin/sh /run.sh`,
    ].join('\n');
    const steps = ['sh', '-ec', `${this.#emulation}\n${outside}`, 'sh', this.folder];
    const [program = '', ...words] = [...this.#above, 'unshare', '-mpfn', '--kill-child', ...steps];
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    return {
      pid: child.pid ?? 0,
      ended: once(child, 'close').then(() => text),
      letGo: () => this.write('let-go', ''),
    };
  }

  /**
   * Starts a root in which one script after another is run, while what the ones before have started stays at work.
   *
   * @param user numeric; all scripts are run as this one
   */
  open(user: number): NasSession {
    rmSync(this.path('steps'), { recursive: true, force: true });
    this.makeFolder('steps');
    chmodSync(this.path('steps'), 0o1777);
    const loop = [
      'n=1',
      'while :; do',
      // Where the root is removed under it, sleep is gone as well: it must not go round without a pause.
      '  while [ ! -e /steps/$n.sh ]; do sleep 0.1 || exit 1; done',
      '  sh /steps/$n.sh > /steps/$n.out 2>&1',
      '  : > /steps/$n.end; n=$((n + 1))',
      'done',
    ].join('\n');
    return new NasSession(this, this.start(loop, { user }));
  }

  /** Waits until a script has made a file. */
  async until(name: string, timeoutMs = 600_000): Promise<void> {
    for (let leftMs = timeoutMs; leftMs > 0; leftMs -= 200) {
      if (existsSync(this.path(name))) return;
      await sleep(200);
    }
    throw new Error(`${name} was not made in time`);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #copy(from: string, to: string): void {
    mkdirSync(dirname(this.path(to)), { recursive: true });
    copyFileSync(from, this.path(to));
  }
}

/** A running root, see NasRoot.open. */
export class NasSession {
  /** A process in its network. */
  readonly pid: number;
  readonly #root: NasRoot;
  readonly #ended: Promise<string>;
  #steps = 0;

  constructor(root: NasRoot, started: { pid: number; ended: Promise<string> }) {
    this.#root = root;
    this.pid = started.pid;
    this.#ended = started.ended;
  }

  /** Runs a script to its end. @returns what it wrote, both streams together */
  async run(script: string, env: Record<string, string> = {}): Promise<string> {
    this.#steps += 1;
    const step = `steps/${this.#steps}`;
    const variables = Object.entries(env).map(([name, value]) => `${name}='${value}'`);
    this.#root.write(`${step}.body`, `${script}\n`);
    this.#root.write(
      `${step}.new`,
      `cd /; exec env -i PATH=/bin:/sbin:/usr/bin LANG=de_DE.UTF-8 ${variables.join(' ')} /bin/sh /${step}.body\n`,
    );
    renameSync(this.#root.path(`${step}.new`), this.#root.path(`${step}.sh`));
    await this.#root.until(`${step}.end`);
    return readFileSync(this.#root.path(`${step}.out`), 'utf8');
  }

  /** Ends everything in it at once, as a power cut does. */
  async cut(): Promise<void> {
    // The first process of the root takes all others along; that of unshare would outlive it otherwise.
    const [first = ''] = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8').split(' ');
    if (first !== '') process.kill(Number(first), 'SIGKILL');
    await this.#ended;
  }
}

/** @returns path of a program in `native`, which runs where nothing else is */
export function compileNative(name: string, folder: string): string {
  const program = join(folder, name);
  const source = join(import.meta.dirname, 'native', `${name}.c`);
  const flags = ['-O2', '-Wall', '-Wextra', '-Werror', '-static'];
  execFileSync('gcc', [...flags, '-o', program, source], { stdio: 'inherit' });
  return program;
}

/** Of the bytes that the head of a program has for nothing: the kernel and C libraries look past it. */
const MARK = { offset: 15, value: 0x44 };

/** @returns a program for x86-64 that NasRoot's `hasMarked` runs as on a processor without AVX */
export function markWithoutAvx(program: Buffer): Buffer {
  const marked = Buffer.from(program);
  marked[MARK.offset] = MARK.value;
  return marked;
}

function knowMarked(folder: string): string {
  mkdirSync(join(folder, 'bin'), { recursive: true });
  copyFileSync('/usr/bin/qemu-x86_64-static', join(folder, 'bin/qemu-x86_64-static'));
  const head = `\\x7fELF\\x02\\x01\\x01${'\\x00'.repeat(8)}\\x${MARK.value.toString(16)}`;
  // Whichever system it says it is for.
  const mask = `${'\\xff'.repeat(7)}\\x00${'\\xff'.repeat(8)}`;
  return [
    'mount -t binfmt_misc none /proc/sys/fs/binfmt_misc',
    `printf '%s' ':marked:M::${head}:${mask}:${compileNative('without-avx', folder)}:F' > /proc/sys/fs/binfmt_misc/register`,
  ].join('\n');
}

function librariesOf(program: string): string[] {
  const text = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...text.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
}

/** Values of lines `name=value` that a script printed. */
export function readValues(output: string): Record<string, string> {
  return Object.fromEntries([...output.matchAll(/^([a-z_0-9]+)=(.*)$/gm)].map((match) => [match[1], match[2]]));
}

/**
 * Shell: prints `mapped=<every program, library and addon that processes of the package use>`, by what they have mapped
 * to read: what is emulated is nowhere mapped to be run.
 */
export const PRINT_MAPPED = `
printf 'mapped='
for p in /proc/[0-9]*; do
  tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q -e 'bin/[n]ode' -e 'bin/[v]alkey' || continue
  sed -n 's|^.* r..p .* \\(/.*\\)$|\\1|p' $p/maps
done | sort -u | tr '\\n' ' '
echo`;

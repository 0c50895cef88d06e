import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Member } from './archives.ts';

interface RunOptions {
  /** Numeric; 0 is root. */
  user?: number;
  env?: Record<string, string>;
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

  /** @param shell what `/bin/sh` is */
  constructor(shell: 'busybox' | 'dash') {
    chmodSync(this.folder, 0o755);
    for (const name of ['bin', 'sbin', 'usr/bin', 'proc', 'tmp', 'dev', 'etc', 'var']) this.makeFolder(name);
    chmodSync(join(this.folder, 'tmp'), 0o1777);
    for (const program of ['/bin/busybox', '/bin/dash']) {
      this.#copy(program, program);
      for (const library of librariesOf(program)) this.#copy(library, library);
    }
    const applets = execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n');
    for (const name of applets) {
      if (name === 'busybox' || name === 'sh') continue;
      symlinkSync('/bin/busybox', join(this.folder, 'bin', name));
    }
    symlinkSync(`/bin/${shell}`, join(this.folder, 'bin/sh'));
    symlinkSync('/bin/expr', join(this.folder, 'usr/bin/expr'));
    for (const name of ['null', 'zero', 'random', 'urandom']) writeFileSync(join(this.folder, 'dev', name), '');
  }

  path(name: string): string {
    return join(this.folder, name);
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
      'mount --bind "$1" "$1"',
      'for d in null zero random urandom; do mount --bind /dev/$d "$1/dev/$d"; done',
      'mount -t proc proc "$1/proc"',
      '/usr/sbin/chroot "$1" /bin/ip link set lo up',
      // A locale that the root does not have, as users of a NAS do.
      `exec env -i PATH=/bin:/sbin:/usr/bin LANG=de_DE.UTF-8 ${Object.entries(env)
        .map(([name, value]) => `${name}='${value}'`)
        .join(' ')} /usr/sbin/chroot --userspec=${user}:${user} "$1" /bin/sh /run.sh`,
    ].join('\n');
    const child = spawn('unshare', ['-mpfn', '--kill-child', 'sh', '-ec', outside, 'sh', this.folder], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    return {
      pid: child.pid ?? 0,
      ended: once(child, 'close').then(() => text),
      letGo: () => this.write('let-go', ''),
    };
  }

  /** Waits until a script has made a file. */
  async until(name: string, timeoutMs = 180_000): Promise<void> {
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

function librariesOf(program: string): string[] {
  const text = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...text.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
}

/** Values of lines `name=value` that a script printed. */
export function readValues(output: string): Record<string, string> {
  return Object.fromEntries([...output.matchAll(/^([a-z_0-9]+)=(.*)$/gm)].map((match) => [match[1], match[2]]));
}

/** Shell: prints `name=<every program, library and addon that processes of the package use>`. */
export const PRINT_MAPPED = `
printf 'mapped='
for p in /proc/[0-9]*; do
  tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q -e 'bin/[n]ode' -e 'bin/[v]alkey' || continue
  sed -n 's|^.* r.xp .* \\(/.*\\)$|\\1|p' $p/maps
done | sort -u | tr '\\n' ' '
echo`;

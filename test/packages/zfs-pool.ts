import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const MIB = 2 ** 20;
const QUIET = { stdio: ['ignore', 'ignore', 'pipe'] as ['ignore', 'ignore', 'pipe'] };

/**
 * A pool of ZFS in a file, a dataset for each folder as QuTS hero has one for each share, mounted until it is closed.
 * By zfs-fuse: ZFS outside of the kernel, whose type the kernel therefore calls FUSE.
 */
export class ZfsPool {
  readonly #name = `dozo${process.pid}`;
  readonly #folder = mkdtempSync(join(tmpdir(), 'dozo-zfs-'));
  readonly #daemon: ChildProcess;
  readonly #mounted: string[] = [];

  private constructor() {
    this.#daemon = spawn('/sbin/zfs-fuse', ['-n', '-p', join(this.#folder, 'pid')], { stdio: 'ignore' });
  }

  static async open(folders: readonly string[]): Promise<ZfsPool> {
    const pool = new ZfsPool();
    await pool.#make(folders);
    return pool;
  }

  async close(): Promise<void> {
    for (const folder of this.#mounted) execFileSync('umount', ['-l', folder], QUIET);
    // It would not let go of a pool that was at work a moment ago; nothing of it is needed any more.
    const ended = once(this.#daemon, 'exit');
    this.#daemon.kill('SIGKILL');
    await ended;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #answers(): Promise<void> {
    for (;;) {
      if (this.#daemon.exitCode !== null) throw new Error('zfs-fuse has ended: is another one at work?');
      try {
        execFileSync('/sbin/zpool', ['list'], QUIET);
        return;
      } catch {
        await sleep(500);
      }
    }
  }

  async #make(folders: readonly string[]): Promise<void> {
    const image = join(this.#folder, 'image');
    writeFileSync(image, '');
    truncateSync(image, 1024 * MIB);
    await this.#answers();
    execFileSync('/sbin/zpool', ['create', '-m', 'none', this.#name, image], QUIET);
    for (const [index, folder] of folders.entries()) {
      mkdirSync(folder, { recursive: true });
      const dataset = `${this.#name}/zfs${index}`;
      execFileSync('/sbin/zfs', ['create', '-o', `mountpoint=${folder}`, dataset], QUIET);
      this.#mounted.push(folder);
    }
  }
}

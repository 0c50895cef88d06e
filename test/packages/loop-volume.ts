import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A volume of a NAS: a real file system in a file, mounted at a folder until it is closed. */
export class LoopVolume {
  readonly #folder: string;
  readonly #image = mkdtempSync(join(tmpdir(), 'dozo-volume-'));

  constructor(fileSystem: 'btrfs' | 'ext4', folder: string, options: { mib?: number } = {}) {
    this.#folder = folder;
    const image = join(this.#image, 'image');
    writeFileSync(image, '');
    truncateSync(image, (options.mib ?? 1024) * 2 ** 20);
    const quiet = { stdio: ['ignore', 'ignore', 'pipe'] as ['ignore', 'ignore', 'pipe'] };
    execFileSync(`/usr/sbin/mkfs.${fileSystem}`, ['-q', image], quiet);
    mkdirSync(folder, { recursive: true });
    execFileSync('mount', ['-o', 'loop', image, folder], quiet);
  }

  /** On Btrfs, a shared folder as DSM makes one there: a subvolume. */
  makeShare(name: string, user: number): void {
    const folder = join(this.#folder, name);
    execFileSync('btrfs', ['subvolume', 'create', folder], { stdio: 'pipe' });
    execFileSync('chown', [`${user}:${user}`, folder]);
  }

  /** On Btrfs. @param limitBytes of a shared folder; null: as much as there is */
  setQuota(name: string, limitBytes: number | null): void {
    const btrfs = (...args: string[]): string => execFileSync('btrfs', args, { encoding: 'utf8', stdio: 'pipe' });
    btrfs('quota', 'enable', this.#folder);
    btrfs('quota', 'rescan', '-w', this.#folder);
    // By its number: a folder that is full would refuse its own.
    const group = `0/${btrfs('inspect-internal', 'rootid', join(this.#folder, name)).trim()}`;
    btrfs('qgroup', 'limit', limitBytes === null ? 'none' : String(limitBytes), group, this.#folder);
  }

  /** As the NAS does when it must not write to a volume any more, or is allowed to again. */
  setReadOnly(isReadOnly: boolean): void {
    execFileSync('mount', ['-o', `remount,${isReadOnly ? 'ro' : 'rw'}`, this.#folder], { stdio: 'pipe' });
  }

  close(): void {
    // Lazily: what was killed a moment ago may still be on its way out.
    execFileSync('umount', ['-l', this.#folder], { stdio: 'pipe' });
    rmSync(this.#image, { recursive: true, force: true });
  }
}

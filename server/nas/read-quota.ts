import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runProgram } from './program.ts';

/** How much a file system lets a folder hold, whatever is free besides. */
export interface Quota {
  limitBytes: number;
  usedBytes: number;
}

/** Bits of `limit_flags`, from linux/btrfs.h: of what is referenced, and of what nobody else refers to. */
const KINDS = [
  { flag: 1n, limit: 'max_referenced', used: 'referenced' },
  { flag: 2n, limit: 'max_exclusive', used: 'exclusive' },
];

/**
 * The limit that Btrfs holds the subvolume of a folder to, which is how DSM keeps the quota of a shared folder.
 * statfs(2) does not heed it. Everybody may read it from Linux 5.9 on; the ioctls of older ones are for root only. ZFS
 * needs none of this: there statfs(2) gives what the dataset may hold.
 *
 * @param root of the file system that /sys is in; another one in tests
 * @returns null: there is none, or it cannot be known. Never rejects.
 */
export async function readQuota(path: string, root = '/'): Promise<Quota | null> {
  const { status, output } = await runProgram('stat', ['-f', '-c', '%i', path]);
  if (status !== 0) return null;
  const folder = join(root, 'sys/fs/btrfs');
  for (const uuid of await readdir(folder).catch(() => [])) {
    const subvolume = subvolumeOf(output.trim(), uuid);
    if (subvolume !== null) return readGroup(join(folder, uuid, 'qgroups', `0_${subvolume}`));
  }
  return null;
}

/**
 * btrfs_statfs() of Linux makes the id that `stat -f` prints out of the two halves of the file system's UUID, and the
 * subvolume's number. Exported for its tests.
 *
 * @param id hexadecimal
 * @returns null: the folder lies in another file system
 */
export function subvolumeOf(id: string, uuid: string): bigint | null {
  const hex = uuid.replaceAll('-', '');
  if (!/^[0-9a-f]{32}$/.test(hex) || !/^[0-9a-f]{1,16}$/.test(id)) return null;
  const halves = BigInt(`0x${hex.slice(0, 16)}`) ^ BigInt(`0x${hex.slice(16)}`);
  const seen = BigInt(`0x${id}`);
  // Programs print its two words in either order.
  for (const value of [seen, (BigInt.asUintN(32, seen) << 32n) | (seen >> 32n)]) {
    const number = value ^ halves;
    // 5 is the top of the file system; those of users begin with 256.
    if (number === 5n || (number >= 256n && number < 1n << 32n)) return number;
  }
  return null;
}

async function readGroup(folder: string): Promise<Quota | null> {
  const read = (name: string): Promise<bigint> =>
    readFile(join(folder, name), 'ascii').then(
      (text) => (/^\d+$/.test(text.trim()) ? BigInt(text.trim()) : 0n),
      () => 0n,
    );
  const flags = await read('limit_flags');
  const quotas: Quota[] = [];
  for (const { flag, limit, used } of KINDS) {
    if ((flags & flag) === 0n) continue;
    quotas.push({ limitBytes: Number(await read(limit)), usedBytes: Number(await read(used)) });
  }
  const [tightest = null] = quotas.sort((a, b) => a.limitBytes - a.usedBytes - (b.limitBytes - b.usedBytes));
  return tightest;
}

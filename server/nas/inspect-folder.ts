import type { StatsFs } from 'node:fs';
import { constants, copyFile, open, rm, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { errnoOf } from '../errors/index.ts';
import { randomHex } from '../runtime/index.ts';
import type { FolderFacts } from './nas.ts';
import { runProgram } from './program.ts';
import { readQuota, type Quota } from './read-quota.ts';

/** Magic numbers of statfs(2), from linux/magic.h; ZFS's from OpenZFS. */
const FILE_SYSTEMS = new Map<number, string>([
  [0x9123683e, 'btrfs'],
  [0xef53, 'ext'],
  [0x2fc12fc1, 'zfs'],
  [0x58465342, 'xfs'],
  [0xf15f, 'ecryptfs'],
  [0x01021994, 'memory'],
  [0x858458f6, 'memory'],
  [0x6969, 'network'],
  [0xff534d42, 'network'],
  [0xfe534d42, 'network'],
]);

/** Finds out by trying what a folder can do. Leaves nothing behind. Never rejects. */
export async function inspectFolder(path: string): Promise<FolderFacts> {
  const nothing: FolderFacts = {
    path,
    exists: false,
    isWritable: false,
    isFull: false,
    fileSystem: null,
    freeBytes: null,
    totalBytes: null,
    quotaBytes: null,
    quotaUsedBytes: null,
    hasReflink: null,
    hasChecksums: null,
    isEncrypted: null,
    isLocked: false,
  };
  const isFolder = await stat(path).then(
    (entry) => entry.isDirectory(),
    () => false,
  );
  if (!isFolder) return (await isLocked(path)) ? { ...nothing, isEncrypted: true, isLocked: true } : nothing;
  const room = await statfs(path).catch(() => null);
  const fileSystem = room === null ? 'other' : fileSystemOf(room.type);
  const quota = fileSystem === 'btrfs' ? await readQuota(path) : null;
  const trial = await tryOut(path);
  return {
    path,
    exists: true,
    ...trial,
    fileSystem,
    ...spaceOf(room, quota),
    quotaBytes: quota?.limitBytes ?? null,
    quotaUsedBytes: quota?.usedBytes ?? null,
    hasChecksums: await readChecksums(path, fileSystem),
    // The name is QTS's own for an encrypted volume.
    isEncrypted: fileSystem === 'ecryptfs' || /^\/share\/CE_/.test(path) ? true : null,
    isLocked: false,
  };
}

/** By the type that statfs(2) gives, which is signed on some machines. Exported for its tests. */
export function fileSystemOf(type: number): string {
  return FILE_SYSTEMS.get(Number(BigInt.asUintN(32, BigInt(type)))) ?? 'other';
}

/** How much room there is where a folder lies, without touching it. Never rejects. */
export async function measureSpace(path: string): Promise<Pick<FolderFacts, 'freeBytes' | 'totalBytes'>> {
  const room = await statfs(path).catch(() => null);
  const isBtrfs = room !== null && fileSystemOf(room.type) === 'btrfs';
  return spaceOf(room, isBtrfs ? await readQuota(path) : null);
}

function spaceOf(room: StatsFs | null, quota: Quota | null): Pick<FolderFacts, 'freeBytes' | 'totalBytes'> {
  if (room === null) return { freeBytes: null, totalBytes: null };
  const [freeBytes, totalBytes] = [room.bavail * room.bsize, room.blocks * room.bsize];
  if (quota === null) return { freeBytes, totalBytes };
  return {
    freeBytes: Math.max(0, Math.min(freeBytes, quota.limitBytes - quota.usedBytes)),
    totalBytes: Math.min(totalBytes, quota.limitBytes),
  };
}

/** DSM keeps what is in an encrypted shared folder in `@NAME@` beside it, and takes NAME away while it is locked. */
async function isLocked(path: string): Promise<boolean> {
  const share = /^\/volume\d+\/[^/]+/.exec(path)?.[0];
  if (share === undefined) return false;
  const isThere = (folder: string): Promise<boolean> =>
    stat(folder).then(
      (entry) => entry.isDirectory(),
      () => false,
    );
  return !(await isThere(share)) && (await isThere(join(dirname(share), `@${basename(share)}@`)));
}

async function tryOut(folder: string): Promise<Pick<FolderFacts, 'isWritable' | 'isFull' | 'hasReflink'>> {
  const name = join(folder, `.dozo-test-${randomHex(8)}`);
  const clone = `${name}-clone`;
  try {
    const file = await open(name, 'wx', 0o600);
    try {
      // As large as a block: smaller files may lie in the metadata, which is not shared.
      await file.write(Buffer.alloc(16_384, 1));
      await file.sync();
    } finally {
      await file.close();
    }
    const hasReflink = await copyFile(name, clone, constants.COPYFILE_FICLONE_FORCE).then(
      () => true,
      () => false,
    );
    return { isWritable: true, isFull: false, hasReflink };
  } catch (error) {
    return { isWritable: false, isFull: ['ENOSPC', 'EDQUOT'].includes(errnoOf(error)), hasReflink: null };
  } finally {
    await rm(name, { force: true }).catch(() => undefined);
    await rm(clone, { force: true }).catch(() => undefined);
  }
}

/** On Btrfs a folder with the attribute C keeps none; DSM sets it where "data checksum" was not chosen. */
async function readChecksums(path: string, fileSystem: string): Promise<boolean | null> {
  if (fileSystem === 'zfs') return true;
  if (fileSystem !== 'btrfs') return fileSystem === 'ext' || fileSystem === 'xfs' ? false : null;
  const { status, output } = await runProgram('lsattr', ['-d', path]);
  return status === 0 ? !/^\S*C/.test(output) : null;
}

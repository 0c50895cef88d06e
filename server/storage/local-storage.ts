import { createHash, randomBytes } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import * as fs from 'node:fs/promises';
import path from 'node:path';
import { AppError, errnoOf } from '../errors/index.ts';
import { randomHex, silentLogger, systemClock, type Clock, type Logger } from '../runtime/index.ts';
import { describeProcess, isGone } from './claim-owner.ts';
import { storageError, storageMissing } from './storage-error.ts';
import { assertStorageName, isStorageName } from './storage-name.ts';
import type { PublishOptions, Storage, StorageWriter } from './storage.ts';

/** Holds files that are not published yet. No listing of the store's own folders ever sees it. */
const TEMPORARY_FOLDER = 'tmp';
/**
 * Room set aside, in files since Btrfs gives back no part of an extent; one is removed for each file that finds none.
 */
const RESERVES = Array.from({ length: 16 }, (_, number) => `${TEMPORARY_FOLDER}/${number}.reserve`);
/** Enough for a file of a few kilobytes and its folder, whatever the size of a block. */
const RESERVE_BYTES = 256 * 1024;
/** Nothing is set aside where less is free. */
const PLENTY_BYTES = 4 * RESERVES.length * RESERVE_BYTES;
/** A file there that nobody wrote to for so long was left by a process that is gone. */
const TEMPORARY_AGE_MS = 24 * 3600 * 1000;
/** What a file system answers that cannot make hard links (exFAT, some network and FUSE mounts). */
const NO_LINK = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);
/**
 * A link is no file of a repository, and whoever can put one there could lead elsewhere. Nor is a pipe: without
 * O_NONBLOCK, opening one that nobody writes to would never end.
 */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** No file that is read whole is longer (docs/repository-format.md, section 16: the body of a sealed file). */
const WHOLE_BYTES_MAX = 1024 * 1024 * 1024 + 4096;
/** What a file system answers that cannot sync a folder; it then has no such thing to lose. */
const NO_FOLDER_SYNC = new Set(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'EBADF', 'EISDIR']);

/**
 * File systems that other machines write to as well, by `f_type` of statfs(2): NFS, SMB in three ages, FUSE, Ceph, 9P.
 * Each machine may show a listing of a minute ago (`acdirmax` in nfs(5)).
 */
const SHARED_TYPES = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546, 0x00c36400, 0x01021997]);
const SHARED_LAG_MS = 60_000;

export interface LocalStorageOptions {
  /** Path of an existing folder; it is never created here, so that an unmounted share stays empty. */
  folder: string;
  clock?: Clock;
  logger?: Logger;
}

/**
 * A store in a folder of a local (or mounted) file system. A file is written under a temporary name,
 * synced, linked to its name (link(2) fails on an existing name, unlike rename(2)), and the folder is
 * synced. Node has no renameat2, so where there are no hard links an exclusively created claim file
 * guards check and rename; one of a process that is gone is taken away by the next that needs it.
 *
 * @throws STORAGE_MISSING when the folder is not there
 */
export async function openLocalStorage(options: LocalStorageOptions): Promise<Storage> {
  const { folder, clock = systemClock, logger = silentLogger } = options;
  const root = await rootStats(folder);
  const { type } = await fs.statfs(folder);
  const namesLagMs = SHARED_TYPES.has(type >>> 0) ? SHARED_LAG_MS : 0;
  return new LocalStorage({ location: path.resolve(folder), root, namesLagMs, clock, logger });
}

async function rootStats(folder: string): Promise<Stats> {
  try {
    const stats = await fs.stat(folder);
    if (stats.isDirectory()) return stats;
  } catch (error) {
    throw errnoOf(error) === 'ENOENT' ? storageMissing(folder, error) : storageError(error, 'open', 'it', folder);
  }
  throw storageMissing(folder);
}

class LocalStorage implements Storage {
  readonly location: string;
  readonly namesLagMs: number;
  readonly #device: number;
  readonly #inode: number;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Folders known to exist and to be synced into their parents. */
  readonly #folders = new Map<string, Promise<void>>();
  /** Files that parts are being read of, by name. */
  readonly #open = new Map<string, { handle: Promise<fs.FileHandle>; readers: number }>();
  #tidied = false;
  #linkWorks = true;

  constructor(options: { location: string; root: Stats; namesLagMs: number; clock: Clock; logger: Logger }) {
    const { location, root, namesLagMs, clock, logger } = options;
    this.location = location;
    this.namesLagMs = namesLagMs;
    this.#device = root.dev;
    this.#inode = root.ino;
    this.#clock = clock;
    this.#logger = logger;
  }

  async publish(name: string, data: Buffer | readonly Buffer[], options: PublishOptions = {}): Promise<void> {
    for (;;) {
      try {
        await this.#publishOnce(name, data);
        return;
      } catch (error) {
        const isFull = error instanceof AppError && error.code === 'STORAGE_FULL';
        if (!isFull || options.mayUseReserve !== true || !(await this.#useReserve())) throw error;
      }
    }
  }

  async keepReserve(): Promise<void> {
    try {
      if ((await this.freeBytes()) < PLENTY_BYTES) return;
      await this.ensureFolder(TEMPORARY_FOLDER);
      // Side by side, so that one commit of the file system takes them all.
      const keeping = await Promise.allSettled(RESERVES.map((name) => this.#keepOne(name)));
      const failed = keeping.find((one) => one.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
    } catch (error) {
      // A quota, for one. Nothing is lost by it but the way out of a full volume.
      this.#logger.debug({ error: errnoOf(error) }, 'no room could be set aside');
    }
  }

  async #keepOne(name: string): Promise<void> {
    const handle = await fs.open(this.path(name), 'a', 0o640);
    try {
      const missingBytes = RESERVE_BYTES - (await handle.stat()).size;
      if (missingBytes <= 0) return;
      // Noise: zeros take no room where the file system compresses.
      await handle.appendFile(randomBytes(missingBytes));
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  /** False: nothing is set aside. */
  async #useReserve(): Promise<boolean> {
    for (const name of RESERVES) {
      try {
        await fs.unlink(this.path(name));
        // Some file systems give the room back with the next commit only.
        await this.syncFolder(TEMPORARY_FOLDER);
        return true;
      } catch (error) {
        this.#logger.trace({ name, error: errnoOf(error) }, 'no room is set aside here');
      }
    }
    return false;
  }

  async #publishOnce(name: string, data: Buffer | readonly Buffer[]): Promise<void> {
    const writer = await this.create(name);
    try {
      await writer.append(data);
      await writer.publish();
    } catch (error) {
      await writer.discard();
      throw error;
    }
  }

  async create(name: string): Promise<StorageWriter> {
    assertStorageName(name);
    await this.assertPresent();
    try {
      await this.ensureFolder(TEMPORARY_FOLDER);
      if (!this.#tidied) await this.#removeStaleTemporaries();
      const temporary = `${TEMPORARY_FOLDER}/${randomHex(16)}.tmp`;
      const handle = await fs.open(this.path(temporary), 'wx', 0o640);
      return new LocalWriter(this, name, temporary, handle);
    } catch (error) {
      throw storageError(error, 'write', name, this.location);
    }
  }

  async read(name: string, range?: { offsetBytes: number; lengthBytes: number }): Promise<Buffer> {
    assertStorageName(name);
    try {
      if (range === undefined) return await this.#readWhole(name);
      return await this.#withOpen(name, (handle) => this.#readFrom(handle, name, range));
    } catch (error) {
      throw await this.#readError(error, 'read', name);
    }
  }

  async #readWhole(name: string): Promise<Buffer> {
    const handle = await fs.open(this.path(name), READ_FLAGS);
    try {
      const lengthBytes = this.#wholeBytes(name, await handle.stat());
      return await this.#readFrom(handle, name, { offsetBytes: 0, lengthBytes });
    } finally {
      await handle.close();
    }
  }

  async #readFrom(
    handle: fs.FileHandle,
    name: string,
    { offsetBytes, lengthBytes }: { offsetBytes: number; lengthBytes: number },
  ): Promise<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(lengthBytes);
    let filled = 0;
    while (filled < lengthBytes) {
      const { bytesRead } = await handle.read(buffer, filled, lengthBytes - filled, offsetBytes + filled);
      if (bytesRead === 0) throw this.#short(name, offsetBytes, lengthBytes, filled);
      filled += bytesRead;
    }
    return buffer;
  }

  /**
   * Reads that overlap share a handle: to open and close one costs a sixth of what the first thread of a restore does,
   * and the system reads ahead for one that goes on where it was. After a failure the next read opens the file anew.
   */
  async #withOpen<T>(name: string, use: (handle: fs.FileHandle) => Promise<T>): Promise<T> {
    const file = this.#open.get(name) ?? { handle: fs.open(this.path(name), READ_FLAGS), readers: 0 };
    this.#open.set(name, file);
    const forget = (): boolean => this.#open.get(name) === file && this.#open.delete(name);
    file.readers += 1;
    try {
      return await use(await file.handle);
    } catch (error) {
      forget();
      throw error;
    } finally {
      file.readers -= 1;
      if (file.readers === 0) {
        forget();
        await (await file.handle).close();
      }
    }
  }

  #wholeBytes(name: string, stats: Stats): number {
    if (!stats.isFile()) throw this.#notOurs(name, 'it is no file');
    if (stats.size > WHOLE_BYTES_MAX) throw this.#notOurs(name, `no such file is ${stats.size} bytes long`);
    return stats.size;
  }

  /** What only somebody who can write to the folder can have put there. */
  #notOurs(name: string, why: string): AppError {
    return new AppError('STORAGE_FAILED', `Cannot use ${name} in ${this.location}: ${why}.`, {
      hint: 'Something else has taken the place of a file of the repository. Remove it, or put the file back from a copy.',
      details: { name, location: this.location },
    });
  }

  async sizeBytes(name: string): Promise<number> {
    assertStorageName(name);
    try {
      return (await fs.stat(this.path(name))).size;
    } catch (error) {
      throw await this.#readError(error, 'look at', name);
    }
  }

  async exists(name: string): Promise<boolean> {
    try {
      await this.sizeBytes(name);
      return true;
    } catch (error) {
      if (error instanceof AppError && error.code === 'NOT_FOUND') return false;
      throw error;
    }
  }

  async *list(folder: string): AsyncIterable<{ name: string; sizeBytes: number; modifiedAtMs: number }> {
    for await (const names of this.#walk(folder)) {
      const found = await Promise.all(
        names.map(async (name) => {
          try {
            const { size, mtimeMs } = await fs.stat(this.path(name));
            return { name, sizeBytes: size, modifiedAtMs: mtimeMs };
          } catch (error) {
            // Removed between the two looks, by a collector for one: as if it had been removed before.
            if (errnoOf(error) === 'ENOENT') return null;
            throw storageError(error, 'look at', name, this.location);
          }
        }),
      );
      yield* found.filter((entry) => entry !== null);
    }
    await this.assertPresent();
  }

  async *listNames(folder: string): AsyncIterable<string> {
    for await (const names of this.#walk(folder)) yield* names;
    // A share that was unmounted half-way would have made the listing end early.
    await this.assertPresent();
  }

  async persist(name: string): Promise<void> {
    assertStorageName(name);
    try {
      for (let folder = path.posix.dirname(name); ; folder = path.posix.dirname(folder)) {
        await this.syncFolder(folder);
        if (folder === '.') return;
      }
    } catch (error) {
      throw await this.#readError(error, 'sync the folder of', name);
    }
  }

  async remove(name: string): Promise<void> {
    assertStorageName(name);
    try {
      await fs.unlink(this.path(name));
      const folder = path.posix.dirname(name);
      await this.syncFolder(folder);
      await this.#removeEmptyFolder(folder);
    } catch (error) {
      throw await this.#readError(error, 'remove', name);
    }
  }

  async removeAll(names: readonly string[]): Promise<string[]> {
    for (const name of names) assertStorageName(name);
    const removed: string[] = [];
    let failure: AppError | null = null;
    for (const name of names) {
      try {
        await fs.unlink(this.path(name));
        removed.push(name);
      } catch (error) {
        const known = await this.#readError(error, 'remove', name);
        if (known.code === 'NOT_FOUND') continue;
        failure = known;
        break;
      }
    }
    const folders = [...new Set(removed.map((name) => path.posix.dirname(name)))];
    await Promise.all(folders.map((folder) => this.#settleRemovals(folder)));
    if (failure !== null) throw failure;
    return removed;
  }

  async #settleRemovals(folder: string): Promise<void> {
    try {
      await this.syncFolder(folder);
    } catch (error) {
      const known = await this.#readError(error, 'remove files of', folder);
      // Another process found it empty and removed it; that is not durable before its parent is.
      if (known.code !== 'NOT_FOUND') throw known;
      await this.persist(folder);
      return;
    }
    await this.#removeEmptyFolder(folder);
  }

  /** So that a folder per session does not stay for ever. Top folders stay. */
  async #removeEmptyFolder(folder: string): Promise<void> {
    if (!folder.includes('/')) return;
    try {
      await fs.rmdir(this.path(folder));
      this.#folders.delete(folder);
    } catch (error) {
      // Not empty, as a rule. It costs nothing but a name.
      this.#logger.trace({ folder, error: errnoOf(error) }, 'a folder stays');
    }
  }

  async freeBytes(): Promise<number> {
    try {
      const { bavail, bsize } = await fs.statfs(this.location);
      return bavail * bsize;
    } catch (error) {
      throw await this.#readError(error, 'measure the free space', 'of the volume');
    }
  }

  path(name: string): string {
    return name === '.' ? this.location : path.join(this.location, name);
  }

  /** Refuses to go on when another file system (or nothing) lies at the path now. */
  async assertPresent(): Promise<void> {
    const now = await rootStats(this.location);
    if (now.dev !== this.#device || now.ino !== this.#inode) throw storageMissing(this.location);
  }

  /** Makes a folder of the store and its parents, each durable before its first file. */
  async ensureFolder(folder: string): Promise<void> {
    if (folder === '.') return;
    const known = this.#folders.get(folder);
    if (known !== undefined) return known;
    const making = this.#makeFolder(folder);
    this.#folders.set(folder, making);
    try {
      await making;
    } catch (error) {
      this.#folders.delete(folder);
      throw error;
    }
  }

  async #makeFolder(folder: string): Promise<void> {
    const parent = path.posix.dirname(folder);
    await this.ensureFolder(parent);
    try {
      await fs.mkdir(this.path(folder), 0o750);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      // Not what a link leads to: that may be anywhere.
      if (!(await fs.lstat(this.path(folder))).isDirectory()) throw this.#notOurs(folder, 'it is no folder');
    }
    // Also for a folder that was there: its maker may have been killed before the sync.
    await this.syncFolder(parent);
  }

  async syncFolder(folder: string): Promise<void> {
    try {
      const handle = await fs.open(this.path(folder), constants.O_RDONLY | constants.O_DIRECTORY);
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    } catch (error) {
      if (!NO_FOLDER_SYNC.has(errnoOf(error))) throw error;
    }
  }

  /** Gives a synced temporary file its name, never over another file. */
  async settle(temporary: string, name: string): Promise<void> {
    await this.assertPresent();
    const folder = path.posix.dirname(name);
    await this.ensureFolder(folder);
    try {
      await this.#place(temporary, name);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
      // Another process found the folder empty and removed it after we had made it.
      this.#folders.delete(folder);
      await this.ensureFolder(folder);
      await this.#place(temporary, name);
    }
    await this.syncFolder(folder);
    if (this.#linkWorks) await fs.unlink(this.path(temporary)).catch(() => undefined);
  }

  async #place(temporary: string, name: string): Promise<void> {
    if (this.#linkWorks) {
      try {
        await fs.link(this.path(temporary), this.path(name));
        return;
      } catch (error) {
        if (!NO_LINK.has(errnoOf(error))) throw error;
        this.#linkWorks = false;
      }
    }
    await this.#placeByRename(temporary, name);
  }

  async #placeByRename(temporary: string, name: string): Promise<void> {
    const claim = claimOf(name);
    await this.#takeClaim(claim);
    try {
      if (await this.exists(name)) throw fileExists();
      await fs.rename(this.path(temporary), this.path(name));
    } finally {
      await fs.unlink(this.path(claim)).catch(() => undefined);
    }
  }

  /**
   * At most one process has a claim; that of one that is gone is taken away. Who does that has a claim on doing so, and
   * looks again then: meanwhile another may have done it, and hold the new one.
   */
  async #takeClaim(claim: string): Promise<void> {
    for (;;) {
      try {
        await this.#makeClaim(claim);
        return;
      } catch (error) {
        if (errnoOf(error) !== 'EEXIST') throw error;
      }
      const owner = await this.#ownerOf(claim);
      if (owner === null) continue;
      if (!(await isGone(owner, this.namesLagMs > 0))) throw fileExists();
      const removal = claimOf(`${claim} ${owner}`);
      await this.#takeClaim(removal);
      try {
        if ((await this.#ownerOf(claim)) === owner) await fs.unlink(this.path(claim));
      } finally {
        await fs.unlink(this.path(removal)).catch(() => undefined);
      }
      this.#logger.info({ claim }, 'took away what a process had left that is gone');
    }
  }

  async #makeClaim(claim: string): Promise<void> {
    const owner = await describeProcess();
    const handle = await fs.open(this.path(claim), 'wx', 0o640);
    try {
      await handle.writeFile(owner);
      await handle.sync();
      await handle.close();
    } catch (error) {
      await handle.close().catch(() => undefined);
      await fs.unlink(this.path(claim)).catch(() => undefined);
      throw error;
    }
  }

  /** Null: it is not there any more. */
  async #ownerOf(claim: string): Promise<string | null> {
    try {
      return await fs.readFile(this.path(claim), 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null;
      throw error;
    }
  }

  /** Names in portions, folder by folder. */
  async *#walk(folder: string): AsyncIterable<string[]> {
    if (folder !== '.') assertStorageName(folder);
    let entries;
    try {
      entries = await fs.readdir(this.path(folder), { withFileTypes: true });
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw await this.#readError(error, 'list', folder);
      await this.assertPresent();
      return;
    }
    const files: string[] = [];
    const folders: string[] = [];
    for (const entry of entries) {
      const name = folder === '.' ? entry.name : `${folder}/${entry.name}`;
      // Systems leave things of their own in every folder (@eaDir, .DS_Store): not names of ours.
      if (!isStorageName(name) || name === TEMPORARY_FOLDER) continue;
      if (entry.isDirectory()) folders.push(name);
      else if (entry.isFile()) files.push(name);
    }
    for (let start = 0; start < files.length; start += 256) yield files.slice(start, start + 256);
    for (const below of folders) yield* this.#walk(below);
  }

  async #removeStaleTemporaries(): Promise<void> {
    this.#tidied = true;
    for (const entry of await fs.readdir(this.path(TEMPORARY_FOLDER))) {
      if (!/\.(?:tmp|claim)$/.test(entry)) continue;
      const file = this.path(`${TEMPORARY_FOLDER}/${entry}`);
      try {
        if (this.#clock.nowMs() - (await fs.stat(file)).mtimeMs < TEMPORARY_AGE_MS) continue;
        await fs.unlink(file);
        this.#logger.info({ file }, 'removed a file that a process had left unfinished');
      } catch (error) {
        // A leftover costs room, nothing else: it may wait for the next start.
        this.#logger.debug({ file, error: errnoOf(error) }, 'could not remove an unfinished file');
      }
    }
  }

  #short(name: string, offsetBytes: number, lengthBytes: number, filled: number): AppError {
    return new AppError(
      'STORAGE_FAILED',
      `Cannot read ${name} in ${this.location}: it ends at byte ${offsetBytes + filled}, ${lengthBytes - filled} bytes too early.`,
      { hint: 'The file was cut off. Check the repository.', details: { name, offsetBytes, lengthBytes } },
    );
  }

  async #readError(error: unknown, doing: string, name: string): Promise<AppError> {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENXIO') {
      try {
        await this.assertPresent();
      } catch (missing) {
        return storageError(missing, doing, name, this.location);
      }
      if (errno === 'ENXIO') return this.#notOurs(name, 'it is no file');
    }
    return storageError(error, doing, name, this.location);
  }
}

class LocalWriter implements StorageWriter {
  readonly #storage: LocalStorage;
  readonly #name: string;
  readonly #temporary: string;
  #handle: fs.FileHandle | null;
  #lengthBytes = 0;

  constructor(storage: LocalStorage, name: string, temporary: string, handle: fs.FileHandle) {
    this.#storage = storage;
    this.#name = name;
    this.#temporary = temporary;
    this.#handle = handle;
  }

  get lengthBytes(): number {
    return this.#lengthBytes;
  }

  async append(data: Buffer | readonly Buffer[]): Promise<void> {
    const handle = this.#opened();
    let rest = Array.isArray(data) ? (data as readonly Buffer[]) : [data as Buffer];
    try {
      while (rest.length > 0) {
        const { bytesWritten } = await handle.writev(rest as Buffer[], this.#lengthBytes);
        this.#lengthBytes += bytesWritten;
        rest = withoutFirst(rest, bytesWritten);
      }
    } catch (error) {
      throw storageError(error, 'write', this.#name, this.#storage.location);
    }
  }

  async publish(): Promise<void> {
    const handle = this.#opened();
    try {
      await handle.sync();
      this.#handle = null;
      await handle.close();
      await this.#storage.settle(this.#temporary, this.#name);
    } catch (error) {
      await this.discard();
      throw storageError(error, 'write', this.#name, this.#storage.location);
    }
  }

  async discard(): Promise<void> {
    const handle = this.#handle;
    this.#handle = null;
    await handle?.close().catch(() => undefined);
    await fs.unlink(this.#storage.path(this.#temporary)).catch(() => undefined);
  }

  #opened(): fs.FileHandle {
    if (this.#handle !== null) return this.#handle;
    throw new AppError('INVARIANT_BROKEN', `Broken invariant: ${this.#name} is already published or discarded`);
  }
}

function claimOf(name: string): string {
  return `${TEMPORARY_FOLDER}/${createHash('sha256').update(name).digest('hex')}.claim`;
}

function fileExists(): Error {
  return Object.assign(new Error('file exists'), { code: 'EEXIST' });
}

/** What writev did not take: it may write less than asked, on a nearly full volume for one. */
function withoutFirst(buffers: readonly Buffer[], bytes: number): readonly Buffer[] {
  let skip = bytes;
  for (const [index, buffer] of buffers.entries()) {
    if (skip < buffer.length) {
      return skip === 0 ? buffers.slice(index) : [buffer.subarray(skip), ...buffers.slice(index + 1)];
    }
    skip -= buffer.length;
  }
  return [];
}

import { isAppError } from '../errors/index.ts';
import {
  damaged,
  pathNames,
  pathNotFound,
  unsupported,
  type GuestEntry,
  type GuestFile,
  type GuestFileSystem,
  type Volume,
} from './filesystem.ts';
import { readSuperblock, XfsDisk } from './xfs-disk.ts';
import { readFolder, type FolderEntry } from './xfs-folder.ts';
import { xfsFreeExtents } from './xfs-free.ts';
import {
  FORMAT_LOCAL,
  mappedExtents,
  readExtents,
  readInode,
  readMapped,
  TYPE_FILE,
  TYPE_FOLDER,
  TYPE_LINK,
  type Inode,
} from './xfs-inode.ts';
import { replayLog } from './xfs-log.ts';
import { inBatches, joinTouching } from './streams.ts';

const LINK_BYTES_MAX = 1024;
const LINK_HEAD_BYTES = 56;
const LINK_EXTENT_BYTES_MAX = 65_536;
/** Entries whose inodes are read together, in the order of the disk. */
const LIST_BATCH = 4096;
/** Names kept for the next paths: some 30 MB at most. */
const KEPT_NAMES_MAX = 200_000;

/**
 * XFS of versions 4 and 5, check sums proven where there are any. A log that was not closed is replayed in memory
 * first (version 5), so files and free space are what the next mount would find; where the log cannot be replayed,
 * free space is unknown and the files are what the disk holds. Not read: a log on another disk, content on a
 * realtime disk.
 */
export async function openXfs(volume: Volume, signal?: AbortSignal): Promise<GuestFileSystem | null> {
  const superblock = await readSuperblock(volume, signal);
  if (superblock === null) return null;
  const disk = new XfsDisk(superblock, volume);
  const trouble = (await replayLog(disk, signal)) ?? (superblock.needsRepair ? 'it is marked for a repair' : null);
  const freeUnknown = superblock.hasUnknownReadOnlyFeatures ? 'it uses features that are not known' : null;
  return new Xfs(disk, { trouble, freeUnknown });
}

class Xfs implements GuestFileSystem {
  readonly kind = 'xfs';
  readonly label: string;
  readonly sizeBytes: number;
  readonly freeUnknown: string | null;
  readonly isUnsettled: boolean;
  readonly #disk: XfsDisk;
  /** Folder → name → inode, the folder used last at the end. */
  readonly #kept = new Map<number, Map<string, number>>();

  /** @param state `trouble`: why its log is not replayed */
  constructor(disk: XfsDisk, state: { trouble: string | null; freeUnknown: string | null }) {
    this.#disk = disk;
    this.label = disk.superblock.label;
    this.sizeBytes = disk.superblock.blocks * disk.superblock.blockBytes;
    this.freeUnknown = state.trouble ?? state.freeUnknown;
    this.isUnsettled = state.trouble !== null;
  }

  async *freeExtents(signal?: AbortSignal): ReturnType<GuestFileSystem['freeExtents']> {
    if (this.freeUnknown === null) yield* joinTouching(xfsFreeExtents(this.#disk, signal));
  }

  async *list(path: string, signal?: AbortSignal): AsyncGenerator<GuestEntry> {
    const folder = await this.#find(pathNames(path), signal);
    if (folder?.type !== TYPE_FOLDER) throw pathNotFound(path);
    for await (const batch of inBatches(readFolder(this.#disk, folder, signal), LIST_BATCH))
      yield* await describeAll(this.#disk, batch, signal);
  }

  async open(path: string, signal?: AbortSignal): Promise<GuestFile> {
    const disk = this.#disk;
    const inode = await this.#find(pathNames(path), signal);
    if (inode?.type !== TYPE_FILE) throw pathNotFound(path);
    if (inode.isRealtime) throw unsupported('xfs', 'the file lies on a realtime disk');
    const { sizeBytes, modifiedAtMs } = inode;
    const map = await readExtents(disk, inode, signal);
    return {
      sizeBytes,
      modifiedAtMs,
      async read(offsetBytes, lengthBytes, readSignal) {
        if (offsetBytes < 0 || lengthBytes < 0 || offsetBytes + lengthBytes > sizeBytes)
          throw damaged('xfs', 'something lies behind the end of its file');
        return readMapped(disk, map, offsetBytes, lengthBytes, readSignal);
      },
      async *extents() {
        yield* mappedExtents(disk, map, sizeBytes);
      },
    };
  }

  async #find(names: readonly string[], signal?: AbortSignal): Promise<Inode | null> {
    let inode = await readInode(this.#disk, this.#disk.superblock.rootInode, signal);
    for (const name of names) {
      if (inode.type !== TYPE_FOLDER) return null;
      const number = await this.#number(inode, name, signal);
      if (number === undefined) return null;
      inode = await readInode(this.#disk, number, signal);
    }
    return inode;
  }

  async #number(folder: Inode, name: string, signal?: AbortSignal): Promise<number | undefined> {
    const kept = this.#kept.get(folder.number);
    if (kept !== undefined) {
      this.#keep(folder.number, kept);
      return kept.get(name);
    }
    const names = new Map<string, number>();
    for await (const entry of readFolder(this.#disk, folder, signal)) {
      if (names.size >= KEPT_NAMES_MAX) {
        if (entry.name === name) return entry.inode;
      } else if (!names.has(entry.name)) {
        names.set(entry.name, entry.inode);
      }
    }
    if (names.size < KEPT_NAMES_MAX) this.#keep(folder.number, names);
    return names.get(name);
  }

  #keep(folder: number, names: Map<string, number>): void {
    this.#kept.delete(folder);
    this.#kept.set(folder, names);
    let total = 0;
    for (const kept of this.#kept.values()) total += kept.size;
    for (const [oldest, kept] of this.#kept) {
      if (total <= KEPT_NAMES_MAX) break;
      this.#kept.delete(oldest);
      total -= kept.size;
    }
  }
}

async function describeAll(
  disk: XfsDisk,
  entries: readonly FolderEntry[],
  signal?: AbortSignal,
): Promise<GuestEntry[]> {
  const described: GuestEntry[] = Array.from({ length: entries.length });
  const order = entries.map((entry, index) => ({ entry, index })).sort((a, b) => a.entry.inode - b.entry.inode);
  for (const { entry, index } of order) described[index] = await describe(disk, entry, signal);
  return described;
}

async function describe(
  disk: XfsDisk,
  { name, inode: number }: FolderEntry,
  signal?: AbortSignal,
): Promise<GuestEntry> {
  const nothing = { name, sizeBytes: 0, linkTarget: null };
  try {
    const inode = await readInode(disk, number, signal);
    const { modifiedAtMs } = inode;
    if (inode.type === TYPE_FOLDER) return { ...nothing, type: 'folder', modifiedAtMs };
    if (inode.type === TYPE_FILE) return { ...nothing, type: 'file', sizeBytes: inode.sizeBytes, modifiedAtMs };
    if (inode.type !== TYPE_LINK) return { ...nothing, type: 'other', modifiedAtMs };
    return { ...nothing, type: 'link', modifiedAtMs, linkTarget: await readLink(disk, inode, signal) };
  } catch (error) {
    if (!isAppError(error) || error.code !== 'FILESYSTEM_DAMAGED') throw error;
    // One damaged inode does not hide its folder; opening it tells the rest.
    return { ...nothing, type: 'other', modifiedAtMs: null };
  }
}

async function readLink(disk: XfsDisk, inode: Inode, signal?: AbortSignal): Promise<string | null> {
  if (inode.sizeBytes > LINK_BYTES_MAX) return null;
  if (inode.format === FORMAT_LOCAL) return inode.fork.toString('utf8', 0, inode.sizeBytes);
  const { version, blockBytes } = disk.superblock;
  const pieces: Buffer[] = [];
  let left = inode.sizeBytes;
  for (const extent of await readExtents(disk, inode, signal)) {
    // One head an extent, however many blocks that is.
    const lengthBytes = Math.min(extent.count * blockBytes, LINK_EXTENT_BYTES_MAX);
    const offsetBytes = disk.blockOffsetBytes(extent.block);
    if (version === 5) {
      const bytes = await disk.readChecked(offsetBytes, lengthBytes, 12, 'a link', signal);
      if (bytes.toString('latin1', 0, 4) !== 'XSLM') return null;
      pieces.push(bytes.subarray(LINK_HEAD_BYTES).subarray(0, left));
    } else {
      pieces.push((await disk.read(offsetBytes, lengthBytes, signal)).subarray(0, left));
    }
    left -= (pieces.at(-1) as Buffer).length;
  }
  return Buffer.concat(pieces).toString('utf8');
}

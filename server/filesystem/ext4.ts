import type { Extent } from '../disk/index.ts';
import { assert, isAppError } from '../errors/index.ts';
import { KIB, MIB } from '../runtime/index.ts';

import { CachedVolume } from './cached-volume.ts';
import { mapRun, type BlockMapOptions } from './ext4-block-map.ts';
import { parseFolderBlock, parseInlineFolder, type FolderRecord } from './ext4-folder.ts';
import { freeBlockRuns } from './ext4-free.ts';
import { readDescriptor } from './ext4-groups.ts';
import { ROOT_INODE, parseInode, type Inode } from './ext4-inode.ts';
import { ReplayedVolume, replayJournal, type Replay } from './ext4-journal.ts';
import {
  COMPATIBLE,
  INCOMPATIBLE,
  STATE_CLEAN,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  parseSuperblock,
  whyBitmapsAreUnsure,
  type Superblock,
} from './ext4-superblock.ts';
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

/** Folders of ext4 end at 2 GiB unless they were made for more; a longer one is no folder. */
const FOLDER_BYTES_MAX = 2048 * MIB;
const LINK_BYTES_MAX = 64 * KIB;

/** ext2, ext3 or ext4, with its journal replayed in memory. The contract is `OpenFileSystem`. */
export async function openExt4(volume: Volume, signal?: AbortSignal): Promise<GuestFileSystem | null> {
  const frozen = await readSuperblock(volume, signal);
  if (frozen === null) return null;
  const replay = await replay4(frozen, volume, signal);
  const cached = new CachedVolume(volume);
  const replayed = new ReplayedVolume(cached, replay.blocks, frozen.blockBytes);
  // The superblock is journaled as well: a file system that was just enlarged says so only there.
  const superblock = await readSuperblock(replayed, signal);
  if (superblock === null) throw damaged('ext4', 'its journal replaces its superblock by something else');
  return new Ext4(superblock, replayed, { trouble: replay.trouble, freeUnknown: whyBitmapsAreUnsure(superblock) });
}

async function readSuperblock(volume: Volume, signal: AbortSignal | undefined): Promise<Superblock | null> {
  if (volume.sizeBytes < SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES) return null;
  return parseSuperblock(await volume.read(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES, signal), volume.sizeBytes);
}

async function replay4(superblock: Superblock, volume: Volume, signal: AbortSignal | undefined): Promise<Replay> {
  const blocks: Replay['blocks'] = new Map();
  if ((superblock.compatible & COMPATIBLE.journal) === 0) {
    const isClean = (superblock.state & STATE_CLEAN) !== 0;
    return { blocks, trouble: isClean ? null : 'it was in use and keeps no journal' };
  }
  if ((superblock.incompatible & INCOMPATIBLE.recover) === 0) return { blocks, trouble: null };
  if (superblock.journalInode === 0) return { blocks, trouble: 'its journal lies on another disk' };
  try {
    // The journal's own place never changes under it, so it is read as it stands.
    const plain = new Ext4(superblock, new CachedVolume(volume), { trouble: null, freeUnknown: null });
    const inode = await plain.readInode(superblock.journalInode, signal);
    if (inode.type !== 'file' || inode.inline !== null) throw damaged('ext4', 'its journal is no file');
    const locate = plain.locator(inode, signal);
    const { blockBytes } = superblock;
    return await replayJournal(
      { blockBytes, blockCount: Math.floor(inode.sizeBytes / blockBytes), volume, locate },
      signal,
    );
  } catch (error) {
    if (!isAppError(error) || !error.code.startsWith('FILESYSTEM_')) throw error;
    return { blocks, trouble: 'its journal cannot be found' };
  }
}

class Ext4 implements GuestFileSystem {
  readonly kind = 'ext4';
  readonly label: string;
  readonly sizeBytes: number;
  readonly freeUnknown: string | null;
  readonly isUnsettled: boolean;
  readonly #superblock: Superblock;
  readonly #volume: Volume;

  /** @param state `trouble`: why its journal is not, or not wholly, replayed */
  constructor(superblock: Superblock, volume: Volume, state: { trouble: string | null; freeUnknown: string | null }) {
    this.#superblock = superblock;
    this.#volume = volume;
    this.label = superblock.label;
    this.sizeBytes = superblock.blockCount * superblock.blockBytes;
    this.freeUnknown = state.trouble ?? state.freeUnknown;
    this.isUnsettled = state.trouble !== null;
  }

  async *freeExtents(signal?: AbortSignal): AsyncGenerator<Extent> {
    if (this.freeUnknown === null) yield* freeBlockRuns(this.#superblock, this.#volume, signal);
  }

  async *list(path: string, signal?: AbortSignal): AsyncGenerator<GuestEntry> {
    const folder = await this.#find(path, signal);
    if (folder.type !== 'folder') throw pathNotFound(path);
    for await (const record of this.#records(folder, signal)) yield await this.#describe(record, signal);
  }

  async open(path: string, signal?: AbortSignal): Promise<GuestFile> {
    const inode = await this.#find(path, signal);
    if (inode.type !== 'file') throw pathNotFound(path);
    if (inode.isEncrypted) throw unsupported('ext4', 'an encrypted file');
    const file: GuestFile = {
      sizeBytes: inode.sizeBytes,
      modifiedAtMs: inode.modifiedAtMs,
      read: (offsetBytes, lengthBytes, readSignal) => this.#read(inode, offsetBytes, lengthBytes, readSignal),
    };
    if (inode.inline === null) file.extents = (extentsSignal) => this.#extents(inode, extentsSignal);
    return file;
  }

  async readInode(number: number, signal?: AbortSignal): Promise<Inode> {
    const { inodesPerGroup, inodeBytes, inodeCount, blockBytes, blockCount } = this.#superblock;
    if (number < 1 || number > inodeCount) throw damaged('ext4', 'a folder names an inode that is none');
    const descriptor = await readDescriptor(
      this.#superblock,
      this.#volume,
      Math.floor((number - 1) / inodesPerGroup),
      signal,
    );
    const offsetBytes = descriptor.inodeTable * blockBytes + ((number - 1) % inodesPerGroup) * inodeBytes;
    if (offsetBytes + inodeBytes > blockCount * blockBytes) throw damaged('ext4', 'an inode lies outside the volume');
    return parseInode(this.#superblock, number, await this.#volume.read(offsetBytes, inodeBytes, signal));
  }

  /** Finds blocks of a file one by one, remembering the run that the last one was in. */
  locator(inode: Inode, signal?: AbortSignal): (index: number) => Promise<number> {
    let known = { first: 0, end: 0, block: 0 };
    return async (index) => {
      if (index < known.first || index >= known.end) {
        const run = await mapRun(this.#mapOf(inode, signal), index);
        if (run.block === null) throw damaged('ext4', 'its journal has holes');
        known = { first: index, end: index + run.count, block: run.block };
      }
      return known.block + (index - known.first);
    };
  }

  async #find(path: string, signal: AbortSignal | undefined): Promise<Inode> {
    let inode = await this.readInode(ROOT_INODE, signal);
    for (const name of pathNames(path)) {
      if (inode.type !== 'folder') throw pathNotFound(path);
      let number: number | null = null;
      for await (const record of this.#records(inode, signal)) {
        if (record.name.toString('utf8') !== name) continue;
        number = record.inode;
        break;
      }
      if (number === null) throw pathNotFound(path);
      inode = await this.readInode(number, signal);
    }
    return inode;
  }

  async *#records(folder: Inode, signal: AbortSignal | undefined): AsyncGenerator<FolderRecord> {
    if (folder.isEncrypted) throw unsupported('ext4', 'an encrypted folder');
    if (folder.inline !== null) {
      yield* parseInlineFolder(folder.inline, folder.sizeBytes);
      return;
    }
    const { blockBytes } = this.#superblock;
    if (folder.sizeBytes > Math.min(FOLDER_BYTES_MAX, this.sizeBytes)) throw damaged('ext4', 'a folder is too long');
    const blocks = Math.floor(folder.sizeBytes / blockBytes);
    for (let index = 0; index < blocks;) {
      signal?.throwIfAborted();
      const run = await mapRun(this.#mapOf(folder, signal), index);
      const count = Math.min(run.count, blocks - index);
      for (let within = 0; run.block !== null && within < count; within += 1) {
        const block = await this.#volume.read((run.block + within) * blockBytes, blockBytes, signal);
        yield* parseFolderBlock(block, folder.map.checksumSeed);
      }
      index += count;
    }
  }

  async #describe({ name, inode: number }: FolderRecord, signal: AbortSignal | undefined): Promise<GuestEntry> {
    const entry: GuestEntry = {
      name: name.toString('utf8'),
      type: 'other',
      sizeBytes: 0,
      modifiedAtMs: null,
      linkTarget: null,
    };
    try {
      const inode = await this.readInode(number, signal);
      entry.type = inode.type;
      entry.modifiedAtMs = inode.modifiedAtMs;
      if (inode.type === 'file') entry.sizeBytes = inode.sizeBytes;
      if (inode.type === 'link' && !inode.isEncrypted && inode.sizeBytes <= LINK_BYTES_MAX) {
        entry.linkTarget = (await this.#read(inode, 0, inode.sizeBytes, signal)).toString('utf8');
      }
    } catch (error) {
      // One damaged inode hides its own facts, not its neighbours in the folder.
      if (!isAppError(error) || error.code !== 'FILESYSTEM_DAMAGED') throw error;
    }
    return entry;
  }

  async #read(inode: Inode, offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    assert(
      offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= inode.sizeBytes,
      'a read is in its file',
    );
    const bytes = Buffer.alloc(lengthBytes);
    if (inode.inline !== null) {
      if (inode.sizeBytes > inode.inline.length) throw damaged('ext4', 'a short file is longer than its inode');
      inode.inline.copy(bytes, 0, offsetBytes, offsetBytes + lengthBytes);
      return bytes;
    }
    const { blockBytes } = this.#superblock;
    for (let done = 0; done < lengthBytes;) {
      const index = Math.floor((offsetBytes + done) / blockBytes);
      const within = (offsetBytes + done) % blockBytes;
      const run = await mapRun(this.#mapOf(inode, signal), index);
      const partBytes = Math.min(run.count * blockBytes - within, lengthBytes - done);
      if (run.block !== null) {
        (await this.#volume.read(run.block * blockBytes + within, partBytes, signal)).copy(bytes, done);
      }
      done += partBytes;
    }
    return bytes;
  }

  async *#extents(inode: Inode, signal: AbortSignal | undefined): AsyncGenerator<Extent> {
    const { blockBytes } = this.#superblock;
    const blocks = Math.ceil(inode.sizeBytes / blockBytes);
    for (let index = 0; index < blocks;) {
      signal?.throwIfAborted();
      const run = await mapRun(this.#mapOf(inode, signal), index);
      const count = Math.min(run.count, blocks - index);
      if (run.block !== null) yield { offsetBytes: run.block * blockBytes, lengthBytes: count * blockBytes };
      index += count;
    }
  }

  #mapOf(inode: Inode, signal: AbortSignal | undefined): BlockMapOptions {
    const { blockBytes, blockCount } = this.#superblock;
    return {
      ...inode.map,
      blockBytes,
      blockCount,
      readBlock: (block) => this.#volume.read(block * blockBytes, blockBytes, signal),
    };
  }
}

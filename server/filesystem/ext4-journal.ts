import { MIB } from '../runtime/index.ts';

import { ext4Checksum } from './ext4-superblock.ts';
import type { Volume } from './filesystem.ts';

/**
 * The journal of ext3 and ext4 (jbd2; Linux, `include/linux/jbd2.h` and `fs/jbd2/recovery.c`), replayed in
 * memory: what a mount would write is looked up in the journal instead. All numbers big endian.
 *
 * Only transactions whose commit block is there count, in the order of their numbers, without the blocks that
 * later ones revoked.
 */
export interface Replay {
  /** Block of the volume → block of the volume at which the journal holds its newest content. */
  blocks: Map<number, JournaledBlock>;
  /** Null: replayed to the end. Else an English clause; `blocks` then holds what came before that place. */
  trouble: string | null;
}

interface JournaledBlock {
  block: number;
  /** Its first four bytes were those of the journal's own blocks and are kept as zeros. */
  isEscaped: boolean;
}

/** Reads blocks of the journal by their number within it. */
export interface JournalSource {
  blockBytes: number;
  /** Blocks of the journal's file. */
  blockCount: number;
  /** The block of the volume that holds this one. */
  locate(index: number): Promise<number>;
  volume: Volume;
}

const MAGIC = 0xc03b3998;
const TYPE = { descriptor: 1, commit: 2, superblock1: 3, superblock2: 4, revoke: 5 };
const COMPATIBLE_CHECKSUM = 1;
const INCOMPATIBLE = { revoke: 1, wide: 2, async: 4, checksum2: 8, checksum3: 0x10, fastCommit: 0x20 };
const TAG = { escaped: 1, sameUuid: 2, last: 8 };
/** A checksum at the end of descriptor and revoke blocks. */
const TAIL_BYTES = 4;
const READ_AHEAD_BYTES = MIB;
/** Blocks that may be journaled or revoked at a time; 4 GiB of 4 KiB blocks, four times what mke2fs makes by itself. */
const ENTRIES_MAX = 1024 * 1024;

interface Journal {
  source: JournalSource;
  blockBytes: number;
  first: number;
  /** One past the last block of the ring. */
  end: number;
  start: number;
  sequence: number;
  isWide: boolean;
  checksums: 0 | 2 | 3;
  seed: number;
}

interface Tag {
  block: number;
  flags: number;
  checksum: number;
  /** Block of the journal that holds the content. */
  index: number;
}

interface Transaction {
  sequence: number;
  tags: Tag[];
  revoked: number[];
}

/** What the journal adds to its volume. Rejects only when reading the volume does. */
export async function replayJournal(source: JournalSource, signal?: AbortSignal): Promise<Replay> {
  const blocks: Replay['blocks'] = new Map();
  try {
    const reader = new RingReader(source, signal);
    const journal = parseJournalSuperblock(source, await reader.read(0));
    if (journal === null) return { blocks, trouble: null };
    const { transactions, trouble } = await scan(journal, reader);
    await collect(transactions, journal, reader, blocks);
    return { blocks, trouble };
  } catch (error) {
    if (error instanceof JournalTrouble) return { blocks, trouble: error.message };
    throw error;
  }
}

/** A clause for the log; never leaves this module. */
class JournalTrouble extends Error {}

function parseJournalSuperblock(source: JournalSource, bytes: Buffer): Journal | null {
  const type = bytes.readUInt32BE(4);
  if (bytes.readUInt32BE(0) !== MAGIC || (type !== TYPE.superblock1 && type !== TYPE.superblock2)) {
    throw new JournalTrouble('its journal does not begin as one');
  }
  const hasFeatures = type === TYPE.superblock2;
  const compatible = hasFeatures ? bytes.readUInt32BE(0x24) : 0;
  const incompatible = hasFeatures ? bytes.readUInt32BE(0x28) : 0;
  const isWide = (incompatible & INCOMPATIBLE.wide) !== 0;
  const checksums =
    (incompatible & INCOMPATIBLE.checksum3) !== 0 ? 3 : (incompatible & INCOMPATIBLE.checksum2) !== 0 ? 2 : 0;
  if (checksums !== 0) {
    const blanked = Buffer.from(bytes.subarray(0, 1024));
    blanked.writeUInt32BE(0, 0xfc);
    if (bytes[0x50] !== 4) throw new JournalTrouble('its journal has checksums of an unknown kind');
    if (ext4Checksum(0xffffffff, blanked) !== bytes.readUInt32BE(0xfc)) {
      throw new JournalTrouble('the checksum of its journal is wrong');
    }
  }
  const start = bytes.readUInt32BE(0x1c);
  if (start === 0) return null;
  const unknown = incompatible & ~(INCOMPATIBLE.revoke | INCOMPATIBLE.wide | INCOMPATIBLE.async | 0x18);
  if ((incompatible & INCOMPATIBLE.fastCommit) !== 0) throw new JournalTrouble('its journal holds fast commits');
  if (unknown !== 0) throw new JournalTrouble('its journal has a feature that Dozo does not know');
  if (checksums === 0 && ((incompatible & INCOMPATIBLE.async) !== 0 || (compatible & COMPATIBLE_CHECKSUM) !== 0)) {
    throw new JournalTrouble('its journal has checksums of the first kind');
  }
  const first = bytes.readUInt32BE(0x14);
  const end = bytes.readUInt32BE(0x10);
  if (
    bytes.readUInt32BE(0x0c) !== source.blockBytes ||
    end > source.blockCount ||
    first < 1 ||
    start < first ||
    start >= end
  ) {
    throw new JournalTrouble('the sizes in its journal do not fit');
  }
  if (hasFeatures && bytes.readUInt32BE(0x20) !== 0) throw new JournalTrouble('its journal notes an error');
  return {
    source,
    blockBytes: source.blockBytes,
    first,
    end,
    start,
    sequence: bytes.readUInt32BE(0x18),
    isWide,
    checksums,
    seed: ext4Checksum(0xffffffff, bytes.subarray(0x30, 0x40)),
  };
}

/** Walks the ring from its start to the first block that is not of the transaction expected there. */
async function scan(
  journal: Journal,
  reader: RingReader,
): Promise<{ transactions: Transaction[]; trouble: string | null }> {
  const transactions: Transaction[] = [];
  let open: Transaction = { sequence: journal.sequence, tags: [], revoked: [] };
  let index = journal.start;
  let stepsLeft = journal.end - journal.first;
  let entries = 0;
  const step = (): number => {
    const taken = index;
    stepsLeft -= 1;
    index = index + 1 >= journal.end ? journal.first : index + 1;
    return taken;
  };
  while (stepsLeft > 0) {
    const bytes = await reader.read(step());
    if (bytes.readUInt32BE(0) !== MAGIC || bytes.readUInt32BE(8) !== open.sequence) break;
    const type = bytes.readUInt32BE(4);
    const openedWith = open.tags.length + open.revoked.length;
    if (type === TYPE.descriptor) {
      if (!hasRightTail(journal, bytes)) return { transactions, trouble: 'its journal is damaged (a descriptor)' };
      const tags = parseTags(journal, bytes);
      // A transaction that is still being written may be cut off by the end of what is there.
      if (tags.length > stepsLeft) break;
      for (const tag of tags) open.tags.push({ ...tag, index: step() });
    } else if (type === TYPE.revoke) {
      if (!hasRightTail(journal, bytes)) return { transactions, trouble: 'its journal is damaged (a revocation)' };
      for (const block of parseRevoked(journal, bytes)) open.revoked.push(block);
    } else if (type === TYPE.commit) {
      if (!isCommitSound(journal, bytes)) return { transactions, trouble: 'its journal is damaged (a commit)' };
      transactions.push(open);
      open = { sequence: (open.sequence + 1) >>> 0, tags: [], revoked: [] };
    } else {
      return { transactions, trouble: 'its journal holds a block of an unknown kind' };
    }
    entries += type === TYPE.commit ? 0 : open.tags.length + open.revoked.length - openedWith;
    if (entries > ENTRIES_MAX) throw new JournalTrouble('its journal is longer than Dozo reads');
  }
  return { transactions, trouble: null };
}

async function collect(
  transactions: readonly Transaction[],
  journal: Journal,
  reader: RingReader,
  blocks: Replay['blocks'],
): Promise<void> {
  // By the transaction's place, not its number, which may wrap around.
  const revokedAt = new Map<number, number>();
  for (const [place, { revoked }] of transactions.entries()) {
    for (const block of revoked) revokedAt.set(block, place);
  }
  for (const [place, { sequence, tags }] of transactions.entries()) {
    for (const tag of tags) {
      if (!(await isContentSound(journal, reader, tag, sequence))) {
        throw new JournalTrouble('its journal is damaged (a block)');
      }
      if ((revokedAt.get(tag.block) ?? -1) >= place) continue;
      blocks.set(tag.block, {
        block: await journal.source.locate(tag.index),
        isEscaped: (tag.flags & TAG.escaped) !== 0,
      });
    }
  }
}

function parseTags(journal: Journal, bytes: Buffer): Omit<Tag, 'index'>[] {
  const { checksums, isWide } = journal;
  const tagBytes = checksums === 3 ? 16 : 8 + (checksums === 2 ? 2 : 0) + (isWide ? 4 : 0);
  const endBytes = bytes.length - (checksums === 0 ? 0 : TAIL_BYTES);
  const tags: Omit<Tag, 'index'>[] = [];
  let at = 12;
  while (at + tagBytes <= endBytes) {
    const low = bytes.readUInt32BE(at);
    const flags = checksums === 3 ? bytes.readUInt32BE(at + 4) : bytes.readUInt16BE(at + 6);
    const high = isWide ? bytes.readUInt32BE(at + 8) : 0;
    const checksum = checksums === 3 ? bytes.readUInt32BE(at + 12) : bytes.readUInt16BE(at + 4);
    tags.push({ block: high * 2 ** 32 + low, flags, checksum });
    at += tagBytes + ((flags & TAG.sameUuid) === 0 ? 16 : 0);
    if ((flags & TAG.last) !== 0) break;
  }
  return tags;
}

function parseRevoked(journal: Journal, bytes: Buffer): number[] {
  const endBytes = bytes.readUInt32BE(12);
  if (endBytes > bytes.length - (journal.checksums === 0 ? 0 : TAIL_BYTES)) {
    throw new JournalTrouble('its journal is damaged (a revocation)');
  }
  const entryBytes = journal.isWide ? 8 : 4;
  const revoked: number[] = [];
  for (let at = 16; at + entryBytes <= endBytes; at += entryBytes) {
    revoked.push(
      journal.isWide ? bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4) : bytes.readUInt32BE(at),
    );
  }
  return revoked;
}

function hasRightTail(journal: Journal, bytes: Buffer): boolean {
  if (journal.checksums === 0) return true;
  const blanked = Buffer.from(bytes);
  blanked.writeUInt32BE(0, bytes.length - TAIL_BYTES);
  return ext4Checksum(journal.seed, blanked) === bytes.readUInt32BE(bytes.length - TAIL_BYTES);
}

function isCommitSound(journal: Journal, bytes: Buffer): boolean {
  if (journal.checksums === 0) return true;
  const blanked = Buffer.from(bytes);
  blanked.writeUInt32BE(0, 16);
  return ext4Checksum(journal.seed, blanked) === bytes.readUInt32BE(16);
}

async function isContentSound(journal: Journal, reader: RingReader, tag: Tag, sequence: number): Promise<boolean> {
  if (journal.checksums === 0) return true;
  const number = Buffer.alloc(4);
  number.writeUInt32BE(sequence);
  const checksum = ext4Checksum(journal.seed, number, await reader.read(tag.index));
  return journal.checksums === 3 ? checksum === tag.checksum : (checksum & 0xffff) === tag.checksum;
}

/** Blocks of the journal, read in runs as they lie on the volume. */
class RingReader {
  readonly #source: JournalSource;
  readonly #signal: AbortSignal | undefined;
  #firstBlock = -1;
  #bytes: Buffer = Buffer.alloc(0);

  constructor(source: JournalSource, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
  }

  /** A view that the next call may drop, never change. */
  async read(index: number): Promise<Buffer> {
    const { blockBytes, volume } = this.#source;
    const block = await this.#source.locate(index);
    let within = (block - this.#firstBlock) * blockBytes;
    if (this.#firstBlock < 0 || within < 0 || within + blockBytes > this.#bytes.length) {
      const offsetBytes = block * blockBytes;
      if (offsetBytes + blockBytes > volume.sizeBytes) throw new JournalTrouble('its journal lies outside the volume');
      this.#bytes = await volume.read(
        offsetBytes,
        Math.min(READ_AHEAD_BYTES, volume.sizeBytes - offsetBytes),
        this.#signal,
      );
      this.#firstBlock = block;
      within = 0;
    }
    return this.#bytes.subarray(within, within + blockBytes);
  }
}

/** A volume as it would be once its journal was written home. */
export class ReplayedVolume implements Volume {
  readonly sizeBytes: number;
  readonly #inner: Volume;
  readonly #blocks: Replay['blocks'];
  readonly #blockBytes: number;

  constructor(inner: Volume, blocks: Replay['blocks'], blockBytes: number) {
    this.#inner = inner;
    this.#blocks = blocks;
    this.#blockBytes = blockBytes;
    this.sizeBytes = inner.sizeBytes;
  }

  async read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    const bytes = await this.#inner.read(offsetBytes, lengthBytes, signal);
    if (this.#blocks.size === 0) return bytes;
    const first = Math.floor(offsetBytes / this.#blockBytes);
    const end = Math.ceil((offsetBytes + lengthBytes) / this.#blockBytes);
    for (let block = first; block < end; block += 1) {
      const journaled = this.#blocks.get(block);
      if (journaled === undefined) continue;
      const content = await this.#inner.read(journaled.block * this.#blockBytes, this.#blockBytes, signal);
      if (journaled.isEscaped) content.writeUInt32BE(MAGIC, 0);
      const startBytes = block * this.#blockBytes;
      const fromBytes = Math.max(offsetBytes, startBytes);
      const toBytes = Math.min(offsetBytes + lengthBytes, startBytes + this.#blockBytes);
      content.copy(bytes, fromBytes - offsetBytes, fromBytes - startBytes, toBytes - startBytes);
    }
    return bytes;
  }
}

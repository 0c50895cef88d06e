import { createSecretKey, randomBytes, type KeyObject } from 'node:crypto';
import { closeSync, fsync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import type { ChunkRecall, PointDisk } from '../repository/index.ts';
import { randomHex, type Logger } from '../runtime/index.ts';
import {
  encodeHeader,
  encodeRecord,
  HEADER_BYTES,
  KEY_BYTES,
  parseHeader,
  parseRecord,
  RECORD_BYTES,
  RECORD_TAGS,
  recordOffset,
  SALT_BYTES,
  TAG_BYTES,
  tagOf,
  type TagSubject,
} from './tag-file.ts';

/** Records held of each of the two files: a disk arrives in a few places at a time, each mostly in order. */
const RECORDS_HELD_MAX = 64;
const NO_TAG = Buffer.alloc(TAG_BYTES);

export interface DiskRecallOptions {
  /** Where the tags of the last version lie, and where those of this one will. */
  path: string;
  /** Null: there is no version that may be relied on, so the tags of this one get a new key. */
  former: { subject: TagSubject; disk: PointDisk } | null;
  logger: Logger;
}

/**
 * Tags of one disk: those of the last version, and those of the version that is being made, in a file of its own that
 * takes the place of the first when the version is committed. Memory: 512 KiB, whatever the disk. Files are read and
 * written synchronously, 4 KiB for 64 MiB of disk. What goes wrong with them costs the tags, never the run.
 */
export class DiskRecall implements ChunkRecall {
  readonly #path: string;
  readonly #logger: Logger;
  readonly #keyBytes: Buffer;
  readonly #key: KeyObject;
  readonly #former: PointDisk | null;
  #old: FormerTags | null;
  #new: NewTags | null;

  constructor({ path, former, logger }: DiskRecallOptions) {
    this.#path = path;
    this.#logger = logger;
    this.#old = former === null ? null : this.#attempt(() => FormerTags.open(path, former.subject));
    this.#former = former?.disk ?? null;
    this.#keyBytes = this.#old?.key ?? randomBytes(KEY_BYTES);
    this.#key = createSecretKey(this.#keyBytes);
    this.#new = this.#attempt(() => new NewTags(`${path}.${randomHex(8)}.new`));
  }

  get former(): PointDisk | null {
    return this.#old === null ? null : this.#former;
  }

  tagOf(content: Buffer): Buffer {
    return tagOf(this.#key, content);
  }

  matches(chunk: number, tag: Buffer): boolean {
    const old = this.#old;
    if (old === null) return false;
    const found = this.#attempt(() => old.get(chunk));
    if (found === null) {
      this.#old = null;
      old.close();
      return false;
    }
    return found.equals(tag) && !tag.equals(NO_TAG);
  }

  keep(chunk: number, tag: Buffer | null): void {
    this.#change((tags) => {
      if (tag === null) tags.clear(chunk, chunk + 1);
      else tags.set(chunk, tag);
    });
  }

  forget(from: number, to: number): void {
    this.#change((tags) => tags.clear(from, to));
  }

  #change(change: (tags: NewTags) => void): void {
    const tags = this.#new;
    if (tags === null) return;
    const isDone = this.#attempt(() => {
      change(tags);
      return true;
    });
    if (isDone === null) this.#dropNew();
  }

  /**
   * The version is committed: its tags take the place of the former ones, once they are on the disk. A record is
   * written again when a chunk in it is delivered again: a power cut could leave an earlier one, right by itself.
   * Closes.
   */
  async publish(subject: TagSubject): Promise<void> {
    const tags = this.#new;
    this.#new = null;
    try {
      if (tags !== null) {
        await tags.finish(this.#keyBytes, subject);
        renameSync(tags.path, this.#path);
      }
    } catch (error) {
      this.#tellUnusable(error);
      tags?.discard();
    }
    this.close();
  }

  /** Without `publish` before, what was kept is forgotten and the former tags stay. Idempotent. */
  close(): void {
    this.#old?.close();
    this.#old = null;
    this.#dropNew();
  }

  #dropNew(): void {
    this.#new?.discard();
    this.#new = null;
  }

  #attempt<T>(work: () => T): T | null {
    try {
      return work();
    } catch (error) {
      this.#tellUnusable(error);
      return null;
    }
  }

  #tellUnusable(error: unknown): void {
    this.#logger.info({ file: this.#path, error: (error as Error).message }, 'tags of chunks cannot be used');
  }
}

/** Tags of a version that is there. */
class FormerTags {
  readonly key: Buffer;
  readonly #salt: Buffer;
  readonly #file: number;
  readonly #held = new Map<number, Buffer>();

  private constructor(file: number, header: { key: Buffer; salt: Buffer }) {
    this.#file = file;
    this.key = header.key;
    this.#salt = header.salt;
  }

  /** Null: there is no file, or it is of something else. */
  static open(path: string, subject: TagSubject): FormerTags | null {
    let file: number;
    try {
      file = openSync(path, 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
    try {
      const header = parseHeader(readAt(file, 0, HEADER_BYTES), subject);
      if (header !== null) return new FormerTags(file, header);
    } catch (error) {
      closeSync(file);
      throw error;
    }
    closeSync(file);
    return null;
  }

  /** Zeros: none. */
  get(chunk: number): Buffer {
    const record = Math.floor(chunk / RECORD_TAGS);
    let tags = this.#held.get(record);
    if (tags === undefined) {
      const bytes = readAt(this.#file, recordOffset(record), RECORD_BYTES);
      tags = parseRecord(this.#salt, record, bytes) ?? Buffer.alloc(RECORD_TAGS * TAG_BYTES);
      for (const oldest of this.#held.keys()) {
        if (this.#held.size < RECORDS_HELD_MAX) break;
        this.#held.delete(oldest);
      }
      this.#held.set(record, tags);
    }
    return slotOf(tags, chunk);
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Tags of the version that is being made. */
class NewTags {
  readonly path: string;
  readonly #salt = randomBytes(SALT_BYTES);
  readonly #file: number;
  #isOpen = true;
  readonly #held = new Map<number, Buffer>();
  readonly #written = new Set<number>();

  constructor(path: string) {
    this.path = path;
    this.#file = openSync(path, 'wx+', 0o600);
  }

  set(chunk: number, tag: Buffer): void {
    tag.copy(slotOf(this.#take(Math.floor(chunk / RECORD_TAGS)), chunk));
  }

  /** Costs nothing where no tag was set. */
  clear(from: number, to: number): void {
    const first = Math.floor(from / RECORD_TAGS);
    const end = Math.ceil(to / RECORD_TAGS);
    for (const record of this.#known(first, end)) {
      const start = Math.max(from - record * RECORD_TAGS, 0);
      const stop = Math.min(to - record * RECORD_TAGS, RECORD_TAGS);
      this.#take(record).fill(0, start * TAG_BYTES, stop * TAG_BYTES);
    }
  }

  /** Records from `first` up to, not including, `end` that have tags. */
  #known(first: number, end: number): number[] {
    if (end - first === 1) return this.#held.has(first) || this.#written.has(first) ? [first] : [];
    return [...new Set([...this.#held.keys(), ...this.#written])].filter((one) => one >= first && one < end);
  }

  /** The tags of a record, to be changed. */
  #take(record: number): Buffer {
    let tags = this.#held.get(record);
    if (tags === undefined) {
      for (const [oldest, full] of this.#held) {
        if (this.#held.size < RECORDS_HELD_MAX) break;
        this.#write(oldest, full);
        this.#held.delete(oldest);
      }
      tags = this.#load(record);
      this.#held.set(record, tags);
    }
    return tags;
  }

  #load(record: number): Buffer {
    const none = Buffer.alloc(RECORD_TAGS * TAG_BYTES);
    if (!this.#written.has(record)) return none;
    return parseRecord(this.#salt, record, readAt(this.#file, recordOffset(record), RECORD_BYTES)) ?? none;
  }

  #write(record: number, tags: Buffer): void {
    writeAt(this.#file, recordOffset(record), encodeRecord(this.#salt, record, tags));
    this.#written.add(record);
  }

  /** The header last: without it the file is of nothing. All of it is on the disk then. */
  async finish(key: Buffer, subject: TagSubject): Promise<void> {
    for (const [record, tags] of this.#held) this.#write(record, tags);
    writeAt(this.#file, 0, encodeHeader({ key, salt: this.#salt, subject }));
    await new Promise<void>((resolve, reject) => {
      fsync(this.#file, (error) => (error === null ? resolve() : reject(error)));
    });
    this.#close();
  }

  discard(): void {
    this.#close();
    rmSync(this.path, { force: true });
  }

  /** Once: by the second time the number may be another file's. */
  #close(): void {
    if (this.#isOpen) closeSync(this.#file);
    this.#isOpen = false;
  }
}

function slotOf(tags: Buffer, chunk: number): Buffer {
  const at = (chunk % RECORD_TAGS) * TAG_BYTES;
  return tags.subarray(at, at + TAG_BYTES);
}

/** As many bytes as there are, at most `lengthBytes`. */
function readAt(file: number, offsetBytes: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  return bytes.subarray(0, readSync(file, bytes, 0, lengthBytes, offsetBytes));
}

function writeAt(file: number, offsetBytes: number, bytes: Buffer): void {
  let at = 0;
  while (at < bytes.length) at += writeSync(file, bytes, at, bytes.length - at, offsetBytes + at);
}

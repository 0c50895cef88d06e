/**
 * Bytes under names: what a repository needs of a folder today and of an object store later. Names
 * are relative, `/`-separated, of `[a-z0-9._-]`. A file is published whole and never changed after.
 * One conformance suite (`test/conformance/storage.ts`) holds for every implementation.
 *
 * Errors: STORAGE_FULL, STORAGE_READ_ONLY, STORAGE_WRITE_ONCE (of `remove`), STORAGE_MISSING (the whole store is not
 * there: a share not mounted), STORAGE_EXISTS, NOT_FOUND (one name), STORAGE_FAILED for the rest.
 */
export interface Storage {
  /** Where this is, for messages. */
  readonly location: string;
  /** After so long every machine sees a name that was published; absent: at once. */
  readonly namesLagMs?: number;
  /**
   * Makes `data` readable under `name` at once and durably, or not at all. Never over an existing
   * name: STORAGE_EXISTS. When the promise resolves, a power cut no longer loses the file.
   */
  publish(name: string, data: Buffer | readonly Buffer[], options?: PublishOptions): Promise<void>;
  /**
   * Sets room aside, as far as there is plenty, for what may use it; absent: this store has none of its own. Only
   * removing makes room on a full volume, and what is to be removed is written down before.
   */
  keepReserve?(): Promise<void>;
  /** Begins a file too large for memory; invisible under `name` until its `publish`. */
  create(name: string): Promise<StorageWriter>;
  /** The whole file, or a range of it, in memory that is the caller's. Fewer bytes than asked for is an error. */
  read(name: string, range?: { offsetBytes: number; lengthBytes: number }): Promise<Buffer>;
  sizeBytes(name: string): Promise<number>;
  exists(name: string): Promise<boolean>;
  /** Files below a folder, at any depth, complete or an error; order is free. A missing folder is empty. */
  list(folder: string): AsyncIterable<{ name: string; sizeBytes: number; modifiedAtMs: number }>;
  /** As `list`, names alone: many times cheaper on a spinning disk, which need not look at each file. */
  listNames(folder: string): AsyncIterable<string>;
  /**
   * Makes a name durable that somebody else may have published: who was killed between naming a file and syncing
   * its folder left a name that everybody sees and that a power cut takes back. For whoever builds on it.
   */
  persist(name: string): Promise<void>;
  /** The collector's work alone. NOT_FOUND when there is none. */
  remove(name: string): Promise<void>;
  /**
   * As `remove` of each, at the cost of one sync a folder; a cut leaves any of them. What is not there is passed over.
   * After a failure some of them may be gone.
   * @returns those that were there
   */
  removeAll(names: readonly string[]): Promise<string[]>;
  freeBytes(): Promise<number>;
}

export interface StorageWriter {
  /** Takes `data` over; resolves when it may be changed again. Calls are made one after the other. */
  append(data: Buffer | readonly Buffer[]): Promise<void>;
  readonly lengthBytes: number;
  /** As `Storage.publish`. */
  publish(): Promise<void>;
  discard(): Promise<void>;
}

export interface PublishOptions {
  /** A small file without which no room comes free. */
  mayUseReserve?: boolean;
}

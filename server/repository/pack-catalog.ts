import type { KeyObject } from 'node:crypto';
import { AppError, isAppError } from '../errors/index.ts';
import { MIB, releaseMemory, workAhead, type Logger } from '../runtime/index.ts';
import type { Storage } from '../storage/index.ts';
import { ByteCache } from './byte-cache.ts';
import { decodeChunk, type ChunkIdentity } from './chunk-codec.ts';
import { ChunkIndex } from './chunk-index.ts';
import type { CodecPool } from './codec-pool.ts';
import { parseSegment } from './index-segment.ts';
import { derivePackKey, type RepositoryKeys } from './keys.ts';
import { readCondemnedLists, type CondemnedList } from './condemned.ts';
import { listDamagedCopies, readDamagedCopies, type DamagedCopies } from './damaged-copies.ts';
import { INDEX_FOLDER, packIdOfName, packName, PACKS_FOLDER } from './layout.ts';
import { PACK_ROW_BYTES, parsePackTable, readPackTable, type PackRow, type PackTable } from './pack-format.ts';

/** Small files read at a time: what waits for a disk may wait for several. */
export const SMALL_FILES_AHEAD = 8;
/** Segments beyond it are read one by one. */
const SMALL_SEGMENT_BYTES = MIB;
/** Enough for the tables of some hundred GiB of disk in the order in which they were written. */
const TABLE_CACHE_BYTES = 8 * 1024 * 1024;

export interface PackEntry {
  packId: string;
  kind: PackTable['kind'];
  /** Where the table begins, and where the file ends. */
  tableOffsetBytes: number;
  fileBytes: number;
  rowCount: number;
  /** Copy of the pack's end in an index segment, if there is one. */
  copy: { segment: string; offsetBytes: number; lengthBytes: number } | null;
  /** The collector is about to remove it: readable, but nothing new may build on it. */
  condemned: boolean;
  /** A chunk of it was found damaged: what is delivered again is stored again, beside it. */
  suspect: boolean;
  /** The last listing did not have it: a collector removed it. */
  gone: boolean;
  /** Rows that a check found damaged. */
  badRows: ReadonlySet<number> | null;
}

/** A chunk's place, confirmed in the pack's table. */
export interface ChunkPlace {
  pack: number;
  row: number;
  form: PackRow;
}

/**
 * Which packs there are and what lies in them. The truth is in the packs; index segments spare the
 * seeks. Knows only published packs: what a session has not published yet is its own affair.
 */
export class PackCatalog {
  readonly storage: Storage;
  readonly keys: RepositoryKeys | null;
  readonly identity: ChunkIdentity;
  readonly index = new ChunkIndex();
  /** Index segments and packs that could not be read when they were met, with what is wrong. */
  readonly damages = new Map<string, AppError>();
  readonly #logger: Logger;
  readonly #packs: PackEntry[] = [];
  readonly #numbers = new Map<string, number>();
  readonly #segments = new Set<string>();
  readonly #tables = new ByteCache<number, PackTable>(TABLE_CACHE_BYTES);
  readonly #damagedCopies = new Map<string, DamagedCopies>();
  #lastKey: { number: number; key: KeyObject } | null = null;
  #condemnedLists: readonly CondemnedList[] = [];
  /** Why the lists are not known; those of the look before hold then. */
  #listsDamage: AppError | null = null;
  #refreshing: Promise<void> | null = null;
  #nextRefresh: Promise<void> | null = null;

  constructor(options: { storage: Storage; keys: RepositoryKeys | null; identity: ChunkIdentity; logger: Logger }) {
    this.storage = options.storage;
    this.keys = options.keys;
    this.identity = options.identity;
    this.#logger = options.logger;
  }

  get packs(): readonly PackEntry[] {
    return this.#packs;
  }

  get segmentNames(): ReadonlySet<string> {
    return this.#segments;
  }

  pack(number: number): PackEntry {
    const entry = this.#packs[number];
    if (entry === undefined) throw new RangeError(`no pack ${number}`);
    return entry;
  }

  /** Lists of packs to be removed, as of the last look. */
  get condemnedLists(): readonly CondemnedList[] {
    return this.#condemnedLists;
  }

  /** Names of the records about damaged copies, as of the last look. */
  get damagedRecords(): ReadonlyMap<string, DamagedCopies> {
    return this.#damagedCopies;
  }

  /**
   * Takes in what others have published or removed since. Everything is looked at after the call: a look
   * that was under way may have missed what the caller must see, so it is not shared.
   * @throws REPOSITORY_INDEX_DAMAGED where it cannot be told which packs are to be removed, storage errors
   */
  async refresh(): Promise<void> {
    await this.refreshToRead();
    this.assertListsKnown();
  }

  /** What is to be removed matters to nobody who only reads: a restore is not to fail of a list that is damaged. */
  async refreshToRead(): Promise<void> {
    if (this.#refreshing === null) return this.#beginRefresh();
    this.#nextRefresh ??= this.#refreshing
      .catch(() => undefined)
      .then(() => {
        this.#nextRefresh = null;
        return this.#beginRefresh();
      });
    return this.#nextRefresh;
  }

  /**
   * As `refresh`, of nothing but the lists of packs to be removed: for whoever looks at the packs later on, or not any
   * more.
   */
  async refreshLists(): Promise<void> {
    await (this.#refreshing === null ? this.#beginRefresh(() => this.#refreshOnlyLists()) : this.refreshToRead());
    this.assertListsKnown();
  }

  /** For whoever builds on packs or removes some. @throws REPOSITORY_INDEX_DAMAGED */
  assertListsKnown(): void {
    if (this.#listsDamage !== null) throw this.#listsDamage;
  }

  #beginRefresh(work: () => Promise<void> = () => this.#refresh()): Promise<void> {
    const refreshing = work().finally(() => {
      this.#refreshing = null;
    });
    this.#refreshing = refreshing;
    return refreshing;
  }

  /**
   * Announcements are read before packs are listed: what a collector removes in between is seen to be gone.
   * Segments are listed before packs: a pack of a listed segment that is not there any more was removed,
   * not merely unseen. Packs without a readable segment (a crash between the two, a damaged segment) give
   * their own tables.
   */
  async #refresh(): Promise<void> {
    const lists = await this.#readLists();
    const segments: string[] = [];
    const listed = new Set<string>();
    for await (const name of this.storage.listNames(INDEX_FOLDER)) {
      if (!name.endsWith('.index')) continue;
      listed.add(name);
      if (!this.#segments.has(name)) segments.push(name);
    }
    this.dropSegments([...this.#segments].filter((name) => !listed.has(name)));
    const seen = new Uint8Array(this.#packs.length);
    const present = new Set<string>();
    for await (const name of this.storage.listNames(PACKS_FOLDER)) {
      const packId = packIdOfName(name);
      if (packId === null) continue;
      const number = this.#numbers.get(packId);
      if (number === undefined) present.add(packId);
      else if (number < seen.length) seen[number] = 1;
    }
    for (const [number, flag] of seen.entries()) this.pack(number).gone = flag === 0;
    const segmentBytes = await Promise.all(segments.map((name) => this.#sizeIfThere(name)));
    this.index.reserve(Math.floor(segmentBytes.reduce((sum, bytes) => sum + bytes, 0) / PACK_ROW_BYTES));
    const areSmall = segmentBytes.every((bytes) => bytes <= SMALL_SEGMENT_BYTES);
    const atOnce = areSmall ? SMALL_FILES_AHEAD : 1;
    for await (const read of workAhead(segments, atOnce, (name) => this.#readSegment(name))) {
      this.#takeSegment(read, present);
    }
    for await (const table of workAhead([...present], SMALL_FILES_AHEAD, (packId) => this.#readNewTable(packId))) {
      if (table !== null) this.add(table, null);
    }
    this.#takeLists(lists);
    await this.#loadDamagedCopies();
  }

  async #refreshOnlyLists(): Promise<void> {
    this.#takeLists(await this.#readLists());
  }

  #takeLists(lists: readonly CondemnedList[]): void {
    const condemned = new Set(lists.flatMap((list) => list.packs));
    for (const entry of this.#packs) entry.condemned = condemned.has(entry.packId);
    this.#condemnedLists = lists;
  }

  async #sizeIfThere(name: string): Promise<number> {
    try {
      return await this.storage.sizeBytes(name);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'NOT_FOUND') throw error;
      return 0;
    }
  }

  async #readLists(): Promise<readonly CondemnedList[]> {
    try {
      const lists = await readCondemnedLists(this.storage, this.keys);
      this.#listsDamage = null;
      return lists;
    } catch (error) {
      if (!isAppError(error) || error.code !== 'REPOSITORY_INDEX_DAMAGED') throw error;
      this.#listsDamage = error;
      return this.#condemnedLists;
    }
  }

  async #loadDamagedCopies(): Promise<void> {
    const names = new Set(await listDamagedCopies(this.storage));
    for (const name of this.#damagedCopies.keys()) if (!names.has(name)) this.#damagedCopies.delete(name);
    for (const name of names) {
      if (this.#damagedCopies.has(name)) continue;
      try {
        const copies = await readDamagedCopies(this.storage, name, this.keys);
        if (copies !== null) this.#damagedCopies.set(name, copies);
        this.damages.delete(name);
      } catch (error) {
        // What it names is found again by the next check, and by whoever reads it.
        if (!isAppError(error) || error.code !== 'REPOSITORY_INDEX_DAMAGED') throw error;
        this.#note(name, error);
      }
    }
    const bad = new Map<string, Set<number>>();
    for (const { copies } of this.#damagedCopies.values()) {
      for (const { pack, rows } of copies) bad.set(pack, new Set([...(bad.get(pack) ?? []), ...rows]));
    }
    for (const entry of this.#packs) entry.badRows = bad.get(entry.packId) ?? null;
  }

  /** Forgets segments that were removed; copies in them count no more. */
  dropSegments(names: readonly string[]): void {
    if (names.length === 0) return;
    const dropped = new Set(names);
    for (const name of names) this.#segments.delete(name);
    for (const entry of this.#packs) if (entry.copy !== null && dropped.has(entry.copy.segment)) entry.copy = null;
  }

  async #readSegment(name: string): Promise<{ name: string; bytes: Buffer | AppError }> {
    try {
      return { name, bytes: await this.storage.read(name) };
    } catch (error) {
      if (!isAppError(error)) throw error;
      return { name, bytes: error };
    }
  }

  #takeSegment({ name, bytes }: { name: string; bytes: Buffer | AppError }, present: Set<string>): void {
    try {
      if (!Buffer.isBuffer(bytes)) throw bytes;
      for (const { table, offsetBytes, lengthBytes } of parseSegment(bytes, name)) {
        if (present.delete(table.packId)) this.add(table, { segment: name, offsetBytes, lengthBytes });
        else this.#setCopy(table.packId, { segment: name, offsetBytes, lengthBytes });
      }
      // What was added are numbers and names of its own; the tables, which lie in it, end here.
      releaseMemory(bytes);
      this.#segments.add(name);
      this.damages.delete(name);
    } catch (error) {
      if (!isAppError(error) || !RECOVERABLE.has(error.code)) throw error;
      if (error.code === 'NOT_FOUND') return;
      this.#note(name, error);
    }
  }

  /** Of a pack that no segment holds; null: there is nothing that can be read. */
  async #readNewTable(packId: string): Promise<PackTable | null> {
    const name = packName(packId);
    if (this.damages.has(name)) return null;
    try {
      return await this.#readTable(packId, name);
    } catch (error) {
      if (!isAppError(error) || !RECOVERABLE.has(error.code)) throw error;
      if (error.code !== 'NOT_FOUND') this.#note(name, error);
      return null;
    }
  }

  /**
   * Whether nothing tells what lies in a pack: its own table is damaged, now, and the index has none. Where it was put
   * back meanwhile, the next look takes it in.
   */
  async isUnreadable(packId: string): Promise<boolean> {
    const name = packName(packId);
    if (this.#numbers.has(packId) || !this.damages.has(name)) return false;
    try {
      await this.#readTable(packId, name);
    } catch (error) {
      if (!isAppError(error) || !RECOVERABLE.has(error.code)) throw error;
      return error.code === 'REPOSITORY_PACK_DAMAGED';
    }
    this.damages.delete(name);
    return false;
  }

  #note(name: string, error: AppError): void {
    if (!this.damages.has(name))
      this.#logger.warn({ file: name, error: error.message }, 'part of the repository cannot be used');
    this.damages.set(name, error);
  }

  async #readTable(packId: string, name: string): Promise<PackTable> {
    const fileBytes = await this.storage.sizeBytes(name);
    return readPackTable({ packId, name, fileBytes }, (range) => this.storage.read(name, range));
  }

  /** Makes a published pack known. */
  add(table: PackTable, copy: PackEntry['copy']): number {
    const known = this.#numbers.get(table.packId);
    if (known !== undefined) return known;
    const number = this.#packs.length;
    this.#packs.push({
      packId: table.packId,
      kind: table.kind,
      tableOffsetBytes: table.offsetBytes,
      fileBytes: table.fileBytes,
      rowCount: table.rowCount,
      copy,
      condemned: false,
      suspect: false,
      gone: false,
      badRows: null,
    });
    this.#numbers.set(table.packId, number);
    this.index.insertTable(number, table);
    return number;
  }

  /** What the caller removed. A pack's name is never used again. */
  noteGone(packId: string): void {
    const number = this.#numbers.get(packId);
    if (number !== undefined) this.pack(number).gone = true;
  }

  numberOf(packId: string): number | undefined {
    return this.#numbers.get(packId);
  }

  /** Packs that no readable segment holds: the next writer gives them one. */
  packsWithoutCopy(): PackEntry[] {
    return this.#packs.filter((entry) => entry.copy === null && !entry.condemned && !entry.gone);
  }

  #setCopy(packId: string, copy: PackEntry['copy']): void {
    const number = this.#numbers.get(packId);
    if (number !== undefined) this.pack(number).copy ??= copy;
  }

  setCopies(
    tables: readonly PackTable[],
    segment: string,
    places: readonly { offsetBytes: number; lengthBytes: number }[],
  ): void {
    this.#segments.add(segment);
    for (const [index, table] of tables.entries()) {
      const place = places[index];
      if (place !== undefined) this.#setCopy(table.packId, { segment, ...place });
    }
  }

  /** The table of a pack: from its end, or from the copy in the index when its end is damaged. */
  async table(number: number): Promise<PackTable> {
    const cached = this.#tables.get(number);
    if (cached !== undefined) return cached;
    const entry = this.pack(number);
    const name = packName(entry.packId);
    let table: PackTable;
    try {
      const range = { offsetBytes: entry.tableOffsetBytes, lengthBytes: entry.fileBytes - entry.tableOffsetBytes };
      table = parsePackTable(entry.packId, await this.storage.read(name, range), name);
    } catch (error) {
      if (entry.copy === null || !isAppError(error) || !RECOVERABLE.has(error.code) || error.code === 'NOT_FOUND')
        throw error;
      const { segment, offsetBytes, lengthBytes } = entry.copy;
      table = parsePackTable(entry.packId, await this.storage.read(segment, { offsetBytes, lengthBytes }), name);
      this.#note(name, error);
    }
    this.#tables.set(number, table, table.bytes.length + 200);
    return table;
  }

  /** False: certainly not stored. True: almost certainly; `locate` proves it. */
  mayHave(id: Buffer): boolean {
    return this.index.candidates(id).some(({ pack, row }) => this.#isSound(pack, row));
  }

  /** Packs that may hold a sound copy; none: certainly not stored. */
  soundPacks(id: Buffer): number[] {
    return this.index.candidates(id).flatMap(({ pack, row }) => (this.#isSound(pack, row) ? [pack] : []));
  }

  /**
   * Where the chunk lies, its whole identity compared with the pack's table.
   * @param use `build`: a new point is going to need it, so a pack that is about to go or that is known to
   *   be damaged does not count
   */
  async locate(id: Buffer, use: 'read' | 'build'): Promise<ChunkPlace | null> {
    for await (const place of this.places(id, use)) return place;
    return null;
  }

  /** Whether a copy is there, and stays, that no check has found damaged. */
  async hasGoodCopy(id: Buffer): Promise<boolean> {
    for (const { pack, row } of this.index.candidates(id)) {
      const { condemned, gone, badRows } = this.pack(pack);
      if (condemned || gone || badRows?.has(row) === true) continue;
      const table = this.#tables.get(pack) ?? (await this.#tableIfReadable(pack));
      if (table?.hasId(row, id) === true) return true;
    }
    return false;
  }

  async #tableIfReadable(number: number): Promise<PackTable | null> {
    try {
      return await this.table(number);
    } catch (error) {
      if (isAppError(error) && RECOVERABLE.has(error.code)) return null;
      throw error;
    }
  }

  #isSound(number: number, row: number): boolean {
    const { condemned, suspect, gone, badRows } = this.pack(number);
    return !condemned && !suspect && !gone && badRows?.has(row) !== true;
  }

  /** Every confirmed copy of the chunk. */
  async *places(id: Buffer, use: 'read' | 'build'): AsyncIterable<ChunkPlace> {
    for (const { pack, row } of this.index.candidates(id)) {
      if (use === 'build' && !this.#isSound(pack, row)) continue;
      const table = await this.#tableIfReadable(pack);
      if (table?.hasId(row, id) === true) yield { pack, row, form: table.row(row) };
    }
  }

  /** The content of one copy, proven; null: this copy cannot be used. @throws storage errors but of one file */
  async readPlace(id: Buffer, place: ChunkPlace): Promise<Buffer | null> {
    const result = await this.#readAt(id, place);
    return Buffer.isBuffer(result) ? result : null;
  }

  /**
   * The content of a chunk, proven. Every copy is tried before it is given up, and what a collector may
   * have moved is looked for again.
   * @param pool has its threads decompress and prove it; else that is done here
   * @throws REPOSITORY_CHUNK_DAMAGED, REPOSITORY_CHUNK_MISSING, storage errors
   */
  async readChunk(id: Buffer, pool?: CodecPool): Promise<Buffer> {
    const first = await this.#tryRead(id, pool);
    if (Buffer.isBuffer(first)) return first;
    await this.refreshToRead();
    const second = await this.#tryRead(id, pool);
    if (Buffer.isBuffer(second)) return second;
    throw second ?? first ?? chunkMissing(id);
  }

  async #tryRead(id: Buffer, pool?: CodecPool): Promise<Buffer | AppError | null> {
    let failure: AppError | null = null;
    for await (const place of this.places(id, 'read')) {
      const result = await this.#readAt(id, place, pool);
      if (Buffer.isBuffer(result)) return result;
      failure = result;
    }
    return failure;
  }

  async #readAt(id: Buffer, place: ChunkPlace, pool?: CodecPool): Promise<Buffer | AppError> {
    const { pack, form } = place;
    const name = packName(this.pack(pack).packId);
    try {
      const stored = await this.storage.read(name, { offsetBytes: form.offsetBytes, lengthBytes: form.storedLength });
      const content =
        pool === undefined ? this.#decode(stored, place) : await this.#decodeByThread(id, stored, place, pool);
      if (typeof content !== 'string') return content;
      this.pack(pack).suspect = true;
      return chunkDamaged(id, name, content);
    } catch (error) {
      if (!isAppError(error)) throw error;
      if (error.code !== 'NOT_FOUND') return error;
      this.pack(pack).gone = true;
      return chunkMissing(id, name);
    }
  }

  #decode(stored: Buffer, { pack, row, form }: ChunkPlace): Buffer | string {
    const content = decodeChunk(stored, { ...form, row }, this.packKey(pack), this.identity);
    if (typeof content === 'string' || content.buffer !== stored.buffer) releaseMemory(stored);
    return content;
  }

  async #decodeByThread(id: Buffer, stored: Buffer, place: ChunkPlace, pool: CodecPool): Promise<Buffer | string> {
    const { codec, plainLength, crc } = place.form;
    const part = { offset: 0, storedLength: stored.length, id, codec, plainLength, crc, row: place.row };
    const [content] = await pool.decode(stored, this.packKey(place.pack), [part]);
    return content ?? 'it was not decoded';
  }

  packKey(number: number): KeyObject | null {
    if (this.keys === null) return null;
    // One pack is read in many ranges, one after the other.
    if (this.#lastKey?.number !== number) {
      this.#lastKey = { number, key: derivePackKey(this.keys, Buffer.from(this.pack(number).packId, 'hex')) };
    }
    return this.#lastKey.key;
  }
}

/** What one file's trouble is called, as opposed to the store's. */
const RECOVERABLE = new Set([
  'REPOSITORY_PACK_DAMAGED',
  'REPOSITORY_INDEX_DAMAGED',
  'REPOSITORY_FORMAT_UNKNOWN',
  'NOT_FOUND',
  'STORAGE_FAILED',
]);

export function chunkMissing(id: Buffer, name?: string): AppError {
  const where = name === undefined ? 'is in no pack' : `was in ${name}, which is gone`;
  return new AppError('REPOSITORY_CHUNK_MISSING', `Chunk ${id.toString('hex')} ${where}.`, {
    hint: 'Run a check of the repository: it names the versions that need this chunk.',
    details: { chunk: id.toString('hex'), ...(name === undefined ? {} : { name }) },
  });
}

export function chunkDamaged(id: Buffer, name: string, why: string): AppError {
  return new AppError('REPOSITORY_CHUNK_DAMAGED', `Chunk ${id.toString('hex')} in ${name} is damaged: ${why}.`, {
    hint: 'Run a check of the repository: it names the versions that need this chunk.',
    details: { chunk: id.toString('hex'), name, why },
  });
}

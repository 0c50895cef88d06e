import { randomBytes } from 'node:crypto';
import { AppError, assert, isAppError, toAppError } from '../errors/index.ts';
import type { Logger } from '../runtime/index.ts';
import { encodeChunk } from './chunk-codec.ts';
import type { CodecPool, CodecSlot } from './codec-pool.ts';
import { encodeSegment, parseSegment, SEGMENT_TARGET_BYTES } from './index-segment.ts';
import { identify } from './keys.ts';
import { ID_BYTES, indexName, PACK_ROWS_MAX, packName, ZERO_ID } from './layout.ts';
import type { ChunkPlace, PackCatalog } from './pack-catalog.ts';
import type { PackKind, PackTable } from './pack-format.ts';
import { PackWriter, type PackAddition } from './pack-writer.ts';

/** Packs being synced while the next ones fill; more would only hide a slow disk from the sender. */
const PUBLISHING_MAX = 2;
/** A batch that is not full is worked on after this; its slot may be what another session waits for. */
const BATCH_IDLE_MS = 100;
/** So many published packs without an index segment cost the next opening a seek each, after a crash. */
const UNINDEXED_PACKS_MAX = 64;
/** A batch has room for the tags of so many chunks. */
const BATCH_CHUNKS_MAX = 64;

/** What became of a chunk. */
export type ChunkFate = { kind: 'unchanged' | 'duplicate' } | { kind: 'new'; storedBytes: number };

export interface ChunkJob {
  lengthBytes: number;
  /** Identity of what stands at this place now: an equal chunk needs no look at the index. */
  currentId(): Promise<Buffer>;
  done(id: Buffer, fate: ChunkFate): Promise<void>;
}

interface Batch {
  slot: CodecSlot;
  jobs: ChunkJob[];
  bytes: number;
  timer: NodeJS.Timeout;
}

/**
 * Turns contents into stored chunks: batches to the threads (first the hash, then, for what is new,
 * compression and encryption), packs, index segments. One a session, so that a session depends on no
 * other's unpublished packs. After a failure everything rejects with it.
 */
export class ChunkWriter {
  readonly #catalog: PackCatalog;
  readonly #pool: CodecPool;
  readonly #logger: Logger;
  /** Identities of chunks on their way into packs of this session that are not published yet. */
  readonly #pending = new Set<string>();
  readonly #packs = new Map<PackKind, PackWriter>();
  readonly #publishing = new Set<Promise<void>>();
  readonly #unindexed: PackTable[] = [];
  readonly #working = new Set<Promise<void>>();
  readonly #avoid: ReadonlySet<number>;
  /** Packs that what this session makes will need: those it found chunks in, and its own. */
  readonly builtOn = new Set<number>();
  #batch: Batch | null = null;
  #opening: Promise<void> | null = null;
  #failure: Error | null = null;
  #writingIndex: Promise<void> = Promise.resolve();

  /** @param options.avoid packs whose copies do not count: a collector is emptying them */
  constructor(options: { catalog: PackCatalog; pool: CodecPool; logger: Logger; avoid?: ReadonlySet<number> }) {
    this.#avoid = options.avoid ?? new Set();
    this.#catalog = options.catalog;
    this.#pool = options.pool;
    this.#logger = options.logger;
  }

  throwIfFailed(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /** Everything from now on rejects. The first cause stays. */
  fail(error: unknown): void {
    this.#failure ??= error instanceof Error ? error : toAppError(error);
  }

  /**
   * Takes the content over by copying it; resolves as soon as that is done.
   * @param content not all zero
   */
  async add(content: Buffer, job: ChunkJob): Promise<void> {
    for (;;) {
      this.throwIfFailed();
      const batch = this.#batch;
      if (batch !== null) {
        if (batch.bytes + content.length <= batch.slot.input.length && batch.jobs.length < BATCH_CHUNKS_MAX) {
          content.copy(batch.slot.input, batch.bytes);
          batch.bytes += content.length;
          batch.jobs.push(job);
          if (batch.bytes === batch.slot.input.length) this.#dispatch();
          return;
        }
        this.#dispatch();
      }
      this.#opening ??= this.#open();
      await this.#opening;
    }
  }

  async #open(): Promise<void> {
    const slot = await this.#pool.acquireSlot();
    this.#opening = null;
    const timer = setTimeout(() => this.#dispatch(), BATCH_IDLE_MS);
    this.#batch = { slot, jobs: [], bytes: 0, timer };
    if (this.#failure !== null) this.#dispatch();
  }

  #dispatch(): void {
    const batch = this.#batch;
    if (batch === null) return;
    this.#batch = null;
    clearTimeout(batch.timer);
    const work = this.#process(batch)
      .catch((error: unknown) => this.fail(error))
      .finally(() => {
        this.#pool.releaseSlot(batch.slot);
        this.#working.delete(work);
      });
    this.#working.add(work);
  }

  async #process({ slot, jobs }: Batch): Promise<void> {
    if (jobs.length === 0 || this.#failure !== null) return;
    const ids = await this.#pool.hash(
      slot,
      jobs.map((job) => job.lengthBytes),
    );
    const fresh: { job: ChunkJob; id: Buffer; offset: number }[] = [];
    let offset = 0;
    for (const [index, job] of jobs.entries()) {
      const id = ids.subarray(index * ID_BYTES, (index + 1) * ID_BYTES);
      const fate = await this.#knownFate(id, job);
      if (fate === null) fresh.push({ job, id, offset });
      else await job.done(id, fate);
      offset += job.lengthBytes;
    }
    if (fresh.length === 0) return;

    const { pack, row } = this.#reserve('data', fresh.length);
    const parts = fresh.map((one, index) => ({
      offset: one.offset,
      length: one.job.lengthBytes,
      id: one.id,
      row: row + index,
    }));
    const encoded = await this.#pool.encode(slot, pack.packKey, parts);
    const additions = encoded.map((part, index): PackAddition => {
      const { job, id } = fresh[index] as (typeof fresh)[number];
      const stored = slot[part.area].subarray(part.offset, part.offset + part.length);
      return {
        row: row + index,
        id,
        plainLength: job.lengthBytes,
        chunk: { codec: part.codec, crc: part.crc, stored },
      };
    });
    await pack.append(additions);
    for (const [index, { job, id }] of fresh.entries()) {
      await job.done(id, { kind: 'new', storedBytes: encoded[index]?.length ?? 0 });
    }
    await this.#closeIfFull('data', pack);
  }

  /** Null: the chunk is new, and is from now on this session's to store. */
  async #knownFate(id: Buffer, job: ChunkJob): Promise<ChunkFate | null> {
    if ((await job.currentId()).equals(id) && (this.#isPending(id) || this.buildOn(id))) return { kind: 'unchanged' };
    if (this.#isPending(id)) return { kind: 'duplicate' };
    this.#pending.add(keyOf(id));
    const place = await this.#locate(id);
    if (place === null) return null;
    this.#pending.delete(keyOf(id));
    this.builtOn.add(place.pack);
    return { kind: 'duplicate' };
  }

  /**
   * Whether a chunk whose identity is known without hashing need not be stored: as certain as for one that was
   * hashed. True: it is needed where it lies.
   * @param currentId as in `ChunkJob`
   */
  async isStored(id: Buffer, currentId: () => Promise<Buffer>): Promise<boolean> {
    this.throwIfFailed();
    if (this.#isPending(id) || ((await currentId()).equals(id) && this.buildOn(id))) return true;
    const place = await this.#locate(id);
    if (place !== null) this.builtOn.add(place.pack);
    return place !== null;
  }

  /** Notes that the chunk is needed where it lies. False: no sound copy is known. */
  buildOn(id: Buffer): boolean {
    const packs = this.#catalog.soundPacks(id);
    for (const pack of packs) this.builtOn.add(pack);
    return packs.length > 0;
  }

  async #locate(id: Buffer): Promise<ChunkPlace | null> {
    for await (const place of this.#catalog.places(id, 'build')) if (!this.#avoid.has(place.pack)) return place;
    return null;
  }

  #isPending(id: Buffer): boolean {
    return this.#pending.has(keyOf(id));
  }

  /**
   * Stores a page or a piece of a file on this thread: they are small. The identity is known at once.
   * @param content copied or stored before anything is awaited, so it may be changed after the call
   */
  addMeta(content: Buffer): { id: Buffer; stored: Promise<{ storedBytes: number }> } {
    const id = identify(content, this.#catalog.identity.algorithm, this.#catalog.identity.identityKey);
    if (this.#isPending(id)) return { id, stored: Promise.resolve({ storedBytes: 0 }) };
    if (this.#catalog.mayHave(id)) {
      const copy = Buffer.from(content);
      const stored = this.#locate(id).then(async (place) => {
        if (place !== null) this.builtOn.add(place.pack);
        if (place !== null || this.#isPending(id)) return { storedBytes: 0 };
        return this.#storeMeta(id, copy);
      });
      return { id, stored };
    }
    return { id, stored: this.#storeMeta(id, content) };
  }

  async #storeMeta(id: Buffer, content: Buffer): Promise<{ storedBytes: number }> {
    this.throwIfFailed();
    this.#pending.add(keyOf(id));
    const { pack, row } = this.#reserve('meta', 1);
    try {
      const chunk = encodeChunk(content, id, pack.packKey, row);
      // Stored as it is, the buffer is the caller's, and it may change before it is written.
      const own = chunk.stored === content ? { ...chunk, stored: Buffer.from(content) } : chunk;
      await pack.append([{ row, id, plainLength: content.length, chunk: own }]);
      await this.#closeIfFull('meta', pack);
      return { storedBytes: own.stored.length };
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  #reserve(kind: PackKind, rows: number): { pack: PackWriter; row: number } {
    let pack = this.#packs.get(kind);
    if (pack !== undefined && !pack.hasRoomFor(rows)) {
      this.#close(kind, pack);
      pack = undefined;
    }
    if (pack === undefined) {
      pack = new PackWriter(this.#catalog.storage, kind, this.#catalog.keys);
      this.#packs.set(kind, pack);
    }
    return { pack, row: pack.reserve(rows) };
  }

  async #closeIfFull(kind: PackKind, pack: PackWriter): Promise<void> {
    if ((pack.isFull || pack.rowCount === PACK_ROWS_MAX) && this.#packs.get(kind) === pack) this.#close(kind, pack);
    while (this.#publishing.size > PUBLISHING_MAX) await Promise.race(this.#publishing);
    this.throwIfFailed();
  }

  /** Publishes the pack beside the further work; no row is reserved in it any more. */
  #close(kind: PackKind, pack: PackWriter): void {
    this.#packs.delete(kind);
    const publishing = this.#publish(pack)
      .catch((error: unknown) => this.fail(error))
      .finally(() => this.#publishing.delete(publishing));
    this.#publishing.add(publishing);
  }

  async #publish(pack: PackWriter): Promise<void> {
    try {
      const table = await pack.publish();
      this.builtOn.add(this.#catalog.add(table, null));
      for (let row = 0; row < table.rowCount; row += 1) this.#pending.delete(keyOf(table.row(row).id));
      this.#unindexed.push(table);
      if (this.#unindexed.length >= UNINDEXED_PACKS_MAX) await this.#writeIndex();
    } catch (error) {
      await pack.discard().catch(() => undefined);
      throw error;
    }
  }

  /** Resolves when all chunks that were added before the call are in packs and their jobs are done. */
  async drain(): Promise<void> {
    this.#dispatch();
    await Promise.all(this.#working);
    this.throwIfFailed();
  }

  /** Everything added so far durable: packs, then the index segments that name them. */
  async publish(): Promise<void> {
    await this.drain();
    for (const [kind, pack] of [...this.#packs]) this.#close(kind, pack);
    await Promise.all(this.#publishing);
    this.throwIfFailed();
    await this.#writeIndex();
  }

  /** Packs alone, so that their chunks can be read back. */
  async publishPacks(): Promise<void> {
    for (const [kind, pack] of [...this.#packs]) this.#close(kind, pack);
    await Promise.all(this.#publishing);
    this.throwIfFailed();
  }

  async #writeIndex(): Promise<void> {
    const turn = this.#writingIndex.then(async () => {
      const tables = this.#unindexed.splice(0);
      try {
        await this.#writeSegments(tables);
      } catch (error) {
        this.#unindexed.push(...tables);
        throw error;
      }
    });
    this.#writingIndex = turn.catch(() => undefined);
    return turn;
  }

  /** A portion at a time: the tables of a store whose index was lost would not fit into memory. */
  async #writeSegments(tables: PackTable[]): Promise<void> {
    const own = new Set(tables.map((table) => table.packId));
    let portion: PackTable[] = [];
    let bytes = 0;
    const put = async (table: PackTable): Promise<void> => {
      portion.push(table);
      bytes += table.bytes.length;
      if (bytes < SEGMENT_TARGET_BYTES) return;
      await this.#writeSegment(portion);
      portion = [];
      bytes = 0;
    };
    while (tables.length > 0) await put(tables.shift() as PackTable);
    // Packs that a crash or a damaged segment left without a segment are given one as well.
    for (const entry of this.#catalog.packsWithoutCopy()) {
      if (own.has(entry.packId) || this.#isUnindexed(entry.packId)) continue;
      // Its writer may have been killed before the name was durable; what a segment names is, and we build on it.
      await this.#catalog.storage.persist(packName(entry.packId));
      const orphan = await this.#catalog
        .table(this.#catalog.numberOf(entry.packId) as number)
        .catch((error: unknown) => {
          if (!isAppError(error)) throw error;
          this.#logger.warn({ pack: entry.packId, error: error.message }, 'a pack stays without an index');
          return null;
        });
      if (orphan !== null) await put(orphan);
    }
    if (portion.length > 0) await this.#writeSegment(portion);
  }

  async #writeSegment(tables: readonly PackTable[]): Promise<void> {
    const name = indexName(randomBytes(16).toString('hex'));
    const segment = encodeSegment(tables);
    await this.#catalog.storage.publish(name, segment);
    this.#catalog.setCopies(tables, name, parseSegment(segment, name));
  }

  #isUnindexed(packId: string): boolean {
    return this.#unindexed.some((table) => table.packId === packId);
  }

  /**
   * A page's content, also of one that this session has stored but not published yet. Never waits for
   * the threads' work, which may be what waits for the page.
   */
  async readPage(id: Buffer): Promise<Buffer> {
    if (this.#isPending(id)) await this.publishPacks();
    return this.#catalog.readChunk(id);
  }

  /** The content of any chunk that was added before the call. */
  async readChunk(id: Buffer): Promise<Buffer> {
    if (this.#isPending(id)) {
      await this.drain();
      await this.publishPacks();
    }
    return this.#catalog.readChunk(id, this.#pool);
  }

  /** Stores a chunk again whose copies are all about to go or known to be damaged. */
  async storeAgain(id: Buffer, content: Buffer, kind: PackKind): Promise<void> {
    if (kind === 'meta') {
      await this.addMeta(content).stored;
      return;
    }
    await this.add(content, {
      lengthBytes: content.length,
      currentId: () => Promise.resolve(ZERO_ID),
      done: (stored) => {
        assert(stored.equals(id), 'a proven chunk keeps its identity');
        return Promise.resolve();
      },
    });
  }

  /** Ends the writer; a file that is not published goes away. */
  async close(): Promise<void> {
    this.fail(new AppError('CANCELLED', 'The write was ended.'));
    this.#dispatch();
    await this.#opening;
    await Promise.all(this.#working);
    for (const pack of this.#packs.values()) await pack.discard();
    this.#packs.clear();
    await Promise.all(this.#publishing);
  }
}

function keyOf(id: Buffer): string {
  return id.toString('latin1');
}

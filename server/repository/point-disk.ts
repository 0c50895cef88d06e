import { AppError } from '../errors/index.ts';
import { normalizeExtents, type Extent } from '../disk/index.ts';
import { ByteCache } from './byte-cache.ts';
import type { ChunkWriter } from './chunk-writer.ts';
import type { CodecPool } from './codec-pool.ts';
import { ID_BYTES, isZeroId, PAGE_BYTES, PAGE_IDS, ZERO_ID } from './layout.ts';
import type { PackCatalog } from './pack-catalog.ts';
import { PageReader } from './page-reader.ts';
import { levelCount, loadPage, pageCount, PageTree } from './page-tree.ts';
import type { PointDisk } from './repository.ts';
import { streamChunks, type WantedChunk } from './chunk-stream.ts';

const PAGE_CACHE_BYTES = 2 * 1024 * 1024;
/** Decoded chunks for small reads close to one another: file systems, instant restore. */
const CHUNK_CACHE_BYTES = 8 * 1024 * 1024;
/** Chunks put into pack order at a time: 16 GiB of disk at 256 KiB, 6 MiB of memory. */
const STREAM_WINDOW_CHUNKS = 65_536;

export interface StoredDiskOptions {
  key: string;
  sizeBytes: number;
  rootId: Buffer;
  chunkSizeBytes: number;
  catalog: PackCatalog;
  pool: CodecPool;
}

/** A disk of a committed point. Nothing is given out whose hash was not checked. */
export class StoredDisk implements PointDisk {
  readonly key: string;
  readonly sizeBytes: number;
  readonly rootId: Buffer;
  readonly chunkSizeBytes: number;
  readonly chunkCount: number;
  readonly catalog: PackCatalog;
  readonly #pool: CodecPool;
  readonly #reader: PageReader;
  readonly #levels: number;
  readonly #pages = new ByteCache<string, Buffer>(PAGE_CACHE_BYTES);
  readonly #chunks = new ByteCache<number, Promise<Buffer>>(CHUNK_CACHE_BYTES);

  constructor(options: StoredDiskOptions) {
    this.key = options.key;
    this.sizeBytes = options.sizeBytes;
    this.rootId = options.rootId;
    this.chunkSizeBytes = options.chunkSizeBytes;
    this.chunkCount = Math.ceil(options.sizeBytes / options.chunkSizeBytes);
    this.catalog = options.catalog;
    this.#reader = new PageReader(options.catalog);
    this.#pool = options.pool;
    this.#levels = levelCount(this.chunkCount);
  }

  get levels(): number {
    return this.#levels;
  }

  async read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer> {
    if (offsetBytes < 0 || lengthBytes < 0 || offsetBytes + lengthBytes > this.sizeBytes) {
      throw new AppError(
        'INVARIANT_BROKEN',
        `Broken invariant: bytes ${offsetBytes} to ${offsetBytes + lengthBytes} are not within disk ${this.key} of ${this.sizeBytes} bytes`,
      );
    }
    const result = Buffer.alloc(lengthBytes);
    let at = 0;
    while (at < lengthBytes) {
      signal?.throwIfAborted();
      const chunk = Math.floor((offsetBytes + at) / this.chunkSizeBytes);
      const start = offsetBytes + at - chunk * this.chunkSizeBytes;
      const length = Math.min(this.lengthOf(chunk) - start, lengthBytes - at);
      const content = await this.#chunk(chunk);
      content?.copy(result, at, start, start + length);
      at += length;
    }
    return result;
  }

  /** Null: zeros. */
  async #chunk(chunk: number): Promise<Buffer | null> {
    const id = await this.chunkId(chunk);
    if (id === null) return null;
    let reading = this.#chunks.get(chunk);
    if (reading === undefined) {
      reading = this.#readChunk(chunk, id);
      this.#chunks.set(chunk, reading, this.lengthOf(chunk));
      reading.catch(() => this.#chunks.delete(chunk));
    }
    return reading;
  }

  /** Null: zeros. */
  async chunkId(chunk: number): Promise<Buffer | null> {
    const page = await this.page(0, Math.floor(chunk / PAGE_IDS));
    const id = page === null ? ZERO_ID : slotOf(page, chunk % PAGE_IDS);
    return isZeroId(id) ? null : id;
  }

  async #readChunk(chunk: number, id: Buffer): Promise<Buffer> {
    const content = await this.catalog.readChunk(id);
    this.assertLength(chunk, id, content.length);
    return content;
  }

  /** A chunk whose hash is right but that is not as long as its place was put there by mistake. */
  assertLength(chunk: number, id: Buffer, lengthBytes: number): void {
    if (lengthBytes === this.lengthOf(chunk)) return;
    throw new AppError(
      'REPOSITORY_CHUNK_DAMAGED',
      `Chunk ${id.toString('hex')} at byte ${chunk * this.chunkSizeBytes} of disk ${this.key} has the wrong length.`,
      { hint: 'Run a check of the repository.', details: { chunk: id.toString('hex'), diskKey: this.key } },
    );
  }

  lengthOf(chunk: number): number {
    return Math.min(this.chunkSizeBytes, this.sizeBytes - chunk * this.chunkSizeBytes);
  }

  async *dataExtents(): AsyncIterable<Extent> {
    yield* this.#joined(this.#dataChunks(0, this.chunkCount));
  }

  async *#dataChunks(from: number, to: number): AsyncIterable<number> {
    for await (const { chunk } of this.chunks(from, to)) yield chunk;
  }

  /** Chunks that are not all zero, ascending. Subtrees of zeros cost nothing. */
  async *chunks(from: number, to: number): AsyncIterable<{ chunk: number; id: Buffer }> {
    const pages = pageCount(this.chunkCount, 0);
    let index = Math.floor(from / PAGE_IDS);
    while (index < pages && index * PAGE_IDS < to) {
      const page = await this.page(0, index);
      if (page === null) {
        index = await this.#afterZeros(index);
        continue;
      }
      for (let slot = 0; slot < PAGE_IDS; slot += 1) {
        const chunk = index * PAGE_IDS + slot;
        if (chunk < from || chunk >= to) continue;
        const id = slotOf(page, slot);
        if (!isZeroId(id)) yield { chunk, id };
      }
      index += 1;
    }
  }

  /** The first page on level 0 behind the largest subtree of zeros that begins with page `index`. */
  async #afterZeros(index: number): Promise<number> {
    let span = 1;
    for (let level = 1; level < this.#levels; level += 1) {
      const wider = span * PAGE_IDS;
      if (index % wider !== 0 || (await this.page(level, index / wider)) !== null) break;
      span = wider;
    }
    return index + span;
  }

  async *differentExtents(other: PointDisk): AsyncIterable<Extent> {
    if (!(other instanceof StoredDisk) || other.catalog !== this.catalog) {
      // Identities of another repository say nothing here.
      if (this.sizeBytes > 0) yield { offsetBytes: 0, lengthBytes: this.sizeBytes };
      return;
    }
    yield* this.#joined(this.#differentChunks(other));
  }

  async *#differentChunks(other: StoredDisk): AsyncIterable<number> {
    // From the chunk on in which one of the disks ends, chunks are not comparable.
    const comparable =
      this.sizeBytes === other.sizeBytes
        ? this.chunkCount
        : Math.floor(Math.min(this.sizeBytes, other.sizeBytes) / this.chunkSizeBytes);
    let index = 0;
    while (index * PAGE_IDS < comparable) {
      const equalPages = await this.#equalPages(other, index);
      if (equalPages > 0) {
        index += equalPages;
        continue;
      }
      const [mine, others] = [await this.page(0, index), await other.page(0, index)];
      for (let slot = 0; slot < PAGE_IDS; slot += 1) {
        const chunk = index * PAGE_IDS + slot;
        if (chunk >= comparable) break;
        const id = mine === null ? ZERO_ID : slotOf(mine, slot);
        if (!id.equals(others === null ? ZERO_ID : slotOf(others, slot))) yield chunk;
      }
      index += 1;
    }
    for (let chunk = comparable; chunk < this.chunkCount; chunk += 1) yield chunk;
  }

  /** How many pages of level 0 from `index` on lie in the largest subtree that both have alike; 0: none. */
  async #equalPages(other: StoredDisk, index: number): Promise<number> {
    for (let level = Math.min(this.#levels, other.levels) - 1; level >= 0; level -= 1) {
      const span = PAGE_IDS ** level;
      if (index % span !== 0) continue;
      const [mine, others] = [await this.pageId(level, index / span), await other.pageId(level, index / span)];
      if (mine.equals(others)) return span;
    }
    return 0;
  }

  async *#joined(chunks: AsyncIterable<number>): AsyncIterable<Extent> {
    let first = -1;
    let next = -1;
    const extent = (): Extent => {
      const offsetBytes = first * this.chunkSizeBytes;
      return { offsetBytes, lengthBytes: Math.min(next * this.chunkSizeBytes, this.sizeBytes) - offsetBytes };
    };
    for await (const chunk of chunks) {
      if (chunk !== next) {
        if (first >= 0) yield extent();
        first = chunk;
      }
      next = chunk + 1;
    }
    if (first >= 0) yield extent();
  }

  async *stream(options: {
    extents?: readonly Extent[];
    signal?: AbortSignal;
  }): AsyncIterable<{ offsetBytes: number; data: Buffer; sha256: Buffer | null }> {
    const extents = normalizeExtents(options.extents ?? [{ offsetBytes: 0, lengthBytes: this.sizeBytes }]);
    let window: WantedChunk[] = [];
    let last = -1;
    for (const { offsetBytes, lengthBytes } of extents) {
      const from = Math.max(last + 1, Math.floor(offsetBytes / this.chunkSizeBytes));
      const to = Math.min(this.chunkCount, Math.ceil((offsetBytes + lengthBytes) / this.chunkSizeBytes));
      for await (const { chunk, id } of this.chunks(from, to)) {
        window.push({ chunk, id: Buffer.from(id) });
        if (window.length === STREAM_WINDOW_CHUNKS) {
          yield* streamChunks(this, window, this.#pool, options.signal);
          window = [];
        }
      }
      last = Math.max(last, to - 1);
    }
    yield* streamChunks(this, window, this.#pool, options.signal);
  }

  /** Identity of a page; a level above the disk's own has none. */
  async pageId(level: number, index: number): Promise<Buffer> {
    if (level === this.#levels - 1) return index === 0 ? this.rootId : ZERO_ID;
    const parent = await this.page(level + 1, Math.floor(index / PAGE_IDS));
    return parent === null ? ZERO_ID : slotOf(parent, index % PAGE_IDS);
  }

  /** A page, verified; null: all zero. */
  async page(level: number, index: number): Promise<Buffer | null> {
    const key = `${level}/${index}`;
    const cached = this.#pages.get(key);
    if (cached !== undefined) return cached;
    const id = await this.pageId(level, index);
    if (isZeroId(id)) return null;
    const page = await loadPage((wanted) => this.#reader.read(wanted), id);
    this.#pages.set(key, page, PAGE_BYTES);
    return page;
  }

  /** Every page and every chunk, each page before what it names; what is all zero costs nothing. */
  async *parts(): AsyncIterable<{ id: Buffer; kind: 'page' | 'chunk' }> {
    yield* this.#partsOf(this.#levels - 1, 0);
  }

  async *#partsOf(level: number, index: number): AsyncIterable<{ id: Buffer; kind: 'page' | 'chunk' }> {
    const page = await this.page(level, index);
    if (page === null) return;
    yield { id: await this.pageId(level, index), kind: 'page' };
    for (let slot = 0; slot < PAGE_IDS; slot += 1) {
      const id = slotOf(page, slot);
      if (isZeroId(id)) continue;
      if (level === 0) yield { id, kind: 'chunk' };
      else yield* this.#partsOf(level - 1, index * PAGE_IDS + slot);
    }
  }

  /**
   * Proves that every page can be read and that a copy of every chunk is there to be built on. What has
   * none that stays (a collector is about to move it, a check found it damaged) but can be read is stored again.
   * @throws REPOSITORY_CHUNK_MISSING, REPOSITORY_CHUNK_DAMAGED
   */
  async takeOver(chunks: ChunkWriter): Promise<void> {
    for await (const { id, kind } of this.parts()) {
      if (chunks.buildOn(id)) continue;
      const content = await this.catalog.readChunk(id);
      await chunks.storeAgain(Buffer.from(id), content, kind === 'page' ? 'meta' : 'data');
    }
  }

  /** Root of this disk's content cut or filled with zeros to another size. */
  async resized(sizeBytes: number, chunks: ChunkWriter): Promise<Buffer> {
    const chunkCount = Math.ceil(sizeBytes / this.chunkSizeBytes);
    const larger = Math.max(chunkCount, this.chunkCount);
    const store = (page: Buffer): { id: Buffer; stored: Promise<void> } => {
      const { id, stored } = chunks.addMeta(page);
      return { id, stored: stored.then(() => undefined) };
    };
    let rootId = this.rootId;
    for (let level = this.#levels; level < levelCount(larger) && !isZeroId(rootId); level += 1) {
      const page = Buffer.alloc(PAGE_BYTES);
      rootId.copy(page);
      const { id, stored } = store(page);
      await stored;
      rootId = id;
    }
    const tree = new PageTree({ chunkCount: larger, rootId, load: (id) => chunks.readPage(id) });
    if (chunkCount < larger) await tree.zero(chunkCount, larger);
    // The chunk in which the smaller of the two ends has another length in each.
    const border = Math.floor(Math.min(sizeBytes, this.sizeBytes) / this.chunkSizeBytes);
    if (Math.min(sizeBytes, this.sizeBytes) % this.chunkSizeBytes !== 0) {
      const content = await this.#chunk(border);
      if (content !== null) {
        const cut = Buffer.alloc(Math.min(this.chunkSizeBytes, sizeBytes - border * this.chunkSizeBytes));
        content.copy(cut);
        const isZero = cut.equals(Buffer.alloc(cut.length));
        const added = isZero ? null : chunks.addMeta(cut);
        await added?.stored;
        await tree.set(border, added?.id ?? ZERO_ID, () => true);
      }
    }
    rootId = await tree.flush(store);
    for (let level = tree.levels; level > levelCount(chunkCount) && !isZeroId(rootId); level -= 1) {
      rootId = Buffer.from(slotOf(await loadPage((id) => chunks.readPage(id), rootId), 0));
    }
    return rootId;
  }
}

function slotOf(page: Buffer, slot: number): Buffer {
  return page.subarray(slot * ID_BYTES, (slot + 1) * ID_BYTES);
}

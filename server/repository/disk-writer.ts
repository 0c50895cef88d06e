import { AppError, assert, isAppError, toAppError } from '../errors/index.ts';
import { releaseMemory } from '../runtime/index.ts';
import type { ChunkFate, ChunkWriter } from './chunk-writer.ts';
import { ZERO_ID } from './layout.ts';
import { PageTree } from './page-tree.ts';
import { PartialChunk } from './partial-chunk.ts';
import { StoredDisk } from './point-disk.ts';
import type { ChunkRecall, DiskWriter, WriteStats } from './repository.ts';

/** Memory for chunks that are only partly there, of one disk; beyond half of it the oldest are completed. */
const PARTIAL_BYTES_MAX = 16 * 1024 * 1024;
/** Chunks completed at a time: each waits for the repository's disk, then for a thread, so one alone takes neither. */
const COMPLETING_MAX = 8;
/** Changed pages held; beyond it they are stored: 512 pages are 4 MiB, for 32 GiB of disk at 256 KiB a chunk. */
const DIRTY_PAGES_MAX = 512;

export interface DiskWriterOptions {
  key: string;
  sizeBytes: number;
  chunkSizeBytes: number;
  rootId: Buffer;
  resumed: boolean;
  stats: WriteStats;
  chunks: ChunkWriter;
  recall: ChunkRecall | null;
}

/**
 * Cuts what is delivered into chunks. A chunk's latest delivery wins: every delivery of a chunk takes a
 * number, and a result that comes back from the threads counts only while its number is the latest.
 */
export class ChunkingDiskWriter implements DiskWriter {
  readonly key: string;
  readonly sizeBytes: number;
  readonly resumed: boolean;
  readonly #chunkSizeBytes: number;
  readonly #chunkCount: number;
  readonly #chunks: ChunkWriter;
  readonly #tree: PageTree;
  readonly #stats: WriteStats;
  readonly #recall: ChunkRecall | null;
  /** A page of the former version could not be read: its chunks are hashed. */
  #isFormerUnreadable = false;
  readonly #zeros: Buffer;
  readonly #partials = new Map<number, PartialChunk>();
  readonly #completing = new Map<PartialChunk, Promise<void>>();
  /** Why parts that were delivered are lost: what stood at their place could not be read. */
  #lost: { cause: unknown } | null = null;
  /** The number of the latest delivery of each chunk whose result is not in the tree yet. */
  readonly #underway = new Map<number, number>();
  /** Deliveries that wait for a content or for room in a batch. */
  readonly #delivering = new Set<Promise<void>>();
  #deliveries = 0;
  #flushing: Promise<Buffer> | null = null;
  #finished = false;

  constructor(options: DiskWriterOptions) {
    this.key = options.key;
    this.sizeBytes = options.sizeBytes;
    this.resumed = options.resumed;
    this.#chunkSizeBytes = options.chunkSizeBytes;
    this.#chunkCount = Math.ceil(options.sizeBytes / options.chunkSizeBytes);
    this.#chunks = options.chunks;
    this.#recall = options.recall;
    this.#stats = { ...options.stats };
    this.#zeros = Buffer.alloc(options.chunkSizeBytes);
    this.#tree = new PageTree({
      chunkCount: this.#chunkCount,
      rootId: options.rootId,
      load: (id) => this.#chunks.readPage(id),
    });
  }

  get finished(): boolean {
    return this.#finished;
  }

  get rootId(): Buffer {
    return this.#tree.rootId;
  }

  stats(): WriteStats {
    return { ...this.#stats };
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    this.#assertRange(offsetBytes, data.length);
    this.#throwIfLost();
    this.#stats.deliveredBytes += data.length;
    let at = 0;
    while (at < data.length) {
      const chunk = Math.floor((offsetBytes + at) / this.#chunkSizeBytes);
      const start = offsetBytes + at - chunk * this.#chunkSizeBytes;
      const length = Math.min(this.#lengthOf(chunk) - start, data.length - at);
      const piece = data.subarray(at, at + length);
      if (length === this.#lengthOf(chunk)) {
        this.#partials.delete(chunk);
        const delivery = this.#nextDelivery(chunk);
        await this.#track(() => this.#deliver(chunk, delivery, piece));
      } else {
        await this.#putPartial(chunk, start, length, piece);
      }
      at += length;
    }
    await this.#spill();
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    this.#assertRange(offsetBytes, lengthBytes);
    this.#throwIfLost();
    if (lengthBytes === 0) return;
    this.#stats.deliveredBytes += lengthBytes;
    const endBytes = offsetBytes + lengthBytes;
    const firstWhole = Math.ceil(offsetBytes / this.#chunkSizeBytes);
    const endWhole = endBytes === this.sizeBytes ? this.#chunkCount : Math.floor(endBytes / this.#chunkSizeBytes);
    if (firstWhole < endWhole) {
      for (const chunk of keysWithin(this.#partials, firstWhole, endWhole)) this.#partials.delete(chunk);
      for (const chunk of keysWithin(this.#underway, firstWhole, endWhole)) this.#underway.delete(chunk);
      this.#recall?.forget(firstWhole, endWhole);
      this.#stats.zeroBytes +=
        Math.min(endWhole * this.#chunkSizeBytes, this.sizeBytes) - firstWhole * this.#chunkSizeBytes;
      await this.#tree.zero(firstWhole, endWhole);
    }
    const headEnd = Math.min(firstWhole * this.#chunkSizeBytes, endBytes);
    if (offsetBytes < headEnd) await this.#zeroPiece(offsetBytes, headEnd);
    const tailStart = Math.max(endWhole * this.#chunkSizeBytes, headEnd);
    if (tailStart < endBytes) await this.#zeroPiece(tailStart, endBytes);
    await this.#spill();
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    this.#assertRange(offsetBytes, lengthBytes);
    const result = Buffer.alloc(lengthBytes);
    let at = 0;
    while (at < lengthBytes) {
      const chunk = Math.floor((offsetBytes + at) / this.#chunkSizeBytes);
      const start = offsetBytes + at - chunk * this.#chunkSizeBytes;
      const length = Math.min(this.#lengthOf(chunk) - start, lengthBytes - at);
      (await this.#current(chunk)).copy(result, at, start, start + length);
      at += length;
    }
    return result;
  }

  beginAnew(): void {
    this.#lost = null;
    this.#partials.clear();
  }

  async finish(): Promise<{ rootHash: string; stats: WriteStats }> {
    const rootId = await this.settle();
    this.#finished = true;
    return { rootHash: rootId.toString('hex'), stats: this.stats() };
  }

  /** Brings everything delivered so far into the tree and its pages into packs. The root's identity. */
  async settle(): Promise<Buffer> {
    for (const [chunk, partial] of [...this.#partials]) {
      if (this.#completing.has(partial)) continue;
      if (this.#completing.size >= COMPLETING_MAX) await Promise.race(this.#completing.values());
      this.#beginToComplete(chunk, partial);
    }
    await Promise.all(this.#completing.values());
    this.#throwIfLost();
    await this.#chunks.drain();
    return this.#flush();
  }

  /** Bytes within one chunk, not all of it. */
  async #zeroPiece(offsetBytes: number, endBytes: number): Promise<void> {
    const chunk = Math.floor(offsetBytes / this.#chunkSizeBytes);
    if (!this.#partials.has(chunk) && !this.#underway.has(chunk)) {
      const id = Buffer.from(await this.#tree.get(chunk));
      // Zeros onto zeros; asked again because a delivery may have come in between.
      if (id.equals(ZERO_ID) && !this.#partials.has(chunk) && !this.#underway.has(chunk)) {
        this.#stats.zeroBytes += endBytes - offsetBytes;
        return;
      }
    }
    await this.#putPartial(chunk, offsetBytes - chunk * this.#chunkSizeBytes, endBytes - offsetBytes, null);
  }

  async #putPartial(chunk: number, start: number, length: number, data: Buffer | null): Promise<void> {
    this.#chunks.throwIfFailed();
    let partial = this.#partials.get(chunk);
    if (partial === undefined) {
      partial = new PartialChunk(this.#lengthOf(chunk));
      this.#partials.set(chunk, partial);
    }
    partial.put(start, length, data);
    if (partial.isComplete) {
      this.#partials.delete(chunk);
      const delivery = this.#nextDelivery(chunk);
      const { content } = partial;
      await this.#track(() => this.#deliver(chunk, delivery, content));
      releaseMemory(content);
    } else await this.#makeRoom();
  }

  /** Has the oldest partial chunks completed beside what goes on; waits only where there is no room for another. */
  async #makeRoom(): Promise<void> {
    for (;;) {
      let idleBytes = 0;
      for (const partial of this.#partials.values())
        if (!this.#completing.has(partial)) idleBytes += this.#chunkSizeBytes;
      for (const [chunk, partial] of this.#partials) {
        if (idleBytes <= PARTIAL_BYTES_MAX / 2 || this.#completing.size >= COMPLETING_MAX) break;
        if (this.#completing.has(partial)) continue;
        this.#beginToComplete(chunk, partial);
        idleBytes -= this.#chunkSizeBytes;
      }
      if (this.#partials.size * this.#chunkSizeBytes <= PARTIAL_BYTES_MAX) return;
      await Promise.race(this.#completing.values());
      this.#throwIfLost();
    }
  }

  #beginToComplete(chunk: number, partial: PartialChunk): void {
    const completing = this.#complete(chunk, partial)
      .catch((error: unknown) => {
        this.#lost ??= { cause: error };
      })
      .finally(() => this.#completing.delete(partial));
    this.#completing.set(partial, completing);
  }

  #throwIfLost(): void {
    if (this.#lost !== null) throw toAppError(this.#lost.cause);
  }

  /** Completes a chunk from what stands at its place: the base, or an earlier delivery. */
  async #complete(chunk: number, partial: PartialChunk): Promise<void> {
    while (this.#underway.has(chunk)) {
      // Until the earlier delivery is in the tree, pieces that come meanwhile still join the partial chunk.
      await Promise.all(this.#delivering);
      await this.#chunks.drain();
    }
    // While what stands there is read, it may be delivered whole: then it is no partial chunk any more.
    const isStill = (): boolean => this.#partials.get(chunk) === partial;
    if (!isStill()) return;
    let before = this.#zeros;
    try {
      const id = Buffer.from(await this.#tree.get(chunk));
      if (!id.equals(ZERO_ID)) before = await this.#chunks.readChunk(id);
    } catch (error) {
      if (!isStill()) return;
      // Nothing can become of these parts. The chunk may still be delivered whole.
      this.#partials.delete(chunk);
      throw error;
    }
    if (!isStill()) return;
    this.#partials.delete(chunk);
    partial.complete(before);
    if (before !== this.#zeros) releaseMemory(before);
    const delivery = this.#nextDelivery(chunk);
    await this.#track(() => this.#deliver(chunk, delivery, partial.content));
    releaseMemory(partial.content);
  }

  /** A chunk as it stands, with what was delivered of it. Not to be changed. */
  async #current(chunk: number): Promise<Buffer> {
    for (;;) {
      this.#chunks.throwIfFailed();
      while (this.#underway.has(chunk)) {
        await Promise.all(this.#delivering);
        await this.#chunks.drain();
      }
      const id = Buffer.from(await this.#tree.get(chunk));
      const stored = id.equals(ZERO_ID) ? this.#zeros : await this.#chunks.readChunk(id);
      const isStill = (await this.#tree.get(chunk)).equals(id);
      // Nothing is awaited from here on: the partial chunk belongs to what was read before it.
      if (isStill && !this.#underway.has(chunk)) return this.#partials.get(chunk)?.over(stored) ?? stored;
    }
  }

  #nextDelivery(chunk: number): number {
    this.#deliveries += 1;
    this.#underway.set(chunk, this.#deliveries);
    return this.#deliveries;
  }

  async #track(work: () => Promise<void>): Promise<void> {
    const delivering = work();
    this.#delivering.add(delivering);
    try {
      await delivering;
    } finally {
      this.#delivering.delete(delivering);
    }
  }

  async #deliver(chunk: number, delivery: number, content: Buffer): Promise<void> {
    let tag: Buffer | null = null;
    /** To be asked right before the tree is changed: the delivery is settled by a positive answer. */
    const settle = (): boolean => {
      if (this.#underway.get(chunk) !== delivery) return false;
      this.#underway.delete(chunk);
      this.#recall?.keep(chunk, tag);
      return true;
    };
    const lengthBytes = content.length;
    if (this.#zeros.compare(content, 0, lengthBytes, 0, lengthBytes) === 0) {
      this.#chunks.throwIfFailed();
      this.#stats.zeroBytes += lengthBytes;
      if ((await this.#tree.get(chunk)).equals(ZERO_ID)) settle();
      else await this.#tree.set(chunk, ZERO_ID, settle);
      return;
    }
    if (this.#recall !== null) {
      tag = this.#recall.tagOf(content);
      const id = await this.#recallId(chunk, tag);
      if (id !== null && (await this.#chunks.isStored(id, () => this.#tree.get(chunk)))) {
        this.#stats.duplicateBytes += lengthBytes;
        if ((await this.#tree.get(chunk)).equals(id)) settle();
        else await this.#tree.set(chunk, id, settle);
        return;
      }
    }
    await this.#chunks.add(content, {
      lengthBytes,
      currentId: () => this.#tree.get(chunk),
      done: async (id, fate) => {
        this.#count(fate, lengthBytes);
        if (fate.kind === 'unchanged' && (await this.#tree.get(chunk)).equals(id)) settle();
        else await this.#tree.set(chunk, id, settle);
      },
    });
  }

  /** The identity that the former version has at this place, if what is to stand there has that chunk's tag. */
  async #recallId(chunk: number, tag: Buffer): Promise<Buffer | null> {
    const former = this.#recall?.former;
    if (!(former instanceof StoredDisk) || this.#isFormerUnreadable) return null;
    if (this.#recall?.matches(chunk, tag) !== true) return null;
    try {
      return await former.chunkId(chunk);
    } catch (error) {
      if (!isAppError(error)) throw error;
      this.#isFormerUnreadable = true;
      return null;
    }
  }

  #count(fate: ChunkFate, lengthBytes: number): void {
    if (fate.kind === 'new') {
      this.#stats.newBytes += lengthBytes;
      this.#stats.storedBytes += fate.storedBytes;
    } else this.#stats.duplicateBytes += lengthBytes;
  }

  async #spill(): Promise<void> {
    if (this.#tree.dirtyPages > DIRTY_PAGES_MAX) await this.#flush();
  }

  async #flush(): Promise<Buffer> {
    while (this.#flushing !== null) await this.#flushing;
    this.#flushing = this.#tree
      .flush((page) => {
        const { id, stored } = this.#chunks.addMeta(page);
        return {
          id,
          stored: stored.then(({ storedBytes }) => {
            this.#stats.storedBytes += storedBytes;
          }),
        };
      })
      .finally(() => {
        this.#flushing = null;
      });
    return this.#flushing;
  }

  #lengthOf(chunk: number): number {
    return Math.min(this.#chunkSizeBytes, this.sizeBytes - chunk * this.#chunkSizeBytes);
  }

  #assertRange(offsetBytes: number, lengthBytes: number): void {
    assert(!this.#finished, `disk ${this.key} is finished and takes no more bytes`);
    if (
      Number.isSafeInteger(offsetBytes) &&
      offsetBytes >= 0 &&
      lengthBytes >= 0 &&
      offsetBytes + lengthBytes <= this.sizeBytes
    )
      return;
    throw new AppError(
      'INVARIANT_BROKEN',
      `Broken invariant: bytes ${offsetBytes} to ${offsetBytes + lengthBytes} are not within disk ${this.key} of ${this.sizeBytes} bytes`,
    );
  }
}

function keysWithin(map: ReadonlyMap<number, unknown>, from: number, to: number): number[] {
  if (to - from > map.size) return [...map.keys()].filter((key) => key >= from && key < to);
  const keys: number[] = [];
  for (let key = from; key < to; key += 1) if (map.has(key)) keys.push(key);
  return keys;
}

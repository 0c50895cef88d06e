import { AppError } from '../errors/index.ts';
import { ByteCache } from './byte-cache.ts';
import { ID_BYTES, isZeroId, PAGE_BYTES, PAGE_IDS, ZERO_ID } from './layout.ts';

/**
 * The Merkle pages of a disk, section "Pages": a page holds 256 identities, of chunks on the lowest
 * level, of pages above. A subtree of zeros has the zero identity and no page. Levels are counted from
 * the chunks: level 0 holds chunk identities.
 */

/** How many levels of pages a disk has; at least one. */
export function levelCount(chunkCount: number): number {
  let levels = 1;
  let covered = PAGE_IDS;
  while (covered < chunkCount) {
    covered *= PAGE_IDS;
    levels += 1;
  }
  return levels;
}

/** Pages of the level that the disk needs. */
export function pageCount(chunkCount: number, level: number): number {
  return Math.ceil(chunkCount / PAGE_IDS ** (level + 1));
}

const ZERO_PAGE: Buffer = Buffer.alloc(PAGE_BYTES);
const CLEAN_BYTES = 1024 * 1024;

export type LoadPage = (id: Buffer) => Promise<Buffer>;

/** @throws REPOSITORY_CHUNK_DAMAGED when what `load` gives is not a page */
export async function loadPage(load: LoadPage, id: Buffer): Promise<Buffer> {
  const page = await load(id);
  if (page.length === PAGE_BYTES) return page;
  throw new AppError('REPOSITORY_CHUNK_DAMAGED', `Chunk ${id.toString('hex')} is not a page of a disk.`, {
    hint: 'Run a check of the repository.',
    details: { chunk: id.toString('hex') },
  });
}

/**
 * Pages that are being changed. Only changed pages are held; `flush` hands them out and is atomic: the
 * root it leaves stands for the tree at one moment, however many writers go on meanwhile.
 */
export class PageTree {
  readonly chunkCount: number;
  readonly levels: number;
  readonly #load: LoadPage;
  #rootId: Buffer;
  readonly #dirty: Map<number, Buffer>[] = [];
  readonly #clean = new ByteCache<string, Buffer>(CLEAN_BYTES);
  /** Raised when pages stop being dirty; what was loaded before may be out of date. */
  #epoch = 0;

  constructor(options: { chunkCount: number; rootId: Buffer; load: LoadPage }) {
    this.chunkCount = options.chunkCount;
    this.levels = levelCount(options.chunkCount);
    this.#rootId = options.rootId;
    this.#load = options.load;
    for (let level = 0; level < this.levels; level += 1) this.#dirty.push(new Map());
  }

  get rootId(): Buffer {
    return this.#rootId;
  }

  get dirtyPages(): number {
    return this.#dirtyOf(0).size;
  }

  async get(chunkIndex: number): Promise<Buffer> {
    return slotOf(await this.#page(0, Math.floor(chunkIndex / PAGE_IDS)), chunkIndex % PAGE_IDS);
  }

  /**
   * @param isCurrent asked once the page is there, right before the change; false: nothing is changed
   */
  async set(chunkIndex: number, id: Buffer, isCurrent: () => boolean): Promise<boolean> {
    return this.#change(0, Math.floor(chunkIndex / PAGE_IDS), (page) => {
      if (!isCurrent()) return false;
      id.copy(page, (chunkIndex % PAGE_IDS) * ID_BYTES);
      return true;
    });
  }

  /** Zeros from chunk `from` up to, not including, chunk `to`; whole pages at no cost. */
  async zero(from: number, to: number): Promise<void> {
    await this.#zeroSlots(0, from, to);
  }

  /** @param from,to slots counted through all pages of the level */
  async #zeroSlots(level: number, from: number, to: number): Promise<void> {
    const total = level === 0 ? this.chunkCount : pageCount(this.chunkCount, level - 1);
    const firstWhole = Math.ceil(from / PAGE_IDS);
    // The last page is whole when its last slot in use is covered.
    const endWhole = to >= total ? Math.ceil(to / PAGE_IDS) : Math.floor(to / PAGE_IDS);
    if (firstWhole >= endWhole) {
      for (let at = from; at < to;) {
        const end = Math.min(to, (Math.floor(at / PAGE_IDS) + 1) * PAGE_IDS);
        await this.#zeroPart(level, at, end);
        at = end;
      }
      return;
    }
    if (from < firstWhole * PAGE_IDS) await this.#zeroPart(level, from, firstWhole * PAGE_IDS);
    if (to > endWhole * PAGE_IDS) await this.#zeroPart(level, endWhole * PAGE_IDS, to);
    await this.#zeroPages(level, firstWhole, endWhole);
  }

  async #zeroPages(level: number, from: number, to: number): Promise<void> {
    this.#epoch += 1;
    for (let below = level; below >= 0; below -= 1) {
      const span = PAGE_IDS ** (level - below);
      const dirty = this.#dirtyOf(below);
      for (const index of [...dirty.keys()]) if (index >= from * span && index < to * span) dirty.delete(index);
    }
    this.#clean.clear();
    if (level === this.levels - 1) this.#rootId = ZERO_ID;
    else await this.#zeroSlots(level + 1, from, to);
  }

  async #zeroPart(level: number, from: number, to: number): Promise<void> {
    const index = Math.floor(from / PAGE_IDS);
    const start = (from - index * PAGE_IDS) * ID_BYTES;
    const end = (to - index * PAGE_IDS) * ID_BYTES;
    const present = await this.#page(level, index);
    if (present.compare(ZERO_PAGE, start, end, start, end) === 0) return;
    await this.#change(level, index, (page) => page.fill(0, start, end));
  }

  /**
   * Hands every changed page to `store` and makes the root stand for all changes up to a moment during
   * the call. Resolves when `store` has taken all of them.
   *
   * @param store gives a page's identity at once; its promise settles when the page is in a pack
   */
  async flush(store: (page: Buffer) => { id: Buffer; stored: Promise<void> }): Promise<Buffer> {
    await this.#loadParents();
    const storing: Promise<void>[] = [];
    this.#epoch += 1;
    for (let level = 0; level < this.levels; level += 1) {
      const dirty = this.#dirtyOf(level);
      for (const [index, page] of dirty) {
        let id = ZERO_ID;
        if (!page.equals(ZERO_PAGE)) {
          const taken = store(page);
          id = taken.id;
          storing.push(taken.stored);
        }
        if (level === this.levels - 1) this.#rootId = id;
        else {
          const parent = this.#dirtyOf(level + 1).get(Math.floor(index / PAGE_IDS)) as Buffer;
          id.copy(parent, (index % PAGE_IDS) * ID_BYTES);
        }
        this.#clean.set(`${level}/${index}`, page, PAGE_BYTES);
      }
      dirty.clear();
    }
    const rootId = this.#rootId;
    await Promise.all(storing);
    return rootId;
  }

  /** Every changed page gets a changed parent; repeated, since others may change pages meanwhile. */
  async #loadParents(): Promise<void> {
    for (;;) {
      const orphan = this.#pageWithoutParent();
      if (orphan === null) return;
      await this.#writable(orphan.level + 1, Math.floor(orphan.index / PAGE_IDS));
    }
  }

  #pageWithoutParent(): { level: number; index: number } | null {
    for (let level = 0; level + 1 < this.levels; level += 1) {
      const parents = this.#dirtyOf(level + 1);
      for (const index of this.#dirtyOf(level).keys()) {
        if (!parents.has(Math.floor(index / PAGE_IDS))) return { level, index };
      }
    }
    return null;
  }

  /** Changes a page at a moment at which it is held as changed: a flush may come in between. */
  async #change<T>(level: number, index: number, change: (page: Buffer) => T): Promise<T> {
    for (;;) {
      const page = await this.#writable(level, index);
      if (this.#dirtyOf(level).get(index) === page) return change(page);
    }
  }

  async #writable(level: number, index: number): Promise<Buffer> {
    for (;;) {
      const epoch = this.#epoch;
      const page = await this.#page(level, index);
      if (epoch !== this.#epoch) continue;
      const dirty = this.#dirtyOf(level);
      const present = dirty.get(index);
      if (present !== undefined) return present;
      const copy = Buffer.from(page);
      dirty.set(index, copy);
      this.#clean.delete(`${level}/${index}`);
      return copy;
    }
  }

  /** The page as it is now. Not to be changed. */
  async #page(level: number, index: number): Promise<Buffer> {
    for (;;) {
      const present = this.#present(level, index);
      if (present !== undefined) return present;
      const epoch = this.#epoch;
      const id =
        level === this.levels - 1
          ? this.#rootId
          : slotOf(await this.#page(level + 1, Math.floor(index / PAGE_IDS)), index % PAGE_IDS);
      const page = isZeroId(id) ? ZERO_PAGE : await loadPage(this.#load, Buffer.from(id));
      if (epoch !== this.#epoch) continue;
      const meanwhile = this.#present(level, index);
      if (meanwhile !== undefined) return meanwhile;
      if (page !== ZERO_PAGE) this.#clean.set(`${level}/${index}`, page, PAGE_BYTES);
      return page;
    }
  }

  #present(level: number, index: number): Buffer | undefined {
    return this.#dirtyOf(level).get(index) ?? this.#clean.get(`${level}/${index}`);
  }

  #dirtyOf(level: number): Map<number, Buffer> {
    const dirty = this.#dirty[level];
    if (dirty === undefined) throw new RangeError(`no level ${level}`);
    return dirty;
  }
}

function slotOf(page: Buffer, slot: number): Buffer {
  return page.subarray(slot * ID_BYTES, (slot + 1) * ID_BYTES);
}

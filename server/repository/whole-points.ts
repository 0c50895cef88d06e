import { isAppError } from '../errors/index.ts';
import { ID_BYTES, isZeroId, PAGE_IDS } from './layout.ts';
import type { PackCatalog } from './pack-catalog.ts';
import { PageReader } from './page-reader.ts';
import { levelCount, loadPage } from './page-tree.ts';
import type { PointContent } from './point-file.ts';

/**
 * Tells points of which all is there from those that lack something: each page is read, of each chunk a copy must be in
 * a pack that is there, stays, and is not known to be damaged; no chunk is read. Points share most pages, and each page
 * is walked once: so many points cost what the pages cost in which they differ.
 */
export class WholePoints {
  readonly #catalog: PackCatalog;
  readonly #reader: PageReader;
  readonly #signal: AbortSignal | undefined;
  /** By whole identity, one map a level: whether all below a page is there. */
  readonly #walked: Map<string, boolean>[] = [];

  constructor(catalog: PackCatalog, signal?: AbortSignal) {
    this.#catalog = catalog;
    this.#reader = new PageReader(catalog);
    this.#signal = signal;
  }

  /** @throws storage errors that are not of one chunk */
  async has({ manifest, files, chunkSizeBytes }: PointContent): Promise<boolean> {
    for (const { chunks } of files) {
      for (const chunk of chunks) if (!(await this.#isThere(Buffer.from(chunk, 'hex')))) return false;
    }
    for (const { sizeBytes, rootHash } of manifest.disks) {
      const levels = levelCount(Math.ceil(sizeBytes / chunkSizeBytes));
      if (!(await this.#isTreeThere(Buffer.from(rootHash, 'hex'), levels - 1))) return false;
    }
    return true;
  }

  async #isThere(id: Buffer): Promise<boolean> {
    return isZeroId(id) || this.#catalog.hasGoodCopy(id);
  }

  async #isTreeThere(id: Buffer, level: number): Promise<boolean> {
    if (isZeroId(id)) return true;
    const walked = (this.#walked[level] ??= new Map<string, boolean>());
    const key = id.toString('latin1');
    let isWhole = walked.get(key);
    if (isWhole === undefined) {
      isWhole = (await this.#isThere(id)) && (await this.#areAllBelowThere(id, level));
      walked.set(key, isWhole);
    }
    return isWhole;
  }

  async #areAllBelowThere(id: Buffer, level: number): Promise<boolean> {
    this.#signal?.throwIfAborted();
    let page: Buffer;
    try {
      page = await loadPage((wanted) => this.#reader.read(wanted), id);
    } catch (error) {
      if (isAppError(error) && error.code.startsWith('REPOSITORY_CHUNK')) return false;
      throw error;
    }
    for (let slot = 0; slot < PAGE_IDS; slot += 1) {
      const below = page.subarray(slot * ID_BYTES, (slot + 1) * ID_BYTES);
      if (!(await (level === 0 ? this.#isThere(below) : this.#isTreeThere(below, level - 1)))) return false;
    }
    return true;
  }
}

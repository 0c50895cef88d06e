import { AppError, isAppError } from '../errors/index.ts';
import type { ByteCache } from './byte-cache.ts';
import { isZeroId, ID_BYTES, PAGE_BYTES, PAGE_IDS } from './layout.ts';
import type { PackCatalog } from './pack-catalog.ts';
import { PageReader } from './page-reader.ts';
import { levelCount, loadPage } from './page-tree.ts';
import type { PointContent } from './point-file.ts';
import type { SessionRecord } from './session-file.ts';

/** A tree of pages that is needed: of a disk of a point, or of a checkpoint. */
interface NeededTree {
  rootId: Buffer;
  chunkCount: number;
}

/** What a point keeps alive, without all else that it tells. */
export interface PointNeeds {
  /** For messages. */
  owner: string;
  trees: NeededTree[];
  /** Identities of the pieces of its files, joined. */
  pieces: Buffer;
}

export function needsOf({ manifest, files, chunkSizeBytes }: PointContent): PointNeeds {
  return {
    owner: `version ${manifest.pointId} of ${manifest.machineName}`,
    trees: manifest.disks.map(({ sizeBytes, rootHash }) => ({
      rootId: Buffer.from(rootHash, 'hex'),
      chunkCount: Math.ceil(sizeBytes / chunkSizeBytes),
    })),
    pieces: Buffer.from(files.flatMap(({ chunks }) => chunks).join(''), 'hex'),
  };
}

/** About so many bytes of memory. */
export function sizeOfNeeds({ owner, trees, pieces }: PointNeeds): number {
  return 500 + owner.length + trees.length * 200 + pieces.length;
}

export interface LivenessParts {
  catalog: PackCatalog;
  chunkSizeBytes: number;
  /** Pages that were read, by identity: for the next look as well. */
  pages: ByteCache<string, Buffer>;
  signal?: AbortSignal | undefined;
}

/** Of one point or session: where it is in a pack is nothing to another. */
interface Walk {
  owner: string;
  reader: PageReader;
}

/**
 * Which rows of which packs are needed: a bit each. Where the index only knows that a row may hold a
 * chunk (64 bits of its identity are the same), the row counts as needed; which page was walked already is
 * decided by whole identities, or a page that somebody made look alike would hide what is below it.
 */
export class Liveness {
  readonly #parts: LivenessParts;
  readonly #live: Uint8Array[] = [];
  readonly #counts: number[] = [];
  /** Rows of pages that were walked, by level. */
  readonly #walked: Map<number, Uint8Array>[] = [];
  /** Chunks that something needs and that no pack has. */
  missingChunks = 0;

  constructor(parts: LivenessParts) {
    this.#parts = parts;
  }

  liveRows(pack: number): number {
    return this.#counts[pack] ?? 0;
  }

  isLive(pack: number, row: number): boolean {
    return hasBit(this.#live[pack], row);
  }

  /** Several may be added at a time. @throws REPOSITORY_CHUNK_* of a page: what it names cannot be known */
  async addPoint({ owner, trees, pieces }: PointNeeds): Promise<void> {
    const walk = this.#walkFor(owner);
    for (const tree of trees) await this.#addTree(tree, walk);
    for (let at = 0; at < pieces.length; at += ID_BYTES) this.#add(pieces.subarray(at, at + ID_BYTES));
  }

  /** What a checkpoint holds, and what it stands on. */
  async addSession({ sessionId, disks }: SessionRecord): Promise<void> {
    const walk = this.#walkFor(`the interrupted run ${sessionId}`);
    for (const { sizeBytes, rootHash, baseRootHash } of disks) {
      const chunkCount = Math.ceil(sizeBytes / this.#parts.chunkSizeBytes);
      for (const hash of [rootHash, baseRootHash]) {
        await this.#addTree({ rootId: Buffer.from(hash, 'hex'), chunkCount }, walk);
      }
    }
  }

  #walkFor(owner: string): Walk {
    return { owner, reader: new PageReader(this.#parts.catalog) };
  }

  async #addTree({ rootId, chunkCount }: NeededTree, walk: Walk): Promise<void> {
    await this.#addPage(rootId, levelCount(chunkCount) - 1, walk);
  }

  async #addPage(id: Buffer, level: number, walk: Walk): Promise<void> {
    this.#parts.signal?.throwIfAborted();
    if (isZeroId(id)) return;
    this.#add(id);
    if (!(await this.#isFirstWalk(id, level))) return;
    const page = await this.#loadPage(id, walk);
    for (let slot = 0; slot < PAGE_IDS; slot += 1) {
      const below = page.subarray(slot * ID_BYTES, (slot + 1) * ID_BYTES);
      if (isZeroId(below)) continue;
      if (level === 0) this.#add(below);
      else await this.#addPage(below, level - 1, walk);
    }
  }

  async #loadPage(id: Buffer, { owner, reader }: Walk): Promise<Buffer> {
    const { pages } = this.#parts;
    const key = id.toString('latin1');
    const known = pages.get(key);
    if (known !== undefined) return known;
    try {
      const page = await loadPage((wanted) => reader.read(wanted), id);
      pages.set(key, page, PAGE_BYTES);
      return page;
    } catch (error) {
      if (!isAppError(error) || !error.code.startsWith('REPOSITORY_')) throw error;
      throw new AppError(
        error.code,
        `A page that ${owner} needs cannot be read, so nothing was removed: ${error.message}`,
        {
          hint: 'Check the repository. Delete the versions that the check names as lost, then clean up again.',
          details: error.details,
          cause: error,
        },
      );
    }
  }

  async #isFirstWalk(id: Buffer, level: number): Promise<boolean> {
    const place = await this.#parts.catalog.locate(id, 'read');
    if (place === null) return true;
    const walked = (this.#walked[level] ??= new Map<number, Uint8Array>());
    let bits = walked.get(place.pack);
    if (bits === undefined) walked.set(place.pack, (bits = this.#bitsFor(place.pack)));
    if (hasBit(bits, place.row)) return false;
    setBit(bits, place.row);
    return true;
  }

  #add(id: Buffer): void {
    if (isZeroId(id)) return;
    const candidates = this.#parts.catalog.index.candidates(id);
    if (candidates.every(({ pack }) => this.#parts.catalog.pack(pack).gone)) this.missingChunks += 1;
    for (const { pack, row } of candidates) {
      const bits = (this.#live[pack] ??= this.#bitsFor(pack));
      if (hasBit(bits, row)) continue;
      setBit(bits, row);
      this.#counts[pack] = (this.#counts[pack] ?? 0) + 1;
    }
  }

  #bitsFor(pack: number): Uint8Array {
    return new Uint8Array(Math.ceil(this.#parts.catalog.pack(pack).rowCount / 8));
  }
}

function hasBit(bits: Uint8Array | undefined, row: number): boolean {
  return bits !== undefined && ((bits[row >> 3] ?? 0) & (1 << (row & 7))) !== 0;
}

function setBit(bits: Uint8Array, row: number): void {
  bits[row >> 3] = (bits[row >> 3] ?? 0) | (1 << (row & 7));
}

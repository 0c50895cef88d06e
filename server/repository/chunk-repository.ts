import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { AppError, isAppError } from '../errors/index.ts';
import { randomHex, silentLogger, systemClock, workAhead, type Clock, type Logger } from '../runtime/index.ts';
import type { Storage } from '../storage/index.ts';
import { checkRepository } from './check.ts';
import { collectGarbage } from './collector.ts';
import { CodecPool } from './codec-pool.ts';
import { assertChunkSize, encodeHeader, readHeader, type RepositoryHeader } from './header.ts';
import { publishSlot, type KeySecret } from './key-slot.ts';
import { unlock } from './keyring.ts';
import { deriveKeys, type IdentityAlgorithm, type RepositoryKeys } from './keys.ts';
import {
  CHUNK_SIZE_BYTES_DEFAULT,
  HEADER_NAME,
  isZeroId,
  pointIdOfName,
  pointName,
  POINTS_FOLDER,
  README_NAME,
} from './layout.ts';
import { PackCatalog, SMALL_FILES_AHEAD } from './pack-catalog.ts';
import { StoredDisk } from './point-disk.ts';
import { isOneFilesTrouble, isFence, parsePoint, type PointContent } from './point-file.ts';
import { PointMarks } from './point-marks.ts';
import { readmeText } from './readme-text.ts';
import type {
  CheckOptions,
  CheckReport,
  CollectOptions,
  CollectReport,
  DeleteRequest,
  KeptRepository,
  Point,
  PointDisk,
  PointFate,
  PointListing,
  PointManifest,
  RepositoryStats,
  TrashedPoint,
  WriteSession,
} from './repository.ts';
import { WholePoints } from './whole-points.ts';
import { startSession } from './write-session.ts';

/** More threads than this cost memory and gain nothing: a host or a disk is the limit by then. */
const THREADS_MAX = 4;
/** Manifests kept once read; they never change. */
const POINTS_CACHED = 64;

/** The secret opens an encrypted repository; for a new one, the passphrase makes it encrypted. */
export interface RepositoryOptions extends KeySecret {
  storage: Storage;
  clock?: Clock;
  logger?: Logger;
  /** Threads that hash and compress; by default as many as processors, at most 4. 0: none, all in this thread. */
  threads?: number;
}

export interface CreateRepositoryOptions extends RepositoryOptions {
  /** A power of two from 64 KiB to 4 MiB; 256 KiB by default. */
  chunkSizeBytes?: number;
  /** `sha512-256` is 1.7 times faster on processors without SHA instructions. */
  identity?: IdentityAlgorithm;
}

/**
 * Makes an empty repository in an empty store.
 * @throws REPOSITORY_EXISTS, INPUT_INVALID, storage errors
 */
export async function createRepository(options: CreateRepositoryOptions): Promise<KeptRepository> {
  const { storage, clock = systemClock, chunkSizeBytes = CHUNK_SIZE_BYTES_DEFAULT, identity = 'sha256' } = options;
  assertChunkSize(chunkSizeBytes);
  const header: RepositoryHeader = {
    repositoryId: randomHex(16),
    createdAtMs: clock.nowMs(),
    chunkSizeBytes,
    identity,
    encryption: null,
  };
  const { passphrase } = options;
  const masterKey = passphrase === undefined ? null : randomBytes(32);
  if (masterKey !== null)
    header.encryption = { keyId: deriveKeys(masterKey, header.repositoryId).keyId.toString('hex') };
  const exists = (cause?: unknown): AppError =>
    new AppError('REPOSITORY_EXISTS', `There is a repository in ${storage.location} already.`, {
      hint: 'Add it as an existing repository, or choose another folder.',
      details: { location: storage.location },
      cause,
    });
  if (await storage.exists(HEADER_NAME)) throw exists();
  try {
    // The header last: it makes the folder a repository. A readme of a broken attempt is as good.
    await publishUnlessThere(storage, README_NAME, Buffer.from(readmeText(header.repositoryId)));
    if (masterKey !== null && passphrase !== undefined) {
      const { repositoryId, createdAtMs } = header;
      const secret = { passphrase };
      await publishSlot(storage, { secret, label: 'first passphrase', createdAtMs, masterKey, repositoryId });
    }
    await storage.publish(HEADER_NAME, encodeHeader(header));
  } catch (error) {
    if (isAppError(error) && error.code === 'STORAGE_EXISTS') throw exists(error);
    throw error;
  }
  return openRepository(options);
}

async function publishUnlessThere(storage: Storage, name: string, data: Buffer): Promise<void> {
  try {
    await storage.publish(name, data);
  } catch (error) {
    if (!isAppError(error) || error.code !== 'STORAGE_EXISTS') throw error;
  }
}

/**
 * Opens a repository and loads its index: about 20 bytes of memory a chunk, in time proportional to
 * the size of the index.
 * @throws REPOSITORY_NOT_FOUND, REPOSITORY_FORMAT_UNKNOWN, REPOSITORY_KEY_NEEDED, REPOSITORY_KEY_WRONG, storage errors
 */
export async function openRepository(options: RepositoryOptions): Promise<KeptRepository> {
  const { storage, clock = systemClock, logger = silentLogger } = options;
  const header = await readHeader(storage);
  const keys = await loadKeys(storage, header, options);
  const identity = { algorithm: header.identity, identityKey: keys?.identityKey ?? null };
  const catalog = new PackCatalog({ storage, keys, identity, logger });
  await catalog.refreshToRead();
  const threads = options.threads ?? Math.min(availableParallelism(), THREADS_MAX);
  const pool = new CodecPool({ threads, chunkSizeBytes: header.chunkSizeBytes, identity, clock });
  return new ChunkRepository({ header, catalog, pool, clock, logger });
}

/**
 * A key for a repository that says it is plain: somebody may have exchanged its header, so that what is backed up
 * next would lie there for everybody to read.
 */
async function loadKeys(storage: Storage, header: RepositoryHeader, secret: KeySecret): Promise<RepositoryKeys | null> {
  if (header.encryption !== null) return (await unlock(storage, header, secret)).keys;
  const { passphrase, recoveryKey, machineKey } = secret;
  if (passphrase === undefined && recoveryKey === undefined && machineKey === undefined) return null;
  throw new AppError(
    'REPOSITORY_KEY_WRONG',
    `The repository in ${storage.location} is not encrypted, as it should be.`,
    {
      hint: 'Its file repository.dozo is not the one that it was made with. Put that back from a copy; it never changes.',
      details: { location: storage.location },
    },
  );
}

interface Parts {
  header: RepositoryHeader;
  catalog: PackCatalog;
  pool: CodecPool;
  clock: Clock;
  logger: Logger;
}

class ChunkRepository implements KeptRepository {
  readonly id: string;
  readonly location: string;
  readonly chunkSizeBytes: number;
  readonly #parts: Parts;
  readonly #marks: PointMarks;
  readonly #points = new Map<string, PointContent>();

  constructor(parts: Parts) {
    const { storage, keys } = parts.catalog;
    this.#parts = parts;
    this.#marks = new PointMarks({ storage, keys, clock: parts.clock });
    this.id = parts.header.repositoryId;
    this.location = parts.catalog.storage.location;
    this.chunkSizeBytes = parts.header.chunkSizeBytes;
  }

  namesChunksAs(other: KeptRepository): boolean {
    if (!(other instanceof ChunkRepository)) return false;
    const [mine, theirs] = [this.#parts.header, other.#parts.header];
    if (mine.encryption !== null || theirs.encryption !== null) return false;
    return mine.chunkSizeBytes === theirs.chunkSizeBytes && mine.identity === theirs.identity;
  }

  async findBroken(pointIds: readonly string[], signal?: AbortSignal): Promise<Set<string>> {
    const { catalog } = this.#parts;
    await catalog.refreshToRead();
    const whole = new WholePoints(catalog, signal);
    const broken = new Set<string>();
    for (const pointId of pointIds) {
      try {
        if (!(await whole.has(await this.#content(pointId)))) broken.add(pointId);
      } catch (error) {
        // Gone for good meanwhile, by its own rules.
        if (!isAppError(error) || error.code !== 'POINT_NOT_FOUND') throw error;
      }
    }
    return broken;
  }

  async listPoints(): Promise<PointListing[]> {
    const { fates, unreadable } = await this.#marks.loadReadable();
    const listings = await this.#listWhere((pointId) => isShown(fates.get(pointId)));
    // Shown rather than hidden, whatever was decided: who looks for a lost machine must find it.
    return listings.map((listing) => ({
      ...listing,
      damage: listing.damage ?? unreadable.get(listing.pointId)?.message ?? null,
    }));
  }

  async listTrash(): Promise<TrashedPoint[]> {
    const { fates } = await this.#marks.loadReadable();
    const listings = await this.#listWhere(
      (pointId) => fates.get(pointId)?.purged === false && !isShown(fates.get(pointId)),
    );
    return listings.flatMap((listing) => {
      const deleted = fates.get(listing.pointId)?.deleted ?? null;
      if (deleted === null) return [];
      const { atMs: deletedAtMs, keepUntilMs, reason } = deleted;
      return [{ ...listing, deletedAtMs, keepUntilMs, reason }];
    });
  }

  async #listWhere(isWanted: (pointId: string) => boolean): Promise<PointListing[]> {
    const { storage } = this.#parts.catalog;
    const listings: PointListing[] = [];
    const wanted: { pointId: string; sizeBytes: number }[] = [];
    for await (const { name, sizeBytes } of storage.list(POINTS_FOLDER)) {
      const pointId = pointIdOfName(name);
      if (pointId !== null && isWanted(pointId)) wanted.push({ pointId, sizeBytes });
    }
    const read = async (one: { pointId: string; sizeBytes: number }): Promise<PointListing | null> => {
      try {
        const { manifest } = await this.#content(one.pointId);
        return { ...one, manifest, damage: null };
      } catch (error) {
        if (!isAppError(error) || !isOneFilesTrouble(error)) throw error;
        return error.code === 'POINT_NOT_FOUND' ? null : { ...one, manifest: null, damage: error.message };
      }
    };
    for await (const listing of workAhead(wanted, SMALL_FILES_AHEAD, read))
      if (listing !== null) listings.push(listing);
    await this.#persistPoints(listings);
    return listings.sort((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
  }

  /**
   * Whoever committed a version may have been killed before its name was durable. It is told of now, so a power cut
   * must not take it back; a disk that cannot even sync is still read.
   */
  async #persistPoints(listings: readonly PointListing[]): Promise<void> {
    const { catalog, logger } = this.#parts;
    const [first] = listings;
    if (first === undefined) return;
    try {
      await catalog.storage.persist(pointName(first.pointId));
    } catch (error) {
      if (!isAppError(error)) throw error;
      logger.warn({ error: error.message }, 'the list of versions could not be made durable');
    }
  }

  async listFates(): Promise<Map<string, PointFate>> {
    return (await this.#marks.loadReadable()).fates;
  }

  async deletePoint(pointId: string, request: DeleteRequest): Promise<PointFate> {
    return this.#marks.delete(pointId, request);
  }

  async restorePoint(pointId: string): Promise<PointFate> {
    return this.#marks.restore(pointId);
  }

  async lockPoint(pointId: string, untilMs: number): Promise<PointFate> {
    return this.#marks.lock(pointId, untilMs);
  }

  async collect(options: CollectOptions): Promise<CollectReport> {
    const { catalog, pool, header, clock, logger } = this.#parts;
    return collectGarbage({ catalog, pool, header, clock, logger, marks: this.#marks }, options);
  }

  async openPoint(pointId: string): Promise<Point> {
    const fate = await this.#marks.loadIfReadable(pointId);
    if (fate !== null && !isShown(fate)) {
      throw new AppError('POINT_NOT_FOUND', `Version ${pointId} is in the trash.`, {
        hint: 'Bring it back from the trash first, or choose another version.',
        details: { pointId },
      });
    }
    return new StoredPoint(await this.#content(pointId), this.#parts);
  }

  async #content(pointId: string): Promise<PointContent> {
    const cached = this.#points.get(pointId);
    if (cached !== undefined) return cached;
    const { catalog } = this.#parts;
    const name = pointName(pointId);
    const notFound = (cause?: unknown): AppError =>
      new AppError('POINT_NOT_FOUND', `There is no version ${pointId} in ${this.location}.`, {
        hint: 'It may have been deleted by the retention rule. Choose another version.',
        details: { pointId },
        cause,
      });
    if (pointIdOfName(name) === null) throw notFound();
    let bytes: Buffer;
    try {
      bytes = await catalog.storage.read(name);
    } catch (error) {
      throw isAppError(error) && error.code === 'NOT_FOUND' ? notFound(error) : error;
    }
    if (isFence(bytes)) throw notFound();
    const content = parsePoint(bytes, name, catalog.keys);
    this.#points.set(pointId, content);
    const oldest = this.#points.keys().next().value;
    if (this.#points.size > POINTS_CACHED && oldest !== undefined) this.#points.delete(oldest);
    return content;
  }

  async startWrite(options: { sessionId: string }): Promise<WriteSession> {
    const { catalog, pool, clock, logger } = this.#parts;
    catalog.assertListsKnown();
    pool.prepare(1);
    const context = {
      catalog,
      pool,
      clock,
      logger,
      chunkSizeBytes: this.chunkSizeBytes,
      random: randomHex(8),
      rootHashOf: (pointId: string) => this.#rootHashOf(pointId),
    };
    return startSession(context, options.sessionId);
  }

  async #rootHashOf(pointId: string): Promise<string | null> {
    try {
      return (await this.#content(pointId)).manifest.rootHash;
    } catch (error) {
      if (!isAppError(error) || !isOneFilesTrouble(error)) throw error;
      return null;
    }
  }

  async check(options: CheckOptions): Promise<CheckReport> {
    const { catalog, pool, header, logger } = this.#parts;
    return checkRepository({ catalog, pool, header, logger }, options);
  }

  async stats(): Promise<RepositoryStats> {
    const { catalog } = this.#parts;
    await catalog.refreshToRead();
    let points = 0;
    let nominalBytes = 0;
    for (const { manifest } of await this.listPoints()) {
      points += 1;
      for (const disk of manifest?.disks ?? []) nominalBytes += disk.sizeBytes;
    }
    const packs = catalog.packs.filter((entry) => !entry.gone);
    const chunks = packs.reduce((sum, { rowCount }) => sum + rowCount, 0);
    const storedBytes = packs.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
    return { points, packs: packs.length, chunks, storedBytes, nominalBytes };
  }

  async close(): Promise<void> {
    await this.#parts.pool.close();
  }
}

class StoredPoint implements Point {
  readonly manifest: PointManifest;
  readonly #content: PointContent;
  readonly #parts: Parts;

  constructor(content: PointContent, parts: Parts) {
    this.manifest = content.manifest;
    this.#content = content;
    this.#parts = parts;
  }

  listFiles(): { name: string; kind: string; sizeBytes: number }[] {
    return this.#content.files.map(({ name, kind, sizeBytes }) => ({ name, kind, sizeBytes }));
  }

  async readFile(name: string): Promise<Buffer> {
    const file = this.#content.files.find((one) => one.name === name);
    if (file === undefined) {
      throw new AppError('NOT_FOUND', `Version ${this.manifest.pointId} has no file ${name}.`, { details: { name } });
    }
    const pieces: Buffer[] = [];
    let left = file.sizeBytes;
    for (const chunk of file.chunks) {
      const id = Buffer.from(chunk, 'hex');
      const length = Math.min(left, this.#content.chunkSizeBytes);
      const piece = isZeroId(id) ? Buffer.alloc(length) : await this.#parts.catalog.readChunk(id);
      if (piece.length !== length) throw this.#otherLength(name);
      pieces.push(piece);
      left -= length;
    }
    return Buffer.concat(pieces);
  }

  #otherLength(name: string): AppError {
    const { pointId } = this.manifest;
    return new AppError(
      'REPOSITORY_MANIFEST_DAMAGED',
      `File ${name} of version ${pointId} has another length than noted.`,
      { hint: 'Run a check of the repository.', details: { name, pointId } },
    );
  }

  async openDisk(key: string): Promise<PointDisk> {
    const disk = this.manifest.disks.find((one) => one.key === key);
    if (disk === undefined) {
      throw new AppError('NOT_FOUND', `Version ${this.manifest.pointId} has no disk ${key}.`, {
        details: { pointId: this.manifest.pointId, diskKey: key },
      });
    }
    const { catalog, pool } = this.#parts;
    return new StoredDisk({
      key,
      sizeBytes: disk.sizeBytes,
      rootId: Buffer.from(disk.rootHash, 'hex'),
      chunkSizeBytes: this.#content.chunkSizeBytes,
      catalog,
      pool,
    });
  }
}

function isShown(fate: PointFate | undefined): boolean {
  return fate === undefined || (fate.deleted === null && !fate.purged);
}

/** Oldest first; a version whose own time cannot be read goes by the time in its name. */
function orderOf(listing: PointListing): string {
  const at = listing.manifest === null ? null : new Date(listing.manifest.createdAtMs).toISOString();
  const stamp = at === null ? listing.pointId : at.toLowerCase().replaceAll(/[-:]/g, '');
  return `${stamp} ${listing.pointId}`;
}

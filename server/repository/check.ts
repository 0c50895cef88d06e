import path from 'node:path';
import type { Extent } from '../disk/index.ts';
import { normalizeExtents } from '../disk/index.ts';
import { AppError, isAppError, toAppError } from '../errors/index.ts';
import { systemClock, workAhead, type Logger } from '../runtime/index.ts';
import { ChunkIndex } from './chunk-index.ts';
import type { Proof } from './codec-message.ts';
import type { CodecPool } from './codec-pool.ts';
import { readCondemnedLists } from './condemned.ts';
import { publishDamagedCopies, readDamagedCopies, type DamagedCopies } from './damaged-copies.ts';
import { readEvidence } from './evidence.ts';
import { readHeader, type RepositoryHeader } from './header.ts';
import { parseSlot } from './key-slot.ts';
import { parseSegment } from './index-segment.ts';
import {
  CONDEMNED_FOLDER,
  DAMAGED_FOLDER,
  EVIDENCE_FOLDER,
  HEADER_NAME,
  ID_BYTES,
  INDEX_FOLDER,
  isZeroId,
  KEYS_FOLDER,
  MARKS_FOLDER,
  packIdOfName,
  packName,
  PACKS_FOLDER,
  PAGE_IDS,
  pointIdOfName,
  pointName,
  POINTS_FOLDER,
  SESSIONS_FOLDER,
} from './layout.ts';
import { PackCatalog, SMALL_FILES_AHEAD } from './pack-catalog.ts';
import { encodePackHeader, PACK_HEADER_BYTES, readPackTable, type PackTable } from './pack-format.ts';
import { PageReader } from './page-reader.ts';
import { levelCount, loadPage } from './page-tree.ts';
import { isFence, parsePoint, type PointContent } from './point-file.ts';
import { PointMarks } from './point-marks.ts';
import type { CheckOptions, CheckReport, Damage } from './repository.ts';
import { parseSession } from './session-file.ts';

export interface CheckContext {
  catalog: PackCatalog;
  pool: CodecPool;
  header: RepositoryHeader;
  logger: Logger;
}

/** Bytes of a pack that are read and given to a thread at a time. */
const RANGE_BYTES = 2 * 1024 * 1024;

/** A pack that is read through. */
interface PackLook {
  name: string;
  packId: string;
  number: number;
  proof: Proof;
}

/** What is wrong with a chunk that a version needs. */
interface BadChunk {
  code: 'REPOSITORY_CHUNK_DAMAGED' | 'REPOSITORY_CHUNK_MISSING';
  name: string;
  why: string;
}

/**
 * Looks at every file as somebody would who opens the repository for the first time. Finds, for
 * `structure`: every changed bit outside the chunks themselves, every file cut off or missing that a
 * version needs; for `hashes`: every changed bit. Nothing is changed.
 */
export async function checkRepository(context: CheckContext, options: CheckOptions): Promise<CheckReport> {
  return new Check(context, options).run();
}

class Check {
  readonly #catalog: PackCatalog;
  readonly #reader: PageReader;
  readonly #pool: CodecPool;
  readonly #header: RepositoryHeader;
  readonly #options: CheckOptions;
  readonly #pointDamages: Damage[] = [];
  readonly #logger: Logger;
  readonly #clock = systemClock;
  readonly #marks: PointMarks;
  readonly #purged = new Set<string>();
  readonly #damages: Damage[] = [];
  /** Packs that are there, by number: rows known to be damaged. */
  readonly #badRows = new Map<number, Map<number, string>>();
  /** Packs whose own table or first bytes are damaged, and whatever of them can be told otherwise. */
  readonly #brokenPacks = new Set<string>();
  /** Packs of which every content was proven. */
  readonly #proven = new Set<number>();
  readonly #presentPacks = new Set<string>();
  readonly #points: PointContent[] = [];
  readonly #badCopies: { id: string; name: string; why: string }[] = [];
  readonly #bad = new Map<string, BadChunk>();
  readonly #goodPages = new Set<string>();
  /** Packs that an index segment names and that are not there. A collector leaves such; so does a loss. */
  readonly #gonePacks: string[] = [];
  readonly #goneIndex = new ChunkIndex();
  /** Of packs, being read and proven. */
  readonly #ranges = new Set<Promise<void>>();
  #rangeFailure: AppError | null = null as AppError | null;
  #packs = 0;
  #chunks = 0;
  #readBytes = 0;
  #doneBytes = 0;
  #totalBytes = 0;

  constructor(context: CheckContext, options: CheckOptions) {
    const { catalog, logger } = context;
    // A catalogue of its own: what this process remembers proves nothing about the files.
    this.#catalog = new PackCatalog({
      storage: catalog.storage,
      keys: catalog.keys,
      identity: catalog.identity,
      logger,
    });
    this.#reader = new PageReader(this.#catalog);
    this.#marks = new PointMarks({ storage: catalog.storage, keys: catalog.keys, clock: systemClock });
    this.#logger = logger;
    this.#pool = context.pool;
    this.#header = context.header;
    this.#options = options;
  }

  async run(): Promise<CheckReport> {
    const { depth } = this.#options;
    await this.#guard(HEADER_NAME, async () => {
      const now = await readHeader(this.#catalog.storage);
      if (JSON.stringify(now) !== JSON.stringify(this.#header)) {
        throw new AppError(
          'REPOSITORY_FORMAT_UNKNOWN',
          `${HEADER_NAME} is not the one with which the repository was opened.`,
        );
      }
    });
    await this.#catalog.refreshToRead();
    const part = await this.#checkPacks();
    if (part === null) await this.#checkIndex();
    await this.#checkSmallFiles();
    if (part === null || this.#badCopies.length > 0) {
      await this.#checkPoints();
      // Something may have been moved or removed for good beside the check: only what is bad twice is.
      if (this.#bad.size > 0) {
        await this.#lookAgain();
        await this.#checkPoints();
      }
      if (this.#bad.size > 0) await this.#nameAffected();
    }
    if (this.#options.noteDamage === true) await this.#noteDamage();
    for (const { id, name, why } of this.#badCopies) {
      if (this.#bad.has(id)) continue;
      const text = `Chunk ${id} in ${name} is damaged: ${why}. No version needs this copy.`;
      this.#damages.push({ code: 'REPOSITORY_CHUNK_DAMAGED', text, name, affects: [] });
    }
    const { length: points } = this.#points;
    return {
      depth,
      points,
      packs: this.#packs,
      chunks: this.#chunks,
      readBytes: this.#readBytes,
      part,
      damages: [...this.#damages, ...this.#pointDamages],
    };
  }

  /** Runs a step; the trouble of one file becomes a damage, the store's trouble ends the check. */
  async #guard(name: string, step: () => Promise<void>): Promise<void> {
    this.#options.signal?.throwIfAborted();
    try {
      await step();
    } catch (error) {
      if (!isAppError(error) || !isDamage(error)) throw error;
      const file = error.details['name'];
      const damaged = typeof file === 'string' ? file : name;
      this.#damages.push({ code: error.code, text: error.message, name: damaged, affects: [] });
    }
  }

  /** A small file that was listed; null: a collector, or the session that it is of, has removed it since. */
  async #readListed(name: string): Promise<Buffer | null> {
    const { storage } = this.#catalog;
    try {
      return await storage.read(name);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'NOT_FOUND') throw error;
      for await (const listed of storage.listNames(path.posix.dirname(name))) if (listed === name) throw error;
      return null;
    }
  }

  async #checkPacks(): Promise<CheckReport['part']> {
    const packs: { name: string; packId: string; sizeBytes: number }[] = [];
    for await (const { name, sizeBytes } of this.#catalog.storage.list(PACKS_FOLDER)) {
      const packId = packIdOfName(name);
      if (packId === null) continue;
      packs.push({ name, packId, sizeBytes });
      this.#presentPacks.add(packId);
      this.#totalBytes += sizeBytes;
    }
    const totalBytes = this.#totalBytes;
    const chosen = this.#options.part === undefined ? packs : choosePart(packs, this.#options.part);
    this.#totalBytes = chosen.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const deadlineMs = this.#clock.monotonicMs() + (this.#options.part?.timeMs ?? Infinity);
    let verifiedBytes = 0;
    let last: string | null = null;
    try {
      for (const { name, packId, sizeBytes } of chosen) {
        this.#packs += 1;
        await this.#guard(name, () => this.#checkPackIfThere(name, packId, sizeBytes));
        verifiedBytes += sizeBytes;
        last = packId;
        if (this.#clock.monotonicMs() > deadlineMs) break;
      }
    } finally {
      await Promise.all(this.#ranges);
    }
    if (this.#rangeFailure !== null) throw this.#rangeFailure;
    if (this.#options.part === undefined) return null;
    const isThrough = last === null || packs.every(({ packId }) => packId <= last);
    return { verifiedBytes, totalBytes, nextAfter: isThrough ? null : last };
  }

  /** One that a collector removes beside the check is no damage; what versions need of it is looked for later. */
  async #checkPackIfThere(name: string, packId: string, sizeBytes: number): Promise<void> {
    try {
      await this.#checkPack(name, packId, sizeBytes);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'NOT_FOUND') throw error;
      this.#presentPacks.delete(packId);
    }
  }

  async #checkPoints(): Promise<void> {
    this.#bad.clear();
    this.#goodPages.clear();
    this.#points.length = 0;
    this.#pointDamages.length = 0;
    await this.#loadPoints();
    for (const point of this.#points) await this.#walkPoint(point, null);
  }

  async #lookAgain(): Promise<void> {
    const { storage } = this.#catalog;
    await this.#catalog.refreshToRead();
    this.#presentPacks.clear();
    for await (const name of storage.listNames(PACKS_FOLDER)) {
      const packId = packIdOfName(name);
      if (packId !== null) this.#presentPacks.add(packId);
    }
    const { fates } = await this.#marks.loadReadable();
    for (const [pointId, fate] of fates) if (fate.purged) this.#purged.add(pointId);
  }

  /** What is noted already is not noted again. A store that takes nothing more keeps the check from nothing. */
  async #noteDamage(): Promise<void> {
    const { storage, keys } = this.#catalog;
    const copies: DamagedCopies['copies'] = [];
    for (const [number, bad] of this.#badRows) {
      const { packId, badRows } = this.#catalog.pack(number);
      const rows = [...bad.keys()].filter((row) => badRows?.has(row) !== true);
      if (rows.length > 0) copies.push({ pack: packId, rows });
    }
    const noted = new Set([...this.#catalog.damagedRecords.values()].flatMap((record) => record.copies));
    const known = new Set([...copies, ...noted].map(({ pack }) => pack));
    for (const pack of this.#brokenPacks) if (!known.has(pack)) copies.push({ pack, rows: [] });
    if (copies.length === 0) return;
    try {
      await publishDamagedCopies(storage, { atMs: systemClock.nowMs(), copies }, keys);
    } catch (error) {
      if (!isAppError(error)) throw error;
      this.#logger.warn({ error: error.message }, 'damage could not be noted');
    }
  }

  async #checkPack(name: string, packId: string, fileBytes: number): Promise<void> {
    const number = this.#catalog.numberOf(packId);
    let table: PackTable;
    try {
      table = await this.#readTable(name, packId, fileBytes);
    } catch (error) {
      if (!isAppError(error) || !isDamage(error) || error.code === 'NOT_FOUND') throw error;
      if (error.code === 'REPOSITORY_PACK_DAMAGED') this.#brokenPacks.add(packId);
      if (number === undefined) throw error;
      // The index has a copy of the table: the chunks can be checked all the same.
      this.#damages.push({ code: error.code, text: error.message, name, affects: [] });
      table = await this.#catalog.table(number);
      this.#noteCutOff(name, number, { table, fileBytes });
    }
    this.#chunks += table.rowCount;
    const header = await this.#read(name, 0, Math.min(PACK_HEADER_BYTES, fileBytes));
    if (!header.equals(encodePackHeader(packId, table.kind, this.#catalog.keys?.keyId ?? null))) {
      this.#damages.push({
        code: 'REPOSITORY_PACK_DAMAGED',
        text: `${name} is damaged: its first bytes are not those of this pack.`,
        name,
        affects: [],
      });
      this.#brokenPacks.add(packId);
    }
    if (this.#options.depth === 'structure' || number === undefined) {
      this.#progress(fileBytes);
      return;
    }
    // What was noted as damaged is cleared by nothing less than its content.
    const isNoted = (this.#catalog.pack(number).badRows?.size ?? 0) > 0;
    const proof = this.#options.depth === 'hashes' || isNoted ? 'hash' : 'checksum';
    if (proof === 'hash') this.#proven.add(number);
    await this.#readPack({ name, packId, number, proof }, table);
  }

  /** Chunks that lie beyond the end of a file that is too short need not be read to be known as lost. */
  #noteCutOff(name: string, number: number, { table, fileBytes }: { table: PackTable; fileBytes: number }): void {
    for (let row = 0; row < table.rowCount; row += 1) {
      const { id, offsetBytes, storedLength } = table.row(row);
      if (offsetBytes + storedLength > fileBytes) this.#noteBadCopy(name, { number, row, id }, 'its pack was cut off');
    }
  }

  #noteBadCopy(name: string, { number, row, id }: { number: number; row: number; id: Buffer }, why: string): void {
    let bad = this.#badRows.get(number);
    if (bad === undefined) this.#badRows.set(number, (bad = new Map<number, string>()));
    if (!bad.has(row)) this.#badCopies.push({ id: id.toString('hex'), name, why });
    bad.set(row, why);
  }

  async #readTable(name: string, packId: string, fileBytes: number): Promise<PackTable> {
    return readPackTable({ packId, name, fileBytes }, ({ offsetBytes, lengthBytes }) =>
      this.#read(name, offsetBytes, lengthBytes),
    );
  }

  /** Begins what there is to be read of a pack, which goes on beside the next one. */
  async #readPack(pack: PackLook, table: PackTable): Promise<void> {
    const order = Array.from({ length: table.rowCount }, (_, row) => ({ row, form: table.row(row) }));
    order.sort((a, b) => a.form.offsetBytes - b.form.offsetBytes);
    for (let start = 0; start < order.length;) {
      this.#options.signal?.throwIfAborted();
      let end = start;
      let lengthBytes = 0;
      while (end < order.length && (lengthBytes < RANGE_BYTES || end === start)) {
        lengthBytes += order[end]?.form.storedLength ?? 0;
        end += 1;
      }
      while (this.#ranges.size > this.#pool.threadCount + 1) await Promise.race(this.#ranges);
      if (this.#rangeFailure !== null) throw this.#rangeFailure;
      const work = this.#readRange(pack, order.slice(start, end), lengthBytes)
        .catch((error: unknown) => {
          const known = toAppError(error);
          if (known.code === 'NOT_FOUND') this.#presentPacks.delete(pack.packId);
          else this.#rangeFailure ??= known;
        })
        .finally(() => this.#ranges.delete(work));
      this.#ranges.add(work);
      start = end;
    }
    this.#progress(table.fileBytes - table.offsetBytes + PACK_HEADER_BYTES);
  }

  async #readRange(
    { name, number, proof }: PackLook,
    rows: { row: number; form: ReturnType<PackTable['row']> }[],
    lengthBytes: number,
  ): Promise<void> {
    const offsetBytes = rows[0]?.form.offsetBytes ?? 0;
    let results: (string | null)[];
    try {
      const range = await this.#read(name, offsetBytes, lengthBytes);
      const parts = rows.map(({ row, form }) => ({ ...form, offset: form.offsetBytes - offsetBytes, row }));
      results = await this.#pool.verify(range, this.#catalog.packKey(number), parts, proof);
    } catch (error) {
      if (!isAppError(error) || !isDamage(error) || error.code === 'NOT_FOUND') throw error;
      results = rows.map(() => error.message);
    }
    for (const [index, { row, form }] of rows.entries()) {
      const result = results[index];
      if (result === null || result === undefined) continue;
      this.#noteBadCopy(name, { number, row, id: form.id }, result);
    }
    this.#progress(lengthBytes);
  }

  async #checkIndex(): Promise<void> {
    for await (const name of this.#catalog.storage.listNames(INDEX_FOLDER)) {
      await this.#guard(name, async () => {
        const bytes = await this.#readListed(name);
        if (bytes === null) return;
        this.#readBytes += bytes.length;
        for (const { table } of parseSegment(bytes, name)) {
          if (this.#presentPacks.has(table.packId)) continue;
          this.#goneIndex.insertTable(this.#gonePacks.push(table.packId) - 1, table);
        }
      });
    }
  }

  async #checkSmallFiles(): Promise<void> {
    const { storage, keys } = this.#catalog;
    for await (const name of storage.listNames(SESSIONS_FOLDER)) {
      await this.#guard(name, async () => {
        const bytes = await this.#readListed(name);
        if (bytes === null || parseSession(bytes, name, keys) !== null) return;
        throw new AppError('REPOSITORY_INDEX_DAMAGED', `${name} is damaged: a field is missing or of another kind.`);
      });
    }
    for await (const name of storage.listNames(KEYS_FOLDER)) {
      await this.#guard(name, async () => {
        const bytes = await this.#readListed(name);
        if (bytes !== null) parseSlot(bytes, name);
      });
    }
    await this.#guard(CONDEMNED_FOLDER, async () => {
      await readCondemnedLists(storage, keys);
    });
    await this.#guard(EVIDENCE_FOLDER, () => this.#findLostPoints());
    const { fates, unreadable } = await this.#marks.loadReadable();
    for (const [pointId, fate] of fates) if (fate.purged) this.#purged.add(pointId);
    for (const error of unreadable.values()) await this.#guard(MARKS_FOLDER, () => Promise.reject(error));
    for await (const name of storage.listNames(DAMAGED_FOLDER)) {
      await this.#guard(name, async () => {
        await readDamagedCopies(storage, name, keys);
      });
    }
  }

  /** Versions that the last collection left and that are gone without a mark that says why. */
  async #findLostPoints(): Promise<void> {
    const { storage, keys } = this.#catalog;
    const { newest } = await readEvidence(storage, keys);
    const listed = new Set<string | null>();
    for await (const name of storage.listNames(POINTS_FOLDER)) listed.add(pointIdOfName(name));
    const missing = newest?.points.filter((pointId) => !listed.has(pointId)) ?? [];
    if (missing.length === 0) return;
    const { fates, unreadable } = await this.#marks.loadReadable();
    // A collector that ended a deletion in between published which are left before it removed the marks.
    const left = new Set((await readEvidence(storage, keys)).newest?.points);
    for (const pointId of missing) {
      if (!left.has(pointId) || fates.has(pointId) || unreadable.has(pointId)) continue;
      // A listing that runs beside changes may miss a name.
      if (await storage.exists(pointName(pointId))) continue;
      this.#damages.push({
        code: 'REPOSITORY_EVIDENCE_MISSING',
        text: `Version ${pointId} was there at the last clean-up, nobody deleted it, and it is not there any more.`,
        name: pointName(pointId),
        affects: [{ pointId, machineName: '', diskKey: '', extents: [] }],
      });
    }
  }

  async #loadPoints(): Promise<void> {
    const names: string[] = [];
    for await (const name of this.#catalog.storage.listNames(POINTS_FOLDER)) names.push(name);
    const read = async (name: string): Promise<PointContent | Damage | null> => {
      const pointId = pointIdOfName(name);
      // A collector removes what such a point needed once its file is gone; it may be between the two.
      if (pointId === null || this.#purged.has(pointId)) return null;
      try {
        const bytes = await this.#readListed(name);
        return bytes === null || isFence(bytes) ? null : parsePoint(bytes, name, this.#catalog.keys);
      } catch (error) {
        if (!isAppError(error) || !isDamage(error)) throw error;
        const affects = [{ pointId, machineName: '', diskKey: '', extents: [] }];
        return { code: error.code, text: error.message, name, affects };
      }
    };
    for await (const found of workAhead(names.sort(), SMALL_FILES_AHEAD, read)) {
      if (found === null) continue;
      if ('manifest' in found) this.#points.push(found);
      else this.#pointDamages.push(found);
    }
    const roots = new Map(this.#points.map(({ manifest }) => [manifest.pointId, manifest.rootHash]));
    for (const { manifest } of this.#points) {
      const { previousPointId, previousRootHash, pointId, machineName } = manifest;
      const found = previousPointId === null ? undefined : roots.get(previousPointId);
      if (found === undefined || previousRootHash === null || found === previousRootHash) continue;
      this.#pointDamages.push({
        code: 'REPOSITORY_MANIFEST_DAMAGED',
        text: `Version ${pointId} names another root hash for the version before it (${String(previousPointId)}) than that version has.`,
        name: `${POINTS_FOLDER}/${pointId}.point`,
        affects: [{ pointId, machineName, diskKey: '', extents: [] }],
      });
    }
  }

  /**
   * @param affected null: find bad chunks, pages seen before are skipped; else: note where the bad ones
   *   are needed, looking at every page
   */
  async #walkPoint(point: PointContent, affected: Affected | null): Promise<void> {
    for (const disk of point.manifest.disks) {
      const chunkCount = Math.ceil(disk.sizeBytes / point.chunkSizeBytes);
      const root = { id: Buffer.from(disk.rootHash, 'hex'), level: levelCount(chunkCount) - 1, index: 0 };
      await this.#walkPage(root, { ...disk, chunkCount, chunkSizeBytes: point.chunkSizeBytes, point, affected });
    }
    for (const file of point.files) {
      let left = file.sizeBytes;
      for (const chunk of file.chunks) {
        const id = Buffer.from(chunk, 'hex');
        const length = Math.min(left, point.chunkSizeBytes);
        const offsetBytes = file.sizeBytes - left;
        left -= length;
        if (isZeroId(id)) continue;
        if (affected === null) await this.#checkChunk(id, length);
        else if (this.#bad.has(chunk)) {
          affected.add(chunk, point, `file:${file.name}`, { offsetBytes, lengthBytes: length });
        }
      }
    }
  }

  async #walkPage(page: { id: Buffer; level: number; index: number }, disk: WalkedDisk): Promise<void> {
    this.#options.signal?.throwIfAborted();
    if (isZeroId(page.id)) return;
    const key = page.id.toString('hex');
    // The same page at another place may end at another chunk, with another length.
    const isLast = (page.index + 1) * PAGE_IDS ** (page.level + 1) >= disk.chunkCount;
    const seenKey = `${key}${isLast ? `/${disk.sizeBytes}/${page.index}` : ''}/${page.level}`;
    if (disk.affected === null && this.#goodPages.has(seenKey)) return;
    let content: Buffer;
    try {
      content = await loadPage((id) => this.#reader.read(id), page.id);
    } catch (error) {
      if (!isAppError(error) || !isDamage(error)) throw error;
      if (error.code === 'REPOSITORY_CHUNK_MISSING') this.#bad.set(key, this.#missing(page.id));
      else {
        const { name = PACKS_FOLDER, why = error.message } = error.details;
        this.#bad.set(key, { code: 'REPOSITORY_CHUNK_DAMAGED', name: String(name), why: String(why) });
      }
      disk.affected?.add(key, disk.point, disk.key, extentOf(disk, page.level + 1, page.index));
      return;
    }
    if (disk.affected === null) this.#goodPages.add(seenKey);
    for (let slot = 0; slot < PAGE_IDS; slot += 1) {
      const id = content.subarray(slot * ID_BYTES, (slot + 1) * ID_BYTES);
      if (isZeroId(id)) continue;
      const index = page.index * PAGE_IDS + slot;
      if (index * PAGE_IDS ** page.level >= disk.chunkCount) {
        this.#bad.set(key, {
          code: 'REPOSITORY_CHUNK_DAMAGED',
          name: PACKS_FOLDER,
          why: 'the page goes beyond the end of its disk',
        });
        disk.affected?.add(key, disk.point, disk.key, extentOf(disk, page.level + 1, page.index));
        return;
      }
      if (page.level > 0) {
        await this.#walkPage({ id, level: page.level - 1, index }, disk);
        continue;
      }
      const extent = extentOf(disk, 0, index);
      if (disk.affected === null) await this.#checkChunk(id, extent.lengthBytes);
      else if (this.#bad.has(id.toString('hex'))) disk.affected.add(id.toString('hex'), disk.point, disk.key, extent);
    }
  }

  /** A chunk is well when at least one copy of it is. */
  async #checkChunk(id: Buffer, lengthBytes: number): Promise<void> {
    let bad: BadChunk | null = null;
    for await (const { pack, row, form } of this.#catalog.places(id, 'read')) {
      const { packId, badRows } = this.#catalog.pack(pack);
      const name = packName(packId);
      const isNoted = badRows?.has(row) === true && !this.#proven.has(pack);
      const why = this.#badRows.get(pack)?.get(row) ?? (isNoted ? 'an earlier check found it damaged' : undefined);
      if (!this.#presentPacks.has(packId)) {
        bad = { code: 'REPOSITORY_CHUNK_MISSING', name, why: `${name} is gone` };
      } else if (why !== undefined) {
        bad = { code: 'REPOSITORY_CHUNK_DAMAGED', name, why };
      } else if (form.plainLength !== lengthBytes) {
        bad = { code: 'REPOSITORY_CHUNK_DAMAGED', name, why: 'it has not the length that its place in the disk needs' };
      } else {
        return;
      }
    }
    this.#bad.set(id.toString('hex'), bad ?? this.#missing(id));
  }

  #missing(id: Buffer): BadChunk {
    const gone = this.#goneIndex.candidates(id)[0];
    const packId = gone === undefined ? undefined : this.#gonePacks[gone.pack];
    if (packId === undefined) return { code: 'REPOSITORY_CHUNK_MISSING', name: PACKS_FOLDER, why: 'it is in no pack' };
    return { code: 'REPOSITORY_CHUNK_MISSING', name: packName(packId), why: 'this pack is gone' };
  }

  /** Walks all points again, now noting each place that needs a bad chunk. */
  async #nameAffected(): Promise<void> {
    const affected = new Affected();
    for (const point of this.#points) await this.#walkPoint(point, affected);
    for (const [key, { code, name, why }] of this.#bad) {
      const text = `Chunk ${key} in ${name} is ${code === 'REPOSITORY_CHUNK_MISSING' ? 'missing' : 'damaged'}: ${why}.`;
      this.#damages.push({ code, text, name, affects: affected.of(key) });
    }
  }

  async #read(name: string, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    this.#readBytes += lengthBytes;
    return this.#catalog.storage.read(name, { offsetBytes, lengthBytes });
  }

  #progress(bytes: number): void {
    this.#doneBytes = Math.min(this.#totalBytes, this.#doneBytes + bytes);
    this.#options.progress?.({ bytes: this.#doneBytes, totalBytes: this.#totalBytes });
  }
}

type PackFile = { name: string; packId: string; sizeBytes: number };

/** From the pack after the last one on, to the end of the store at most; at least one. */
function choosePart(packs: readonly PackFile[], { after, bytesMax }: NonNullable<CheckOptions['part']>): PackFile[] {
  const chosen: PackFile[] = [];
  let bytes = 0;
  for (const pack of [...packs].sort((a, b) => (a.packId < b.packId ? -1 : 1))) {
    if (after !== null && pack.packId <= after) continue;
    if (bytes >= bytesMax) break;
    chosen.push(pack);
    bytes += pack.sizeBytes;
  }
  return chosen;
}

interface WalkedDisk {
  key: string;
  sizeBytes: number;
  chunkCount: number;
  chunkSizeBytes: number;
  point: PointContent;
  affected: Affected | null;
}

/** Where bad chunks are needed. */
class Affected {
  readonly #places = new Map<string, Map<string, Damage['affects'][number]>>();

  add(chunk: string, point: PointContent, diskKey: string, extent: Extent): void {
    const { pointId, machineName } = point.manifest;
    let ofChunk = this.#places.get(chunk);
    if (ofChunk === undefined) this.#places.set(chunk, (ofChunk = new Map<string, Damage['affects'][number]>()));
    const key = `${pointId} ${diskKey}`;
    const place = ofChunk.get(key);
    if (place === undefined) ofChunk.set(key, { pointId, machineName, diskKey, extents: [extent] });
    else place.extents.push(extent);
  }

  of(chunk: string): Damage['affects'] {
    const places = [...(this.#places.get(chunk)?.values() ?? [])];
    return places.map((place) => ({ ...place, extents: normalizeExtents(place.extents) }));
  }
}

/** What a slot at `index` on slot level `level` (0: chunks) covers of the disk. */
function extentOf(disk: WalkedDisk, level: number, index: number): Extent {
  const offsetBytes = index * PAGE_IDS ** level * disk.chunkSizeBytes;
  const endBytes = Math.min((index + 1) * PAGE_IDS ** level * disk.chunkSizeBytes, disk.sizeBytes);
  return { offsetBytes, lengthBytes: endBytes - offsetBytes };
}

function isDamage(error: AppError): boolean {
  return error.code.startsWith('REPOSITORY_') || error.code === 'NOT_FOUND' || error.code === 'STORAGE_FAILED';
}

import { AppError, assert, isAppError } from '../errors/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { ChunkWriter } from './chunk-writer.ts';
import { ChunkingDiskWriter } from './disk-writer.ts';
import { FILE_BYTES_MAX, isZeroId, makePointId, pointName, ZERO_ID } from './layout.ts';
import { listName, settleVerdict } from './condemned.ts';
import type { CodecPool } from './codec-pool.ts';
import type { PackCatalog } from './pack-catalog.ts';
import { StoredDisk } from './point-disk.ts';
import { encodePoint, isFence, type PointFile } from './point-file.ts';
import type {
  ChunkRecall,
  CommitRequest,
  DiskWriter,
  PointDisk,
  PointManifest,
  WriteSession,
  WriteStats,
} from './repository.ts';
import { publishSession, readSession, type SessionRecord } from './session-file.ts';

export interface SessionContext {
  catalog: PackCatalog;
  pool: CodecPool;
  clock: Clock;
  logger: Logger;
  chunkSizeBytes: number;
  /** 16 hex digits. */
  random: string;
  /** Root hash of a committed point, null when it is gone or cannot be read. */
  rootHashOf(pointId: string): Promise<string | null>;
}

interface SessionDisk {
  writer: ChunkingDiskWriter;
  baseRootHash: string;
}

/** @throws storage errors */
export async function startSession(context: SessionContext, sessionId: string): Promise<WriteSession> {
  const { storage, keys } = context.catalog;
  const old = await readSession(storage, sessionId, keys);
  let resumed: SessionRecord | null = null;
  const first = old[0]?.record;
  let committed = false;
  if (first !== undefined) {
    committed = await storage.exists(pointName(first.pointId));
    if (committed) await storage.persist(pointName(first.pointId));
    // A session whose point is published was only not tidied up: its id begins anew.
    if (!committed)
      resumed = await newestUsable(
        context,
        old.map((one) => one.record),
      );
  }
  const record: SessionRecord = {
    sessionId,
    pointId: (committed ? undefined : first?.pointId) ?? makePointId(context.clock.nowMs(), context.random),
    sequence: (first?.sequence ?? -1) + 1,
    writtenAtMs: context.clock.nowMs(),
    facts: resumed?.facts ?? null,
    disks: resumed?.disks ?? [],
  };
  // First the record, then the look at what is there: a collector does it the other way round (announce,
  // then look for sessions), so one of the two always sees the other.
  const name = await publishSession(storage, record, keys);
  await context.catalog.refresh();
  if (committed)
    await removeQuietly(
      context,
      old.map((one) => one.name),
    );
  const names = committed ? [name] : [...old.map((one) => one.name), name];
  return new Session(context, record, names, resumed !== null);
}

/** The newest record with checkpointed disks whose roots can still be read. */
async function newestUsable(context: SessionContext, records: SessionRecord[]): Promise<SessionRecord | null> {
  for (const record of records) {
    try {
      for (const disk of record.disks) {
        const rootId = Buffer.from(disk.rootHash, 'hex');
        if (!isZeroId(rootId)) await context.catalog.readChunk(rootId);
      }
      if (record.disks.length > 0) return record;
    } catch (error) {
      if (!isAppError(error) || !error.code.startsWith('REPOSITORY_')) throw error;
      context.logger.warn({ session: record.sessionId, error: error.message }, 'a checkpoint cannot be used');
    }
  }
  return null;
}

async function removeQuietly(context: SessionContext, names: readonly string[]): Promise<void> {
  for (const name of names) {
    try {
      await context.catalog.storage.remove(name);
    } catch (error) {
      // On a write-once share nothing can be removed; the collector or nobody does it later.
      if (!isAppError(error)) throw error;
      context.logger.debug({ file: name, error: error.message }, 'a session record stays');
    }
  }
}

class Session implements WriteSession {
  readonly sessionId: string;
  readonly checkpointFacts: unknown;
  readonly #context: SessionContext;
  readonly #start: SessionRecord;
  readonly #resumed: boolean;
  readonly #chunks: ChunkWriter;
  readonly #disks = new Map<string, SessionDisk>();
  #names: string[];
  #latest: SessionRecord;
  #sequence: number;
  #state: 'open' | 'committed' | 'aborted' = 'open';
  #checkpointing: Promise<void> = Promise.resolve();

  constructor(context: SessionContext, start: SessionRecord, names: string[], resumed: boolean) {
    this.#context = context;
    this.#start = start;
    this.#latest = start;
    this.#names = names;
    this.#resumed = resumed;
    this.#sequence = start.sequence;
    this.sessionId = start.sessionId;
    this.checkpointFacts = resumed ? start.facts : null;
    this.#chunks = new ChunkWriter(context);
  }

  async openDisk(options: {
    key: string;
    sizeBytes: number;
    base: PointDisk | null;
    recall?: ChunkRecall | null;
  }): Promise<DiskWriter> {
    const { key, sizeBytes, base, recall = null } = options;
    this.#assertOpen();
    assert(!this.#disks.has(key), `disk ${key} is opened once a session`);
    assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, `disk ${key} has a whole size`);
    if (base === null && (recall?.former ?? null) === null) this.#context.pool.prepare();
    const baseRoot = await this.#baseRoot(base, sizeBytes);
    const baseRootHash = baseRoot.toString('hex');
    const record = await this.#findCheckpoint(key, sizeBytes, baseRootHash);
    const writer = new ChunkingDiskWriter({
      key,
      sizeBytes,
      chunkSizeBytes: this.#context.chunkSizeBytes,
      rootId: record === null ? baseRoot : Buffer.from(record.rootHash, 'hex'),
      resumed: record !== null,
      stats: record === null ? emptyStats(sizeBytes) : record.stats,
      chunks: this.#chunks,
      recall,
    });
    this.#disks.set(key, { writer, baseRootHash });
    return writer;
  }

  /** What the last checkpoint held of the disk; null: nothing that can be gone on from. */
  async #findCheckpoint(
    key: string,
    sizeBytes: number,
    baseRootHash: string,
  ): Promise<SessionRecord['disks'][number] | null> {
    const record = this.#resumed ? this.#start.disks.find((disk) => disk.key === key) : undefined;
    // A checkpoint on another base would mix two versions wherever nothing is delivered any more.
    if (record === undefined || record.sizeBytes !== sizeBytes || record.baseRootHash !== baseRootHash) return null;
    try {
      await this.#storedDisk(key, sizeBytes, Buffer.from(record.rootHash, 'hex')).takeOver(this.#chunks);
      return record;
    } catch (error) {
      if (!isAppError(error) || !error.code.startsWith('REPOSITORY_CHUNK')) throw error;
      this.#context.logger.warn({ session: this.sessionId, error: error.message }, 'a checkpoint cannot be used');
      return null;
    }
  }

  /** The root to begin with: the base's, as far as it has the same shape. */
  async #baseRoot(base: PointDisk | null, sizeBytes: number): Promise<Buffer> {
    if (base === null) return ZERO_ID;
    assert(
      base instanceof StoredDisk && base.catalog === this.#context.catalog,
      'a base comes from the same repository',
    );
    await base.takeOver(this.#chunks);
    if (base.sizeBytes === sizeBytes) return base.rootId;
    return base.resized(sizeBytes, this.#chunks);
  }

  #storedDisk(key: string, sizeBytes: number, rootId: Buffer): StoredDisk {
    const { catalog, pool, chunkSizeBytes } = this.#context;
    return new StoredDisk({ key, sizeBytes, rootId, chunkSizeBytes, catalog, pool });
  }

  async checkpoint(facts: unknown): Promise<void> {
    const turn = this.#checkpointing.then(() => this.#checkpoint(facts));
    this.#checkpointing = turn.catch(() => undefined);
    return turn;
  }

  async #checkpoint(facts: unknown): Promise<void> {
    this.#assertOpen();
    const disks: SessionRecord['disks'] = [];
    for (const [key, { writer, baseRootHash }] of this.#disks) {
      const rootHash = (await writer.settle()).toString('hex');
      disks.push({ key, sizeBytes: writer.sizeBytes, rootHash, baseRootHash, stats: writer.stats() });
    }
    // A disk of the former checkpoint that is not opened yet keeps its state.
    if (this.#resumed) disks.push(...this.#start.disks.filter((disk) => !this.#disks.has(disk.key)));
    await this.#chunks.publish();
    this.#sequence += 1;
    const record: SessionRecord = {
      sessionId: this.sessionId,
      pointId: this.#start.pointId,
      sequence: this.#sequence,
      writtenAtMs: this.#context.clock.nowMs(),
      facts,
      disks,
    };
    await this.#publishRecord(record);
  }

  async #publishRecord(record: SessionRecord): Promise<void> {
    const { catalog } = this.#context;
    const name = await publishSession(catalog.storage, record, catalog.keys);
    await removeQuietly(this.#context, this.#names);
    this.#names = [name];
    this.#latest = record;
  }

  async commit(request: CommitRequest): Promise<PointManifest> {
    await this.#checkpointing;
    this.#assertOpen();
    const { catalog, chunkSizeBytes } = this.#context;
    const disks: PointManifest['disks'] = [];
    for (const { key, changeToken, facts } of request.disks) {
      const writer = this.#disks.get(key)?.writer;
      assert(writer?.finished === true, `disk ${key} is finished before its point is committed`);
      const { sizeBytes, rootId } = writer;
      disks.push({
        key,
        sizeBytes,
        rootHash: rootId.toString('hex'),
        changeToken,
        facts: facts ?? null,
        stats: writer.stats(),
      });
    }
    const files = await Promise.all(request.files.map((file) => this.#storeFile(file)));
    await this.#chunks.publish();
    const { previousPointId } = request;
    const content = {
      manifest: {
        pointId: this.#start.pointId,
        kind: 'disk-image' as const,
        createdAtMs: request.createdAtMs,
        machineId: request.machineId,
        machineName: request.machineName,
        state: request.state,
        stateReasons: request.stateReasons,
        disks,
        machine: request.machine ?? null,
        evidence: request.evidence ?? null,
        rootHash: '',
        previousPointId,
        previousRootHash: previousPointId === null ? null : await this.#context.rootHashOf(previousPointId),
      },
      files,
      sessionId: this.sessionId,
      chunkSizeBytes,
    };
    await this.#claim(disks, files);
    const { bytes, rootHash } = encodePoint(content, catalog.keys);
    await this.#publishPoint(bytes);
    this.#state = 'committed';
    await removeQuietly(this.#context, this.#names);
    await this.#chunks.close();
    return { ...content.manifest, rootHash };
  }

  /**
   * Last look before the commit. A collector waits for the sessions that it sees, so there is nothing to
   * do as a rule; this is for one that did not see this session. A list that is not decided is decided here.
   */
  async #claim(disks: PointManifest['disks'], files: readonly PointFile[]): Promise<void> {
    const { catalog } = this.#context;
    await catalog.refresh();
    let isCertain = ![...this.#chunks.builtOn].some((number) => catalog.pack(number).gone);
    const builtOn = new Set([...this.#chunks.builtOn].map((number) => catalog.pack(number).packId));
    for (const list of catalog.condemnedLists) {
      if (!list.packs.some((packId) => builtOn.has(packId))) continue;
      const verdict =
        list.verdict ?? (await settleVerdict(catalog.storage, list.id, { verdict: 'keep' }, catalog.keys));
      if (verdict.verdict === 'remove' && verdict.packs.some((packId) => builtOn.has(packId))) isCertain = false;
      // A verdict is removed after its list: without the list, one of before may have been carried out.
      if (list.verdict === null && !(await catalog.storage.exists(listName(list.id)))) isCertain = false;
    }
    if (isCertain) return;
    // Something it found chunks in has been or is being removed. What it needs may lie elsewhere by now.
    await catalog.refresh();
    try {
      for (const { key, sizeBytes, rootHash } of disks) {
        for await (const { id } of this.#storedDisk(key, sizeBytes, Buffer.from(rootHash, 'hex')).parts()) {
          await this.#assertStored(id);
        }
      }
      for (const { chunks } of files) for (const id of chunks) await this.#assertStored(Buffer.from(id, 'hex'));
    } catch (error) {
      if (isAppError(error) && error.code.startsWith('REPOSITORY_CHUNK')) throw collected(this.sessionId, error);
      throw error;
    }
  }

  /** @throws REPOSITORY_COLLECTED */
  async #assertStored(id: Buffer): Promise<void> {
    if (isZeroId(id) || (await this.#context.catalog.locate(id, 'build')) !== null) return;
    throw collected(this.sessionId);
  }

  async #publishPoint(bytes: Buffer): Promise<void> {
    const { storage } = this.#context.catalog;
    const name = pointName(this.#start.pointId);
    try {
      await storage.publish(name, bytes);
    } catch (error) {
      if (isAppError(error) && error.code === 'STORAGE_EXISTS' && isFence(await storage.read(name))) {
        throw collected(this.sessionId, error);
      }
      throw error;
    }
  }

  async #storeFile(file: CommitRequest['files'][number]): Promise<PointFile> {
    assert(file.content.length <= FILE_BYTES_MAX, `file ${file.name} of ${file.content.length} bytes`);
    const chunks: string[] = [];
    for (let at = 0; at < file.content.length; at += this.#context.chunkSizeBytes) {
      const piece = file.content.subarray(at, at + this.#context.chunkSizeBytes);
      if (piece.every((byte) => byte === 0)) {
        chunks.push(ZERO_ID.toString('hex'));
        continue;
      }
      const { id, stored } = this.#chunks.addMeta(piece);
      await stored;
      chunks.push(id.toString('hex'));
    }
    return { name: file.name, kind: file.kind, sizeBytes: file.content.length, chunks };
  }

  async abort(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'aborted';
    await this.#checkpointing;
    try {
      // What arrived is worth keeping: the next run finds it by its hash.
      await this.#chunks.publish();
      // A collector need not wait for this writer any more.
      const writtenAtMs = this.#context.clock.nowMs();
      await this.#publishRecord({ ...this.#latest, sequence: this.#sequence + 1, writtenAtMs, ended: true });
    } catch (error) {
      if (!isAppError(error)) throw error;
      this.#context.logger.info({ session: this.sessionId, error: error.message }, 'what arrived last is not kept');
    } finally {
      await this.#chunks.close();
    }
  }

  #assertOpen(): void {
    if (this.#state === 'open') return;
    throw new AppError('CONFLICT', `The write session ${this.sessionId} is already ${this.#state}.`);
  }
}

function collected(sessionId: string, cause?: unknown): AppError {
  return new AppError(
    'REPOSITORY_COLLECTED',
    'A clean-up removed data that this run had built on: it had taken the run for dead.',
    { hint: 'Start the run again. Nothing that was committed is lost.', details: { sessionId }, cause },
  );
}

function emptyStats(nominalBytes: number): WriteStats {
  return { nominalBytes, deliveredBytes: 0, zeroBytes: 0, duplicateBytes: 0, newBytes: 0, storedBytes: 0 };
}

import { randomBytes } from 'node:crypto';
import { AppError, isAppError } from '../errors/index.ts';
import { randomHex, workAhead, type Clock, type Logger } from '../runtime/index.ts';
import { ByteCache } from './byte-cache.ts';
import { ChunkWriter } from './chunk-writer.ts';
import type { CodecPool } from './codec-pool.ts';
import { listName, publishCondemned, settleVerdict, verdictName, type CondemnedList } from './condemned.ts';
import { nextEvidenceNumber, readEvidence, replaceEvidence } from './evidence.ts';
import { readHeader, type RepositoryHeader } from './header.ts';
import { encodeSegment, parseSegment, SEGMENT_TARGET_BYTES } from './index-segment.ts';
import { publishJson } from './json-file.ts';
import {
  CONDEMNED_FOLDER,
  EVIDENCE_FOLDER,
  indexName,
  MARKS_FOLDER,
  PACK_TARGET_BYTES,
  packIdOfName,
  packName,
  pointIdOfName,
  pointName,
  POINTS_FOLDER,
} from './layout.ts';
import { Liveness, needsOf, sizeOfNeeds, type PointNeeds } from './liveness.ts';
import { SMALL_FILES_AHEAD, type PackCatalog, type PackEntry } from './pack-catalog.ts';
import type { PackTable } from './pack-format.ts';
import { FENCE, isFence, parsePoint } from './point-file.ts';
import { isPurgeDue, removeIfThere, type PointMarks } from './point-marks.ts';
import type { CollectOptions, CollectReport, CollectStage, PointFate } from './repository.ts';
import { readAllSessions, type FoundSession } from './session-file.ts';

/** A session that published nothing for so long is dead: a checkpoint comes every few hundred MiB. */
const SESSION_SILENCE_MS = 7 * 24 * 3600 * 1000;
/** A pack of which less is needed is written anew: at most so much of the store is waste in the end. */
const LIVE_SHARE_MIN = 0.75;
/** A pack that nobody can read was noted so long ago: it is not one that somebody is copying here, or back. */
const UNREADABLE_PACK_MS = 7 * 24 * 3600 * 1000;
/** Clocks of machines that share a repository may differ by this. */
const CLOCK_TOLERANCE_MS = 24 * 3600 * 1000;
const WAIT_STEP_MS = 1000;
/** A list that a session refused is announced anew, without what that session needs. */
const ROUNDS_MAX = 3;
/** A segment is written anew when more than this share of it is about packs that are gone. */
const SEGMENT_WASTE_MAX = 0.25;
/** So many segments below a megabyte are made into few. */
const SMALL_SEGMENTS_MAX = 32;
const SMALL_SEGMENT_BYTES = 1024 * 1024;
/** Enough for some thousand points, and for the pages of 256 GiB of different content. */
const POINT_CACHE_BYTES = 4 * 1024 * 1024;
const PAGE_CACHE_BYTES = 8 * 1024 * 1024;
/** Packs removed between two looks whether to go on. */
const REMOVED_AT_ONCE = 32;
/** So often a collection begins in all when others are faster, each of which has brought deletions to their end. */
const ATTEMPTS_MAX = 5;

export interface CollectContext {
  catalog: PackCatalog;
  pool: CodecPool;
  header: RepositoryHeader;
  clock: Clock;
  logger: Logger;
  marks: PointMarks;
}

/** Section "Deleting" of the format: mark, announce, wait, mark again, decide, remove. */
export async function collectGarbage(context: CollectContext, options: CollectOptions): Promise<CollectReport> {
  return new Collector(context, options).run();
}

class Collector {
  readonly #context: CollectContext;
  readonly #catalog: PackCatalog;
  readonly #options: CollectOptions;
  readonly #deadlineMs: number;
  /** Number of the next `evidence/` file, as far as this one knows; null: it has not looked yet. */
  #nextEvidence: number | null = null;
  /** Points that were there and stay: none of them may be missing when it is looked again. */
  readonly #kept = new Set<string>();
  /** Sessions that were seen at work, and the points that they publish. */
  readonly #seen = new Map<string, { sessionId: string; pointId: string }>();
  /** Packs whose names a power cut does not take back. */
  readonly #durable = new Set<number>();
  /** What was read of points and pages, which never change: each mark needs them. */
  readonly #points = new ByteCache<string, PointNeeds>(POINT_CACHE_BYTES);
  readonly #pages = new ByteCache<string, Buffer>(PAGE_CACHE_BYTES);
  readonly #report: CollectReport = {
    state: 'done',
    waitingFor: [],
    purgedPoints: [],
    spared: [],
    keptPoints: 0,
    fencedSessions: [],
    packs: 0,
    removedPacks: 0,
    removedBytes: 0,
    writtenBytes: 0,
    missingChunks: 0,
  };

  constructor(context: CollectContext, options: CollectOptions) {
    this.#context = context;
    this.#catalog = context.catalog;
    this.#options = options;
    this.#deadlineMs = context.clock.monotonicMs() + options.patienceMs;
  }

  async run(): Promise<CollectReport> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#collect();
        break;
      } catch (error) {
        if (attempt === ATTEMPTS_MAX || !isAppError(error) || !(await this.#isOvertaken(error))) throw error;
        const { clock, logger } = this.#context;
        logger.info({ attempt, code: error.code }, 'another clean-up was faster: this one begins anew');
        await clock.sleep(WAIT_STEP_MS + 2 * (this.#catalog.storage.namesLagMs ?? 0), this.#options.signal);
      }
    }
    await this.#catalog.storage.keepReserve?.();
    this.#report.packs = this.#catalog.packs.filter((entry) => !entry.gone).length;
    return this.#report;
  }

  /**
   * Whether another collector has ended deletions since this one looked: what fails then, for versions and their chunks
   * that are gone, fails by what this one still took for there.
   */
  async #isOvertaken(error: AppError): Promise<boolean> {
    if (error.code === 'CONFLICT') return true;
    const known = this.#nextEvidence;
    return known !== null && (await nextEvidenceNumber(this.#catalog.storage)) > known;
  }

  async #collect(): Promise<void> {
    // Of an attempt before, nothing is remembered but what it did.
    this.#kept.clear();
    this.#seen.clear();
    this.#nextEvidence = null;
    this.#report.waitingFor = [];
    await this.#assertIdentity();
    await this.#catalog.refreshLists();
    await this.#removeOverSessions();
    await this.#endDeletions();
    await this.#finishDecided();
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const outcome = await this.#collectRound();
      if (outcome !== 'refused') break;
    }
    if (this.#report.state === 'done') await this.#tidy();
  }

  /** One announcement, brought to its end. `refused`: a session needed some of it. */
  async #collectRound(): Promise<'done' | 'waiting' | 'refused'> {
    const liveness = await this.#mark();
    this.#report.missingChunks = liveness.missingChunks;
    const announced = new Set(this.#catalog.condemnedLists.flatMap((list) => list.packs));
    const wanted = this.#chooseVictims(liveness).filter((number) => !announced.has(this.#packId(number)));
    // Before the announcement, so that no session finds itself without the chunks that stay.
    const victims = await this.#moveAway(wanted, liveness);
    const packs = victims.map((number) => this.#packId(number));
    packs.push(...(await this.#findUnreadable(liveness)).filter((packId) => !announced.has(packId)));
    if (packs.length > 0) {
      const list = { id: randomHex(16), packs, atMs: this.#passedMs() };
      await publishCondemned(this.#catalog.storage, list, this.#catalog.keys);
    }
    // Also shows what other collectors announced: no chunk is trusted to lie in a pack of theirs.
    await this.#catalog.refreshLists();
    // Only these are decided: one that is announced during the wait has a wait of its own.
    const lists = this.#catalog.condemnedLists;
    if (lists.length === 0) return 'done';
    if (!(await this.#waitForSessions())) return 'waiting';
    const now = await this.#mark();
    const free = await this.#secure(lists, now);
    let outcome: 'done' | 'refused' = 'done';
    for (const list of lists) if (!(await this.#decide(list, free))) outcome = 'refused';
    await this.#catalog.refreshLists();
    return outcome;
  }

  /** Another folder, an empty one or a newer program's: whoever removes must know where it is. */
  async #assertIdentity(): Promise<void> {
    const now = await readHeader(this.#catalog.storage);
    if (JSON.stringify(now) === JSON.stringify(this.#context.header)) return;
    throw new AppError(
      'REPOSITORY_EVIDENCE_MISSING',
      `Another repository lies at ${this.#catalog.storage.location} now.`,
      {
        hint: 'Check that the right volume is mounted. Nothing was removed.',
        details: { location: this.#catalog.storage.location },
      },
    );
  }

  /** Deletions whose time is over become final; then the points' files go, before anything they need. */
  async #endDeletions(): Promise<void> {
    const { marks } = this.#context;
    const { storage, keys } = this.#catalog;
    const evidence = await readEvidence(storage, keys);
    this.#nextEvidence = evidence.next;
    const fates = await marks.loadAll();
    this.#assertClock([
      ...[...fates].map(([pointId, { deleted }]) => ({ atMs: deleted?.atMs ?? 0, name: `${MARKS_FOLDER}/${pointId}` })),
      ...this.#catalog.condemnedLists.map(({ id, atMs }) => ({ atMs, name: listName(id) })),
      { atMs: evidence.newest?.atMs ?? 0, name: evidence.names.at(-1) ?? EVIDENCE_FOLDER },
    ]);
    const listed = await this.#listPoints();
    // All that stays must be there and readable before anything goes.
    const isRead = new Set(this.#options.readPoints);
    const staying = [...listed].filter(
      (pointId) => isRead.has(pointId) || !isGoing(fates.get(pointId), this.#passedMs()),
    );
    const read = (pointId: string): Promise<PointNeeds | null> => this.#readPoint(pointId, fates.get(pointId));
    for await (const _needs of workAhead(staying, SMALL_FILES_AHEAD, read)) this.#options.signal?.throwIfAborted();
    for (const pointId of evidence.newest?.points ?? []) {
      if (!listed.has(pointId) && (fates.get(pointId) ?? null) === null) throw notListed(pointId, storage.location);
    }
    this.#options.signal?.throwIfAborted();

    const gone = new Set<string>();
    for (const [pointId, fate] of fates) {
      const isDue = isPurgeDue(fate, this.#passedMs());
      if (isDue && isRead.has(pointId)) this.#report.spared.push(pointId);
      else if (fate.purged || (isDue && (await marks.purge(pointId, this.#passedMs())))) gone.add(pointId);
    }
    for (const name of await storage.removeAll([...gone].map(pointName))) {
      const pointId = pointIdOfName(name);
      if (pointId !== null) this.#report.purgedPoints.push(pointId);
    }
    const kept = [...listed].filter((pointId) => !gone.has(pointId)).sort();
    for (const pointId of kept) this.#kept.add(pointId);
    for (const [key, { pointId }] of this.#seen) if (gone.has(pointId)) this.#seen.delete(key);
    const before = evidence.newest?.points ?? null;
    if (before === null || before.length !== kept.length || before.some((pointId, index) => pointId !== kept[index])) {
      await replaceEvidence(storage, evidence, { atMs: this.#passedMs(), points: kept }, keys);
      this.#nextEvidence = evidence.next + 1;
    }
    for (const pointId of gone) await marks.forget(pointId);
  }

  /** The time by which something is over: it has passed, also if somebody set the clock forward. */
  #passedMs(): number {
    return this.#context.clock.nowMs() - (this.#options.clockAheadMs ?? 0);
  }

  #assertClock(done: readonly { atMs: number; name: string }[]): void {
    const nowMs = this.#context.clock.nowMs();
    const latest = done.reduce((last, one) => (one.atMs > last.atMs ? one : last), { atMs: 0, name: '' });
    if (latest.atMs <= nowMs + CLOCK_TOLERANCE_MS) return;
    const { atMs: latestMs, name } = latest;
    // No program can tell a clock that was set back from one that is right and ran ahead before.
    const wayOut = name.startsWith(MARKS_FOLDER)
      ? 'bring that version back from the trash, and delete it again'
      : `remove ${name} from the repository`;
    throw new AppError(
      'REPOSITORY_CLOCK_BACK',
      `The clock shows ${new Date(nowMs).toISOString()}, but something was done here at ${new Date(latestMs).toISOString()} (${name}).`,
      {
        hint: `Set the clock of the NAS right. Nothing is removed until then. If it is right now and ran ahead then, ${wayOut}.`,
        details: { nowMs, latestMs, name },
      },
    );
  }

  /** Ids in `points/`, looked at twice: a listing that runs beside changes may miss a name. */
  async #listPoints(): Promise<Set<string>> {
    const listed = new Set<string>();
    for (let look = 0; look < 2; look += 1) {
      for await (const name of this.#catalog.storage.listNames(POINTS_FOLDER)) {
        const pointId = pointIdOfName(name);
        if (pointId !== null) listed.add(pointId);
      }
    }
    return listed;
  }

  /**
   * @returns null for one that needs nothing any more
   * @throws REPOSITORY_MANIFEST_DAMAGED unless it was deleted
   */
  async #readPoint(pointId: string, fate: PointFate | undefined): Promise<PointNeeds | null> {
    const known = this.#points.get(pointId);
    if (known !== undefined) return known;
    const name = pointName(pointId);
    try {
      const bytes = await this.#catalog.storage.read(name);
      if (isFence(bytes)) return null;
      const needs = needsOf(parsePoint(bytes, name, this.#catalog.keys));
      this.#points.set(pointId, needs, sizeOfNeeds(needs));
      return needs;
    } catch (error) {
      if (!isAppError(error)) throw error;
      // Deleted while it could not be read: there is nothing to bring back.
      if (error.code === 'REPOSITORY_MANIFEST_DAMAGED' && (fate?.deleted ?? null) !== null) return null;
      if (error.code === 'NOT_FOUND' && fate?.purged === true) return null;
      throw error;
    }
  }

  /**
   * Everything that is needed now. Sessions are read before points: one that ended between the two is
   * seen as the point that it published. A new look at the packs comes last, so none is unknown.
   */
  async #mark(): Promise<Liveness> {
    const { catalog, header, marks } = this.#context;
    const sessions = await this.#readSessions();
    const listed = await this.#listPoints();
    const fates = await marks.loadAll();
    for (const pointId of this.#kept) {
      if (!listed.has(pointId) && fates.get(pointId)?.purged !== true) {
        throw notListed(pointId, catalog.storage.location);
      }
    }
    const present = new Set(sessions.map(({ key }) => key));
    for (const [key, { pointId }] of this.#seen) {
      if (!present.has(key) && !listed.has(pointId) && fates.get(pointId)?.purged !== true) {
        throw notListed(pointId, catalog.storage.location);
      }
    }
    await catalog.refresh();
    const { signal } = this.#options;
    const liveness = new Liveness({ catalog, chunkSizeBytes: header.chunkSizeBytes, pages: this.#pages, signal });
    for (const { records } of sessions) for (const record of records) await liveness.addSession(record);
    let done = 0;
    this.#report.keptPoints = 0;
    const walk = async (pointId: string): Promise<void> => {
      const fate = fates.get(pointId);
      if (fate?.purged === true) return;
      const needs = await this.#readPoint(pointId, fate);
      if (needs === null) return;
      this.#kept.add(pointId);
      this.#report.keptPoints += 1;
      await liveness.addPoint(needs);
    };
    for await (const _walked of workAhead(listed, SMALL_FILES_AHEAD, walk)) {
      this.#progress('marking', done, listed.size);
      done += 1;
    }
    return liveness;
  }

  /** Looked at twice, as points are. */
  async #readSessions(): Promise<FoundSession[]> {
    const { storage, keys } = this.#catalog;
    const first = await readAllSessions(storage, keys);
    const second = await readAllSessions(storage, keys);
    const known = new Set(second.map(({ key }) => key));
    for (const { key, newest } of [...first, ...second]) {
      this.#seen.set(key, { sessionId: newest.sessionId, pointId: newest.pointId });
    }
    return [...second, ...first.filter(({ key }) => !known.has(key))];
  }

  #chooseVictims(liveness: Liveness): number[] {
    const { liveShareMin } = this.#options;
    const victims: number[] = [];
    for (const [number, entry] of this.#catalog.packs.entries()) {
      if (entry.gone) continue;
      const live = liveness.liveRows(number);
      // Of one that is not full all comes free: a session leaves one of each kind, and many become few.
      const share = liveShareMin ?? (entry.fileBytes < PACK_TARGET_BYTES ? 1 : LIVE_SHARE_MIN);
      if (live === 0 || live < entry.rowCount * share || entry.badRows !== null) victims.push(number);
    }
    return victims;
  }

  /**
   * Packs of which nothing tells what lay in them, by a check of long ago and now. While no version lacks a chunk, none
   * can be in them alone.
   */
  async #findUnreadable(liveness: Liveness): Promise<string[]> {
    if (liveness.missingChunks > 0) return [];
    const noted = new Set<string>();
    for (const { atMs, copies } of this.#catalog.damagedRecords.values()) {
      if (this.#passedMs() - atMs < UNREADABLE_PACK_MS) continue;
      for (const { pack } of copies) noted.add(pack);
    }
    const unreadable: string[] = [];
    for (const packId of noted) if (await this.#catalog.isUnreadable(packId)) unreadable.push(packId);
    return unreadable;
  }

  /**
   * Stores what is needed of each pack in new packs.
   * @returns the packs whose needed chunks all lie elsewhere now
   */
  async #moveAway(victims: readonly number[], liveness: Liveness): Promise<number[]> {
    const doomed = new Set(victims);
    const moved: number[] = [];
    const { pool, logger } = this.#context;
    const writer = new ChunkWriter({ catalog: this.#catalog, pool, logger, avoid: doomed });
    try {
      for (const [done, number] of victims.entries()) {
        this.#progress('rewriting', done, victims.length);
        if (await this.#moveOne(number, liveness, writer, doomed)) moved.push(number);
      }
      await writer.publish();
      return moved;
    } catch (error) {
      if (!isAppError(error) || error.code !== 'STORAGE_FULL') throw error;
      // What needs no room goes all the same: that is how room comes about.
      this.#context.logger.warn({ code: error.code }, 'no room to write packs anew; only what nobody needs is removed');
      return victims.filter((number) => liveness.liveRows(number) === 0);
    } finally {
      await writer.close();
    }
  }

  /** False: a needed chunk of it cannot be read, so the pack stays. */
  async #moveOne(
    number: number,
    liveness: Liveness,
    writer: ChunkWriter,
    doomed: ReadonlySet<number>,
  ): Promise<boolean> {
    if (liveness.liveRows(number) === 0) return true;
    const { packId, kind, badRows } = this.#catalog.pack(number);
    let table: PackTable;
    try {
      table = await this.#catalog.table(number);
    } catch (error) {
      if (isAppError(error) && isOneFilesTrouble(error)) return false;
      throw error;
    }
    for (const row of badRows ?? []) {
      if (!liveness.isLive(number, row)) continue;
      if (!(await this.#liesElsewhere(Buffer.from(table.row(row).id), doomed))) return false;
    }
    for (const row of rowsInFileOrder(table)) {
      this.#options.signal?.throwIfAborted();
      if (!liveness.isLive(number, row)) continue;
      const id = Buffer.from(table.row(row).id);
      if (await this.#liesElsewhere(id, doomed)) continue;
      let content: Buffer;
      try {
        content = await this.#catalog.readChunk(id);
      } catch (error) {
        if (!isAppError(error) || !isOneFilesTrouble(error)) throw error;
        this.#context.logger.warn({ pack: packId, error: error.message }, 'a pack stays: it cannot be read');
        return false;
      }
      this.#report.writtenBytes += table.row(row).storedLength;
      await writer.storeAgain(id, content, kind);
    }
    return true;
  }

  /** Whether a copy in a pack that stays can be read, now. */
  async #liesElsewhere(id: Buffer, doomed: ReadonlySet<number>): Promise<boolean> {
    for await (const place of this.#catalog.places(id, 'build')) {
      if (doomed.has(place.pack) || (await this.#catalog.readPlace(id, place)) === null) continue;
      if (!this.#durable.has(place.pack)) {
        // Its writer may have been killed before the name was durable, and the copy that goes is.
        await this.#catalog.storage.persist(packName(this.#packId(place.pack)));
        this.#durable.add(place.pack);
      }
      return true;
    }
    return false;
  }

  /**
   * The second look, when nobody can build on the announced packs any more: each chunk that is needed after
   * all is proven to lie elsewhere, or is stored again.
   * @returns the packs that may go: those that are there, are known, and hold nothing that lies there alone
   */
  async #secure(lists: readonly CondemnedList[], liveness: Liveness): Promise<Set<string>> {
    const announced = new Set(lists.flatMap((list) => list.packs));
    const known = [...announced].flatMap((packId) => this.#catalog.numberOf(packId) ?? []);
    const present = known.filter((number) => !this.#catalog.pack(number).gone);
    const free = new Set((await this.#moveAway(present, liveness)).map((number) => this.#packId(number)));
    for (const packId of await this.#findUnreadable(liveness)) if (announced.has(packId)) free.add(packId);
    return free;
  }

  /** Waits until each session that may not know of the announcement is over. False: out of patience. */
  async #waitForSessions(): Promise<boolean> {
    const { clock } = this.#context;
    const { namesLagMs = 0 } = this.#catalog.storage;
    // Who began without seeing the announcement can be seen by then; who is seen now and gone by then has published
    // a point, and is waited for until that can be seen.
    if (namesLagMs > 0) await this.#readSessions();
    if (namesLagMs > 0) await clock.sleep(2 * namesLagMs, this.#options.signal);
    const awaited = new Set(await this.#running(null));
    for (;;) {
      const running = await this.#running(awaited);
      this.#report.waitingFor = running;
      if (running.length === 0) return true;
      this.#progress('waiting', awaited.size - running.length, awaited.size);
      if (clock.monotonicMs() >= this.#deadlineMs) {
        this.#report.state = 'waiting';
        return false;
      }
      await clock.sleep(WAIT_STEP_MS, this.#options.signal);
    }
  }

  /**
   * Sessions at work; those that have been silent for too long are fenced, and then are not. One whose records
   * are gone has published its point: until that can be seen, it is not over.
   */
  async #running(among: ReadonlySet<string> | null): Promise<string[]> {
    const { storage } = this.#catalog;
    const running: string[] = [];
    const found = await this.#readSessions();
    const present = new Set(found.map(({ key }) => key));
    for (const session of found) {
      const { newest } = session;
      if (among !== null && !among.has(newest.sessionId)) continue;
      if (await storage.exists(pointName(newest.pointId))) continue;
      if (this.#isSilent(newest.writtenAtMs)) await this.#fence(session);
      else if (newest.ended !== true) running.push(newest.sessionId);
    }
    for (const [key, { sessionId, pointId }] of this.#seen) {
      if (!present.has(key) && !(await storage.exists(pointName(pointId)))) running.push(sessionId);
    }
    return running;
  }

  #isSilent(writtenAtMs: number): boolean {
    return this.#passedMs() - writtenAtMs >= (this.#options.sessionSilenceMs ?? SESSION_SILENCE_MS);
  }

  /** Takes the name of the point that the session would publish: it cannot commit any more. */
  async #fence({ newest: { pointId, sessionId } }: FoundSession): Promise<void> {
    const { storage, keys } = this.#catalog;
    try {
      const fence = { pointId, sessionId, atMs: this.#context.clock.nowMs() };
      await publishJson(storage, pointName(pointId), fence, FENCE, keys);
      this.#report.fencedSessions.push(sessionId);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'STORAGE_EXISTS') throw error;
      // It committed at the last moment, or another collector was faster.
    }
  }

  /** False: a session wants the list's packs kept. */
  async #decide(list: CondemnedList, free: ReadonlySet<string>): Promise<boolean> {
    const { storage, keys } = this.#catalog;
    await this.#assertIdentity();
    this.#options.signal?.throwIfAborted();
    const packs = list.packs.filter((packId) => free.has(packId));
    const verdict = await settleVerdict(storage, list.id, { verdict: 'remove', packs }, keys);
    // A verdict is removed after its list: without the list, another collector brought it to its end already.
    const isOpen = await storage.exists(listName(list.id));
    if (isOpen && verdict.verdict === 'remove') await this.#remove(verdict.packs);
    await this.#dropList(list.id);
    return verdict.verdict === 'remove';
  }

  /** What a collection before had decided and not brought to its end. */
  async #finishDecided(): Promise<void> {
    if (this.#catalog.condemnedLists.every(({ verdict }) => verdict === null)) return;
    // How large a pack was is only known of those that were listed.
    await this.#catalog.refresh();
    for (const { id, verdict } of this.#catalog.condemnedLists) {
      if (verdict === null) continue;
      if (verdict.verdict === 'remove') await this.#remove(verdict.packs);
      await this.#dropList(id);
    }
  }

  /** The list first: who finds a verdict without its list needs it for nothing. */
  async #dropList(listId: string): Promise<void> {
    await removeIfThere(this.#catalog.storage, listName(listId));
    await removeIfThere(this.#catalog.storage, verdictName(listId));
  }

  async #remove(packIds: readonly string[]): Promise<void> {
    for (let done = 0; done < packIds.length; done += REMOVED_AT_ONCE) {
      this.#progress('removing', done, packIds.length);
      this.#options.signal?.throwIfAborted();
      const portion = packIds.slice(done, done + REMOVED_AT_ONCE);
      for (const name of await this.#catalog.storage.removeAll(portion.map(packName))) {
        const number = this.#catalog.numberOf(packIdOfName(name) ?? '');
        this.#report.removedPacks += 1;
        this.#report.removedBytes += number === undefined ? 0 : this.#catalog.pack(number).fileBytes;
      }
      for (const packId of portion) this.#catalog.noteGone(packId);
    }
  }

  /** What saves time or room, and what nothing depends on. */
  async #tidy(): Promise<void> {
    await this.#compactIndex();
    await this.#removeDamagedRecords();
    await this.#removeOverSessions();
    await this.#removeLoneVerdicts();
  }

  /** Left by a cut between the removal of a list and of its verdict. */
  async #removeLoneVerdicts(): Promise<void> {
    const { storage } = this.#catalog;
    const names = new Set<string>();
    for await (const name of storage.listNames(CONDEMNED_FOLDER)) names.add(name);
    for (const name of names) {
      const list = name.replace(/\.verdict$/, '.condemned');
      if (!names.has(list) && !(await storage.exists(list))) await removeIfThere(storage, name);
    }
  }

  /** Records of a session whose point is there would outlive the point, and keep what it held. */
  async #removeOverSessions(): Promise<void> {
    const { storage } = this.#catalog;
    for (const { names, newest } of await this.#readSessions()) {
      if (!(await storage.exists(pointName(newest.pointId)))) continue;
      await storage.removeAll(names);
    }
  }

  /** Segments that are mostly about packs that are gone, and many small ones, are written anew. */
  async #compactIndex(): Promise<void> {
    const bySegment = new Map<string, { entries: PackEntry[]; goneBytes: number; bytes: number }>();
    for (const name of this.#catalog.segmentNames) bySegment.set(name, { entries: [], goneBytes: 0, bytes: 0 });
    for (const entry of this.#catalog.packs) {
      const segment = entry.copy === null ? undefined : bySegment.get(entry.copy.segment);
      if (segment === undefined || entry.copy === null) continue;
      segment.bytes += entry.copy.lengthBytes;
      if (entry.gone) segment.goneBytes += entry.copy.lengthBytes;
      else segment.entries.push(entry);
    }
    const old = [...bySegment].filter(
      ([, { goneBytes, bytes }]) => goneBytes > bytes * SEGMENT_WASTE_MAX || bytes === 0,
    );
    const small = [...bySegment].filter(([, { bytes }]) => bytes > 0 && bytes < SMALL_SEGMENT_BYTES);
    if (small.length > SMALL_SEGMENTS_MAX) old.push(...small.filter((one) => !old.some(([name]) => name === one[0])));
    let tables: PackTable[] = [];
    let replaced: string[] = [];
    // In portions, each as large as a segment: the tables of a whole store would not fit into memory.
    const atOnce = old.every(([, { bytes }]) => bytes < SMALL_SEGMENT_BYTES) ? SMALL_FILES_AHEAD : 1;
    const read = async ([name, { entries }]: (typeof old)[number]): Promise<[string, PackTable[] | null]> => [
      name,
      await this.#tablesOf(name, entries),
    ];
    for await (const [name, found] of workAhead(old, atOnce, read)) {
      if (found !== null) replaced.push(name);
      tables.push(...(found ?? []));
      const bytes = tables.reduce((sum, table) => sum + table.bytes.length, 0);
      if (bytes < SEGMENT_TARGET_BYTES) continue;
      await this.#replaceSegments(tables, replaced);
      tables = [];
      replaced = [];
    }
    if (replaced.length > 0) await this.#replaceSegments(tables, replaced);
  }

  async #replaceSegments(tables: readonly PackTable[], replaced: readonly string[]): Promise<void> {
    const { storage } = this.#catalog;
    const made: { portion: PackTable[]; name: string; places: { offsetBytes: number; lengthBytes: number }[] }[] = [];
    for (const portion of portionsOf(tables)) {
      const name = indexName(randomBytes(16).toString('hex'));
      const segment = encodeSegment(portion);
      const places = parseSegment(segment, name).map(({ offsetBytes, lengthBytes }) => ({ offsetBytes, lengthBytes }));
      await storage.publish(name, segment);
      made.push({ portion, name, places });
    }
    await storage.removeAll(replaced);
    this.#catalog.dropSegments(replaced);
    for (const { portion, name, places } of made) this.#catalog.setCopies(portion, name, places);
  }

  /**
   * From the segment that is replaced, in one piece, or, where it is damaged now, from the packs. Null: nor can those
   * be read.
   */
  async #tablesOf(segment: string, entries: readonly PackEntry[]): Promise<PackTable[] | null> {
    const wanted = new Set(entries.map(({ packId }) => packId));
    if (wanted.size === 0) return [];
    const tables: PackTable[] = [];
    try {
      for (const { table } of parseSegment(await this.#catalog.storage.read(segment), segment)) {
        if (wanted.delete(table.packId)) tables.push(table);
      }
    } catch (error) {
      if (!isAppError(error) || !isOneFilesTrouble(error)) throw error;
    }
    for (const packId of wanted) {
      try {
        tables.push(await this.#catalog.table(this.#catalog.numberOf(packId) as number));
      } catch (error) {
        if (!isAppError(error) || !isOneFilesTrouble(error)) throw error;
        return null;
      }
    }
    return tables;
  }

  /** A record about damaged copies is done with when all packs that it names are gone. */
  async #removeDamagedRecords(): Promise<void> {
    const { storage, damagedRecords } = this.#catalog;
    for (const [name, { copies }] of [...damagedRecords]) {
      let isDone = true;
      for (const { pack } of copies) {
        const number = this.#catalog.numberOf(pack);
        if (number === undefined ? await storage.exists(packName(pack)) : !this.#catalog.pack(number).gone) {
          isDone = false;
          break;
        }
      }
      if (isDone) await removeIfThere(storage, name);
    }
  }

  #packId(number: number): string {
    return this.#catalog.pack(number).packId;
  }

  #progress(stage: CollectStage, done: number, total: number): void {
    this.#options.progress?.({ stage, done, total });
  }
}

function isGoing(fate: PointFate | undefined, nowMs: number): boolean {
  return fate !== undefined && (fate.purged || isPurgeDue(fate, nowMs));
}

function rowsInFileOrder(table: PackTable): number[] {
  const rows = Array.from({ length: table.rowCount }, (_, row) => row);
  return rows.sort((a, b) => table.row(a).offsetBytes - table.row(b).offsetBytes);
}

function portionsOf(tables: readonly PackTable[]): PackTable[][] {
  const portions: PackTable[][] = [];
  let bytes = SEGMENT_TARGET_BYTES;
  for (const table of tables) {
    if (bytes >= SEGMENT_TARGET_BYTES) {
      portions.push([]);
      bytes = 0;
    }
    portions.at(-1)?.push(table);
    bytes += table.bytes.length;
  }
  return portions;
}

function notListed(pointId: string, location: string): AppError {
  return new AppError(
    'REPOSITORY_EVIDENCE_MISSING',
    `Version ${pointId} was in ${location} and is not listed any more.`,
    {
      hint: 'Check that the right volume is mounted and whole. If the file is lost, put it back from a copy of the repository.',
      details: { pointId },
    },
  );
}

function isOneFilesTrouble(error: AppError): boolean {
  return error.code.startsWith('REPOSITORY_') || error.code === 'NOT_FOUND' || error.code === 'STORAGE_FAILED';
}

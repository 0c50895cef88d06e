import * as z from 'zod';
import { AppError, isAppError } from '../errors/index.ts';
import type { Clock } from '../runtime/index.ts';
import type { Storage } from '../storage/index.ts';
import { parseJson, publishJson, timeMsSchema, type JsonFileKind } from './json-file.ts';
import type { RepositoryKeys } from './keys.ts';
import { MARKS_FOLDER, pointIdOfName, pointName, POINTS_FOLDER } from './layout.ts';
import { isOneFilesTrouble } from './point-file.ts';
import type { DeleteRequest, PointFate } from './repository.ts';

/**
 * What was decided about a point, section "Marks": a row of numbered files, each published under a name
 * that must not exist yet. So decisions about one point have one order, whoever makes them: a lock and a
 * purge at the same moment cannot both be the next.
 */
const schema = z.object({
  pointId: z.string(),
  verb: z.enum(['delete', 'restore', 'lock', 'purge']),
  atMs: timeMsSchema.int(),
  /** `delete`: not purged before; `lock`: not deleted before. Null for the others. */
  untilMs: timeMsSchema.int().nullable(),
  reason: z.string(),
});
type Mark = z.infer<typeof schema>;

const MARK: JsonFileKind<Mark> = {
  kind: 'DOZOMARK',
  schema,
  code: 'REPOSITORY_INDEX_DAMAGED',
  hint: 'Put this file back from a copy of the repository. Until then nothing is removed from it. Its version is shown and can be restored, even if it was in the trash.',
};

/** Somebody else decided something at the same moment: looked at again so often. */
const ATTEMPTS_MAX = 20;

interface History {
  fate: PointFate;
  /** Number of the next mark. */
  next: number;
}

/** What those may go by who only read. */
export interface ReadableFates {
  /** Of every point that something was decided about, as far as it can be read. */
  fates: Map<string, PointFate>;
  /** Why not, by point. */
  unreadable: Map<string, AppError>;
}

/** Marks never change, so each is read once. */
export class PointMarks {
  readonly #storage: Storage;
  readonly #keys: RepositoryKeys | null;
  readonly #clock: Clock;
  readonly #read = new Map<string, Mark>();

  constructor(options: { storage: Storage; keys: RepositoryKeys | null; clock: Clock }) {
    this.#storage = options.storage;
    this.#keys = options.keys;
    this.#clock = options.clock;
  }

  /**
   * What holds of every point that something was ever decided about.
   * @throws REPOSITORY_INDEX_DAMAGED when a mark cannot be read or is missing in its row
   */
  async loadAll(): Promise<Map<string, PointFate>> {
    const histories = await this.#load(MARKS_FOLDER);
    return new Map([...histories].map(([pointId, { fate }]) => [pointId, fate]));
  }

  /** As `loadAll`, but a point whose marks cannot be read keeps nobody from the others. */
  async loadReadable(): Promise<ReadableFates> {
    const unreadable = new Map<string, AppError>();
    const histories = await this.#load(MARKS_FOLDER, unreadable);
    return { fates: new Map([...histories].map(([pointId, { fate }]) => [pointId, fate])), unreadable };
  }

  /** Null when its marks cannot be read. @throws storage errors */
  async loadIfReadable(pointId: string): Promise<PointFate | null> {
    const unreadable = new Map<string, AppError>();
    const { fate } = await this.#history(pointId, unreadable);
    return unreadable.has(pointId) ? null : fate;
  }

  /** @throws POINT_NOT_FOUND, POINT_LOCKED, storage errors */
  async delete(pointId: string, { keepUntilMs, reason }: DeleteRequest): Promise<PointFate> {
    return this.#decide(pointId, (fate, nowMs) => {
      assertUnlocked(pointId, fate, nowMs);
      if (fate.deleted?.keepUntilMs === keepUntilMs) return null;
      return { verb: 'delete', untilMs: keepUntilMs, reason };
    });
  }

  /** @throws POINT_NOT_FOUND when it is gone for good */
  async restore(pointId: string): Promise<PointFate> {
    return this.#decide(pointId, (fate) =>
      fate.deleted === null ? null : { verb: 'restore', untilMs: null, reason: '' },
    );
  }

  /** A lock is only ever lengthened. @throws POINT_NOT_FOUND, CONFLICT while it is in the trash */
  async lock(pointId: string, untilMs: number): Promise<PointFate> {
    return this.#decide(pointId, (fate) => {
      if (fate.deleted !== null) {
        throw new AppError('CONFLICT', `Version ${pointId} is in the trash.`, {
          hint: 'Bring it back first, then lock it.',
          details: { pointId },
        });
      }
      return (fate.lockedUntilMs ?? 0) >= untilMs ? null : { verb: 'lock', untilMs, reason: '' };
    });
  }

  /**
   * Ends a deletion whose time is over.
   * @param passedMs the time by which it is: the clock's, or less where that was set forward
   * @returns false when it was brought back, locked or has time left
   */
  async purge(pointId: string, passedMs: number): Promise<boolean> {
    const fate = await this.#decide(
      pointId,
      (now) => (isPurgeDue(now, passedMs) ? { verb: 'purge', untilMs: null, reason: '' } : null),
      { evenWhenGone: true },
    );
    return fate.purged;
  }

  /** Removes the marks of a point whose file is gone. */
  async forget(pointId: string): Promise<void> {
    const names: string[] = [];
    for await (const name of this.#storage.listNames(`${MARKS_FOLDER}/${pointId}`)) names.push(name);
    // The purge, which is the last, goes last: whatever a crash leaves still says that the point is gone.
    for (const name of names.sort()) {
      await removeIfThere(this.#storage, name);
      this.#read.delete(name);
    }
  }

  async #decide(
    pointId: string,
    choose: (fate: PointFate, nowMs: number) => Pick<Mark, 'verb' | 'untilMs' | 'reason'> | null,
    options: { evenWhenGone?: boolean } = {},
  ): Promise<PointFate> {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const { fate, next } = await this.#history(pointId);
      if (options.evenWhenGone !== true) await this.#assertThere(pointId, fate);
      const nowMs = this.#clock.nowMs();
      const choice = choose(fate, nowMs);
      if (choice === null) return fate;
      const mark: Mark = { pointId, atMs: nowMs, ...choice };
      try {
        await publishJson(this.#storage, markName(pointId, next), mark, MARK, this.#keys);
        return applied(fate, mark);
      } catch (error) {
        if (!isAppError(error) || error.code !== 'STORAGE_EXISTS') throw error;
      }
    }
    throw new AppError('CONFLICT', `Version ${pointId} is being changed by others.`, { hint: 'Try again.' });
  }

  async #assertThere(pointId: string, fate: PointFate): Promise<void> {
    const name = pointName(pointId);
    if (pointIdOfName(name) !== null && !fate.purged && (await this.#storage.exists(name))) return;
    throw new AppError('POINT_NOT_FOUND', `There is no version ${pointId} in ${this.#storage.location}.`, {
      hint: 'It may have been deleted for good. Load the list of versions again.',
      details: { pointId },
    });
  }

  async #history(pointId: string, unreadable: Map<string, AppError> | null = null): Promise<History> {
    if (pointIdOfName(pointName(pointId)) === null) return { fate: UNTOUCHED, next: 0 };
    return (await this.#load(`${MARKS_FOLDER}/${pointId}`, unreadable)).get(pointId) ?? { fate: UNTOUCHED, next: 0 };
  }

  /**
   * Points whose marks cannot be read go into `unreadable`, where there is one. @throws else REPOSITORY_INDEX_DAMAGED
   */
  async #load(folder: string, unreadable: Map<string, AppError> | null = null): Promise<Map<string, History>> {
    const rows = new Map<string, { name: string; sequence: number }[]>();
    for await (const name of this.#storage.listNames(folder)) {
      const parsed = parseMarkName(name);
      if (parsed === null) continue;
      const row = rows.get(parsed.pointId) ?? [];
      row.push({ name, sequence: parsed.sequence });
      rows.set(parsed.pointId, row);
    }
    const histories = new Map<string, History>();
    for (const [pointId, row] of rows) {
      try {
        histories.set(pointId, await this.#fold(pointId, row));
      } catch (error) {
        if (unreadable === null || !isAppError(error) || !isOneFilesTrouble(error)) throw error;
        unreadable.set(pointId, error);
      }
    }
    return histories;
  }

  async #fold(pointId: string, row: { name: string; sequence: number }[]): Promise<History> {
    row.sort((a, b) => a.sequence - b.sequence);
    let fate = UNTOUCHED;
    let next = 0;
    for (const { name, sequence } of row) {
      const mark = await this.#mark(name);
      if (mark === null) {
        await this.#assertGone(pointId, row);
        return { fate: { ...fate, purged: true }, next: row.length };
      }
      if (mark.pointId !== pointId) throw damaged(name, 'it is the mark of another version');
      fate = applied(fate, mark);
      next = sequence + 1;
      if (fate.purged) return { fate, next };
    }
    if (next !== row.length) throw damaged(`${MARKS_FOLDER}/${pointId}`, 'a mark in the row is missing');
    return { fate, next };
  }

  /**
   * A mark that was listed is not there. Only those of a point that is gone are ever removed, by a collector that is at
   * it now: its file first, the purge last. Who sees the file and no purge must not take the point for gone.
   */
  async #assertGone(pointId: string, row: readonly { name: string }[]): Promise<void> {
    const last = row.at(-1);
    const isPurged = last !== undefined && (await this.#mark(last.name))?.verb === 'purge';
    if (isPurged || !(await this.#storage.exists(pointName(pointId)))) return;
    throw damaged(`${MARKS_FOLDER}/${pointId}`, 'a mark that is listed is not there');
  }

  async #mark(name: string): Promise<Mark | null> {
    const known = this.#read.get(name);
    if (known !== undefined) return known;
    let bytes: Buffer;
    try {
      bytes = await this.#storage.read(name);
    } catch (error) {
      if (isAppError(error) && error.code === 'NOT_FOUND') return null;
      throw error;
    }
    const mark = parseMark(bytes, name, this.#keys);
    this.#read.set(name, mark);
    return mark;
  }
}

const UNTOUCHED: PointFate = { deleted: null, purged: false, lockedUntilMs: null };

function applied(fate: PointFate, { verb, atMs, untilMs, reason }: Mark): PointFate {
  switch (verb) {
    case 'delete':
      return { ...fate, deleted: { atMs, keepUntilMs: untilMs ?? atMs, reason } };
    case 'restore':
      return { ...fate, deleted: null };
    case 'lock':
      return { ...fate, lockedUntilMs: Math.max(fate.lockedUntilMs ?? 0, untilMs ?? 0) };
    case 'purge':
      return { ...fate, purged: true };
  }
}

export function isPurgeDue(fate: PointFate, nowMs: number): boolean {
  if (fate.deleted === null || fate.purged) return false;
  return fate.deleted.keepUntilMs <= nowMs && (fate.lockedUntilMs ?? 0) <= nowMs;
}

function assertUnlocked(pointId: string, { lockedUntilMs }: PointFate, nowMs: number): void {
  if (lockedUntilMs === null || lockedUntilMs <= nowMs) return;
  const until = new Date(lockedUntilMs).toISOString();
  throw new AppError('POINT_LOCKED', `Version ${pointId} is locked until ${until}.`, {
    hint: 'It can be deleted after that time; a lock cannot be taken back.',
    details: { pointId, lockedUntilMs },
  });
}

function markName(pointId: string, sequence: number): string {
  return `${MARKS_FOLDER}/${pointId}/${String(sequence).padStart(8, '0')}.mark`;
}

function parseMarkName(name: string): { pointId: string; sequence: number } | null {
  const match = /^marks\/([^/]+)\/(\d{8})\.mark$/.exec(name);
  const pointId = match?.[1];
  if (pointId === undefined || pointIdOfName(`${POINTS_FOLDER}/${pointId}.point`) === null) return null;
  return { pointId, sequence: Number(match?.[2]) };
}

/** @throws REPOSITORY_INDEX_DAMAGED, REPOSITORY_FORMAT_UNKNOWN */
export function parseMark(bytes: Buffer, name: string, keys: RepositoryKeys | null): Mark {
  return parseJson(bytes, name, MARK, keys);
}

function damaged(name: string, why: string): AppError {
  return new AppError(MARK.code, `${name} is damaged: ${why}.`, { hint: MARK.hint, details: { name } });
}

/** As `Storage.remove`, and content when it was removed already. */
export async function removeIfThere(storage: Storage, name: string): Promise<boolean> {
  try {
    await storage.remove(name);
    return true;
  } catch (error) {
    if (isAppError(error) && error.code === 'NOT_FOUND') return false;
    throw error;
  }
}

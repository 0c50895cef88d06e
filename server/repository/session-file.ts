import { createHash, randomBytes } from 'node:crypto';
import { setTimeout } from 'node:timers/promises';
import * as z from 'zod';
import { AppError, isAppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import { timeMsSchema } from './json-file.ts';
import type { RepositoryKeys } from './keys.ts';
import { SESSIONS_FOLDER } from './layout.ts';
import { statsSchema } from './point-file.ts';
import { decodeSealed, encodeSealed } from './sealed-file.ts';

/** What a session has published of itself, section "Session". */
const schema = z.object({
  sessionId: z.string(),
  /** The name that the session's point is going to have. */
  pointId: z.string(),
  sequence: z.number().int().nonnegative(),
  writtenAtMs: timeMsSchema,
  /** Its writer has stopped in order: only another one would go on, and look anew first. */
  ended: z.boolean().optional(),
  facts: z.unknown(),
  disks: z.array(
    z.object({
      key: z.string(),
      sizeBytes: z.number().int().nonnegative(),
      rootHash: z.string().regex(/^[0-9a-f]{64}$/),
      baseRootHash: z.string().regex(/^[0-9a-f]{64}$/),
      stats: statsSchema,
    }),
  ),
});

export type SessionRecord = z.infer<typeof schema>;

/** A session's folder: its id where that can be a name, else a hash of it. */
export function sessionFolder(sessionId: string): string {
  const isName = /^[a-z0-9][a-z0-9-]{0,79}$/.test(sessionId);
  return `${SESSIONS_FOLDER}/${isName ? sessionId : createHash('sha256').update(sessionId).digest('hex').slice(0, 32)}`;
}

/** @returns the name it got */
export async function publishSession(
  storage: Storage,
  record: SessionRecord,
  keys: RepositoryKeys | null,
): Promise<string> {
  const sequence = String(record.sequence).padStart(8, '0');
  const name = `${sessionFolder(record.sessionId)}/${sequence}-${randomBytes(4).toString('hex')}.session`;
  await storage.publish(name, encodeSealed('DOZOSESS', Buffer.from(JSON.stringify(record)), { compress: true, keys }));
  return name;
}

/** Records of a session, newest first. What cannot be read is left out: a checkpoint only saves work. */
export async function readSession(
  storage: Storage,
  sessionId: string,
  keys: RepositoryKeys | null,
): Promise<{ name: string; record: SessionRecord }[]> {
  const names: string[] = [];
  for await (const name of storage.listNames(sessionFolder(sessionId))) if (name.endsWith('.session')) names.push(name);
  const found: { name: string; record: SessionRecord }[] = [];
  for (const name of names.sort().reverse()) {
    try {
      const record = parseSession(await storage.read(name), name, keys);
      if (record !== null && record.sessionId === sessionId) found.push({ name, record });
    } catch (error) {
      if (!isAppError(error) || (error.code !== 'REPOSITORY_INDEX_DAMAGED' && error.code !== 'NOT_FOUND')) throw error;
    }
  }
  return found;
}

/** @throws REPOSITORY_INDEX_DAMAGED */
export function parseSession(bytes: Buffer, name: string, keys: RepositoryKeys | null): SessionRecord | null {
  const hint = 'Nothing to do: the interrupted run starts over, chunks that arrived are not sent again.';
  const body = decodeSealed('DOZOSESS', bytes, { name, code: 'REPOSITORY_INDEX_DAMAGED', hint }, keys);
  try {
    return schema.parse(JSON.parse(body.toString('utf8')));
  } catch {
    return null;
  }
}

/**
 * Records of one session that are to end in the same point. A lost writer and the one that took its place may
 * have begun a point each: then these are two.
 */
export interface FoundSession {
  /** Of session and point. */
  key: string;
  names: string[];
  /** The one with the highest number. */
  newest: SessionRecord;
  records: SessionRecord[];
}

/** Far more often than writers replace their records between a listing and the reading of it. */
const LOOKS_MAX = 100;

/**
 * All sessions with all their records. Looked at again while records vanish: a writer replaces its own.
 * @throws REPOSITORY_INDEX_DAMAGED when one cannot be read, STORAGE_FAILED when one is listed and never there,
 *   REPOSITORY_FORMAT_UNKNOWN
 */
export async function readAllSessions(storage: Storage, keys: RepositoryKeys | null): Promise<FoundSession[]> {
  const { namesLagMs = 0, location } = storage;
  for (let look = 1; ; look += 1) {
    try {
      return await readListedSessions(storage, keys);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'NOT_FOUND') throw error;
      if (look === LOOKS_MAX) {
        throw new AppError(
          'STORAGE_FAILED',
          `${location} lists a record of a run that is not there: ${error.message}`,
          {
            hint: 'Check the file system of the volume, or how the share is mounted. Nothing was removed.',
            details: error.details,
            cause: error,
          },
        );
      }
      // A network's file system may go on listing for so long what another machine has removed.
      if (namesLagMs > 0) await setTimeout((2 * namesLagMs) / LOOKS_MAX);
    }
  }
}

async function readListedSessions(storage: Storage, keys: RepositoryKeys | null): Promise<FoundSession[]> {
  const names: string[] = [];
  for await (const name of storage.listNames(SESSIONS_FOLDER)) if (name.endsWith('.session')) names.push(name);
  const found = new Map<string, FoundSession>();
  for (const name of names.sort()) {
    const record = await readRecord(storage, name, keys);
    const key = `${name.slice(0, name.lastIndexOf('/'))} ${record.pointId}`;
    const session = found.get(key) ?? { key, names: [], newest: record, records: [] };
    session.names.push(name);
    session.records.push(record);
    session.newest = record;
    found.set(key, session);
  }
  return [...found.values()];
}

async function readRecord(storage: Storage, name: string, keys: RepositoryKeys | null): Promise<SessionRecord> {
  const record = parseSession(await storage.read(name), name, keys);
  if (record !== null) return record;
  throw new AppError('REPOSITORY_INDEX_DAMAGED', `${name} is damaged: a field is missing or of another kind.`, {
    hint: 'Remove this file: the interrupted run that it is of starts over.',
    details: { name },
  });
}

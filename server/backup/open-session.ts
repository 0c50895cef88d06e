import { AppError } from '../errors/index.ts';
import type { Repository, WriteSession } from '../repository/index.ts';
import { randomHex } from '../runtime/index.ts';

/** Each hop is an attempt whose VM snapshot was lost; a task is not retried nearly as often. */
const HOPS_MAX = 32;

/** Facts of a session that was left for another one. */
interface MovedFacts {
  version: 1;
  movedTo: string;
}

/**
 * Opens the write session of a hold: its first, or the one that an earlier attempt moved on to.
 * @throws storage errors
 */
export async function openSession(repository: Repository, hold: string): Promise<WriteSession> {
  let sessionId = hold;
  for (let hop = 0; hop < HOPS_MAX; hop += 1) {
    const session = await repository.startWrite({ sessionId });
    const next = readMoved(session.checkpointFacts);
    if (next === null) return session;
    await session.abort();
    sessionId = next;
  }
  throw new AppError('INVARIANT_BROKEN', `Broken invariant: the sessions of ${hold} end.`);
}

/**
 * Leaves a session whose checkpoint must not be built on, for a fresh one. Files of a repository are
 * never changed and perhaps cannot be removed, so a checkpoint cannot be taken back: it is followed by
 * one that names the new session, and a later attempt goes on there.
 */
export async function moveToFreshSession(
  repository: Repository,
  session: WriteSession,
  hold: string,
): Promise<WriteSession> {
  const movedTo = `${hold}-${randomHex(4)}`;
  const facts: MovedFacts = { version: 1, movedTo };
  await session.checkpoint(facts);
  await session.abort();
  return repository.startWrite({ sessionId: movedTo });
}

function readMoved(facts: unknown): string | null {
  if (typeof facts !== 'object' || facts === null) return null;
  const { movedTo } = facts as Partial<MovedFacts>;
  return typeof movedTo === 'string' ? movedTo : null;
}

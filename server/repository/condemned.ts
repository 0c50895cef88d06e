import * as z from 'zod';
import { isAppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import { publishJson, readJson, timeMsSchema, type JsonFileKind } from './json-file.ts';
import type { RepositoryKeys } from './keys.ts';
import { CONDEMNED_FOLDER } from './layout.ts';

/**
 * Packs that a collector announced to remove, and what was decided about them, section "Deleting". A list
 * that cannot be read stops whoever writes or removes: building on a pack that then goes would lose data. Who only
 * reads goes on.
 */
const packIds = z.array(z.string().regex(/^[0-9a-f]{32}$/));
const listSchema = z.object({ packs: packIds, atMs: timeMsSchema });
const verdictSchema = z.discriminatedUnion('verdict', [
  z.object({ verdict: z.literal('remove'), packs: packIds }),
  z.object({ verdict: z.literal('keep') }),
]);

const HINT = 'Put this file back from a copy; or remove it if no clean-up of the repository is under way.';
const LIST: JsonFileKind<z.infer<typeof listSchema>> = {
  kind: 'DOZOCOND',
  schema: listSchema,
  code: 'REPOSITORY_INDEX_DAMAGED',
  hint: HINT,
};
const VERDICT: JsonFileKind<Verdict> = {
  kind: 'DOZOVERD',
  schema: verdictSchema,
  code: 'REPOSITORY_INDEX_DAMAGED',
  hint: HINT,
};

/** `remove`: these packs, a part of the list; `keep`: a session needs some, so none of the list may go. */
export type Verdict = z.infer<typeof verdictSchema>;

export interface CondemnedList {
  id: string;
  packs: string[];
  atMs: number;
  /** Null: nothing is decided yet. */
  verdict: Verdict | null;
}

export async function publishCondemned(
  storage: Storage,
  list: { id: string; packs: string[]; atMs: number },
  keys: RepositoryKeys | null,
): Promise<void> {
  await publishJson(storage, listName(list.id), { packs: list.packs, atMs: list.atMs }, LIST, keys);
}

/** @throws REPOSITORY_INDEX_DAMAGED, REPOSITORY_FORMAT_UNKNOWN, storage errors */
export async function readCondemnedLists(storage: Storage, keys: RepositoryKeys | null): Promise<CondemnedList[]> {
  const ids: string[] = [];
  for await (const name of storage.listNames(CONDEMNED_FOLDER)) {
    const id = /^condemned\/([0-9a-f]{32})\.condemned$/.exec(name)?.[1];
    if (id !== undefined) ids.push(id);
  }
  const lists: CondemnedList[] = [];
  for (const id of ids.sort()) {
    const list = await unlessGone(() => readJson(storage, listName(id), LIST, keys));
    // Done with between listing and reading: its packs stay, or are gone already.
    if (list !== null) lists.push({ id, ...list, verdict: await readVerdict(storage, id, keys) });
  }
  return lists;
}

/**
 * Decides about a list, once: a collector says `remove`, a session that needs one of the packs `keep`, and
 * the first one counts.
 * @returns what was decided
 */
export async function settleVerdict(
  storage: Storage,
  listId: string,
  wanted: Verdict,
  keys: RepositoryKeys | null,
): Promise<Verdict> {
  try {
    await publishJson(storage, verdictName(listId), wanted, VERDICT, keys);
    return wanted;
  } catch (error) {
    if (!isAppError(error) || error.code !== 'STORAGE_EXISTS') throw error;
    return readJson(storage, verdictName(listId), VERDICT, keys);
  }
}

async function readVerdict(storage: Storage, listId: string, keys: RepositoryKeys | null): Promise<Verdict | null> {
  return unlessGone(() => readJson(storage, verdictName(listId), VERDICT, keys));
}

export function listName(listId: string): string {
  return `${CONDEMNED_FOLDER}/${listId}.condemned`;
}

export function verdictName(listId: string): string {
  return `${CONDEMNED_FOLDER}/${listId}.verdict`;
}

async function unlessGone<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    if (isAppError(error) && error.code === 'NOT_FOUND') return null;
    throw error;
  }
}

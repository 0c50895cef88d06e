import { randomBytes } from 'node:crypto';
import * as z from 'zod';
import { isAppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import { publishJson, readJson, timeMsSchema, type JsonFileKind } from './json-file.ts';
import type { RepositoryKeys } from './keys.ts';
import { DAMAGED_FOLDER } from './layout.ts';

/** Rows of packs that a check found damaged, section "Damaged copies": no session builds on them. */
const schema = z.object({
  atMs: timeMsSchema,
  copies: z.array(z.object({ pack: z.string().regex(/^[0-9a-f]{32}$/), rows: z.array(z.number().int().min(0)) })),
});
export type DamagedCopies = z.infer<typeof schema>;

const DAMAGED: JsonFileKind<DamagedCopies> = {
  kind: 'DOZODAMG',
  schema,
  code: 'REPOSITORY_INDEX_DAMAGED',
  hint: 'Remove this file and check the repository: the check writes it anew.',
};

export async function publishDamagedCopies(
  storage: Storage,
  copies: DamagedCopies,
  keys: RepositoryKeys | null,
): Promise<string> {
  const name = `${DAMAGED_FOLDER}/${randomBytes(16).toString('hex')}.damaged`;
  await publishJson(storage, name, copies, DAMAGED, keys);
  return name;
}

export async function listDamagedCopies(storage: Storage): Promise<string[]> {
  const names: string[] = [];
  for await (const name of storage.listNames(DAMAGED_FOLDER)) if (name.endsWith('.damaged')) names.push(name);
  return names;
}

/** Null: removed meanwhile. @throws REPOSITORY_INDEX_DAMAGED, REPOSITORY_FORMAT_UNKNOWN */
export async function readDamagedCopies(
  storage: Storage,
  name: string,
  keys: RepositoryKeys | null,
): Promise<DamagedCopies | null> {
  try {
    return await readJson(storage, name, DAMAGED, keys);
  } catch (error) {
    if (isAppError(error) && error.code === 'NOT_FOUND') return null;
    throw error;
  }
}

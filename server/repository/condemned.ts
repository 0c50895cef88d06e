import { isAppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import type { RepositoryKeys } from './keys.ts';
import { decodeSealed } from './sealed-file.ts';

/**
 * A list of packs that a collector announced to remove, section "Delete order". A list that cannot be
 * read stops the writer: building on a pack that then goes would lose data.
 *
 * @throws REPOSITORY_INDEX_DAMAGED
 */
export async function readCondemned(storage: Storage, name: string, keys: RepositoryKeys | null): Promise<string[]> {
  let bytes: Buffer;
  try {
    bytes = await storage.read(name);
  } catch (error) {
    // Withdrawn between listing and reading: its packs stay, or are gone already.
    if (isAppError(error) && error.code === 'NOT_FOUND') return [];
    throw error;
  }
  const hint = 'Remove this file if no clean-up of the repository is under way.';
  const body = decodeSealed('DOZOCOND', bytes, { name, code: 'REPOSITORY_INDEX_DAMAGED', hint }, keys);
  const parsed: unknown = JSON.parse(body.toString('utf8'));
  if (typeof parsed !== 'object' || parsed === null || !('packs' in parsed) || !Array.isArray(parsed.packs)) return [];
  return parsed.packs.filter((packId) => typeof packId === 'string');
}

import * as z from 'zod';
import { AppError, isAppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import { publishJson, readJson, timeMsSchema, type JsonFileKind } from './json-file.ts';
import type { RepositoryKeys } from './keys.ts';
import { EVIDENCE_FOLDER } from './layout.ts';
import { removeIfThere } from './point-marks.ts';

/**
 * Which points a collector left, section "Evidence". The next one misses none of them without a mark
 * that says why: a folder that lists less than there is must not be taken for one that holds less.
 */
const schema = z.object({ atMs: timeMsSchema, points: z.array(z.string()) });
export type Evidence = z.infer<typeof schema>;

const EVIDENCE: JsonFileKind<Evidence> = {
  kind: 'DOZOEVID',
  schema,
  code: 'REPOSITORY_EVIDENCE_MISSING',
  hint: 'Put this file back from a copy of the repository; or, if all versions are listed, remove it.',
};

interface EvidenceFiles {
  /** Of the file with the highest number. */
  newest: Evidence | null;
  next: number;
  names: string[];
}

/** @throws REPOSITORY_EVIDENCE_MISSING when it cannot be read, REPOSITORY_FORMAT_UNKNOWN */
export async function readEvidence(storage: Storage, keys: RepositoryKeys | null): Promise<EvidenceFiles> {
  let names = await listEvidence(storage);
  for (;;) {
    const last = names.at(-1);
    if (last === undefined) return { newest: null, next: 0, names };
    try {
      return { newest: await readJson(storage, last, EVIDENCE, keys), next: (sequenceOf(last) ?? 0) + 1, names };
    } catch (error) {
      if (!isAppError(error) || error.code !== 'NOT_FOUND') throw error;
      // Another collector has replaced it: then there is one with a higher number.
      names = await listEvidence(storage);
      if (names.at(-1) === last || names.length === 0) throw error;
    }
  }
}

/** Greater than what was read: another collector has published since. */
export async function nextEvidenceNumber(storage: Storage): Promise<number> {
  const last = (await listEvidence(storage)).at(-1);
  return last === undefined ? 0 : (sequenceOf(last) ?? 0) + 1;
}

async function listEvidence(storage: Storage): Promise<string[]> {
  const names: string[] = [];
  for await (const name of storage.listNames(EVIDENCE_FOLDER)) if (sequenceOf(name) !== null) names.push(name);
  return names.sort();
}

/**
 * Publishes the new one under the next number, then removes the ones before.
 * @throws CONFLICT when another collector was faster: what this one knows is out of date
 */
export async function replaceEvidence(
  storage: Storage,
  before: EvidenceFiles,
  evidence: Evidence,
  keys: RepositoryKeys | null,
): Promise<void> {
  const name = `${EVIDENCE_FOLDER}/${String(before.next).padStart(8, '0')}.evidence`;
  try {
    await publishJson(storage, name, evidence, EVIDENCE, keys);
  } catch (error) {
    if (!isAppError(error) || error.code !== 'STORAGE_EXISTS') throw error;
    throw new AppError('CONFLICT', `Another clean-up of ${storage.location} is at work.`, {
      hint: 'Wait for its end; what is left to do is done by the next one.',
      cause: error,
    });
  }
  for (const old of before.names) await removeIfThere(storage, old);
}

function sequenceOf(name: string): number | null {
  const match = /^evidence\/(\d{8})\.evidence$/.exec(name);
  return match === null ? null : Number(match[1]);
}

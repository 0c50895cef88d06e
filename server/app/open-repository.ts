import { mkdir, readdir } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { AppError } from '../errors/index.ts';
import type { RepositoryAddress } from '../contract/task.ts';
import { createRepository, openRepository, type KeySecret, type KeptRepository } from '../repository/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { openLocalStorage } from '../storage/index.ts';
import { placeRestoreTool } from './place-restore-tool.ts';

interface Parts {
  clock: Clock;
  logger: Logger;
}

/** What a NAS puts into every folder by itself. */
const NAS_OWN = /^(@eaDir|#recycle|#snapshot|@Recycle|@Recently-Snapshot|\.@__thumb|lost\+found|\.DS_Store)$/;

/** What is there first of a repository that is being made. */
const BEGINNING = new Set(['repository.dozo', 'readme.txt', 'tmp']);

/** Opens the repository in a folder. @throws STORAGE_MISSING, REPOSITORY_* */
export async function openFolder(
  path: string,
  parts: Parts & { threads?: number; secret?: KeySecret },
): Promise<KeptRepository> {
  const { clock, logger } = parts;
  const storage = await openLocalStorage({ folder: path, clock, logger });
  return openRepository({
    storage,
    clock,
    logger,
    ...(parts.threads === undefined ? {} : { threads: parts.threads }),
    ...parts.secret,
  });
}

/**
 * Another repository may lie at a path that was right yesterday: two USB disks take turns, a folder was put back from
 * elsewhere. What is done to it would be done well, and be missing where everybody looks for it.
 * @throws REPOSITORY_EXCHANGED
 */
export function assertMeant(repository: Pick<KeptRepository, 'id'>, { path, formatId }: RepositoryAddress): void {
  if (formatId === undefined || formatId === repository.id) return;
  throw new AppError('REPOSITORY_EXCHANGED', `Another repository lies at ${path} now.`, {
    hint: 'Put the right volume back, or adopt the other one as a new repository.',
    details: { path, expectedId: formatId, foundId: repository.id },
  });
}

/**
 * Makes a repository in an empty folder. The folder may be new, the one that it lies in may not: an
 * unmounted volume must not be mistaken for an empty one.
 * @throws CONFLICT when there are files, STORAGE_MISSING, REPOSITORY_EXISTS
 */
export async function createInFolder(
  path: string,
  parts: Parts & { chunkSizeBytes: number; passphrase: string | null },
): Promise<KeptRepository> {
  const { clock, logger, chunkSizeBytes, passphrase } = parts;
  await makeFolder(path);
  const names = (await readdir(path)).filter((name) => !NAS_OWN.test(name));
  // A repository, or the beginning of one, is for `createRepository` to judge.
  if (names.length > 0 && !names.some((name) => BEGINNING.has(name))) {
    throw new AppError('CONFLICT', `The folder ${path} is not empty.`, {
      hint: 'Choose an empty or a new folder: a repository shares its folder with nothing.',
      details: { path, files: names.length },
    });
  }
  const storage = await openLocalStorage({ folder: path, clock, logger });
  const repository = await createRepository({
    storage,
    clock,
    logger,
    chunkSizeBytes,
    ...(passphrase === null ? {} : { passphrase }),
  });
  await placeRestoreTool(path, parts);
  return repository;
}

async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o750 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code === 'ENOENT') {
      throw new AppError('STORAGE_MISSING', `The folder ${dirname(path)} does not exist.`, {
        hint: 'Check that the volume is mounted and the shared folder is there.',
        details: { path: dirname(path), name: basename(path) },
        cause: error,
      });
    }
    throw new AppError('STORAGE_READ_ONLY', `The folder ${path} cannot be made: ${(error as Error).message}`, {
      hint: 'Give Dozo the right to write to the shared folder.',
      details: { path },
      cause: error,
    });
  }
}

import { AppError, errnoOf, isAppError } from '../errors/index.ts';
import type { ErrorCode } from '../contract/error-codes.ts';

interface Meaning {
  code: ErrorCode;
  what: string;
  hint?: string;
}

const FULL: Meaning = {
  code: 'STORAGE_FULL',
  what: 'there is no room left',
  hint: 'Free space in the shared folder (or raise its quota), then start the run again: it goes on where it stopped.',
};
const READ_ONLY: Meaning = {
  code: 'STORAGE_READ_ONLY',
  what: 'the folder cannot be written to',
  hint: 'Give the package read and write permission for the shared folder, and check that the volume is not read-only.',
};
const MISSING: Meaning = {
  code: 'STORAGE_MISSING',
  what: 'the folder is not there',
  hint: 'Check that the shared folder still exists, is mounted, and that its volume or USB disk is connected.',
};

/**
 * unlink(2) answers EPERM for a file that is immutable or append-only, or where the file system allows no removal at
 * all: a WriteOnce share. A lack of rights is EACCES.
 */
const KEPT: Meaning = {
  code: 'STORAGE_WRITE_ONCE',
  what: 'the share keeps its files',
  hint: 'On a WriteOnce share nothing can be removed before its time to keep files is over; backups, checks and restores go on. Elsewhere, look for an immutable attribute of the file.',
};

/** One file of many that another account owns, after a copy of the folder for one: the trouble of that file alone. */
const FORBIDDEN: Meaning = {
  code: 'STORAGE_FAILED',
  what: 'there is no permission to read it',
  hint: 'Another account may own the file. Give the package read and write permission for the shared folder and all that is in it.',
};

/** The same of the whole store, or of a folder of it. */
const FORBIDDEN_ALL: Meaning = { ...FORBIDDEN, code: 'STORAGE_READ_ONLY' };

const READING = new Set(['open', 'read', 'list', 'look at']);

/** errno(3) of Linux, by what a person must do about it. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  ENOSPC: FULL,
  EDQUOT: FULL,
  EFBIG: FULL,
  EROFS: READ_ONLY,
  EACCES: READ_ONLY,
  EPERM: READ_ONLY,
  EEXIST: { code: 'STORAGE_EXISTS', what: 'the name is taken' },
  ENOENT: { code: 'NOT_FOUND', what: 'there is no such file' },
  ENOTDIR: { code: 'NOT_FOUND', what: 'there is no such file' },
  ESTALE: MISSING,
  ENODEV: MISSING,
  ENXIO: MISSING,
  ENOTCONN: MISSING,
  EIO: {
    code: 'STORAGE_FAILED',
    what: 'the disk reported an input/output error',
    hint: 'Look at the health of the disks and of the volume in the storage manager of the NAS.',
  },
};

/**
 * A file system's error as an AppError: errno, what was being done, to what. Passes an AppError on.
 * @param doing as in `cannot read`: the verb
 */
export function storageError(error: unknown, doing: string, name: string, location: string): AppError {
  if (isAppError(error)) return error;
  const errno = errnoOf(error);
  const meaning = meaningOf(errno, doing, name);
  const what = meaning?.what ?? (error instanceof Error ? error.message : String(error));
  return new AppError(meaning?.code ?? 'STORAGE_FAILED', `Cannot ${doing} ${name} in ${location}: ${what}.`, {
    ...(meaning?.hint === undefined ? {} : { hint: meaning.hint }),
    details: { name, location, errno },
    cause: error,
  });
}

function meaningOf(errno: string, doing: string, name: string): Meaning | undefined {
  if (doing === 'remove' && errno === 'EPERM') return KEPT;
  if (errno === 'EACCES' && READING.has(doing)) {
    return doing === 'read' && name.includes('/') ? FORBIDDEN : FORBIDDEN_ALL;
  }
  return MEANINGS[errno];
}

/** The error of a whole store that is gone, whatever was being done. */
export function storageMissing(location: string, cause?: unknown): AppError {
  return new AppError('STORAGE_MISSING', `The folder ${location} is not there.`, {
    ...(MISSING.hint === undefined ? {} : { hint: MISSING.hint }),
    details: { location },
    cause,
  });
}

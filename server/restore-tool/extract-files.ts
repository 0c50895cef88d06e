import { mkdir, open, rm, type FileHandle } from 'node:fs/promises';
import { isAbort, isAppError } from '../errors/index.ts';
import type { GuestEntry, GuestFile, GuestFileSystem } from '../filesystem/index.ts';
import { MIB } from '../runtime/index.ts';
import { makeUnderName } from './target-folder.ts';

/** What is read of a file at a time; a piece of zeros becomes a hole. */
const PIECE_BYTES = MIB;
const ZEROS = Buffer.alloc(PIECE_BYTES);
/** A folder that lists itself goes on for ever; no guest's goes so deep. */
const DEPTH_MAX = 200;
/** What the target says of a path or a size that it cannot hold: the others go on. */
const TARGET_REFUSES = new Set(['ENAMETOOLONG', 'EFBIG', 'EEXIST', 'EINVAL', 'EILSEQ']);
/** Seconds since 1970 that every file system can note. */
const MODIFIED_SECONDS_MAX = 2 ** 32;

/** Something that is not in the target as it is in the guest. */
export interface ExtractNote {
  kind: 'damaged' | 'left out' | 'renamed';
  /** Within the guest's volume. */
  path: string;
  text: string;
}

export interface ExtractRequest {
  system: GuestFileSystem;
  /** A file, or a folder with all that is in it; the root is `/`. */
  path: string;
  /** Empty, and the caller's own. */
  folder: string;
  signal: AbortSignal;
  note(note: ExtractNote): void;
  progress(label: string, bytes: number): void;
}

export interface Extracted {
  files: number;
  folders: number;
  bytes: number;
}

interface Walk extends ExtractRequest {
  done: Extracted;
}

/**
 * Writes a guest's file or folder into a folder: contents and times. Links are never made nor followed, and what a
 * guest, which may be hostile, calls its files stays in the folder. What cannot be read is noted, and the others
 * go on.
 * @throws FILESYSTEM_PATH_NOT_FOUND, INPUT_INVALID for the path, CANCELLED; what the target says when it is full
 */
export async function extractFiles(request: ExtractRequest): Promise<Extracted> {
  const walk: Walk = { ...request, done: { files: 0, folders: 0, bytes: 0 } };
  const names = request.path.split('/').filter((name) => name !== '');
  const last = names.at(-1);
  if (last === undefined) await extractFolder(walk, '', request.folder, 0);
  else if (await isFolder(request)) await makeFolder(walk, names.join('/'), last, request.folder, 0);
  else await makeFile(walk, names.join('/'), last, request.folder);
  return walk.done;
}

/** @throws FILESYSTEM_PATH_NOT_FOUND where there is neither a folder nor a file */
async function isFolder({ system, path, signal }: ExtractRequest): Promise<boolean> {
  try {
    await system.open(path, signal);
    return false;
  } catch (error) {
    if (!isAppError(error) || error.code !== 'FILESYSTEM_PATH_NOT_FOUND') throw error;
  }
  const entries = system.list(path, signal)[Symbol.asyncIterator]();
  await entries.next();
  await entries.return?.();
  return true;
}

async function extractFolder(walk: Walk, path: string, folder: string, depth: number): Promise<void> {
  const { system, signal } = walk;
  try {
    for await (const entry of system.list(path, signal)) {
      signal.throwIfAborted();
      await extractEntry(walk, entry, `${path}/${entry.name}`, folder, depth);
    }
  } catch (error) {
    noteDamage(walk, path, error);
  }
}

async function extractEntry(
  walk: Walk,
  { name, type, linkTarget }: GuestEntry,
  path: string,
  folder: string,
  depth: number,
): Promise<void> {
  const leaveOut = (text: string): void => walk.note({ kind: 'left out', path, text });
  try {
    if (type === 'file') await makeFile(walk, path, name, folder);
    else if (type === 'link') leaveOut(linkTarget === null ? 'a link' : `a link to ${linkTarget}`);
    else if (type === 'other') leaveOut('neither a file nor a folder');
    else if (depth === DEPTH_MAX) leaveOut('the folders lie too deep in one another');
    else await makeFolder(walk, path, name, folder, depth + 1);
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (isAppError(error) || !TARGET_REFUSES.has(code)) throw error;
    leaveOut(`the target folder does not take it (${code})`);
  }
}

async function makeFolder(walk: Walk, path: string, name: string, folder: string, depth: number): Promise<void> {
  const place = await makeUnderName(folder, name, async (wanted) => {
    await mkdir(wanted);
    return wanted;
  });
  noteName(walk, path, name, place.name);
  walk.done.folders += 1;
  await extractFolder(walk, path, place.made, depth);
}

async function makeFile(walk: Walk, path: string, name: string, folder: string): Promise<void> {
  let source: GuestFile;
  try {
    source = await walk.system.open(path, walk.signal);
  } catch (error) {
    noteDamage(walk, path, error);
    return;
  }
  const target = await makeUnderName(folder, name, async (place) => ({ place, file: await open(place, 'wx') }));
  const { place, file } = target.made;
  let isWhole = false;
  try {
    isWhole = await copyFile(walk, path, source, file);
  } finally {
    await file.close();
    if (!isWhole) await rm(place);
  }
  if (!isWhole) return;
  noteName(walk, path, name, target.name);
  walk.done.files += 1;
  walk.done.bytes += source.sizeBytes;
}

/** @returns false where it cannot be read to its end, which is noted */
async function copyFile(walk: Walk, path: string, source: GuestFile, file: FileHandle): Promise<boolean> {
  await file.truncate(source.sizeBytes);
  for (let at = 0; at < source.sizeBytes; at += PIECE_BYTES) {
    walk.signal.throwIfAborted();
    let data: Buffer;
    try {
      data = await source.read(at, Math.min(PIECE_BYTES, source.sizeBytes - at), walk.signal);
    } catch (error) {
      noteDamage(walk, path, error);
      return false;
    }
    if (!data.equals(ZEROS.subarray(0, data.length))) await writeAt(file, data, at);
    walk.progress(path, data.length);
  }
  const seconds = (source.modifiedAtMs ?? -1) / 1000;
  if (seconds >= 0 && seconds < MODIFIED_SECONDS_MAX) await file.utimes(seconds, seconds);
  return true;
}

async function writeAt(file: FileHandle, data: Buffer, offsetBytes: number): Promise<void> {
  for (let done = 0; done < data.length;)
    done += (await file.write(data, done, data.length - done, offsetBytes + done)).bytesWritten;
}

function noteName({ note }: Walk, path: string, wanted: string, name: string): void {
  if (wanted.toWellFormed() !== name) note({ kind: 'renamed', path, text: name });
}

/** @throws what is no damage of the version: an end that was asked for, trouble with the target */
function noteDamage({ note, signal }: Walk, path: string, error: unknown): void {
  if (!isAppError(error) || isAbort(error) || signal.aborted) throw error;
  note({ kind: 'damaged', path, text: error.message });
}

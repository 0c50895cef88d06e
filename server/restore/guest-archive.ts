import { Readable, type PassThrough } from 'node:stream';
import { finished } from 'node:stream/promises';
import { ZipFile } from 'yazl';
import type { Language } from '../contract/api/notification.schema.ts';
import type { DiskReader } from '../disk/index.ts';
import { AppError, isAbort, isAppError } from '../errors/index.ts';
import { pathNotFound, type GuestEntry, type GuestFile, type GuestFileSystem } from '../filesystem/index.ts';
import { GIB, MIB } from '../runtime/index.ts';
import { archiveName, uniqueName } from './archive-names.ts';
import { openVolume } from './guest-files.ts';
import { LEFT_OUT_TEXTS, type LeftOutReason } from './left-out-texts.ts';

const PIECE_BYTES = 4 * MIB;
/** The weakest is still far faster than a NAS reads, and of text and free areas leaves little. */
const COMPRESSION_LEVEL = 1;
/** The list of what is in an archive stays in memory to its end. */
const ENTRIES_MAX = 50_000;
const PATHS_LENGTH_MAX = 16 * MIB;
const TIB = 1024 * GIB;
const TOTAL_BYTES_MAX = 4 * TIB;
/** Programs that unpack take no longer ones. */
const PATH_LENGTH_MAX = 4_096;
/** A folder that lists itself goes on for ever; no guest's goes so deep. */
const DEPTH_MAX = 200;
/** What the format can note: from 1980, and as seconds since 1970 in 31 bits. */
const MODIFIED_MS = { min: Date.UTC(1980, 0, 2), max: 2 ** 31 * 1000 - 1000 };
const MODE = { file: 0o100644, folder: 0o40755 };

/** A folder of a guest as one archive, ready to be given out. */
export interface GuestArchive {
  /** Of the archive, without a path. */
  name: string;
  files: number;
  /** Of all files in it as they are in the guest. The archive's own size is known at its end. */
  fileBytes: number;
  /** ZIP, with 64 bits where they are needed. */
  bytes(signal: AbortSignal): AsyncIterable<Buffer>;
  /** What was found: as `known` of another call it saves looking through the same folder of the same version again. */
  contents: FolderContents;
}

interface ArchiveOptions {
  signal: AbortSignal;
  /** Of the text file that names what is left out. English when absent. */
  language?: Language;
  /** Of what is in the folder: only these. All when absent. */
  names?: readonly string[] | undefined;
  known?: FolderContents | undefined;
}

interface Found {
  /** In the guest. */
  path: string;
  /** In the archive. */
  name: string;
  modifiedAtMs: number | null;
}

export interface FolderContents {
  folders: Found[];
  files: Found[];
  fileBytes: number;
  /** What is not in the archive, and why. */
  leftOut: { path: string; why: LeftOutReason }[];
  /** Names that the archive has at its top, besides the folder. */
  topName: string;
}

/**
 * Looks through a folder; what it holds is read as the archive is. Links are neither followed nor kept, and names
 * of the guest, which may be hostile, lead nowhere out of the folder in which the archive is unpacked. What is not
 * in it is named in a text file in it.
 * @param options.others the other disks of the same version: logical volumes may go on there
 * @throws NOT_FOUND for the volume, FOLDER_TOO_LARGE, FILESYSTEM_* (also where one of `names` is not there),
 *   INPUT_INVALID for the path
 */
export async function openGuestArchive(
  disk: DiskReader,
  volumeNumber: number,
  path: string,
  { others, ...options }: ArchiveOptions & { others?: readonly DiskReader[] },
): Promise<GuestArchive> {
  return archiveFolder(await openVolume({ disk, others }, volumeNumber, options.signal), path, options);
}

/** As `openGuestArchive`, of an opened file system. */
export async function archiveFolder(
  system: GuestFileSystem,
  path: string,
  { signal, language = 'en', names, known }: ArchiveOptions,
): Promise<GuestArchive> {
  const label = path.split('/').findLast((name) => name !== '') ?? system.label;
  const topName = archiveName(label === '' ? 'files' : label);
  const contents = known ?? (await lookThrough(system, { path, names, topName }, signal));
  return {
    name: `${topName}.zip`,
    files: contents.files.length,
    fileBytes: contents.fileBytes,
    bytes: (readSignal) => packed({ system, contents, language }, readSignal),
    contents,
  };
}

interface Folder extends Found {
  depth: number;
}

async function lookThrough(
  system: GuestFileSystem,
  { path, names, topName }: { path: string; names: readonly string[] | undefined; topName: string },
  signal: AbortSignal,
): Promise<FolderContents> {
  const contents: FolderContents = { folders: [], files: [], fileBytes: 0, leftOut: [], topName };
  const bounds = { entries: 0, pathsLength: 0 };
  const top = path.split('/').filter((name) => name !== '');
  const wanted = names === undefined ? null : new Set(names);
  const waiting: Folder[] = [{ path: `/${top.join('/')}`, name: topName, modifiedAtMs: null, depth: 0 }];
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    contents.folders.push(folder);
    const taken = new Map<string, number>();
    const leaveOut = (name: string, why: LeftOutReason): void =>
      void contents.leftOut.push({ path: `${folder.path === '/' ? '' : folder.path}/${name}`, why });
    try {
      for await (const entry of system.list(folder.path, signal)) {
        signal.throwIfAborted();
        if (folder.depth === 0 && wanted?.delete(entry.name) === false) continue;
        const inner: Folder = {
          path: `${folder.path === '/' ? '' : folder.path}/${entry.name}`,
          name: `${folder.name}/${uniqueName(archiveName(entry.name), taken)}`,
          modifiedAtMs: entry.modifiedAtMs,
          depth: folder.depth + 1,
        };
        bounds.entries += 1;
        bounds.pathsLength += inner.path.length + inner.name.length;
        contents.fileBytes += entry.type === 'file' ? entry.sizeBytes : 0;
        assertWithinBounds({ ...bounds, fileBytes: contents.fileBytes });
        const why = reasonAgainst(entry, inner);
        if (why !== null) {
          contents.fileBytes -= entry.type === 'file' ? entry.sizeBytes : 0;
          leaveOut(entry.name, why);
        } else if (entry.type === 'folder') waiting.push(inner);
        else contents.files.push(inner);
      }
    } catch (error) {
      // A folder that was asked for has to be there; of one inside of it the rest is still worth having.
      if (folder.depth === 0 || !isDamage(error, signal)) throw error;
      leaveOut('', { kind: 'unreadable', message: error.message });
    }
    const [missing] = wanted ?? [];
    if (missing !== undefined) throw pathNotFound(`${folder.path === '/' ? '' : folder.path}/${missing}`);
  }
  return contents;
}

function reasonAgainst({ type, linkTarget }: GuestEntry, { name, depth }: Folder): LeftOutReason | null {
  if (type === 'link') return { kind: 'link', target: linkTarget };
  if (type === 'other') return { kind: 'special' };
  if (depth > DEPTH_MAX) return { kind: 'tooDeep' };
  return name.length > PATH_LENGTH_MAX ? { kind: 'longPath' } : null;
}

function assertWithinBounds(found: { entries: number; pathsLength: number; fileBytes: number }): void {
  const isWithin =
    found.entries <= ENTRIES_MAX && found.pathsLength <= PATHS_LENGTH_MAX && found.fileBytes <= TOTAL_BYTES_MAX;
  if (isWithin) return;
  throw new AppError('FOLDER_TOO_LARGE', 'The folder holds too much for one archive.', {
    hint: `Up to ${String(ENTRIES_MAX)} files and folders and ${String(TOTAL_BYTES_MAX / TIB)} TiB go into one. Take folders inside of it, or restore the version.`,
    details: { entriesMax: ENTRIES_MAX },
  });
}

async function* packed(what: Omit<Packing, 'signal'>, readSignal: AbortSignal): AsyncGenerator<Buffer> {
  const stop = new AbortController();
  const signal = AbortSignal.any([readSignal, stop.signal]);
  const zip = new ZipFile();
  const output = zip.outputStream as PassThrough;
  zip.on('error', (error) => output.destroy(error as Error));
  const filling = fill(zip, { ...what, signal }).catch((error: unknown) => {
    output.destroy(error as Error);
  });
  try {
    for await (const piece of output) yield piece as Buffer;
  } finally {
    stop.abort();
    output.destroy();
    await filling;
  }
}

interface Packing {
  system: GuestFileSystem;
  contents: FolderContents;
  language: Language;
  signal: AbortSignal;
}

async function fill(zip: ZipFile, { system, contents, language, signal }: Packing): Promise<void> {
  // Folders before any file: behind one, the library would go from each to the next by recursion.
  for (const { name, modifiedAtMs } of contents.folders) {
    zip.addEmptyDirectory(name, { mtime: timeOf(modifiedAtMs), mode: MODE.folder });
  }
  const leftOut = [...contents.leftOut];
  for (const { path, name } of contents.files) {
    signal.throwIfAborted();
    const file = await openFile(system, path, signal).catch((error: unknown) => {
      if (!isDamage(error, signal)) throw error;
      leftOut.push({ path, why: { kind: 'unreadable', message: error.message } });
      return null;
    });
    if (file === null) continue;
    const source = Readable.from(piecesOf(file, signal), { highWaterMark: 1 });
    const read = finished(source, { signal });
    zip.addReadStream(source, name, {
      size: file.sizeBytes,
      mtime: timeOf(file.modifiedAtMs),
      mode: MODE.file,
      compressionLevel: COMPRESSION_LEVEL,
    });
    try {
      await read;
    } finally {
      source.destroy();
    }
  }
  if (leftOut.length > 0) {
    const { fileName, tell } = LEFT_OUT_TEXTS[language];
    const name = uniqueName(fileName, new Map([[contents.topName, 2]]));
    const lines = leftOut.map(({ path, why }) => oneLine(`${path}: ${tell(why)}`));
    zip.addBuffer(Buffer.from(`${lines.join('\r\n')}\r\n`), name, {
      mtime: timeOf(null),
      mode: MODE.file,
    });
  }
  zip.end();
}

function openFile(system: GuestFileSystem, path: string, signal: AbortSignal): Promise<GuestFile> {
  return system.open(path, signal);
}

async function* piecesOf(file: GuestFile, signal: AbortSignal): AsyncGenerator<Buffer> {
  for (let at = 0; at < file.sizeBytes; at += PIECE_BYTES) {
    signal.throwIfAborted();
    yield await file.read(at, Math.min(PIECE_BYTES, file.sizeBytes - at), signal);
  }
}

function timeOf(modifiedAtMs: number | null): Date {
  const { min, max } = MODIFIED_MS;
  return new Date(Math.min(max, Math.max(min, modifiedAtMs ?? min)));
}

function oneLine(text: string): string {
  return text.toWellFormed().replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]/gu, '\ufffd');
}

/** Trouble of the guest's file system, not of the one who reads it. */
function isDamage(error: unknown, signal: AbortSignal): error is AppError {
  return isAppError(error) && error.code.startsWith('FILESYSTEM_') && !isAbort(error) && !signal.aborted;
}

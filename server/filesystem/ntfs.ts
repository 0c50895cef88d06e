import { isAppError } from '../errors/index.ts';
import {
  damaged,
  pathNames,
  pathNotFound,
  printable,
  unsupported,
  type GuestEntry,
  type GuestFile,
  type GuestFileSystem,
  type Volume,
} from './filesystem.ts';
import { ntfsFreeExtents, whyFreeUnknown } from './ntfs-free.ts';
import { ntfsTimeMs, readFolderIndex, type IndexEntry } from './ntfs-index.ts';
import { DATA, INDEX_ALLOCATION, INDEX_ROOT, REPARSE_POINT, STANDARD_INFORMATION, VOLUME_NAME } from './ntfs-record.ts';
import { openStream, runExtents, type Stream } from './ntfs-stream.ts';
import {
  FIRST_USER_RECORD,
  MasterFileTable,
  readBootSector,
  ROOT_RECORD,
  VOLUME_RECORD,
  type NtfsFile,
} from './ntfs-table.ts';
import { inBatches, joinTouching } from './streams.ts';

const FOLDER_INDEX = '$I30';
const SYSTEM_FILE = 0x04;
const TAG_MOUNT_POINT = 0xa0000003;
const TAG_SYMLINK = 0xa000000c;
const TAG_LINUX_SYMLINK = 0xa000001d;
/** Content that is kept elsewhere or packed by a filter: the stream itself would read as zeros. */
const TAG_COMPACT_OS = 0x80000017;
const TAG_DEDUPLICATED = 0x80000013;
/** OneDrive and its like: any of sixteen kinds. */
const TAG_CLOUD = 0x9000001a;
const TAG_CLOUD_MASK = 0xffff0fff;
/** Links of Windows' POSIX subsystem, which ntfs-3g makes: a system file that begins with this. */
const POSIX_LINK = Buffer.from('IntxLNK\x01', 'latin1');
const POSIX_DEVICE = /^Intx(?:BLK|CHR)\0/;
const LINK_BYTES_MAX = 70_000;
/** Entries whose records are read together, in the order of the table. */
const LIST_BATCH = 4096;
/** Names kept for the next path: some 30 MB at most. */
const KEPT_NAMES_MAX = 100_000;

/**
 * NTFS 1.2, 3.0 and 3.1. Only the unnamed stream of a file is read; alternate streams (`file:stream`), extended
 * attributes and access lists are not. The file system's own files ($MFT and its like) are not listed. A name is
 * looked up as it is written first, then without regard to case.
 * What counts as free: see ntfs-free.ts.
 */
export async function openNtfs(volume: Volume, signal?: AbortSignal): Promise<GuestFileSystem | null> {
  const boot = await readBootSector(volume, signal);
  if (boot === null) return null;
  const table = await MasterFileTable.open(boot, signal);
  const labelBytes = await table.value(await table.readFile(VOLUME_RECORD, null, signal), VOLUME_NAME, '', signal);
  const label = printable((labelBytes ?? Buffer.alloc(0)).toString('utf16le').toWellFormed());
  return new Ntfs(table, label, await freeUnknown(table, signal));
}

/** Damage in what tells of free space makes the free space unknown, and the files no worse to read. */
async function freeUnknown(table: MasterFileTable, signal?: AbortSignal): Promise<string | null> {
  try {
    const hiberfil = await new Lookup(table).find(['hiberfil.sys'], signal);
    const stream = hiberfil === null ? null : openStream(table.boot, await table.attribute(hiberfil, DATA, '', signal));
    return await whyFreeUnknown(table, stream, signal);
  } catch (error) {
    if (isAppError(error) && (error.code === 'FILESYSTEM_DAMAGED' || error.code === 'FILESYSTEM_UNSUPPORTED'))
      return error.message;
    throw error;
  }
}

class Ntfs implements GuestFileSystem {
  readonly kind = 'ntfs';
  readonly label: string;
  readonly sizeBytes: number;
  readonly freeUnknown: string | null;
  /** $LogFile is not replayed. */
  readonly isUnsettled: boolean;
  readonly #table: MasterFileTable;
  readonly #lookup: Lookup;

  constructor(table: MasterFileTable, label: string, freeUnknown: string | null) {
    this.#table = table;
    this.#lookup = new Lookup(table);
    this.label = label;
    this.sizeBytes = table.boot.sizeBytes;
    this.freeUnknown = freeUnknown;
    this.isUnsettled = freeUnknown !== null;
  }

  async *freeExtents(signal?: AbortSignal): ReturnType<GuestFileSystem['freeExtents']> {
    if (this.freeUnknown === null) yield* joinTouching(ntfsFreeExtents(this.#table, signal));
  }

  async *list(path: string, signal?: AbortSignal): AsyncGenerator<GuestEntry> {
    const folder = await this.#lookup.find(pathNames(path), signal);
    if (folder === null || !folder.record.isFolder) throw pathNotFound(path);
    for await (const batch of inBatches(folderEntries(this.#table, folder, signal), LIST_BATCH))
      yield* await describeAll(this.#table, batch, signal);
  }

  async open(path: string, signal?: AbortSignal): Promise<GuestFile> {
    const table = this.#table;
    const file = await this.#lookup.find(pathNames(path), signal);
    if (file === null) throw pathNotFound(path);
    const { type, modifiedAtMs } = await describe(table, file, signal);
    if (type !== 'file') throw pathNotFound(path);
    await assertContentHere(table, file, signal);
    const stream = openStream(table.boot, await table.attribute(file, DATA, '', signal));
    const { runs, sizeBytes } = stream;
    return {
      sizeBytes,
      modifiedAtMs,
      read: (offsetBytes, lengthBytes, readSignal) => stream.read(offsetBytes, lengthBytes, readSignal),
      ...(runs === null
        ? {}
        : {
            extents: async function* () {
              yield* runExtents(table.boot, runs, sizeBytes);
            },
          }),
    };
  }
}

/** Refuses a file whose stream does not hold what its programs see. */
async function assertContentHere(table: MasterFileTable, file: NtfsFile, signal?: AbortSignal): Promise<void> {
  const tag = await reparseTag(table, file, signal);
  if (tag === null) return;
  if (tag === TAG_COMPACT_OS) throw unsupported('ntfs', 'the file is packed by Windows (CompactOS)');
  if (tag === TAG_DEDUPLICATED) throw unsupported('ntfs', 'the file is deduplicated by Windows Server');
  const isCloud = (tag & TAG_CLOUD_MASK) >>> 0 === TAG_CLOUD;
  if (isCloud && !hasHoles(openStream(table.boot, await table.attribute(file, DATA, '', signal)))) return;
  throw unsupported('ntfs', `the content is kept by another program (reparse tag 0x${tag.toString(16)})`);
}

function hasHoles(stream: Stream): boolean {
  return stream.runs !== null && stream.runs.some((run) => run.lcn < 0);
}

async function reparseTag(table: MasterFileTable, file: NtfsFile, signal?: AbortSignal): Promise<number | null> {
  const point = await table.firstPiece(file, REPARSE_POINT, '', signal);
  if (point === null) return null;
  const stream = openStream(table.boot, [point]);
  return stream.sizeBytes < 8 ? null : (await stream.read(0, 4, signal)).readUInt32LE(0);
}

interface FileFacts {
  type: GuestEntry['type'];
  sizeBytes: number;
  modifiedAtMs: number | null;
  linkTarget: string | null;
}

async function describe(table: MasterFileTable, file: NtfsFile, signal?: AbortSignal): Promise<FileFacts> {
  const value = await table.value(file, STANDARD_INFORMATION, '', signal);
  const standard = value === null || value.length < 36 ? null : value;
  const modifiedAtMs = standard === null ? null : ntfsTimeMs(standard, 8);
  const nothing = { sizeBytes: 0, modifiedAtMs, linkTarget: null };
  const point = await table.firstPiece(file, REPARSE_POINT, '', signal);
  if (point !== null) {
    const stream = openStream(table.boot, [point]);
    const bytes = await stream.read(0, Math.min(stream.sizeBytes, LINK_BYTES_MAX), signal);
    const linkTarget = reparseTarget(bytes);
    if (linkTarget !== null) return { ...nothing, type: 'link', linkTarget };
  }
  if (file.record.isFolder) return { ...nothing, type: 'folder' };
  const first = await table.firstPiece(file, DATA, '', signal);
  if (first === null) return { ...nothing, type: 'other' };
  const sizeBytes = first.resident ? first.value.length : first.sizeBytes;
  if (
    standard !== null &&
    (standard.readUInt32LE(32) & SYSTEM_FILE) !== 0 &&
    first.resident &&
    first.value.length >= 8
  ) {
    const { value } = first;
    if (value.subarray(0, 8).equals(POSIX_LINK))
      return { ...nothing, type: 'link', linkTarget: value.toString('utf16le', 8).toWellFormed() };
    if (POSIX_DEVICE.test(value.toString('latin1', 0, 8))) return { ...nothing, type: 'other' };
  }
  return { type: 'file', sizeBytes, modifiedAtMs, linkTarget: null };
}

/** Where a link or junction points to; null for reparse points that are no links. */
function reparseTarget(bytes: Buffer): string | null {
  if (bytes.length < 16) return null;
  const tag = bytes.readUInt32LE(0);
  if (tag === TAG_LINUX_SYMLINK) return bytes.toString('utf8', 12);
  if (tag !== TAG_MOUNT_POINT && tag !== TAG_SYMLINK) return null;
  const namesAt = tag === TAG_SYMLINK ? 20 : 16;
  const part = (at: number): string => {
    const from = namesAt + bytes.readUInt16LE(at);
    return bytes.toString('utf16le', from, from + bytes.readUInt16LE(at + 2)).toWellFormed();
  };
  // The name that was meant for people; without one, the name that the kernel follows.
  return part(12) || part(8);
}

async function describeAll(
  table: MasterFileTable,
  entries: readonly IndexEntry[],
  signal?: AbortSignal,
): Promise<GuestEntry[]> {
  const described: (GuestEntry | undefined)[] = Array.from({ length: entries.length });
  const order = entries.map((entry, index) => ({ entry, index })).sort((a, b) => a.entry.record - b.entry.record);
  for (const { entry, index } of order) {
    const name = entry.name.toWellFormed();
    try {
      const file = await table.readFile(entry.record, entry.sequence, signal);
      described[index] = { name, ...(await describe(table, file, signal)) };
    } catch (error) {
      if (!isAppError(error) || (error.code !== 'FILESYSTEM_DAMAGED' && error.code !== 'FILESYSTEM_UNSUPPORTED'))
        throw error;
      // One damaged file does not hide its folder: what the folder itself knows is shown, opening it tells the rest.
      const { isFolder, sizeBytes, modifiedAtMs } = entry;
      described[index] = {
        name,
        type: isFolder ? 'folder' : 'file',
        sizeBytes: isFolder ? 0 : sizeBytes,
        modifiedAtMs,
        linkTarget: null,
      };
    }
  }
  return described.filter((entry) => entry !== undefined);
}

async function* folderEntries(
  table: MasterFileTable,
  folder: NtfsFile,
  signal?: AbortSignal,
): AsyncGenerator<IndexEntry> {
  const root = await table.value(folder, INDEX_ROOT, FOLDER_INDEX, signal);
  if (root === null) throw damaged('ntfs', 'a folder without an index');
  const pieces = await table.attribute(folder, INDEX_ALLOCATION, FOLDER_INDEX, signal);
  const blocks = pieces.length === 0 ? null : openStream(table.boot, pieces);
  for await (const entry of readFolderIndex({ root, blocks, clusterBytes: table.boot.clusterBytes }, signal))
    if (entry.record >= FIRST_USER_RECORD) yield entry;
}

/** Finds files by path. The names of the folders looked into last are kept: a restore opens file after file there. */
class Lookup {
  readonly #table: MasterFileTable;
  /** Folder → name → entry, the folder used last at the end. */
  readonly #kept = new Map<number, Map<string, IndexEntry>>();

  constructor(table: MasterFileTable) {
    this.#table = table;
  }

  async find(names: readonly string[], signal?: AbortSignal): Promise<NtfsFile | null> {
    let file = await this.#table.readFile(ROOT_RECORD, null, signal);
    for (const name of names) {
      if (!file.record.isFolder) return null;
      const entry = await this.#entry(file, name, signal);
      if (entry === undefined) return null;
      file = await this.#table.readFile(entry.record, entry.sequence, signal);
    }
    return file;
  }

  /** The name as it is written before one that differs in case. */
  async #entry(folder: NtfsFile, name: string, signal?: AbortSignal): Promise<IndexEntry | undefined> {
    const folded = name.toUpperCase();
    const kept = this.#kept.get(folder.number);
    if (kept !== undefined) {
      this.#keep(folder.number, kept);
      return kept.get(name) ?? kept.get(`/${folded}`);
    }
    const names = new Map<string, IndexEntry>();
    let exact: IndexEntry | undefined;
    let similar: IndexEntry | undefined;
    let count = 0;
    for await (const entry of folderEntries(this.#table, folder, signal)) {
      const shown = entry.name.toWellFormed();
      if (shown === name) exact ??= entry;
      else if (shown.toUpperCase() === folded) similar ??= entry;
      count += 1;
      if (count > KEPT_NAMES_MAX) {
        if (exact !== undefined) return exact;
        continue;
      }
      if (!names.has(shown)) names.set(shown, entry);
      // No name holds a slash, so these keys meet no name.
      if (!names.has(`/${shown.toUpperCase()}`)) names.set(`/${shown.toUpperCase()}`, entry);
    }
    if (count <= KEPT_NAMES_MAX) this.#keep(folder.number, names);
    return exact ?? similar;
  }

  #keep(folder: number, names: Map<string, IndexEntry>): void {
    this.#kept.delete(folder);
    this.#kept.set(folder, names);
    let total = 0;
    for (const kept of this.#kept.values()) total += kept.size;
    for (const [oldest, kept] of this.#kept) {
      if (total <= KEPT_NAMES_MAX * 2) break;
      this.#kept.delete(oldest);
      total -= kept.size;
    }
  }
}

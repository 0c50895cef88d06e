import type { Extent } from '../disk/index.ts';
import { damaged } from './filesystem.ts';
import { appendRuns, applyFixups, BITMAP, DATA, parseFileRecord, VOLUME_INFORMATION } from './ntfs-record.ts';
import type { Run } from './ntfs-record.ts';
import { openStream, type Stream } from './ntfs-stream.ts';
import { BITMAP_RECORD, LOG_RECORD, MFT_RECORD, VOLUME_RECORD, type MasterFileTable } from './ntfs-table.ts';

/**
 * What of an NTFS volume is free for sure. Windows writes $Bitmap lazily, and what stands in $LogFile may be newer
 * than everything else. So nothing is said to be free unless
 * - the log says that the volume was closed (dismounted, shut down) or is empty, and is of version 1.x: 2.x means
 *   that more is kept in Windows' memory,
 * - the volume is not marked for a check or a change at its next mount, and
 * - no memory of a sleeping Windows (hiberfil.sys, which fast start-up writes too) belongs to it;
 * and a cluster is free only if $Bitmap says so and no record of a file in use lays claim to it.
 * A volume of a running Windows is therefore always unknown.
 */

/** Marks of $Volume that leave work for the next mount: dirty, resize the log, upgrade, delete the journal, repair. */
const VOLUME_WORK_PENDING = 0x0001 | 0x0002 | 0x0004 | 0x0010 | 0x0020;
const LOG_VOLUME_CLEAN = 0x0002;
const LOG_NO_CLIENT = 0xffff;
const PIECE_BYTES = 1024 * 1024;
/** $Bitmap in memory at once: 2 TiB at 4 KiB a cluster. A larger volume takes one pass of the table for each. */
const WINDOW_BYTES = 64 * 1024 * 1024;
const RECORDS_AT_ONCE = 1024;

/** Why it cannot be told what is free; null where it can. */
export async function whyFreeUnknown(
  table: MasterFileTable,
  hiberfil: Stream | null,
  signal?: AbortSignal,
): Promise<string | null> {
  const information = await table.value(await systemFile(table, VOLUME_RECORD, signal), VOLUME_INFORMATION, '', signal);
  if (information === null || information.length < 12) return 'the volume does not say in what state it is';
  if (information[8] !== 3 && !(information[8] === 1 && information[9] === 2))
    return `NTFS ${information[8]}.${information[9]} is not known`;
  if ((information.readUInt16LE(10) & VOLUME_WORK_PENDING) !== 0) return 'the volume is marked for a check';
  const reason = await whyLogOpen(await openSystemStream(table, LOG_RECORD, DATA, signal), signal);
  if (reason !== null) return reason;
  if (hiberfil !== null && (await holdsMemory(hiberfil, signal)))
    return 'Windows is hibernated (or was shut down with fast startup)';
  return null;
}

/** A woken Windows wipes the first page, or writes `wake` there; anything else counts as memory. */
async function holdsMemory(hiberfil: Stream, signal?: AbortSignal): Promise<boolean> {
  const head = await hiberfil.read(0, Math.min(4096, hiberfil.sizeBytes), signal);
  return head.some((byte) => byte !== 0);
}

async function whyLogOpen(log: Stream, signal?: AbortSignal): Promise<string | null> {
  if (log.sizeBytes < 8192) return 'the log is too small';
  const head = await log.read(0, 8192, signal);
  if (head.readUInt32LE(0) === 0xffffffff)
    return (await isEmptyLog(log, signal)) ? null : 'the log begins with an erased page';
  let newest: { lsn: bigint; reason: string | null } | null = null;
  let pageBytes = 4096;
  for (const page of [0, 1]) {
    const bytes = page === 0 ? head : await log.read(pageBytes, pageBytes, signal);
    const restart = parseRestartPage(bytes);
    if (restart === null) return 'a restart page of the log cannot be read';
    if (page === 0) {
      pageBytes = restart.pageBytes;
      if (pageBytes * 2 > log.sizeBytes) return 'a restart page of the log cannot be read';
    }
    if (newest === null || restart.lsn > newest.lsn) newest = restart;
  }
  return newest === null ? 'the log has no restart page' : newest.reason;
}

function parseRestartPage(bytes: Buffer): { lsn: bigint; reason: string | null; pageBytes: number } | null {
  if (bytes.toString('latin1', 0, 4) !== 'RSTR') return null;
  const pageBytes = bytes.readUInt32LE(0x10);
  // Windows on x86 makes no other.
  if (pageBytes !== 4096) return null;
  const page = Buffer.from(bytes.subarray(0, pageBytes));
  const areaAt = page.readUInt16LE(0x18);
  if (areaAt < 0x1e || areaAt + 48 > 510) return null;
  applyFixups(page, 'a restart page of the log');
  const major = page.readInt16LE(0x1c);
  const clients = page.readUInt16LE(areaAt + 12);
  const flags = page.readUInt16LE(areaAt + 14);
  let reason: string | null = null;
  if (major !== 1) reason = `the log is of version ${major}: Windows has the volume open`;
  else if (clients !== LOG_NO_CLIENT && (flags & LOG_VOLUME_CLEAN) === 0)
    reason = 'the log is open: the volume was in use';
  return { lsn: page.readBigUInt64LE(areaAt), reason, pageBytes };
}

async function isEmptyLog(log: Stream, signal?: AbortSignal): Promise<boolean> {
  for (let at = 0; at < log.sizeBytes; at += PIECE_BYTES) {
    const piece = await log.read(at, Math.min(PIECE_BYTES, log.sizeBytes - at), signal);
    if (piece.some((byte) => byte !== 0xff)) return false;
  }
  return true;
}

/** Free clusters in bytes, ascending, joined. */
export async function* ntfsFreeExtents(table: MasterFileTable, signal?: AbortSignal): AsyncGenerator<Extent> {
  const { clusterBytes, clusterCount } = table.boot;
  const bitmap = await openSystemStream(table, BITMAP_RECORD, DATA, signal);
  if (bitmap.sizeBytes * 8 < clusterCount) throw damaged('ntfs', '$Bitmap does not cover the volume');
  for (let first = 0; first < clusterCount; first += WINDOW_BYTES * 8) {
    const count = Math.min(WINDOW_BYTES * 8, clusterCount - first);
    const used = await readBitmap(bitmap, first, count, signal);
    await claimRuns(table, used, first, count, signal);
    for (const run of clearRuns(used, count))
      yield { offsetBytes: (first + run.first) * clusterBytes, lengthBytes: run.count * clusterBytes };
  }
}

async function readBitmap(bitmap: Stream, first: number, count: number, signal?: AbortSignal): Promise<Uint8Array> {
  const used = new Uint8Array(Math.ceil(count / 8));
  for (let at = 0; at < used.length; at += PIECE_BYTES)
    used.set(await bitmap.read(first / 8 + at, Math.min(PIECE_BYTES, used.length - at), signal), at);
  return used;
}

/** Sets the bit of every cluster of the window that a record in use names. */
async function claimRuns(
  table: MasterFileTable,
  used: Uint8Array,
  first: number,
  count: number,
  signal?: AbortSignal,
): Promise<void> {
  const { recordBytes, clusterCount } = table.boot;
  const inUse = await openSystemStream(table, MFT_RECORD, BITMAP, signal);
  for (let from = 0; from < table.recordCount; from += RECORDS_AT_ONCE) {
    const records = Math.min(RECORDS_AT_ONCE, table.recordCount - from);
    const bytes = await table.readRaw(from, records, signal);
    const bitsBytes = Math.min(Math.ceil(records / 8), Math.max(0, inUse.sizeBytes - from / 8));
    const bits = await inUse.read(from / 8, bitsBytes, signal);
    for (let index = 0; index < records; index += 1) {
      const record = bytes.subarray(index * recordBytes, (index + 1) * recordBytes);
      const expected = ((bits[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
      // A record that was never used holds zeros; one that is gone has its mark of use removed.
      if (record.toString('latin1', 0, 4) !== 'FILE') {
        if (expected) throw damaged('ntfs', `record ${from + index} of the master file table is no record`);
        continue;
      }
      if (!expected && (record.readUInt16LE(0x16) & 1) === 0) continue;
      for (const attribute of parseFileRecord(record, from + index).attributes) {
        if (attribute.resident) continue;
        // Each piece by itself: which ones belong together does not matter here.
        const runs: Run[] = [];
        appendRuns(runs, { ...attribute, lowestVcn: 0 }, clusterCount);
        for (const run of runs) if (run.lcn >= 0) setBits(used, run.lcn - first, run.count, count);
      }
    }
  }
}

function setBits(bits: Uint8Array, from: number, count: number, limit: number): void {
  const end = Math.min(from + count, limit);
  let at = Math.max(from, 0);
  while (at < end) {
    if ((at & 7) === 0 && at + 8 <= end) {
      const wholeEnd = end >>> 3;
      bits.fill(0xff, at >>> 3, wholeEnd);
      at = wholeEnd * 8;
    } else {
      bits[at >>> 3] = (bits[at >>> 3] as number) | (1 << (at & 7));
      at += 1;
    }
  }
}

function* clearRuns(bits: Uint8Array, count: number): Generator<{ first: number; count: number }> {
  let start = -1;
  for (let at = 0; at < count;) {
    const byte = bits[at >>> 3] as number;
    const whole = (at & 7) === 0 && at + 8 <= count;
    if (whole && ((byte === 0 && start >= 0) || (byte === 0xff && start < 0))) {
      at += 8;
      continue;
    }
    const clear = (byte & (1 << (at & 7))) === 0;
    if (clear && start < 0) start = at;
    if (!clear && start >= 0) {
      yield { first: start, count: at - start };
      start = -1;
    }
    at += 1;
  }
  if (start >= 0) yield { first: start, count: count - start };
}

async function systemFile(
  table: MasterFileTable,
  number: number,
  signal?: AbortSignal,
): ReturnType<MasterFileTable['readFile']> {
  return table.readFile(number, null, signal);
}

async function openSystemStream(
  table: MasterFileTable,
  number: number,
  type: number,
  signal?: AbortSignal,
): Promise<Stream> {
  const file = await systemFile(table, number, signal);
  return openStream(table.boot, await table.attribute(file, type, '', signal));
}

import { crc32c } from '../disk/index.ts';
import { SECTOR_BYTES, type XfsDisk } from './xfs-disk.ts';

/**
 * The log as a ring of records: where it begins and ends, and each record with its bytes as they were written.
 * Every 512-byte block of the ring begins with the number of its round (cycle); what stood there is kept in the
 * record's head.
 */

const RECORD_MAGIC = 0xfeedbabe;
const HEAD_BYTES = 328;
const HEAD_CRC_AT = 32;
const CYCLES_IN_HEAD = 64;
const EXTENDED_HEAD_BYTES = 260;
const HEAD_COVERS_BYTES = CYCLES_IN_HEAD * SECTOR_BYTES;
const RECORD_BYTES_MAX = 256 * 1024;
/** Eight records of the largest size may be under way at a crash, and end in any order. */
const UNDER_WAY_BLOCKS = (8 * RECORD_BYTES_MAX) / SECTOR_BYTES;
/** Eight are under way at once; the rest is for records that were cut in two. */
const TORN_RECORDS_MAX = 32;
const FORMAT_LITTLE_ENDIAN = 1;
const VERSION_2 = 2;
const LOG_BLOCKS_MAX = 2 ** 22;

/** Why a log tells nothing for sure. */
export class UnsureLog extends Error {}

export interface LogRecord {
  /** Round and place. */
  lsn: bigint;
  tailLsn: bigint;
  operations: number;
  payload: Buffer;
  /** Blocks of the ring, heads included. */
  blocks: number;
}

export interface LogRing {
  disk: XfsDisk;
  startBytes: number;
  /** Of 512 bytes. */
  blocks: number;
  /** The first block that the next record would take, and its round. */
  head: number;
  headCycle: number;
  last: LogRecord;
}

/** @throws UnsureLog */
export async function openLogRing(disk: XfsDisk, signal?: AbortSignal): Promise<LogRing> {
  const { logStart, logBlocks, blockBytes } = disk.superblock;
  const startBytes = disk.blockOffsetBytes(logStart);
  const blocks = (logBlocks * blockBytes) / SECTOR_BYTES;
  if (blocks > LOG_BLOCKS_MAX || startBytes + blocks * SECTOR_BYTES > disk.volume.sizeBytes)
    throw new UnsureLog('its log lies outside the volume');
  const ring = { disk, startBytes, blocks };
  let { head, headCycle } = await findRoundsEnd(ring, signal);
  // Back to the end of the last record that is whole: behind it stands what was under way at a crash.
  for (let tries = 0; tries < TORN_RECORDS_MAX; tries += 1) {
    const at = await lastRecordBefore(ring, head, signal);
    const cycle = at < head ? headCycle : headCycle - 1;
    const last = await readRecord(ring, at, cycle, signal);
    if (last !== null && (at + last.blocks) % blocks === head % blocks) return { ...ring, head, headCycle, last };
    head = at;
    headCycle = cycle;
  }
  throw new UnsureLog('its log has no whole record');
}

interface Ring {
  disk: XfsDisk;
  startBytes: number;
  blocks: number;
}

/** Where the present round ends and the one before goes on. */
async function findRoundsEnd(ring: Ring, signal?: AbortSignal): Promise<{ head: number; headCycle: number }> {
  const first = await cycleAt(ring, 0, signal);
  const last = await cycleAt(ring, ring.blocks - 1, signal);
  if (first === 0) throw new UnsureLog('its log is empty');
  let head = ring.blocks;
  if (first !== last) {
    if (last !== first - 1) throw new UnsureLog('its log holds rounds out of order');
    let low = 0;
    let high = ring.blocks - 1;
    while (low + 1 < high) {
      const middle = (low + high) >>> 1;
      const cycle = await cycleAt(ring, middle, signal);
      if (cycle === first) low = middle;
      else if (cycle === last) high = middle;
      else throw new UnsureLog('its log holds rounds out of order');
    }
    head = high;
  }
  // Records that were under way end in any order: the first gap is the end.
  const count = Math.min(UNDER_WAY_BLOCKS, ring.blocks - 1);
  const wrapped = Math.max(0, count - head);
  const stretches = [
    { from: ring.blocks - wrapped, to: ring.blocks, cycle: first - 1 },
    { from: Math.max(0, head - count), to: head, cycle: first },
  ];
  for (const { from, to, cycle } of stretches) {
    if (from >= to) continue;
    const bytes = await readBlocks(ring, from, to - from, signal);
    for (let block = from; block < to; block += 1)
      if (cycleOf(bytes, (block - from) * SECTOR_BYTES) !== cycle) return { head: block, headCycle: cycle };
  }
  return { head, headCycle: first };
}

async function lastRecordBefore(ring: Ring, head: number, signal?: AbortSignal): Promise<number> {
  const count = Math.min(UNDER_WAY_BLOCKS, ring.blocks - 1);
  for (let back = 1; back <= count; back += 1) {
    const block = (head - back + ring.blocks) % ring.blocks;
    const bytes = await readBlocks(ring, block, 1, signal);
    if (bytes.readUInt32BE(0) === RECORD_MAGIC) return block;
  }
  throw new UnsureLog('its log has no record before its end');
}

/**
 * The records from the last one's tail to the end of the log.
 * @throws UnsureLog
 */
export async function* recordsToReplay(ring: LogRing, signal?: AbortSignal): AsyncGenerator<LogRecord> {
  const { head, headCycle, blocks, last } = ring;
  let at = Number(last.tailLsn & 0xffffffffn);
  let cycle = Number(last.tailLsn >> 32n);
  const end = headCycle * blocks + head;
  if (at >= blocks || cycle > headCycle || cycle < headCycle - 1 || end - (cycle * blocks + at) > blocks)
    throw new UnsureLog('its log begins outside itself');
  while (cycle * blocks + at < end) {
    const record = await readRecord(ring, at, cycle, signal);
    if (record === null) throw new UnsureLog('a record of its log is damaged');
    yield record;
    at += record.blocks;
    if (at >= blocks) {
      at -= blocks;
      cycle += 1;
    }
  }
  if (cycle * blocks + at !== end) throw new UnsureLog('a record of its log leaves it');
}

/** Null where there is no whole record of this round. */
async function readRecord(ring: Ring, at: number, cycle: number, signal?: AbortSignal): Promise<LogRecord | null> {
  const head = await readBlocks(ring, at, 1, signal);
  const lengthBytes = head.readUInt32BE(12);
  const sizeBytes = head.readUInt32BE(320);
  const isVersion2 = (head.readUInt32BE(8) & VERSION_2) !== 0;
  const lsn = head.readBigUInt64BE(16);
  if (head.readUInt32BE(0) !== RECORD_MAGIC || head.readUInt32BE(4) !== cycle) return null;
  if (lsn !== (BigInt(cycle) << 32n) + BigInt(at)) return null;
  if (lengthBytes > RECORD_BYTES_MAX || sizeBytes > RECORD_BYTES_MAX) return null;
  if (!head.subarray(304, 320).equals(ring.disk.superblock.uuid)) throw new UnsureLog('its log is that of another one');
  if (head.readUInt32BE(300) !== FORMAT_LITTLE_ENDIAN)
    throw new UnsureLog('its log was written by a big-endian machine');
  const headBlocks = isVersion2 ? Math.max(1, Math.ceil(sizeBytes / HEAD_COVERS_BYTES)) : 1;
  const dataBlocks = Math.ceil(lengthBytes / SECTOR_BYTES);
  if (headBlocks + dataBlocks > ring.blocks || dataBlocks > headBlocks * CYCLES_IN_HEAD) return null;
  const bytes = await readAround(ring, at, headBlocks + dataBlocks, signal);
  for (let block = 1; block < headBlocks + dataBlocks; block += 1) {
    const expected = at + block >= ring.blocks ? cycle + 1 : cycle;
    if (bytes.readUInt32BE(block * SECTOR_BYTES) !== expected) return null;
  }
  const payload = bytes.subarray(headBlocks * SECTOR_BYTES);
  const crc = head.readUInt32LE(HEAD_CRC_AT);
  const needsCrc = ring.disk.superblock.version === 5 || crc !== 0;
  if (needsCrc && recordCrc(bytes, payload.subarray(0, lengthBytes)) !== crc) return null;
  for (let block = 0; block < dataBlocks; block += 1) {
    const extended = Math.floor(block / CYCLES_IN_HEAD);
    const keptAt = extended === 0 ? 44 + block * 4 : extended * SECTOR_BYTES + 4 + (block % CYCLES_IN_HEAD) * 4;
    bytes.copy(payload, block * SECTOR_BYTES, keptAt, keptAt + 4);
  }
  return {
    lsn,
    tailLsn: head.readBigUInt64BE(24),
    operations: head.readUInt32BE(40),
    payload: payload.subarray(0, lengthBytes),
    blocks: headBlocks + dataBlocks,
  };
}

/** Over the head without its own place, the further heads that the data need, and the data as they lie there. */
function recordCrc(bytes: Buffer, data: Buffer): number {
  let crc = crc32c(bytes.subarray(0, HEAD_CRC_AT));
  crc = crc32c(Buffer.alloc(4), crc);
  crc = crc32c(bytes.subarray(HEAD_CRC_AT + 4, HEAD_BYTES), crc);
  const heads = Math.ceil(data.length / HEAD_COVERS_BYTES);
  for (let head = 1; head < heads; head += 1)
    crc = crc32c(bytes.subarray(head * SECTOR_BYTES, head * SECTOR_BYTES + EXTENDED_HEAD_BYTES), crc);
  return crc32c(data, crc) >>> 0;
}

async function cycleAt(ring: Ring, block: number, signal?: AbortSignal): Promise<number> {
  return cycleOf(await readBlocks(ring, block, 1, signal), 0);
}

function cycleOf(bytes: Buffer, at: number): number {
  const word = bytes.readUInt32BE(at);
  return word === RECORD_MAGIC ? bytes.readUInt32BE(at + 4) : word;
}

function readBlocks(ring: Ring, block: number, count: number, signal?: AbortSignal): Promise<Buffer> {
  return ring.disk.read(ring.startBytes + block * SECTOR_BYTES, count * SECTOR_BYTES, signal);
}

async function readAround(ring: Ring, block: number, count: number, signal?: AbortSignal): Promise<Buffer> {
  const first = Math.min(count, ring.blocks - block);
  const bytes = await readBlocks(ring, block, first, signal);
  return first === count ? bytes : Buffer.concat([bytes, await readBlocks(ring, 0, count - first, signal)]);
}

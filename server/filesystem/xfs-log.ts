import { isAppError } from '../errors/index.ts';
import { parseSuperblock, SECTOR_BYTES, type XfsDisk } from './xfs-disk.ts';
import { replayIcreate, replayInode } from './xfs-log-inode.ts';
import { openLogRing, recordsToReplay, UnsureLog, type LogRecord, type LogRing } from './xfs-log-records.ts';

/**
 * The log of a volume that was not unmounted, replayed in memory as the kernel does at the next mount: the changes
 * from the log's tail to its end are laid over the disk. Changes that began and were not finished (frees put off,
 * unlinked files still open) are left: they would only free more. What was frozen or unmounted holds nothing but
 * its superblock.
 */

/** Flags of an operation. */
const OPERATION_BYTES = 12;
const START = 0x01;
const COMMIT = 0x02;
const WAS_CONTINUED = 0x08;
const CONTINUE = 0x04;
const UNMOUNT = 0x20;

const ITEM_BUFFER = 0x123c;
const ITEM_INODE = 0x123b;
const ITEM_ICREATE = 0x123f;
/** Pairs of intent and done, quotas, attributes: none of them lies on the disk at a place of its own. */
const ITEMS_WITHOUT_PLACE = new Set([
  0x1236, 0x1237, 0x123d, 0x123e, 0x1240, 0x1241, 0x1242, 0x1243, 0x1244, 0x1245, 0x1246, 0x1247, 0x1248, 0x1249,
]);

const BUFFER_INODES = 0x01;
const BUFFER_CANCELLED = 0x02;
const BUFFER_QUOTA = 0x1c;
const BUFFER_GRAIN_BYTES = 128;
/** Larger than any block of metadata. */
const BUFFER_SECTORS_MAX = 65_536 / SECTOR_BYTES;

/** Of transactions that have not ended, in memory. */
const OPEN_BYTES_MAX = 64 * 1024 * 1024;
/** Beside its bytes. */
const REGION_COST_BYTES = 100;
const CANCELLED_MAX = 500_000;

interface Transaction {
  lsn: bigint;
  /** What it takes in memory, roughly. */
  costBytes: number;
  regions: Buffer[];
}

type Item = Buffer[];

/**
 * Lays the log's newer truth over the disk.
 * @returns null, or why what the disk holds is not the whole truth: then nothing is laid over
 */
export async function replayLog(disk: XfsDisk, signal?: AbortSignal): Promise<string | null> {
  try {
    const ring = await openLogRing(disk, signal);
    if (isUnmountRecord(ring.last)) return null;
    const cancelled = await findCancelled(ring, signal);
    for await (const transaction of transactions(ring, signal)) await replay(disk, transaction, cancelled, signal);
    await assertSameGeometry(disk, signal);
    return null;
  } catch (error) {
    disk.uncover();
    if (error instanceof UnsureLog) return error.message;
    if (isAppError(error) && (error.code === 'FILESYSTEM_DAMAGED' || error.code === 'FILESYSTEM_UNSUPPORTED'))
      return `its log cannot be replayed: ${error.message}`;
    throw error;
  }
}

function isUnmountRecord(record: LogRecord): boolean {
  return (
    record.operations === 1 && record.payload.length >= OPERATION_BYTES && ((record.payload[9] ?? 0) & UNMOUNT) !== 0
  );
}

/** A log that grew its volume is left to the kernel. */
async function assertSameGeometry(disk: XfsDisk, signal?: AbortSignal): Promise<void> {
  const now = parseSuperblock(await disk.read(0, SECTOR_BYTES, signal));
  const { blocks, groupCount, groupBlocks, logStart } = disk.superblock;
  if (
    now.blocks !== blocks ||
    now.groupCount !== groupCount ||
    now.groupBlocks !== groupBlocks ||
    now.logStart !== logStart
  )
    throw new UnsureLog('its log changes its size');
}

/** Committed transactions in the order of their ends. */
async function* transactions(ring: LogRing, signal?: AbortSignal): AsyncGenerator<Transaction> {
  const open = new Map<number, Transaction>();
  let openBytes = 0;
  for await (const record of recordsToReplay(ring, signal)) {
    const { payload } = record;
    let at = 0;
    for (let index = 0; index < record.operations; index += 1) {
      if (at + OPERATION_BYTES > payload.length) throw new UnsureLog('a record of its log has no end');
      const id = payload.readUInt32BE(at);
      const lengthBytes = payload.readUInt32BE(at + 4);
      const flags = payload[at + 9] as number;
      const data = payload.subarray(at + OPERATION_BYTES, at + OPERATION_BYTES + lengthBytes);
      if (data.length !== lengthBytes) throw new UnsureLog('a record of its log has no end');
      at += OPERATION_BYTES + lengthBytes;
      if ((flags & UNMOUNT) !== 0) continue;
      if ((flags & START) !== 0) {
        openBytes += REGION_COST_BYTES - (open.get(id)?.costBytes ?? 0);
        open.set(id, { lsn: record.lsn, costBytes: REGION_COST_BYTES, regions: [] });
        if (lengthBytes === 0) continue;
      }
      const transaction = open.get(id);
      // It began before the tail: all of it has been written back.
      if (transaction === undefined) continue;
      if ((flags & COMMIT) !== 0) {
        open.delete(id);
        openBytes -= transaction.costBytes;
        yield transaction;
        continue;
      }
      if ((flags & WAS_CONTINUED) !== 0) {
        const begun = transaction.regions.pop();
        if (begun === undefined) throw new UnsureLog('a transaction of its log has no beginning');
        transaction.regions.push(Buffer.concat([begun, data]));
      } else if (lengthBytes > 0 || (flags & CONTINUE) !== 0) {
        transaction.regions.push(Buffer.from(data));
      }
      transaction.costBytes += lengthBytes + REGION_COST_BYTES;
      openBytes += lengthBytes + REGION_COST_BYTES;
      if (openBytes > OPEN_BYTES_MAX) throw new UnsureLog('its log holds more than fits into memory');
    }
  }
}

/** The first region is the transaction's own; each item's first region says how many regions it has. */
function itemsOf(transaction: Transaction): Item[] {
  const items: Item[] = [];
  for (let at = 1; at < transaction.regions.length;) {
    const first = transaction.regions[at] as Buffer;
    const count = first.length < 4 ? 0 : first.readUInt16LE(2);
    if (count === 0 || at + count > transaction.regions.length) throw new UnsureLog('an item of its log has no end');
    items.push(transaction.regions.slice(at, at + count));
    at += count;
  }
  return items;
}

interface BufferItem {
  flags: number;
  sector: number;
  sectors: number;
  map: Buffer;
  regions: Buffer[];
}

function parseBufferItem(item: Item): BufferItem {
  const [format, ...regions] = item as [Buffer, ...Buffer[]];
  if (format.length < 24) throw new UnsureLog('an item of its log cannot be read');
  const sector = Number(format.readBigInt64LE(8));
  const sectors = format.readUInt16LE(6);
  const mapBytes = format.readUInt32LE(16) * 4;
  if (sector < 0 || sectors === 0 || sectors > BUFFER_SECTORS_MAX || 20 + mapBytes > format.length)
    throw new UnsureLog('an item of its log cannot be read');
  return { flags: format.readUInt16LE(4), sector, sectors, map: format.subarray(20, 20 + mapBytes), regions };
}

function typeOf(item: Item): number {
  return (item[0] as Buffer).readUInt16LE(0);
}

/** Buffers that were given up: what stands in the log before that must not come back. */
async function findCancelled(ring: LogRing, signal?: AbortSignal): Promise<Map<number, number>> {
  const cancelled = new Map<number, number>();
  for await (const transaction of transactions(ring, signal)) {
    for (const item of itemsOf(transaction)) {
      const type = typeOf(item);
      if (type === ITEM_BUFFER) {
        const buffer = parseBufferItem(item);
        if ((buffer.flags & BUFFER_CANCELLED) !== 0)
          cancelled.set(buffer.sector, (cancelled.get(buffer.sector) ?? 0) + 1);
      } else if (type !== ITEM_INODE && type !== ITEM_ICREATE && !ITEMS_WITHOUT_PLACE.has(type)) {
        throw new UnsureLog(`its log holds items of the unknown type 0x${type.toString(16)}`);
      }
    }
    if (cancelled.size > CANCELLED_MAX) throw new UnsureLog('its log gives up more than fits into memory');
  }
  return cancelled;
}

/** Within a transaction: new inodes and buffers, then inodes, then what is given up. */
function order(item: Item): number {
  const type = typeOf(item);
  if (type === ITEM_ICREATE) return 0;
  if (type !== ITEM_BUFFER) return 2;
  return (parseBufferItem(item).flags & BUFFER_CANCELLED) === 0 ? 1 : 3;
}

async function replay(
  disk: XfsDisk,
  transaction: Transaction,
  cancelled: Map<number, number>,
  signal?: AbortSignal,
): Promise<void> {
  const items = itemsOf(transaction).map((item) => ({ item, order: order(item) }));
  for (const { item } of items.sort((a, b) => a.order - b.order)) {
    const type = typeOf(item);
    if (type === ITEM_INODE) await replayInode(disk, item, transaction.lsn, cancelled, signal);
    else if (type === ITEM_ICREATE) replayIcreate(disk, item, cancelled);
    else if (type === ITEM_BUFFER) await replayBuffer(disk, parseBufferItem(item), transaction.lsn, cancelled, signal);
  }
}

async function replayBuffer(
  disk: XfsDisk,
  item: BufferItem,
  lsn: bigint,
  cancelled: Map<number, number>,
  signal?: AbortSignal,
): Promise<void> {
  const waiting = cancelled.get(item.sector) ?? 0;
  if ((item.flags & BUFFER_CANCELLED) !== 0) {
    if (waiting <= 1) cancelled.delete(item.sector);
    else cancelled.set(item.sector, waiting - 1);
    return;
  }
  // Buffers of inodes hold but the chain of unlinked ones here; inodes are logged by themselves.
  if (waiting > 0 || (item.flags & (BUFFER_INODES | BUFFER_QUOTA)) !== 0) return;
  const offsetBytes = item.sector * SECTOR_BYTES;
  const bytes = await disk.read(offsetBytes, item.sectors * SECTOR_BYTES, signal);
  const written = blockLsn(disk, bytes);
  if (written !== null && written >= lsn) return;
  let region = 0;
  const grains = Math.min(item.map.length * 8, bytes.length / BUFFER_GRAIN_BYTES);
  for (let grain = 0; grain < grains;) {
    if (!isMarked(item.map, grain)) {
      grain += 1;
      continue;
    }
    // A run of marks is one region, or several where the buffer lay in pieces in memory.
    const source = item.regions[region];
    const count = source === undefined ? 0 : source.length / BUFFER_GRAIN_BYTES;
    if (source === undefined || count < 1 || !Number.isInteger(count) || grain + count > grains)
      throw new UnsureLog('a buffer of its log cannot be read');
    for (let marked = grain; marked < grain + count; marked += 1)
      if (!isMarked(item.map, marked)) throw new UnsureLog('a buffer of its log cannot be read');
    source.copy(bytes, grain * BUFFER_GRAIN_BYTES);
    region += 1;
    grain += count;
  }
  disk.layOver(offsetBytes, bytes);
}

function isMarked(map: Buffer, grain: number): boolean {
  return (((map[grain >> 3] as number) >> (grain & 7)) & 1) === 1;
}

/** Where blocks with check sums keep the place in the log up to which they are true, and their volume's name. */
const LSN_PLACES: Readonly<Record<string, { lsnAt: number; uuidAt: number }>> = {
  AB3B: { lsnAt: 24, uuidAt: 32 },
  AB3C: { lsnAt: 24, uuidAt: 32 },
  IAB3: { lsnAt: 24, uuidAt: 32 },
  FIB3: { lsnAt: 24, uuidAt: 32 },
  RMB3: { lsnAt: 24, uuidAt: 32 },
  R3FC: { lsnAt: 24, uuidAt: 32 },
  BMA3: { lsnAt: 32, uuidAt: 40 },
  XAGF: { lsnAt: 208, uuidAt: 64 },
  XAGI: { lsnAt: 320, uuidAt: 296 },
  XSLM: { lsnAt: 48, uuidAt: 16 },
  XDB3: { lsnAt: 16, uuidAt: 24 },
  XDD3: { lsnAt: 16, uuidAt: 24 },
  XDF3: { lsnAt: 16, uuidAt: 24 },
};

function blockLsn(disk: XfsDisk, bytes: Buffer): bigint | null {
  const place = LSN_PLACES[bytes.toString('latin1', 0, 4)];
  if (place === undefined || disk.superblock.version !== 5) return null;
  if (!bytes.subarray(place.uuidAt, place.uuidAt + 16).equals(disk.superblock.metaUuid)) return null;
  const lsn = bytes.readBigUInt64BE(place.lsnAt);
  return lsn === 0n || lsn === 0xffff_ffff_ffff_ffffn ? null : lsn;
}

import { SECTOR_BYTES } from '../runtime/index.ts';
import {
  COMPARE_BLOCKS_MAX,
  modeSense,
  standardInquiry,
  TRANSFER_BLOCKS_MAX,
  UNMAP_BLOCKS_MAX,
  UNMAP_DESCRIPTORS_MAX,
  vitalProductData,
} from './device-pages.ts';
import type { CommandUnit, ScsiRequest } from './scsi-request.ts';
import { encodeSense, ScsiCheck, SENSE } from './sense.ts';

/** The commands of a disk, one row each: SPC-4 section 6, SBC-3 section 5. */

export interface ScsiCommand {
  opcode: number;
  serviceAction?: number;
  /** The CDB with a one for every bit that is looked at (SPC-4 section 6.35.3); its length is the CDB's. */
  usage: readonly number[];
  /**
   * What a reservation of another initiator does to it: `read` and `write` are refused as such, `reserve` only under
   * the old kind of reservation, none never.
   */
  access?: 'read' | 'write' | 'reserve';
  /** Answers in spite of a pending unit attention. */
  ignoresAttention?: boolean;
  dataOutBytes?(cdb: Buffer): number;
  /**
   * `exact`: refused when the initiator announced another amount; `partial`: does with less; else only more is fine.
   */
  dataOutRule?: 'exact' | 'partial';
  /** Memory that it takes besides what the initiator sends. */
  workBytes?(cdb: Buffer): number;
  run(unit: CommandUnit, request: ScsiRequest): Promise<Buffer | null>;
}

const FUA = 0x08;
/** Transfers of GET LBA STATUS look at that much of the disk at most. */
const STATUS_SCAN_BYTES = 1024 * 1024;
const STATUS_STEP_BYTES = 128 * 1024;
const ZEROS = Buffer.alloc(64 * 1024);

/** Address and length by the shape of the CDB, which its group (the top three bits of the opcode) gives. */
function range(cdb: Buffer): { lba: number; blocks: number } {
  switch (cdb.readUInt8(0) >> 5) {
    case 0:
      // 0 means 256 in the 6-byte commands alone.
      return { lba: cdb.readUIntBE(1, 3) & 0x1fffff, blocks: cdb.readUInt8(4) || 256 };
    case 1:
    case 2:
      return { lba: cdb.readUInt32BE(2), blocks: cdb.readUInt16BE(7) };
    case 5:
      return { lba: cdb.readUInt32BE(2), blocks: cdb.readUInt32BE(6) };
    default:
      return { lba: Number(cdb.readBigUInt64BE(2)), blocks: cdb.readUInt32BE(10) };
  }
}

/** The range in bytes. @throws ScsiCheck when it is not within the disk, or longer than allowed */
function checkedRange(unit: CommandUnit, cdb: Buffer, blocksMax: number): { offsetBytes: number; lengthBytes: number } {
  const { lba, blocks } = range(cdb);
  assertWithin(unit, lba, blocks);
  if (blocks > blocksMax) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  return { offsetBytes: lba * SECTOR_BYTES, lengthBytes: blocks * SECTOR_BYTES };
}

function assertWithin(unit: CommandUnit, lba: number, blocks: number): void {
  if (lba > unit.blocks || blocks > unit.blocks - lba || lba === unit.blocks) throw new ScsiCheck(SENSE.lbaOutOfRange);
}

function assertWritable(unit: CommandUnit): void {
  if (!unit.disk.writable) throw new ScsiCheck(SENSE.writeProtected);
}

/** There is no protection information, so nobody can ask for its check. 6-byte commands have no such field. */
function assertNoProtection(cdb: Buffer): void {
  if (cdb.readUInt8(0) >> 5 !== 0 && (cdb.readUInt8(1) & 0xe0) !== 0) throw new ScsiCheck(SENSE.invalidFieldInCdb);
}

function wantsForce(cdb: Buffer): boolean {
  return cdb.readUInt8(0) >> 5 !== 0 && (cdb.readUInt8(1) & FUA) !== 0;
}

function transferBytes(cdb: Buffer): number {
  return Math.min(range(cdb).blocks, TRANSFER_BLOCKS_MAX) * SECTOR_BYTES;
}

async function read(unit: CommandUnit, { cdb, takeBuffer }: ScsiRequest): Promise<Buffer | null> {
  assertNoProtection(cdb);
  const { offsetBytes, lengthBytes } = checkedRange(unit, cdb, TRANSFER_BLOCKS_MAX);
  if (lengthBytes === 0) return null;
  if (unit.disk.readInto === undefined || takeBuffer === undefined) return unit.disk.read(offsetBytes, lengthBytes);
  const data = takeBuffer(lengthBytes);
  await unit.disk.readInto(offsetBytes, data);
  return data;
}

/** Whole sectors of what arrived: an initiator that announces less than the CDB says gets that much written. */
function arrivedSectors(dataOut: Buffer, lengthBytes: number): Buffer {
  return dataOut.subarray(0, Math.min(lengthBytes, dataOut.length - (dataOut.length % SECTOR_BYTES)));
}

async function write(unit: CommandUnit, { cdb, dataOut }: ScsiRequest): Promise<null> {
  assertNoProtection(cdb);
  const where = checkedRange(unit, cdb, TRANSFER_BLOCKS_MAX);
  assertWritable(unit);
  const data = arrivedSectors(dataOut, where.lengthBytes);
  if (data.length === 0) return null;
  await unit.locks.run({ ...where, exclusive: false }, () => unit.disk.write(where.offsetBytes, data));
  if (wantsForce(cdb)) await unit.disk.flush();
  return null;
}

async function writeAndVerify(unit: CommandUnit, request: ScsiRequest): Promise<null> {
  const { cdb, dataOut } = request;
  if (byteCheck(cdb) > 1) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  // The bit that is FUA elsewhere is reserved here.
  const plain = Buffer.from(cdb);
  plain[1] = cdb.readUInt8(1) & ~FUA;
  await write(unit, { ...request, cdb: plain });
  await unit.disk.flush();
  const { offsetBytes, lengthBytes } = checkedRange(unit, cdb, TRANSFER_BLOCKS_MAX);
  const data = arrivedSectors(dataOut, lengthBytes);
  if (data.length > 0) await compare(unit, offsetBytes, data);
  return null;
}

function byteCheck(cdb: Buffer): number {
  return (cdb.readUInt8(1) >> 1) & 3;
}

async function verify(unit: CommandUnit, { cdb, dataOut }: ScsiRequest): Promise<null> {
  assertNoProtection(cdb);
  const { offsetBytes, lengthBytes } = checkedRange(unit, cdb, TRANSFER_BLOCKS_MAX);
  const check = byteCheck(cdb);
  if (check === 2) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  if (lengthBytes === 0) return null;
  if (check === 0) await unit.disk.read(offsetBytes, lengthBytes);
  else if (check === 1) await compare(unit, offsetBytes, dataOut.subarray(0, lengthBytes));
  else {
    const repeated = Buffer.alloc(lengthBytes, dataOut.subarray(0, SECTOR_BYTES));
    await compare(unit, offsetBytes, repeated);
  }
  return null;
}

/** @throws ScsiCheck with the offset of the first difference */
async function compare(unit: CommandUnit, offsetBytes: number, expected: Buffer): Promise<void> {
  const found = await unit.disk.read(offsetBytes, expected.length);
  if (found.equals(expected)) return;
  let at = 0;
  while (found[at] === expected[at]) at += 1;
  throw new ScsiCheck(SENSE.miscompare, at);
}

async function compareAndWrite(unit: CommandUnit, { cdb, dataOut }: ScsiRequest): Promise<null> {
  assertNoProtection(cdb);
  const lba = Number(cdb.readBigUInt64BE(2));
  const blocks = cdb.readUInt8(13);
  assertWithin(unit, lba, blocks);
  if (blocks > COMPARE_BLOCKS_MAX) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  assertWritable(unit);
  if (blocks === 0) return null;
  const lengthBytes = blocks * SECTOR_BYTES;
  const where = { offsetBytes: lba * SECTOR_BYTES, lengthBytes };
  await unit.locks.run({ ...where, exclusive: true }, async () => {
    await compare(unit, where.offsetBytes, dataOut.subarray(0, lengthBytes));
    await unit.disk.write(where.offsetBytes, dataOut.subarray(lengthBytes, 2 * lengthBytes));
  });
  if (wantsForce(cdb)) await unit.disk.flush();
  return null;
}

async function writeSame(unit: CommandUnit, { cdb, dataOut }: ScsiRequest): Promise<null> {
  assertNoProtection(cdb);
  const flags = cdb.readUInt8(1);
  const unmap = (flags & 0x08) !== 0;
  const noData = cdb.readUInt8(0) === 0x93 && (flags & 0x01) !== 0;
  // ANCHOR, and the obsolete PBDATA and LBDATA.
  if ((flags & 0x16) !== 0) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  const { blocks } = range(cdb);
  const where = checkedRange(unit, cdb, Number.MAX_SAFE_INTEGER);
  assertWritable(unit);
  if (blocks === 0 || blocks > TRANSFER_BLOCKS_MAX) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  const block = noData ? ZEROS.subarray(0, SECTOR_BYTES) : dataOut.subarray(0, SECTOR_BYTES);
  const isZero = block.equals(ZEROS.subarray(0, SECTOR_BYTES));
  const { offsetBytes, lengthBytes } = where;
  await unit.locks.run({ ...where, exclusive: false }, async () => {
    if (isZero && unmap) await unit.disk.discard(offsetBytes, lengthBytes);
    else if (isZero) await unit.disk.zero(offsetBytes, lengthBytes);
    else {
      const stepBytes = TRANSFER_BLOCKS_MAX * SECTOR_BYTES;
      for (let at = 0; at < lengthBytes; at += stepBytes)
        await unit.disk.write(offsetBytes + at, Buffer.alloc(Math.min(stepBytes, lengthBytes - at), block));
    }
  });
  return null;
}

async function unmap(unit: CommandUnit, { cdb, dataOut }: ScsiRequest): Promise<null> {
  if ((cdb.readUInt8(1) & 0x01) !== 0) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  const length = cdb.readUInt16BE(7);
  if (length === 0) {
    assertWritable(unit);
    return null;
  }
  if (length < 8) throw new ScsiCheck(SENSE.parameterListLength);
  const listBytes = Math.min(dataOut.readUInt16BE(2), length - 8);
  const ranges: { lba: number; blocks: number }[] = [];
  for (let at = 8; at + 16 <= 8 + listBytes; at += 16)
    ranges.push({ lba: Number(dataOut.readBigUInt64BE(at)), blocks: dataOut.readUInt32BE(at + 8) });
  const totalBlocks = ranges.reduce((sum, { blocks }) => sum + blocks, 0);
  if (ranges.length > UNMAP_DESCRIPTORS_MAX || totalBlocks > UNMAP_BLOCKS_MAX)
    throw new ScsiCheck(SENSE.invalidFieldInParameters);
  for (const { lba, blocks } of ranges)
    if (lba > unit.blocks || blocks > unit.blocks - lba) throw new ScsiCheck(SENSE.lbaOutOfRange);
  assertWritable(unit);
  for (const { lba, blocks } of ranges) {
    if (blocks === 0) continue;
    const where = { offsetBytes: lba * SECTOR_BYTES, lengthBytes: blocks * SECTOR_BYTES };
    await unit.locks.run({ ...where, exclusive: false }, () => unit.disk.discard(where.offsetBytes, where.lengthBytes));
  }
  return null;
}

async function synchronize(unit: CommandUnit, { cdb }: ScsiRequest): Promise<null> {
  const { lba, blocks } = range(cdb);
  if (lba > unit.blocks || blocks > unit.blocks - lba) throw new ScsiCheck(SENSE.lbaOutOfRange);
  await unit.disk.flush();
  return null;
}

async function inquiry(unit: CommandUnit, { cdb }: ScsiRequest): Promise<Buffer> {
  const vital = (cdb.readUInt8(1) & 0x01) !== 0;
  const page = cdb.readUInt8(2);
  if (!vital && page !== 0) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  const data = vital ? vitalProductData(page, unit.identity, unit.disk) : standardInquiry();
  return data.subarray(0, cdb.readUInt16BE(3));
}

async function requestSense(unit: CommandUnit, { cdb, nexus }: ScsiRequest): Promise<Buffer> {
  if ((cdb.readUInt8(1) & 0x01) !== 0) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  return encodeSense(unit.takeAttention(nexus) ?? SENSE.none).subarray(0, cdb.readUInt8(4));
}

async function readCapacity10(unit: CommandUnit, { cdb }: ScsiRequest): Promise<Buffer> {
  if ((cdb.readUInt8(8) & 1) === 0 && cdb.readUInt32BE(2) !== 0) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  const data = Buffer.alloc(8);
  data.writeUInt32BE(Math.min(unit.blocks - 1, 0xffffffff), 0);
  data.writeUInt32BE(SECTOR_BYTES, 4);
  return data;
}

async function readCapacity16(unit: CommandUnit, { cdb }: ScsiRequest): Promise<Buffer> {
  const data = Buffer.alloc(32);
  data.writeBigUInt64BE(BigInt(unit.blocks - 1), 0);
  data.writeUInt32BE(SECTOR_BYTES, 8);
  if (unit.disk.writable) data[14] = 0xc0; // LBPME, LBPRZ
  return data.subarray(0, cdb.readUInt32BE(10));
}

/** What reads as zeros counts as deallocated, which is what an unmapped block reads as. */
async function getLbaStatus(unit: CommandUnit, { cdb, takeBuffer }: ScsiRequest): Promise<Buffer> {
  const lba = Number(cdb.readBigUInt64BE(2));
  assertWithin(unit, lba, 1);
  const { isZero, lengthBytes } = await scanZeros(unit, lba * SECTOR_BYTES, takeBuffer);
  const data = Buffer.alloc(24);
  data.writeUInt32BE(20, 0);
  data.writeBigUInt64BE(BigInt(lba), 8);
  data.writeUInt32BE(lengthBytes / SECTOR_BYTES, 16);
  data[20] = isZero ? 1 : 0;
  return data.subarray(0, cdb.readUInt32BE(10));
}

/**
 * Whether the sector there is zero, and how far that goes on. In small steps through one buffer: initiators ask before
 * every read of an area that they do not know, and mostly want little of the answer.
 */
async function scanZeros(
  unit: CommandUnit,
  startBytes: number,
  takeBuffer: ScsiRequest['takeBuffer'],
): Promise<{ isZero: boolean; lengthBytes: number }> {
  const { disk } = unit;
  const totalBytes = Math.min(STATUS_SCAN_BYTES, unit.blocks * SECTOR_BYTES - startBytes);
  const memory = disk.readInto === undefined ? undefined : takeBuffer?.(Math.min(STATUS_STEP_BYTES, totalBytes));
  let isZero: boolean | null = null;
  for (let at = 0; at < totalBytes; at += STATUS_STEP_BYTES) {
    const bytes = Math.min(STATUS_STEP_BYTES, totalBytes - at);
    const content = memory?.subarray(0, bytes) ?? (await disk.read(startBytes + at, bytes));
    if (memory !== undefined) await disk.readInto?.(startBytes + at, content);
    for (let sector = 0; sector < bytes; sector += SECTOR_BYTES) {
      const isThisZero = ZEROS.compare(content, sector, sector + SECTOR_BYTES, 0, SECTOR_BYTES) === 0;
      if (isThisZero !== (isZero ??= isThisZero)) return { isZero, lengthBytes: at + sector };
    }
  }
  return { isZero: isZero ?? true, lengthBytes: totalBytes };
}

async function reserveIn(unit: CommandUnit, { cdb }: ScsiRequest): Promise<Buffer> {
  return unit.reservations.report(cdb.readUInt8(1) & 0x1f).subarray(0, cdb.readUInt16BE(7));
}

async function reserveOut(unit: CommandUnit, { cdb, nexus, dataOut }: ScsiRequest): Promise<null> {
  const parameters = dataOut.subarray(0, cdb.readUInt32BE(5));
  unit.reservations.change(nexus, cdb.readUInt8(1) & 0x1f, cdb.readUInt8(2), parameters);
  return null;
}

async function reportOpcodes(_unit: CommandUnit, { cdb }: ScsiRequest): Promise<Buffer> {
  const timeouts = (cdb.readUInt8(2) & 0x80) !== 0;
  const options = cdb.readUInt8(2) & 0x07;
  const allocated = cdb.readUInt32BE(6);
  const data = options === 0 ? allOpcodes(timeouts) : oneOpcode(cdb, options, timeouts);
  return data.subarray(0, allocated);
}

function allOpcodes(timeouts: boolean): Buffer {
  const parts: Buffer[] = [Buffer.alloc(4)];
  for (const { opcode, serviceAction, usage } of COMMANDS) {
    const descriptor = Buffer.alloc(8);
    descriptor[0] = opcode;
    descriptor.writeUInt16BE(serviceAction ?? 0, 2);
    descriptor[5] = (timeouts ? 2 : 0) | (serviceAction === undefined ? 0 : 1);
    descriptor.writeUInt16BE(usage.length, 6);
    parts.push(descriptor);
    if (timeouts) parts.push(noTimeouts());
  }
  const data = Buffer.concat(parts);
  data.writeUInt32BE(data.length - 4, 0);
  return data;
}

function oneOpcode(cdb: Buffer, options: number, timeouts: boolean): Buffer {
  const opcode = cdb.readUInt8(3);
  const action = cdb.readUInt16BE(4);
  const rows = COMMANDS.filter((row) => row.opcode === opcode);
  const hasActions = rows.some((row) => row.serviceAction !== undefined);
  if (options > 3 || (options === 1 && hasActions) || (options === 2 && rows.length > 0 && !hasActions))
    throw new ScsiCheck(SENSE.invalidFieldInCdb);
  const row = rows.find((candidate) => (candidate.serviceAction ?? (options === 3 ? 0 : action)) === action);
  const head = Buffer.alloc(4);
  head[1] = row === undefined ? 0x01 : 0x03;
  if (row === undefined) return head;
  if (timeouts) head[1] = 0x83;
  head.writeUInt16BE(row.usage.length, 2);
  return Buffer.concat([head, Buffer.from(row.usage), ...(timeouts ? [noTimeouts()] : [])]);
}

/** A command timeouts descriptor that recommends none. */
function noTimeouts(): Buffer {
  const descriptor = Buffer.alloc(12);
  descriptor.writeUInt16BE(10, 0);
  return descriptor;
}

const BYTES_4 = [0xff, 0xff, 0xff, 0xff];
const BYTES_8 = [...BYTES_4, ...BYTES_4];
const NOTHING = async (): Promise<null> => null;

function usage6(opcode: number): number[] {
  return [opcode, 0x1f, 0xff, 0xff, 0xff, 0x00];
}
function usage10(opcode: number, flags: number): number[] {
  return [opcode, flags, ...BYTES_4, 0x00, 0xff, 0xff, 0x00];
}
function usage12(opcode: number, flags: number): number[] {
  return [opcode, flags, ...BYTES_4, ...BYTES_4, 0x00, 0x00];
}
function usage16(opcode: number, flags: number): number[] {
  return [opcode, flags, ...BYTES_8, ...BYTES_4, 0x00, 0x00];
}

const READ = { access: 'read', workBytes: transferBytes, run: read } as const;
const WRITE = { access: 'write', dataOutBytes: transferBytes, dataOutRule: 'partial', run: write } as const;
const WRITE_VERIFY = {
  access: 'write',
  dataOutBytes: transferBytes,
  dataOutRule: 'partial',
  workBytes: transferBytes,
  run: writeAndVerify,
} as const;
const VERIFY = {
  access: 'read',
  dataOutBytes: (cdb: Buffer) =>
    byteCheck(cdb) === 1 ? transferBytes(cdb) : byteCheck(cdb) === 3 && range(cdb).blocks > 0 ? SECTOR_BYTES : 0,
  workBytes: transferBytes,
  run: verify,
} as const;
const SYNCHRONIZE = { access: 'write', run: synchronize } as const;
const WRITE_SAME = {
  access: 'write',
  dataOutBytes: (cdb: Buffer) => (cdb.readUInt8(0) === 0x93 && (cdb.readUInt8(1) & 1) !== 0 ? 0 : SECTOR_BYTES),
  dataOutRule: 'exact',
  workBytes: () => TRANSFER_BLOCKS_MAX * SECTOR_BYTES,
  run: writeSame,
} as const;

const COMMANDS: readonly ScsiCommand[] = [
  { opcode: 0x00, usage: [0x00, 0, 0, 0, 0, 0], access: 'reserve', run: NOTHING },
  { opcode: 0x03, usage: [0x03, 0x01, 0, 0, 0xff, 0], ignoresAttention: true, run: requestSense },
  { opcode: 0x08, usage: usage6(0x08), ...READ },
  { opcode: 0x0a, usage: usage6(0x0a), ...WRITE },
  { opcode: 0x12, usage: [0x12, 0x01, 0xff, 0xff, 0xff, 0], ignoresAttention: true, run: inquiry },
  {
    opcode: 0x16,
    usage: [0x16, 0, 0, 0, 0, 0],
    run: async (unit, { nexus }) => {
      unit.reservations.reserve(nexus);
      return null;
    },
  },
  {
    opcode: 0x17,
    usage: [0x17, 0, 0, 0, 0, 0],
    run: async (unit, { nexus }) => {
      unit.reservations.release(nexus);
      return null;
    },
  },
  {
    opcode: 0x1a,
    usage: [0x1a, 0x08, 0xff, 0xff, 0xff, 0],
    access: 'reserve',
    run: async (unit, { cdb }) =>
      modeSense(cdb, { blocks: unit.blocks, writable: unit.disk.writable, longHeader: false }).subarray(
        0,
        cdb.readUInt8(4),
      ),
  },
  { opcode: 0x1b, usage: [0x1b, 0x01, 0, 0x0f, 0xf7, 0], access: 'reserve', run: startStop },
  {
    opcode: 0x25,
    usage: [0x25, 0, ...BYTES_4, 0, 0, 0x01, 0],
    access: 'reserve',
    run: readCapacity10,
  },
  { opcode: 0x28, usage: usage10(0x28, 0xf8), ...READ },
  { opcode: 0x2a, usage: usage10(0x2a, 0xf8), ...WRITE },
  { opcode: 0x2e, usage: usage10(0x2e, 0xf6), ...WRITE_VERIFY },
  { opcode: 0x2f, usage: usage10(0x2f, 0xf6), ...VERIFY },
  { opcode: 0x35, usage: usage10(0x35, 0x02), ...SYNCHRONIZE },
  { opcode: 0x41, usage: usage10(0x41, 0xf8), ...WRITE_SAME },
  {
    opcode: 0x42,
    usage: [0x42, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
    access: 'write',
    dataOutBytes: (cdb) => cdb.readUInt16BE(7),
    run: unmap,
  },
  {
    opcode: 0x5a,
    usage: [0x5a, 0x08, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0],
    access: 'reserve',
    run: async (unit, { cdb }) =>
      modeSense(cdb, { blocks: unit.blocks, writable: unit.disk.writable, longHeader: true }).subarray(
        0,
        cdb.readUInt16BE(7),
      ),
  },
  ...[0, 1, 2, 3].map((serviceAction): ScsiCommand => ({
    opcode: 0x5e,
    serviceAction,
    usage: [0x5e, serviceAction, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
    access: 'reserve',
    run: reserveIn,
  })),
  ...[0, 1, 2, 3, 4, 5, 6].map((serviceAction): ScsiCommand => ({
    opcode: 0x5f,
    serviceAction,
    usage: [0x5f, serviceAction, 0xff, 0, 0, ...BYTES_4, 0],
    dataOutBytes: (cdb) => Math.min(cdb.readUInt32BE(5), 1024),
    run: reserveOut,
  })),
  { opcode: 0x88, usage: usage16(0x88, 0xf8), ...READ },
  {
    opcode: 0x89,
    usage: [0x89, 0xf8, ...BYTES_8, 0, 0, 0, 0xff, 0, 0],
    access: 'write',
    dataOutBytes: (cdb) => 2 * cdb.readUInt8(13) * SECTOR_BYTES,
    dataOutRule: 'exact',
    run: compareAndWrite,
  },
  { opcode: 0x8a, usage: usage16(0x8a, 0xf8), ...WRITE },
  { opcode: 0x8e, usage: usage16(0x8e, 0xf6), ...WRITE_VERIFY },
  { opcode: 0x8f, usage: usage16(0x8f, 0xf6), ...VERIFY },
  { opcode: 0x91, usage: usage16(0x91, 0x02), ...SYNCHRONIZE },
  { opcode: 0x93, usage: usage16(0x93, 0xf9), ...WRITE_SAME },
  { opcode: 0x9e, serviceAction: 0x10, usage: usage16(0x9e, 0x10), access: 'reserve', run: readCapacity16 },
  {
    opcode: 0x9e,
    serviceAction: 0x12,
    usage: usage16(0x9e, 0x12),
    access: 'read',
    workBytes: () => STATUS_SCAN_BYTES,
    run: getLbaStatus,
  },
  {
    opcode: 0xa0,
    usage: [0xa0, 0, 0xff, 0, 0, 0, ...BYTES_4, 0, 0],
    ignoresAttention: true,
    // Answered by the target, which knows all units; the row is for REPORT SUPPORTED OPERATION CODES.
    run: NOTHING,
  },
  {
    opcode: 0xa3,
    serviceAction: 0x0c,
    usage: [0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, ...BYTES_4, 0, 0],
    access: 'reserve',
    run: reportOpcodes,
  },
  { opcode: 0xa8, usage: usage12(0xa8, 0xf8), ...READ },
  { opcode: 0xaa, usage: usage12(0xaa, 0xf8), ...WRITE },
  { opcode: 0xae, usage: usage12(0xae, 0xf6), ...WRITE_VERIFY },
  { opcode: 0xaf, usage: usage12(0xaf, 0xf6), ...VERIFY },
];

/**
 * START STOP UNIT: the disk is always ready, since there may be other initiators; stopping it is taken as a wish to
 * have everything stored. It has no medium to load or eject, and no power conditions.
 */
async function startStop(unit: CommandUnit, { cdb }: ScsiRequest): Promise<null> {
  const flags = cdb.readUInt8(4);
  const [powerCondition, isWithoutFlush, movesMedium, starts] = [flags >> 4, flags & 0x04, flags & 0x02, flags & 0x01];
  if (powerCondition !== 0 || movesMedium !== 0) throw new ScsiCheck(SENSE.invalidFieldInCdb);
  if (starts === 0 && isWithoutFlush === 0) await unit.disk.flush();
  return null;
}

const BY_OPCODE = new Map<number, ScsiCommand[]>();
for (const command of COMMANDS) {
  const rows = BY_OPCODE.get(command.opcode);
  if (rows === undefined) BY_OPCODE.set(command.opcode, [command]);
  else rows.push(command);
}

/** Whether any action of the opcode is known. */
export function isKnownOpcode(opcode: number): boolean {
  return BY_OPCODE.has(opcode);
}

export function findCommand(cdb: Buffer): ScsiCommand | undefined {
  const rows = BY_OPCODE.get(cdb.readUInt8(0));
  if (rows === undefined) return undefined;
  const action = cdb.readUInt8(1) & 0x1f;
  return rows.find((row) => row.serviceAction === undefined || row.serviceAction === action);
}

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BackingDisk } from './backing-disk.ts';
import { identityOf } from './device-pages.ts';
import { LogicalUnit } from './logical-unit.ts';
import { executeScsi, unitAt, type ScsiTarget } from './scsi-target.ts';

const BYTES = 1024 * 1024;
const TIB = 2 ** 40;

/** What was done to the disk of a unit: `write 512+1024`. */
type Note = string;

/** A unit whose disk notes what is done to it; what libiscsi's suite does not ask for is asked for here. */
function makeUnit(writable: boolean, sizeBytes = BYTES): { unit: LogicalUnit; flushes: () => number; notes: Note[] } {
  let flushes = 0;
  const notes: Note[] = [];
  const disk: BackingDisk = {
    sizeBytes,
    writable,
    read: async (offsetBytes, lengthBytes) => {
      notes.push(`read ${offsetBytes}+${lengthBytes}`);
      return Buffer.alloc(lengthBytes, offsetBytes === 0 ? 0 : 'x');
    },
    write: async (offsetBytes, data) => void notes.push(`write ${offsetBytes}+${data.length}`),
    zero: async (offsetBytes, lengthBytes) => void notes.push(`zero ${offsetBytes}+${lengthBytes}`),
    discard: async (offsetBytes, lengthBytes) => void notes.push(`discard ${offsetBytes}+${lengthBytes}`),
    flush: async () => void (flushes += 1),
    close: async () => undefined,
  };
  const unit = new LogicalUnit(disk, identityOf('test'), (error) => assert.fail(error));
  unit.attach('initiator');
  unit.takeAttention('initiator');
  return { unit, flushes: () => flushes, notes };
}

/** `sense`: key, code and qualifier as one number, 0 where there is none. */
async function run(
  unit: LogicalUnit,
  cdb: number[],
  dataOut = Buffer.alloc(0),
): Promise<{ status: number; data: Buffer; sense: number }> {
  const padded = Buffer.concat([Buffer.from(cdb), Buffer.alloc(16)], 16);
  const request = { cdb: padded, nexus: 'initiator', dataOut, announcedBytes: dataOut.length };
  const { status, dataIn, sense } = await unit.execute(request);
  const told = sense === null ? 0 : sense.readUInt8(2) * 65_536 + sense.readUInt16BE(12);
  return { status, data: dataIn ?? Buffer.alloc(0), sense: told };
}

/** Opcode, flags, address and length of a command of 16 bytes. */
function cdb16(opcode: number, flags: number, lba: bigint, length: number): number[] {
  const cdb = Buffer.alloc(16);
  cdb.set([opcode, flags]);
  cdb.writeBigUInt64BE(lba, 2);
  cdb.writeUInt32BE(length, 10);
  return [...cdb];
}

const INVALID_FIELD = 0x05_2400;
const TEST_UNIT_READY = [0, 0, 0, 0, 0, 0];

test('SYNCHRONIZE CACHE 10 and 16 flush the disk before they are answered', async () => {
  const { unit, flushes } = makeUnit(true);

  assert.equal((await run(unit, [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])).status, 0);
  assert.equal(flushes(), 1);
  assert.equal((await run(unit, [0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).status, 0);
  assert.equal(flushes(), 2);
});

test('REQUEST SENSE has nothing to tell of a unit that is well', async () => {
  const { status, data } = await run(makeUnit(true).unit, [0x03, 0, 0, 0, 18, 0]);

  assert.equal(status, 0);
  assert.equal(data.length, 18);
  assert.equal(data.readUInt8(0) & 0x7f, 0x70);
  assert.equal(data.readUInt8(2) & 0x0f, 0, 'no sense');
});

test('MODE SENSE 10 tells a disk that may not be written', async () => {
  for (const writable of [true, false]) {
    const { status, data } = await run(makeUnit(writable).unit, [0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255, 0]);

    assert.equal(status, 0);
    assert.equal(data.readUInt16BE(0), data.length - 2);
    assert.equal((data.readUInt8(3) & 0x80) !== 0, !writable);
  }
});

/** START STOP UNIT: IMMED in byte 1; power condition, NO_FLUSH, LOEJ and START in byte 4 (SBC-3 5.20). */
const [IMMED, NO_FLUSH, LOEJ, START] = [0x01, 0x04, 0x02, 0x01];

test('START STOP UNIT that starts a unit has nothing to do, whether it waits or not', async () => {
  const { unit, flushes, notes } = makeUnit(true);

  for (const immediate of [0, IMMED]) assert.equal((await run(unit, [0x1b, immediate, 0, 0, START, 0])).status, 0);

  assert.deepEqual([flushes(), notes], [0, []]);
});

test('START STOP UNIT that stops a unit stores everything before it is answered, unless told not to', async () => {
  const { unit, flushes } = makeUnit(true);

  assert.equal((await run(unit, [0x1b, 0, 0, 0, 0, 0])).status, 0);
  assert.equal(flushes(), 1);
  assert.equal((await run(unit, [0x1b, IMMED, 0, 0, 0, 0])).status, 0);
  assert.equal(flushes(), 2);
  assert.equal((await run(unit, [0x1b, 0, 0, 0, NO_FLUSH, 0])).status, 0);
  assert.equal(flushes(), 2);
});

test('a stopped unit goes on serving, to every initiator', async () => {
  const { unit, notes } = makeUnit(true);
  unit.attach('another');
  unit.takeAttention('another');
  await run(unit, [0x1b, 0, 0, 0, 0, 0]);

  assert.equal((await run(unit, TEST_UNIT_READY)).status, 0);
  assert.equal((await run(unit, cdb16(0x8a, 0, 1n, 1), Buffer.alloc(512))).status, 0);
  const request = { cdb: Buffer.alloc(16), nexus: 'another', dataOut: Buffer.alloc(0), announcedBytes: 0 };
  assert.equal((await unit.execute(request)).status, 0);
  assert.equal((await run(unit, [0x1b, 0, 0, 0, START, 0])).status, 0);
  assert.deepEqual(notes, ['write 512+512']);
});

test('START STOP UNIT has no medium to load or eject, and no power conditions', async () => {
  const { unit, flushes } = makeUnit(true);
  const choices = [LOEJ, LOEJ | START];
  for (let condition = 1; condition <= 0x0f; condition += 1) choices.push(condition << 4, (condition << 4) | START);

  for (const flags of choices) {
    const { status, sense } = await run(unit, [0x1b, 0, 0, 0, flags, 0]);
    assert.deepEqual([status, sense], [2, INVALID_FIELD], `byte 4 is ${flags.toString(16)}`);
  }
  assert.equal(flushes(), 0);
});

test('START STOP UNIT says when the disk could not store everything', async () => {
  const { unit } = makeUnit(true);
  const faults: Error[] = [];
  const failing = new LogicalUnit(
    { ...unit.disk, flush: () => Promise.reject(new Error('no room')) },
    identityOf('test'),
    (error) => faults.push(error),
  );

  const { status, sense } = await run(failing, [0x1b, 0, 0, 0, 0, 0]);

  assert.deepEqual([status, sense >> 16, faults.length], [2, 0x03, 1], 'medium error');
});

test('READ CAPACITY 10 and 16 give the last block, also beyond 2 TiB', async () => {
  const small = makeUnit(true).unit;
  const ten = (await run(small, [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])).data;
  assert.deepEqual([ten.length, ten.readUInt32BE(0), ten.readUInt32BE(4)], [8, 2047, 512]);
  const large = makeUnit(true, 3 * TIB + 512).unit;
  assert.equal((await run(large, [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0])).data.readUInt32BE(0), 0xffffffff);

  for (const writable of [true, false]) {
    const { data } = await run(makeUnit(writable, 3 * TIB + 512).unit, cdb16(0x9e, 0x10, 0n, 32));
    assert.equal(data.length, 32);
    assert.equal(data.readBigUInt64BE(0), BigInt(3 * TIB) / 512n);
    assert.equal(data.readUInt32BE(8), 512);
    assert.deepEqual([data.readUInt8(12), data.readUInt8(13)], [0, 0], 'no protection, physical blocks as logical');
    assert.equal(data.readUInt16BE(14), writable ? 0xc000 : 0, 'LBPME, LBPRZ, lowest aligned block 0');
    assert.deepEqual([...data.subarray(16)], Array<number>(16).fill(0));
  }
});

test('blocks beyond 2 TiB are read, written, zeroed and unmapped where they are', async () => {
  const { unit, notes } = makeUnit(true, 3 * TIB);
  const lba = BigInt(3 * TIB) / 512n - 2n;
  const at = 3 * TIB - 1024;

  assert.equal((await run(unit, cdb16(0x88, 0, lba, 2))).status, 0);
  assert.equal((await run(unit, cdb16(0x8a, 0, lba, 2), Buffer.alloc(1024))).status, 0);
  assert.equal((await run(unit, cdb16(0x93, 0, lba, 2), Buffer.alloc(512))).status, 0);
  assert.equal((await run(unit, cdb16(0x93, 0x08, lba, 2), Buffer.alloc(512))).status, 0);
  const list = Buffer.alloc(24);
  list.writeUInt16BE(22, 0);
  list.writeUInt16BE(16, 2);
  list.writeBigUInt64BE(lba, 8);
  list.writeUInt32BE(2, 16);
  assert.equal((await run(unit, [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], list)).status, 0);

  assert.deepEqual(
    notes,
    ['read', 'write', 'zero', 'discard', 'discard'].map((what) => `${what} ${at}+1024`),
  );
  assert.deepEqual((await run(unit, cdb16(0x88, 0, lba, 3))).sense, 0x05_2100, 'out of range');
  assert.deepEqual((await run(unit, cdb16(0x88, 0, 2n ** 63n, 1))).sense, 0x05_2100, 'far out of range');
});

test('an UNMAP takes no more blocks than the block limits page says, over all its descriptors', async () => {
  const { unit, notes } = makeUnit(true, 3 * TIB);
  const unmap = async (...counts: number[]): Promise<number> => {
    const list = Buffer.alloc(8 + 16 * counts.length);
    list.writeUInt16BE(list.length - 2, 0);
    list.writeUInt16BE(list.length - 8, 2);
    counts.forEach((count, index) => list.writeUInt32BE(count, 8 + 16 * index + 8));
    return (await run(unit, [0x42, 0, 0, 0, 0, 0, 0, 0, list.length, 0], list)).sense;
  };
  const limit = (await run(unit, [0x12, 1, 0xb0, 0, 64, 0])).data.readUInt32BE(20);

  assert.equal(await unmap(limit), 0);
  assert.deepEqual(notes, [`discard 0+${limit * 512}`]);
  assert.equal(await unmap(limit, 1), 0x05_2600);
  assert.equal(notes.length, 1, 'nothing is unmapped of a list that is refused');
});

test('GET LBA STATUS tells how far what reads as zeros goes, and what does not', async () => {
  const { unit } = makeUnit(true);

  for (const [lba, blocks, isDeallocated] of [
    [0n, 256, 1],
    [256n, 1792, 0],
  ] as const) {
    const { data } = await run(unit, cdb16(0x9e, 0x12, lba, 24));
    assert.equal(data.readUInt32BE(0), 20, 'length of what follows');
    assert.equal(data.readUInt32BE(4), 0);
    assert.equal(data.readBigUInt64BE(8), lba);
    assert.equal(data.readUInt32BE(16), blocks);
    assert.equal(data.readUInt8(20) & 0x0f, isDeallocated);
    assert.equal(data.readUIntBE(21, 3), 0);
  }
});

test('REPORT SUPPORTED OPERATION CODES lists what is carried out, and each by itself with its bits', async () => {
  const { unit } = makeUnit(true);
  const report = async (options: number, opcode = 0, action = 0): Promise<Buffer> =>
    (await run(unit, [0xa3, 0x0c, options, opcode, 0, action, 0, 0, 16, 0, 0, 0])).data;

  for (const timeouts of [0, 0x80]) {
    const list = await report(timeouts);
    const step = timeouts === 0 ? 8 : 20;
    assert.equal(list.readUInt32BE(0), list.length - 4);
    assert.equal((list.length - 4) % step, 0);
    for (let at = 4; at < list.length; at += step) {
      const [opcode, action, flags] = [list.readUInt8(at), list.readUInt16BE(at + 2), list.readUInt8(at + 5)];
      const hasAction = (flags & 1) !== 0;
      const length = list.readUInt16BE(at + 6);
      assert.equal((flags & 2) !== 0, timeouts !== 0, 'CTDP');
      assert.equal(length, opcode < 0x20 ? 6 : opcode < 0x60 ? 10 : opcode < 0xa0 ? 16 : 12, opcode.toString(16));
      if (timeouts !== 0) assert.deepEqual([...list.subarray(at + 8, at + 20)], [0, 10, ...Array<number>(10).fill(0)]);

      const one = await report((hasAction ? 2 : 1) | timeouts, opcode, action);
      assert.deepEqual([one.readUInt8(0), one.readUInt8(1)], [0, timeouts | 0x03], 'supported as the standard has it');
      assert.equal(one.readUInt16BE(2), length);
      assert.equal(one.readUInt8(4), opcode, 'the usage map begins with the opcode');
      if (hasAction) assert.equal(one.readUInt8(5) & 0x1f, action, 'and has the service action');
      assert.equal(one.length, 4 + length + (timeouts === 0 ? 0 : 12));
    }
  }
  assert.deepEqual([...(await report(1, 0x04))], [0, 1, 0, 0], 'FORMAT UNIT is not supported');
});

test('NACA is refused wherever the control byte lies', async () => {
  const { unit, notes } = makeUnit(true);

  for (const cdb of [
    [0x00, 0, 0, 0, 0, 0x04],
    [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04],
    [...cdb16(0x88, 0, 0n, 1).slice(0, 15), 0x04],
  ])
    assert.equal((await run(unit, cdb)).sense, INVALID_FIELD);
  assert.deepEqual(notes, []);
});

test('a unit that is not there has INQUIRY data that say so, and nothing else', async () => {
  const { unit } = makeUnit(true);
  const target: ScsiTarget = { name: 'iqn.2020-01.test:x', access: [], units: [unit], onSessionEnd: () => undefined };
  const absent = unitAt(target, Buffer.from([0, 1, 0, 0, 0, 0, 0, 0]));
  const ask = async (...cdb: number[]) =>
    await executeScsi(target, absent, {
      cdb: Buffer.concat([Buffer.from(cdb), Buffer.alloc(16)], 16),
      nexus: 'initiator',
      dataOut: Buffer.alloc(0),
      announcedBytes: 0,
    });

  assert.equal(absent, undefined);
  assert.equal((await ask(0x12, 0, 0, 0, 96)).dataIn?.readUInt8(0), 0x7f);
  const vital = await ask(0x12, 1, 0x83, 0, 96);
  assert.deepEqual([vital.status, vital.dataIn, vital.sense?.readUInt16BE(12)], [2, null, 0x2400]);
  assert.equal((await ask(0x00)).sense?.readUInt16BE(12), 0x2500);
  const sense = (await ask(0x03, 0, 0, 0, 18)).dataIn;
  assert.deepEqual([sense?.readUInt8(2), sense?.readUInt16BE(12)], [0x05, 0x2500]);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BackingDisk } from './backing-disk.ts';
import { identityOf } from './device-pages.ts';
import { LogicalUnit } from './logical-unit.ts';

const BYTES = 1024 * 1024;

/** A unit whose disk notes each flush; what libiscsi's suite does not ask for is asked for here. */
function makeUnit(writable: boolean): { unit: LogicalUnit; flushes: () => number } {
  let flushes = 0;
  const disk: BackingDisk = {
    sizeBytes: BYTES,
    writable,
    read: async (_offsetBytes, lengthBytes) => Buffer.alloc(lengthBytes),
    write: async () => undefined,
    zero: async () => undefined,
    discard: async () => undefined,
    flush: async () => void (flushes += 1),
    close: async () => undefined,
  };
  const unit = new LogicalUnit(disk, identityOf('test'), (error) => assert.fail(error));
  unit.attach('initiator');
  unit.takeAttention('initiator');
  return { unit, flushes: () => flushes };
}

async function run(unit: LogicalUnit, cdb: number[]): Promise<{ status: number; data: Buffer }> {
  const request = { cdb: Buffer.from(cdb), nexus: 'initiator', dataOut: Buffer.alloc(0), announcedBytes: 0 };
  const { status, dataIn } = await unit.execute(request);
  return { status, data: dataIn ?? Buffer.alloc(0) };
}

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

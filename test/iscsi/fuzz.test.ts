import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import type { BackingDisk } from '../../server/iscsi/index.ts';
import { identityOf } from '../../server/iscsi/device-pages.ts';
import { LogicalUnit } from '../../server/iscsi/logical-unit.ts';
import { LOGIN_STATUS } from '../../server/iscsi/login.ts';
import { ProtocolError, PduReader } from '../../server/iscsi/pdu.ts';
import { OwnInitiator } from './own-initiator.ts';
import { withTarget } from './scene.ts';

/** Cases of random CDBs; a million by `DOZO_FUZZ_CASES=1000000`. Another seed by `DOZO_FUZZ_SEED`. */
const CASES = Number(process.env['DOZO_FUZZ_CASES'] ?? 100_000);
const SEED = process.env['DOZO_FUZZ_SEED'] ?? '1';
const DISK_BYTES = 1024 * 1024;
const OPCODES = [
  0x00, 0x03, 0x08, 0x0a, 0x12, 0x16, 0x17, 0x1a, 0x1b, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x35, 0x41, 0x42, 0x5a, 0x5e,
  0x5f, 0x88, 0x89, 0x8a, 0x8e, 0x8f, 0x91, 0x93, 0x9e, 0xa0, 0xa3, 0xa8, 0xaa, 0xae, 0xaf,
];

/** A stream of bytes that is the same for a seed. */
class Bytes {
  #block = createHash('sha512').update(SEED).digest();
  #at = 0;
  byte(): number {
    if (this.#at === this.#block.length) {
      this.#block = createHash('sha512').update(this.#block).digest();
      this.#at = 0;
    }
    this.#at += 1;
    return this.#block.readUInt8(this.#at - 1);
  }
  below(limit: number): number {
    return (this.byte() * 65_536 + this.byte() * 256 + this.byte()) % limit;
  }
  fill(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.byte()));
  }
}

/** A disk in memory that knows when it is asked for something outside. */
function strictDisk(): BackingDisk {
  const content = Buffer.alloc(DISK_BYTES);
  const check = (offsetBytes: number, lengthBytes: number): void => {
    assert.ok(
      offsetBytes >= 0 && lengthBytes > 0 && offsetBytes + lengthBytes <= DISK_BYTES,
      `bytes ${offsetBytes} and ${lengthBytes} more were asked for, seed ${SEED}`,
    );
    assert.equal((offsetBytes % 512) + (lengthBytes % 512), 0, 'not whole sectors');
  };
  const zero = async (offsetBytes: number, lengthBytes: number): Promise<void> => {
    check(offsetBytes, lengthBytes);
    content.fill(0, offsetBytes, offsetBytes + lengthBytes);
  };
  return {
    sizeBytes: DISK_BYTES,
    writable: true,
    read: async (offsetBytes, lengthBytes) => {
      check(offsetBytes, lengthBytes);
      return content.subarray(offsetBytes, offsetBytes + lengthBytes);
    },
    write: async (offsetBytes, data) => {
      check(offsetBytes, data.length);
      data.copy(content, offsetBytes);
    },
    zero,
    discard: zero,
    flush: async () => {},
    close: async () => {},
  };
}

/** Mostly a known opcode with small numbers in its fields, since random ones are refused at once. */
function randomCdb(bytes: Bytes): Buffer {
  const cdb = Buffer.alloc(16);
  if (bytes.below(10) === 0) return bytes.fill(16);
  cdb[0] = OPCODES[bytes.below(OPCODES.length)] ?? 0;
  for (let at = 1; at < 16; at += 1) if (bytes.below(3) === 0) cdb[at] = bytes.byte() >> bytes.below(8);
  return cdb;
}

describe('Random input', () => {
  it('never makes a command reach outside its disk, fail inside, or keep memory', async () => {
    const bytes = new Bytes();
    const faults: Error[] = [];
    const unit = new LogicalUnit(strictDisk(), identityOf('fuzz'), (error) => faults.push(error));
    const initiators = ['a', 'b'];
    for (const nexus of initiators) unit.attach(nexus);
    const data = bytes.fill(4096);
    let good = 0;
    let early = 0;

    for (let count = 0; count < CASES; count += 1) {
      const cdb = randomCdb(bytes);
      const wanted = unit.dataOutBytes(cdb);
      assert.ok(wanted <= 4 * 1024 * 1024 && unit.workBytes(cdb) <= 4 * 1024 * 1024);
      const length = bytes.below(8) === 0 ? bytes.below(wanted + 1) : wanted;
      const dataOut = length <= data.length ? data.subarray(0, length) : Buffer.alloc(length, data);
      const nexus = initiators[bytes.below(2)] ?? '';
      const { status, sense } = await unit.execute({ cdb, nexus, dataOut, announcedBytes: length });
      assert.ok(status !== 2 || sense?.length === 18, `no sense for ${cdb.toString('hex')}, seed ${SEED}`);
      if (status === 0) good += 1;
      // A reservation would keep most commands out for good.
      if (count % 50 === 0) {
        unit.detach('a');
        unit.detach('b');
        for (const name of initiators) {
          unit.attach(name);
          unit.takeAttention(name);
        }
      }
      if (count === Math.floor(CASES / 4)) early = process.memoryUsage().rss;
    }

    assert.deepEqual(faults, []);
    assert.ok(good > CASES / 50, `only ${good} of ${CASES} commands were valid`);
    assert.ok(process.memoryUsage().rss - early < 100 * 1024 * 1024, 'memory grew');
  });

  it('is PDUs or a protocol error to the reader, however it is cut', () => {
    const bytes = new Bytes();
    let delivered = 0;
    for (let count = 0; count < 5000; count += 1) {
      const reader = new PduReader(8192, () => (delivered += 1));
      reader.digests = { header: bytes.below(8) === 0, data: bytes.below(8) === 0 };
      const stream = bytes.fill(48 + bytes.below(300));
      // A length that may be.
      stream[4] = 0;
      stream.writeUIntBE(bytes.below(200), 5, 3);
      try {
        for (let at = 0; at < stream.length;) {
          const end = at + 1 + bytes.below(100);
          reader.push(stream.subarray(at, end));
          at = end;
        }
      } catch (error) {
        assert.ok(error instanceof ProtocolError, String(error));
      }
    }
    assert.ok(delivered > 1000);
  });

  it('ends a session at most, and leaves the target serving others', () =>
    withTarget({ open: async () => strictDisk() }, async ({ port }) => {
      const bytes = new Bytes();
      for (let round = 0; round < 60; round += 1) {
        const initiator = await OwnInitiator.connect(port);
        if (round % 4 !== 0) assert.equal(await initiator.login({ isid: round }), LOGIN_STATUS.success);
        for (let count = 0; count < 40 && !initiator.isClosed; count += 1) {
          const header = bytes.fill(48);
          header[4] = 0;
          if (bytes.below(3) > 0) header[0] = bytes.below(7);
          header.writeUInt32BE(initiator.cmdSn, 24);
          if ((header.readUInt8(0) & 0x40) === 0) initiator.cmdSn += 1;
          if (bytes.below(2) === 0) header.fill(0, 8, 16);
          initiator.send(header, bytes.below(2) === 0 ? null : bytes.fill(bytes.below(600)));
          if (count % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
        }
        initiator.close();
      }

      const initiator = await OwnInitiator.connect(port);
      assert.equal(await initiator.login({ isid: 999 }), LOGIN_STATUS.success);
      initiator.ping();
      assert.notEqual(await initiator.next(), null);
      initiator.close();
    }));
});

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { identityOf, modeSense, standardInquiry, vitalProductData } from './device-pages.ts';
import { ScsiCheck } from './sense.ts';

/** Offsets and bits as in SPC-4 and SBC-3; test/iscsi/decoders.test.ts has the same bytes read by others' programs. */

const IDENTITY = identityOf('one disk');
const page = (code: number, writable = true): Buffer => vitalProductData(code, IDENTITY, { writable });
const zeros = (data: Buffer, from: number, to: number): void =>
  assert.deepEqual([...data.subarray(from, to)], Array<number>(to - from).fill(0), `bytes ${from} to ${to - 1}`);

describe('The standard INQUIRY data (SPC-4 6.6.2)', () => {
  const data = standardInquiry();

  it('is that of a fixed disk with queued commands', () => {
    assert.equal(data.readUInt8(0), 0x00, 'connected, direct access block device');
    assert.equal(data.readUInt8(1) & 0x80, 0, 'medium not removable');
    assert.equal(data.readUInt8(2), 0x06, 'SPC-4');
    assert.equal(data.readUInt8(3) & 0x0f, 0x02, 'response data format');
    assert.equal(data.readUInt8(3) & 0x20, 0, 'NORMACA');
    assert.equal(data.readUInt8(4), data.length - 5, 'additional length');
    assert.equal(data.readUInt8(5), 0, 'no SCC, ACC, TPGS, 3PC, PROTECT');
    assert.equal(data.readUInt8(6), 0, 'no enclosure, one port');
    assert.equal(data.readUInt8(7), 0x02, 'CMDQUE');
  });

  it('has names padded with blanks and its standards', () => {
    assert.equal(data.toString('latin1', 8, 16), 'DOZO    ');
    assert.equal(data.toString('latin1', 16, 32), 'Disk            ');
    assert.equal(data.toString('latin1', 32, 36), '0001');
    zeros(data, 36, 58);
    assert.deepEqual(
      [58, 60, 62, 64].map((at) => data.readUInt16BE(at)),
      [0x00a0, 0x0460, 0x04c0, 0x0960],
    );
    zeros(data, 66, 74);
  });
});

describe('Vital product data', () => {
  it('has a list of its pages in order (SPC-4 7.8.17), each with a head of its own', () => {
    const list = page(0x00);
    assert.deepEqual([...list], [0, 0, 0, 6, 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    for (const code of list.subarray(4)) {
      const data = page(code);
      assert.deepEqual([data.readUInt8(0), data.readUInt8(1)], [0, code]);
      assert.equal(data.readUInt16BE(2), data.length - 4, `length of page ${code.toString(16)}`);
    }
    assert.throws(() => page(0x81), ScsiCheck);
  });

  it('80 is the serial number (SPC-4 7.8.15)', () => {
    assert.match(page(0x80).toString('latin1', 4), /^[0-9a-f]{20}$/);
  });

  it('83 names the unit by NAA and by T10 vendor (SPC-4 7.8.6), the same for the same seed alone', () => {
    const data = page(0x83);
    assert.deepEqual([...data.subarray(4, 8)], [0x01, 0x03, 0, 8], 'binary, of the unit, NAA, 8 bytes');
    assert.equal(data.readUInt8(8) >> 4, 3, 'locally assigned');
    assert.equal(data.toString('hex', 8, 16), IDENTITY.naa);
    assert.deepEqual([...data.subarray(16, 20)], [0x02, 0x01, 0, 28], 'ASCII, of the unit, T10 vendor id, 28 bytes');
    assert.equal(data.toString('latin1', 20), `DOZO    ${IDENTITY.serial}`);
    assert.deepEqual(identityOf('one disk'), IDENTITY);
    assert.notEqual(identityOf('another disk').naa, IDENTITY.naa);
    assert.notEqual(identityOf('another disk').serial, IDENTITY.serial);
  });

  it('B0 has the limits (SBC-3 6.5.3), those of unmapping for a disk that may be written', () => {
    for (const writable of [true, false]) {
      const data = page(0xb0, writable);
      assert.equal(data.length, 64);
      assert.equal(data.readUInt8(4), 0x01, 'WSNZ');
      assert.equal(data.readUInt8(5), 128, 'COMPARE AND WRITE');
      assert.equal(data.readUInt16BE(6), 8, 'optimal granularity');
      assert.equal(data.readUInt32BE(8), 8192, 'transfer length');
      assert.equal(data.readUInt32BE(12), 512, 'optimal transfer length');
      assert.equal(data.readUInt32BE(16), 0, 'prefetch');
      assert.equal(data.readUInt32BE(20), writable ? 2 ** 20 : 0, 'blocks of an UNMAP');
      assert.equal(data.readUInt32BE(24), writable ? 256 : 0, 'descriptors of an UNMAP');
      assert.equal(data.readUInt32BE(28), writable ? 128 : 0, 'optimal granularity of unmapping');
      assert.equal(data.readUInt32BE(32), 0, 'alignment not given');
      assert.equal(data.readBigUInt64BE(36), writable ? 8192n : 0n, 'WRITE SAME');
      zeros(data, 44, 64);
    }
  });

  it('B1 says that nothing rotates (SBC-3 6.5.2)', () => {
    const data = page(0xb1);
    assert.equal(data.length, 64);
    assert.equal(data.readUInt16BE(4), 1);
    zeros(data, 6, 64);
  });

  it('B2 says how blocks are unmapped (SBC-3 6.5.4)', () => {
    const thin = page(0xb2);
    assert.equal(thin.readUInt8(4), 0, 'threshold exponent');
    assert.equal(thin.readUInt8(5), 0x80 | 0x40 | 0x20 | 0x04, 'LBPU, LBPWS, LBPWS10, LBPRZ');
    assert.equal(thin.readUInt8(6), 2, 'thin provisioned');
    assert.equal(thin.readUInt8(7), 0);
    zeros(page(0xb2, false), 4, 8);
  });
});

describe('MODE SENSE (SPC-4 6.13, 6.14; SBC-3 6.4)', () => {
  const sense = (
    bytes: { control?: number; code: number; subpage?: number; dbd?: boolean },
    options: { blocks?: number; writable?: boolean; longHeader?: boolean } = {},
  ): Buffer => {
    const { control = 0, code, subpage = 0, dbd = false } = bytes;
    const { blocks = 2048, writable = true, longHeader = false } = options;
    const cdb = Buffer.from([longHeader ? 0x5a : 0x1a, dbd ? 0x08 : 0, (control << 6) | code, subpage, 255, 0]);
    return modeSense(cdb, { blocks, writable, longHeader });
  };

  it('6 has a head of 4 bytes, 10 one of 8, and both a block descriptor unless it is not wanted', () => {
    const short = sense({ code: 0x08 });
    assert.deepEqual([...short.subarray(0, 4)], [short.length - 1, 0, 0x10, 8]);
    assert.deepEqual([short.readUInt32BE(4), short.readUIntBE(9, 3)], [2048, 512]);
    const long = sense({ code: 0x08 }, { longHeader: true });
    assert.deepEqual([...long.subarray(0, 8)], [0, long.length - 2, 0, 0x10, 0, 0, 0, 8]);
    assert.deepEqual([long.readUInt32BE(8), long.readUIntBE(13, 3)], [2048, 512]);
    assert.ok(long.subarray(16).equals(short.subarray(12)));
    const bare = sense({ code: 0x08, dbd: true });
    assert.deepEqual([bare.readUInt8(3), bare.length], [0, short.length - 8]);
    assert.ok(bare.subarray(4).equals(short.subarray(12)));
  });

  it('shows all ones for more blocks than the descriptor can hold', () => {
    assert.equal(sense({ code: 0x08 }, { blocks: 2 ** 33 }).readUInt32BE(4), 0xffffffff);
  });

  it('tells write protection, and FUA', () => {
    assert.equal(sense({ code: 0x08 }, { writable: true }).readUInt8(2), 0x10);
    assert.equal(sense({ code: 0x08 }, { writable: false }).readUInt8(2), 0x90);
    assert.equal(sense({ code: 0x08 }, { writable: false, longHeader: true }).readUInt8(3), 0x90);
  });

  const bodies = {
    'read-write error recovery': [0x01, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    'caching, with a write cache': [0x08, 18, 0x04, ...Array<number>(17).fill(0)],
    'control, unrestricted reordering, unlimited busy time': [0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0],
    'informational exceptions': [0x1c, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  };
  for (const [name, body] of Object.entries(bodies)) {
    it(`has the page of ${name}, of which nothing can be changed`, () => {
      const code = body[0] ?? 0;
      assert.deepEqual([...sense({ code, dbd: true }).subarray(4)], body);
      assert.deepEqual([...sense({ code, dbd: true, control: 2 }).subarray(4)], body, 'default values');
      const changeable = sense({ code, dbd: true, control: 1 }).subarray(4);
      assert.deepEqual([...changeable], [...body.slice(0, 2), ...Array<number>(body.length - 2).fill(0)]);
    });
  }

  it('3F has all of them in order', () => {
    for (const subpage of [0, 0xff])
      assert.deepEqual([...sense({ code: 0x3f, subpage, dbd: true }).subarray(4)], Object.values(bodies).flat());
  });

  it('refuses saved values, other pages and subpages', () => {
    const code = (work: () => unknown): number | null => {
      try {
        work();
        return null;
      } catch (error) {
        return error instanceof ScsiCheck ? error.sense.code : null;
      }
    };
    assert.equal(
      code(() => sense({ code: 0x08, control: 3 })),
      0x3900,
    );
    assert.equal(
      code(() => sense({ code: 0x05 })),
      0x2400,
    );
    assert.equal(
      code(() => sense({ code: 0x0a, subpage: 1 })),
      0x2400,
    );
  });
});

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { isAppError } from '../errors/index.ts';
import { encodeHeader, parseHeader } from './header.ts';
import { encodeSegment, parseSegment } from './index-segment.ts';
import { parseSlot } from './key-slot.ts';
import { deriveKeys } from './keys.ts';
import {
  encodePackRow,
  encodePackTrailer,
  locatePackTable,
  PACK_ROW_BYTES,
  PackTable,
  parsePackTable,
} from './pack-format.ts';
import { encodePoint, parsePoint } from './point-file.ts';
import { decodeSealed, encodeSealed } from './sealed-file.ts';
import { parseSession } from './session-file.ts';

const NAME = 'points/20260101t000000z-0123456789abcdef.point';
const PACK_ID = 'ab'.repeat(16);

/** Runs a parser: a value or an error of the registry, nothing else. */
function tame(parse: () => unknown): unknown {
  try {
    return parse();
  } catch (error) {
    assert.ok(isAppError(error), `not a named error: ${String(error)}`);
    assert.match(error.code, /^REPOSITORY_/);
    return null;
  }
}

function parseAny(bytes: Buffer): void {
  tame(() => parseHeader(bytes));
  tame(() => parseSegment(bytes, 'index/x.index'));
  tame(() => parseSlot(bytes, 'keys/x.key'));
  tame(() => parsePoint(bytes, NAME, null));
  tame(() => parseSession(bytes, 'sessions/x', null));
  if (bytes.length >= 64) {
    tame(() => parsePackTable(PACK_ID, bytes, 'packs/x'));
    tame(() => locatePackTable(bytes.subarray(bytes.length - 64), bytes.length, 'packs/x'));
  }
}

/** Bodies that are right as far as the frame goes, so that what lies inside is reached. */
const sealed = fc
  .tuple(
    fc.constantFrom('DOZOHEAD', 'DOZOINDX', 'DOZOPONT', 'DOZOSESS', 'DOZOKEYS'),
    fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.json().map((json) => Buffer.from(json)),
    ),
    fc.boolean(),
  )
  .map(([kind, body, compress]) => encodeSealed(kind as 'DOZOHEAD', Buffer.from(body), { compress, keys: null }));

describe('every parser', () => {
  it('gives a value or a named error for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => parseAny(Buffer.from(bytes))),
      { numRuns: 1500 },
    );
    fc.assert(fc.property(sealed, parseAny), { numRuns: 1500 });
  });

  it('notices any changed bit of a sealed file', () => {
    const file = encodeSealed('DOZOPONT', Buffer.from('{"a":1}'.repeat(20)), { compress: true, keys: null });
    for (let bit = 0; bit < file.length * 8; bit += 1) {
      const changed = Buffer.from(file);
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
      const source = { name: NAME, code: 'REPOSITORY_MANIFEST_DAMAGED' as const, hint: '' };
      assert.throws(() => decodeSealed('DOZOPONT', changed, source, null), { code: 'REPOSITORY_MANIFEST_DAMAGED' });
    }
  });

  it('refuses a newer version instead of guessing', () => {
    const file = encodeSealed('DOZOHEAD', Buffer.from('{}'), { compress: false, keys: null });
    assert.throws(() => parseHeader(file), { code: 'REPOSITORY_FORMAT_UNKNOWN', hint: /Update/ });
  });

  it('does not let a small file unpack into much, whatever its header names', () => {
    for (const lengthBytes of [50_000_000, 200_000_000]) {
      const bomb = packedByHand(Buffer.alloc(lengthBytes));
      assert.ok(bomb.length < 200_000);
      const before = process.memoryUsage().rss;
      assert.throws(() => parsePoint(bomb, NAME, null), {
        code: 'REPOSITORY_MANIFEST_DAMAGED',
        message: /would unpack to many times its length/,
      });
      assert.ok(process.memoryUsage().rss - before < 32 * 2 ** 20, 'nothing of it was unpacked');
    }
    // One that lies about what it unpacks to gets no more room than it asked for.
    assert.throws(() => parsePoint(packedByHand(Buffer.alloc(50_000_000), 1_000_000), NAME, null), {
      code: 'REPOSITORY_MANIFEST_DAMAGED',
      message: /does not decompress/,
    });
  });

  it('reads all that is written, however well it would compress', () => {
    const source = { name: NAME, code: 'REPOSITORY_MANIFEST_DAMAGED' as const, hint: '' };
    const kilobyte = Buffer.from('{"offsetBytes":0,"lengthBytes":65536},'.repeat(27));
    for (const repeats of [1, 900, 1_100, 20_000]) {
      const body = Buffer.concat(Array.from({ length: repeats }, () => kilobyte));
      for (const keys of [null, deriveKeys(Buffer.alloc(32, 1), 'cd'.repeat(16))]) {
        const file = encodeSealed('DOZOPONT', body, { compress: true, keys });
        assert.ok(decodeSealed('DOZOPONT', file, source, keys).equals(body), `${repeats} KiB`);
      }
    }
  });

  it('does not let a version name one chunk again and again as a file', () => {
    const point = {
      ...{ pointId: NAME.slice(7, -6), kind: 'disk-image', createdAtMs: 1, machineId: 'm', machineName: 'm' },
      ...{ state: 'complete', stateReasons: [], disks: [], machine: null, evidence: null, sessionId: 's' },
      ...{ previousPointId: null, previousRootHash: null, chunkSizeBytes: 65_536 },
    };
    const parse = (file: object): unknown =>
      parsePoint(
        encodeSealed(
          'DOZOPONT',
          Buffer.from(JSON.stringify({ ...point, files: [{ name: 'a', kind: 'vmx', ...file }] })),
          {
            compress: true,
            keys: null,
          },
        ),
        NAME,
        null,
      );
    const id = 'ab'.repeat(32);
    parse({ sizeBytes: 65_537, chunks: [id, id] });
    for (const file of [
      { sizeBytes: 65_537, chunks: [id, id, id] },
      { sizeBytes: 65_537, chunks: [id] },
      { sizeBytes: 2 ** 40, chunks: [id] },
      { sizeBytes: 2 ** 27, chunks: Array.from({ length: 2 ** 11 }, () => id) },
    ]) {
      assert.throws(() => parse(file), { code: 'REPOSITORY_MANIFEST_DAMAGED' }, JSON.stringify(file.sizeBytes));
    }
  });
});

/** A sealed file as somebody else would make it: compressed whatever it unpacks to. */
function packedByHand(body: Buffer, namedBytes = body.length): Buffer {
  const packed = zstdCompressSync(body);
  const header = Buffer.alloc(64);
  header.write('DOZOPONT', 0, 'latin1');
  header.writeUInt16LE(1, 8);
  header.writeUInt16LE(1, 10);
  header.writeBigUInt64LE(BigInt(packed.length), 16);
  header.writeBigUInt64LE(BigInt(namedBytes), 24);
  const hash = createHash('sha256').update(header).update(packed).digest();
  return Buffer.concat([header, packed, hash]);
}

describe('encoding and parsing', () => {
  it('are each other’s reverse for a header', () => {
    const header = {
      repositoryId: 'cd'.repeat(16),
      createdAtMs: 5,
      chunkSizeBytes: 65_536,
      identity: 'sha512-256' as const,
      encryption: { keyId: 'ef'.repeat(16) },
    };
    assert.deepEqual(parseHeader(encodeHeader(header)), header);
  });

  it('are each other’s reverse for tables and segments', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc
            .record({
              id: fc.uint8Array({ minLength: 32, maxLength: 32 }),
              storedLength: fc.integer({ min: 1, max: 1_000_000 }),
              plainLength: fc.nat(4_194_304),
              crc: fc.nat(),
              codec: fc.nat(1),
            })
            .map((row) => ({ ...row, storedLength: Math.min(row.storedLength, row.plainLength + 16) })),
          { maxLength: 40 },
        ),
        (rows) => {
          const bytes = Buffer.alloc(rows.length * PACK_ROW_BYTES);
          let offsetBytes = 64;
          const made = rows.map((row, index) => {
            const one = { ...row, id: Buffer.from(row.id), offsetBytes };
            encodePackRow(one, bytes, index);
            offsetBytes += row.storedLength;
            return one;
          });
          const table = new PackTable(PACK_ID, 'data', offsetBytes, bytes);
          const parsed = parsePackTable(PACK_ID, Buffer.concat([bytes, encodePackTrailer(table)]), 'packs/x');
          assert.deepEqual(
            made.map((_, index) => ({ ...parsed.row(index), id: Buffer.from(parsed.row(index).id) })),
            made,
          );
          const segment = encodeSegment([table, table]);
          const entries = parseSegment(segment, 'index/x');
          assert.equal(entries.length, 2);
          for (const { table: copy, offsetBytes: at, lengthBytes } of entries) {
            assert.ok(copy.bytes.equals(bytes));
            assert.ok(segment.subarray(at, at + bytes.length).equals(bytes));
            assert.equal(lengthBytes, bytes.length + 64);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it('refuses a table whose chunks overlap or leave gaps', () => {
    const rows = [64, 160].map((offsetBytes) => ({
      id: Buffer.alloc(32, offsetBytes),
      offsetBytes,
      storedLength: 100,
      plainLength: 100,
      crc: 0,
      codec: 0,
    }));
    const bytes = Buffer.alloc(2 * PACK_ROW_BYTES);
    rows.forEach((row, index) => encodePackRow(row, bytes, index));
    const table = new PackTable(PACK_ID, 'data', 260, bytes);
    const tail = Buffer.concat([bytes, encodePackTrailer(table)]);

    assert.throws(() => parsePackTable(PACK_ID, tail, 'packs/x'), { code: 'REPOSITORY_PACK_DAMAGED' });
  });

  it('takes chunks in any order of the file, and refuses when one is moved, is a twin, or is empty', () => {
    const parse = (rows: readonly { offsetBytes: number; storedLength: number }[], end: number): PackTable => {
      const bytes = Buffer.alloc(rows.length * PACK_ROW_BYTES);
      for (const [index, row] of rows.entries()) {
        encodePackRow({ ...row, id: Buffer.alloc(32, 1), plainLength: 1_000_100, crc: 0, codec: 0 }, bytes, index);
      }
      const table = new PackTable(PACK_ID, 'data', end, bytes);
      return parsePackTable(PACK_ID, Buffer.concat([bytes, encodePackTrailer(table)]), 'packs/x');
    };
    const lengths = fc.array(fc.integer({ min: 1, max: 1_000_000 }), { minLength: 1, maxLength: 40 });
    const shuffled = lengths.chain((all) => {
      let end = 64;
      const rows = all.map((storedLength) => ({ offsetBytes: (end += storedLength) - storedLength, storedLength }));
      return fc.tuple(
        fc.shuffledSubarray(rows, { minLength: rows.length }),
        fc.constant(end),
        fc.nat(rows.length - 1),
        fc.nat(rows.length - 1),
        fc.integer({ min: 1, max: 100 }),
      );
    });
    fc.assert(
      fc.property(shuffled, ([rows, end, chosen, other, by]) => {
        assert.equal(parse(rows, end).rowCount, rows.length);
        const row = rows[chosen] as (typeof rows)[number];
        const twin = rows[other] as (typeof rows)[number];
        const wrong = [
          { offsetBytes: row.offsetBytes + by },
          { offsetBytes: row.offsetBytes - 1 },
          { storedLength: row.storedLength + by },
          { storedLength: row.storedLength - 1 },
          { storedLength: 0 },
          ...(twin === row ? [] : [twin]),
        ];
        for (const change of wrong) {
          const changed = rows.with(chosen, { ...row, ...change });
          assert.throws(() => parse(changed, end), { code: 'REPOSITORY_PACK_DAMAGED' });
        }
        assert.throws(() => parse([...rows, { offsetBytes: row.offsetBytes, storedLength: 0 }], end));
        assert.throws(() => parse(rows, end + 1));
      }),
    );
  });

  it('refuses a table that names a chunk for which there is no room', () => {
    for (const [plainLength, storedLength] of [
      [4_194_305, 100],
      [0xffff_ffff, 100],
      [100, 117],
    ] as const) {
      const bytes = Buffer.alloc(PACK_ROW_BYTES);
      encodePackRow(
        { id: Buffer.alloc(32, 1), offsetBytes: 64, storedLength, plainLength, crc: 0, codec: 1 },
        bytes,
        0,
      );
      const table = new PackTable(PACK_ID, 'data', 64 + storedLength, bytes);
      const tail = Buffer.concat([bytes, encodePackTrailer(table)]);

      assert.throws(() => parsePackTable(PACK_ID, tail, 'packs/x'), {
        code: 'REPOSITORY_PACK_DAMAGED',
        message: /impossible length/,
      });
    }
  });

  it('keep a point’s root hash', () => {
    const manifest = {
      pointId: '20260101t000000z-0123456789abcdef',
      kind: 'disk-image' as const,
      createdAtMs: 1,
      machineId: 'm',
      machineName: 'ゲスト',
      state: 'incomplete' as const,
      stateReasons: ['Disk 2 is independent.'],
      disks: [],
      machine: { a: [1, null] },
      evidence: null,
      rootHash: '',
      previousPointId: null,
      previousRootHash: null,
    };
    const content = { manifest, files: [], sessionId: 's', chunkSizeBytes: 65_536 };
    const { bytes, rootHash } = encodePoint(content, null);

    assert.deepEqual(parsePoint(bytes, NAME, null).manifest, { ...manifest, rootHash });
    assert.throws(() => parsePoint(bytes, NAME.replace('abcdef', 'abcdee'), null), {
      code: 'REPOSITORY_MANIFEST_DAMAGED',
    });
  });
});

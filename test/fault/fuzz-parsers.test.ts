import assert from 'node:assert/strict';
import { createHash, createSecretKey } from 'node:crypto';
import { describe, it } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { setImmediate as turn } from 'node:timers/promises';
import zlib from 'node:zlib';
import { isAppError } from '../../server/errors/index.ts';
import { decodeChunk, encodeChunk } from '../../server/repository/chunk-codec.ts';
import { parseHeader } from '../../server/repository/header.ts';
import { createRepository } from '../../server/repository/index.ts';
import { parseSegment } from '../../server/repository/index-segment.ts';
import { parseSlot } from '../../server/repository/key-slot.ts';
import { deriveKeys, identify } from '../../server/repository/keys.ts';
import { locatePackTable, parsePackTable } from '../../server/repository/pack-format.ts';
import { parseMark } from '../../server/repository/point-marks.ts';
import { parsePoint } from '../../server/repository/point-file.ts';
import { parseRecoveryKey } from '../../server/repository/recovery-key.ts';
import { encodeSealed, type SealedKind } from '../../server/repository/sealed-file.ts';
import { parseSession } from '../../server/repository/session-file.ts';
import { decompressZstd } from '../../server/restore-tool/stand-ins/zlib.ts';
import { MemoryStorage } from '../fakes/memory-storage.ts';
import { CHUNK, commitDisk, sparseContent } from '../fakes/small-repository.ts';
import { RandomSource } from './random-source.ts';

/**
 * Every parser of a repository's bytes, fed with real files that were changed: most with a check sum that is right
 * again, so that what lies behind it is reached. A value or a named error, in no time, in no memory.
 * Long: DOZO_FUZZ_CASES=1000000 with DOZO_SEED. A failure prints the bytes, since the files at the start hold random
 * ids.
 */
const CASES = Number(process.env['DOZO_FUZZ_CASES'] ?? 30_000);
const SEED = Number(process.env['DOZO_SEED'] ?? 1);
const POINT = 'points/20260101t000000z-0123456789abcdef.point';
const PACK_ID = 'ab'.repeat(16);
const KEYS = deriveKeys(Buffer.alloc(32, 1), 'cd'.repeat(16));
/** Of the processor; far above what the largest of these cases takes. */
const CASE_MS_MAX = 10_000;

interface Target {
  name: string;
  parse(bytes: Buffer): unknown;
}

const ID = identify(Buffer.alloc(900, 'chunk'), 'sha256', null);
const form = (bytes: Buffer, codec: number): Parameters<typeof decodeChunk>[1] => ({
  id: ID,
  codec,
  plainLength: 900,
  crc: zlib.crc32(bytes),
  row: 0,
});

const TARGETS: readonly Target[] = [
  { name: 'header', parse: parseHeader },
  { name: 'segment', parse: (bytes) => parseSegment(bytes, 'index/x.index') },
  { name: 'slot', parse: (bytes) => parseSlot(bytes, 'keys/x.key') },
  { name: 'point', parse: (bytes) => parsePoint(bytes, POINT, null) },
  { name: 'encrypted point', parse: (bytes) => parsePoint(bytes, POINT, KEYS) },
  { name: 'session', parse: (bytes) => parseSession(bytes, 'sessions/x/1.session', null) },
  { name: 'mark', parse: (bytes) => parseMark(bytes, `trash/${POINT.slice(7, -6)}.deleted`, null) },
  { name: 'table', parse: (bytes) => (bytes.length < 64 ? null : parsePackTable(PACK_ID, bytes, 'packs/x')) },
  {
    name: 'trailer',
    parse: (bytes) =>
      bytes.length < 64 ? null : locatePackTable(bytes.subarray(bytes.length - 64), bytes.length, 'packs/x'),
  },
  {
    name: 'chunk',
    parse: (bytes) => String(decodeChunk(bytes, form(bytes, 1), null, { algorithm: 'sha256', identityKey: null })),
  },
  {
    name: 'encrypted chunk',
    parse: (bytes) =>
      String(
        decodeChunk(bytes, form(bytes, 1), createSecretKey(Buffer.alloc(32)), {
          algorithm: 'sha256',
          identityKey: null,
        }),
      ),
  },
  { name: 'recovery key', parse: (bytes) => parseRecoveryKey(bytes.toString('utf8')) },
];

async function makeCorpus(): Promise<Buffer[]> {
  const storage = new MemoryStorage();
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0, passphrase: 'for a slot' });
  await repository.close();
  const plain = new MemoryStorage();
  const second = await createRepository({ storage: plain, chunkSizeBytes: CHUNK, threads: 0 });
  const files = [{ name: 'web.vmx', kind: 'vmx', content: Buffer.from('x = 1') }];
  const { pointId } = await commitDisk(second, 'a', sparseContent(3 * CHUNK, 1), { files });
  const session = await second.startWrite({ sessionId: 'open' });
  await session.checkpoint({ at: 1 });
  await session.abort();
  await second.deletePoint(pointId, { keepUntilMs: 5, reason: 'rule' }).catch(() => undefined);
  await second.close();
  const stored = [...storage.disk.files, ...plain.disk.files]
    .filter(([name]) => name !== 'readme.txt')
    .map(([name, { data }]) =>
      name.endsWith('.pack') ? data.subarray(-64 - 52 * data.readUInt32LE(data.length - 56)) : data,
    );
  const sealed = encodeSealed('DOZOPONT', Buffer.from('{"pointId":"x"}'), { compress: true, keys: KEYS });
  return [
    ...stored,
    sealed,
    encodeChunk(Buffer.alloc(900, 'chunk'), ID, null, 0).stored,
    Buffer.from('abandon '.repeat(24)),
  ];
}

const KINDS: readonly SealedKind[] = ['DOZOHEAD', 'DOZOINDX', 'DOZOPONT', 'DOZOSESS', 'DOZOKEYS', 'DOZOCOND'];
const NUMBERS = [0, 1, 63, 64, 255, 65_535, 65_536, 0x7fffffff, 0x80000000, 0xffffffff];

function mutate(original: Buffer, corpus: readonly Buffer[], random: RandomSource): Buffer {
  let bytes: Buffer = Buffer.from(original);
  for (let turns = 1 + random.below(4); turns > 0 && bytes.length > 0; turns -= 1) {
    const at = random.below(bytes.length);
    const other = random.pick(corpus);
    switch (random.below(8)) {
      case 0:
        bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
        break;
      case 1:
        bytes[at] = random.below(256);
        break;
      case 2:
        bytes = bytes.subarray(0, at);
        break;
      case 3:
        if (at + 4 <= bytes.length) bytes.writeUInt32LE(random.pick(NUMBERS), at);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random.below(other.length)), bytes.subarray(at)]);
        break;
      case 5:
        bytes.fill(random.below(256), at, Math.min(bytes.length, at + random.below(40)));
        break;
      case 6:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.below(20))]);
        break;
      default:
        bytes = Buffer.concat([bytes, random.bytes(random.below(30))]);
    }
  }
  if (bytes.length > 200_000) bytes = bytes.subarray(0, 200_000);
  return random.chance(0.7) ? withRightSum(bytes, random) : bytes;
}

/** Whoever writes such a file on purpose gives it a check sum that is right, and perhaps a body that decompresses. */
function withRightSum(bytes: Buffer, random: RandomSource): Buffer {
  if (random.chance(0.25)) {
    const body = bytes.subarray(64, Math.max(64, bytes.length - 32));
    return encodeSealed(random.pick(KINDS), body, {
      compress: random.chance(0.5),
      keys: random.chance(0.3) ? KEYS : null,
    });
  }
  if (bytes.length < 96) return bytes;
  const end = bytes.length - 32;
  if (random.chance(0.6)) bytes.writeBigUInt64LE(BigInt(end - 64), 16);
  createHash('sha256').update(bytes.subarray(0, end)).digest().copy(bytes, end);
  return bytes;
}

/** What is still held once everything that nobody needs is gone. */
async function heldBytes(): Promise<number> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  // What native objects held goes a turn later.
  await turn();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

describe('every parser of what lies in a repository', () => {
  it(`gives a value or a named error in ${CASES} cases`, async (t) => {
    const corpus = await makeCorpus();
    const random = new RandomSource(SEED);
    const outcomes = { values: 0, errors: 0 };
    let slowestMs = 0;
    let baseBytes = 0;
    for (let number = 0; number < CASES; number += 1) {
      // As in a program: what native objects hold goes between turns of the event loop.
      if (number % 200 === 0) await turn();
      const bytes = mutate(random.pick(corpus), corpus, random);
      const target = random.pick(TARGETS);
      // Of the processor: a busy machine is no fault of the parser's.
      const started = process.cpuUsage();
      try {
        target.parse(bytes);
        outcomes.values += 1;
      } catch (error) {
        const isNamed = isAppError(error) && error.code.startsWith('REPOSITORY_');
        assert.ok(
          isNamed,
          `DOZO_SEED=${SEED} case ${number}, ${target.name}: ${String(error)} for ${bytes.toString('hex')}`,
        );
        outcomes.errors += 1;
      }
      try {
        decompressZstd(bytes, { maxOutputLength: 4096 });
      } catch (error) {
        assert.ok(error instanceof Error, 'the decoder of older Nodes throws errors');
      }
      const used = process.cpuUsage(started);
      const tookMs = (used.user + used.system) / 1000;
      slowestMs = Math.max(slowestMs, tookMs);
      assert.ok(
        tookMs < CASE_MS_MAX,
        `DOZO_SEED=${SEED} case ${number}, ${target.name} took ${tookMs} ms: ${bytes.toString('hex')}`,
      );
      if (number === Math.floor(CASES / 10)) baseBytes = await heldBytes();
    }
    const grownMib = Math.round(((await heldBytes()) - baseBytes) / 2 ** 20);
    t.diagnostic(JSON.stringify({ seed: SEED, ...outcomes, slowestMs: Math.round(slowestMs), grownMib }));
    assert.ok(outcomes.values > CASES / 1000 && outcomes.errors > CASES / 2, 'both ways were taken');
    assert.ok(grownMib < 100, 'nothing is held');
  });
});

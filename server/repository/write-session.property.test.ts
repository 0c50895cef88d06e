import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createRepository, openRepository, type PointDisk, type Repository, type WriteSession } from './index.ts';
import { RecallFolder, type DiskRecall, type TagSubject } from '../recall/index.ts';
import { silentLogger, systemClock } from '../runtime/index.ts';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { CHUNK, readByStream, request, sparseContent } from '../../test/fakes/small-repository.ts';

/** Property runs print their seed on failure; put it into `fc.assert`'s options to replay. */

type Step =
  | { kind: 'write'; at: number; length: number; seed: number }
  | { kind: 'zero'; at: number; length: number }
  | { kind: 'burst'; seed: number }
  | { kind: 'checkpoint' }
  | { kind: 'reopen' };

const THREADS = Number(process.env['DOZO_TEST_THREADS'] ?? 0);
const DISK_BYTES_MAX = 300 * CHUNK;

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.integer({ min: 1, max: 5 * CHUNK }),
      seed: fc.nat(1000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('zero' as const),
      at: fc.double({ min: 0, max: 1, noNaN: true }),
      length: fc.integer({ min: 1, max: 290 * CHUNK }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('burst' as const), seed: fc.nat(1000) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'checkpoint' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reopen' as const }) },
);

/** Sizes around the places where chunks, pages and levels end. */
const diskSize = fc.oneof(
  fc.constantFrom(1, CHUNK - 1, CHUNK, CHUNK + 1, 256 * CHUNK, 256 * CHUNK + 1),
  fc.integer({ min: 1, max: DISK_BYTES_MAX }),
);

describe('random writes', () => {
  it('are what is read back, over several versions, sizes, checkpoints and interruptions', async () => {
    const storage = new MemoryStorage();
    await (await createRepository({ storage, chunkSizeBytes: CHUNK, threads: THREADS })).close();
    let run = 0;
    const folder = mkdtempSync(join(tmpdir(), 'dozo-recall-'));
    const recalls = new RecallFolder({ folder, clock: systemClock, logger: silentLogger });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(diskSize, fc.array(step, { maxLength: 12 })), { minLength: 1, maxLength: 3 }),
        async (versions) => {
          run += 1;
          let repository: Repository = await openRepository({ storage, threads: THREADS });
          let base: PointDisk | null = null;
          let expected = Buffer.alloc(0);
          for (const [index, [sizeBytes, steps]] of versions.entries()) {
            const before = expected;
            expected = Buffer.alloc(sizeBytes);
            before.copy(expected);
            const sessionId = `run-${run}-${index}`;
            const outcome: Outcome = await play({
              repository,
              storage,
              sessionId,
              base,
              sizeBytes,
              steps,
              expected,
              recalls,
            });
            if (index % 2 === 1) damageOne(folder, sizeBytes);
            repository = outcome.repository;
            base = outcome.disk;
            assert.ok(expected.equals(await readByStream(base)), 'the stream gives what was written');
            const at = Math.floor(sizeBytes / 3);
            assert.ok(
              (await base.read(at, sizeBytes - at)).equals(expected.subarray(at)),
              'a read gives what was written',
            );
            for await (const { offsetBytes, lengthBytes } of base.dataExtents()) {
              assert.ok(!expected.subarray(offsetBytes, offsetBytes + lengthBytes).equals(Buffer.alloc(lengthBytes)));
            }
          }
        },
      ),
      { numRuns: Number(process.env['DOZO_TEST_RUNS'] ?? 12) },
    );

    rmSync(folder, { recursive: true });
    const repository = await openRepository({ storage, threads: THREADS });
    const report = await repository.check({ depth: 'hashes' });
    assert.deepEqual(report.damages, []);
    assert.ok(report.points >= 12, `${report.points} points were written`);
    await repository.close();
  });
});

interface Outcome {
  repository: Repository;
  disk: PointDisk;
}

async function play(scene: {
  repository: Repository;
  storage: MemoryStorage;
  sessionId: string;
  base: PointDisk | null;
  sizeBytes: number;
  steps: Step[];
  expected: Buffer;
  recalls: RecallFolder;
}): Promise<Outcome> {
  const { storage, sessionId, sizeBytes, steps, expected } = scene;
  let { repository, base } = scene;
  let session: WriteSession = await repository.startWrite({ sessionId });
  let recall = openRecall(scene.recalls, base);
  let writer = await session.openDisk({ key: 'd0', sizeBytes, base, recall });
  // What the last checkpoint holds: an interruption falls back to it, never behind it.
  let durable = Buffer.from(expected);
  for (const one of steps) {
    if (one.kind === 'write') {
      const at = Math.floor(one.at * sizeBytes);
      const data = sparseContent(Math.min(one.length, sizeBytes - at), one.seed);
      data.copy(expected, at);
      await writer.write(at, data);
    } else if (one.kind === 'zero') {
      const at = Math.floor(one.at * sizeBytes);
      const length = Math.min(one.length, sizeBytes - at);
      expected.fill(0, at, at + length);
      await writer.zero(at, length);
    } else if (one.kind === 'burst') {
      // Many writers at once, each with its own places, as from several connections.
      const data = sparseContent(sizeBytes, one.seed);
      data.copy(expected);
      const piece = 40_000;
      const turns = Array.from({ length: Math.ceil(sizeBytes / piece) }, (_, index) => index);
      const lanes = [0, 1, 2].map(async (lane) => {
        for (const turn of turns) {
          if (turn % 3 !== lane) continue;
          const at = turn * piece;
          await writer.write(at, Buffer.from(data.subarray(at, at + piece)));
        }
      });
      await Promise.all(lanes);
    } else if (one.kind === 'checkpoint') {
      await session.checkpoint({ sizeBytes });
      durable = Buffer.from(expected);
    } else {
      const hadCheckpoint = session.checkpointFacts !== null;
      recall.close();
      await session.abort();
      await repository.close();
      repository = await openRepository({ storage, threads: THREADS });
      if (base !== null) {
        const points = await repository.listPoints();
        const same = points.find((point) => point.manifest?.disks[0]?.rootHash === rootOf(base as PointDisk));
        assert.ok(same !== undefined);
        base = await (await repository.openPoint(same.pointId)).openDisk('d0');
      }
      session = await repository.startWrite({ sessionId });
      recall = openRecall(scene.recalls, base);
      writer = await session.openDisk({ key: 'd0', sizeBytes, base, recall });
      assert.ok(writer.resumed || !hadCheckpoint);
      durable.copy(expected);
    }
  }
  await writer.finish();
  const manifest = await session.commit(request({}));
  const disk = await (await repository.openPoint(manifest.pointId)).openDisk('d0');
  await recall.publish(subjectOf(disk));
  return { repository, disk };
}

const TAGGED = { repositoryId: 'r', machineId: 'm', diskKey: 'd0' };

/** Versions are told apart by their content here. */
function subjectOf(disk: PointDisk): TagSubject {
  const { sizeBytes } = disk;
  return { ...TAGGED, pointId: '', rootHash: rootOf(disk), sizeBytes, chunkSizeBytes: CHUNK };
}

function openRecall(recalls: RecallFolder, base: PointDisk | null): DiskRecall {
  const recall = recalls.open(TAGGED, base === null ? null : { subject: subjectOf(base), disk: base });
  assert.ok(recall !== null);
  return recall;
}

/** Changes one bit of a tag file. */
function damageOne(folder: string, seed: number): void {
  for (const name of readdirSync(folder)) {
    const bytes = readFileSync(join(folder, name));
    bytes[seed % bytes.length] = (bytes[seed % bytes.length] as number) ^ 1;
    writeFileSync(join(folder, name), bytes);
  }
}

function rootOf(disk: PointDisk): string {
  return (disk as unknown as { rootId: Buffer }).rootId.toString('hex');
}

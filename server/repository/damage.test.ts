import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import zlib from 'node:zlib';
import { errnoError, MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { isAppError } from '../errors/index.ts';
import { decodeChunk } from './chunk-codec.ts';
import { createRepository, openRepository, type CheckReport, type PointManifest, type Repository } from './index.ts';
import { packIdOfName } from './layout.ts';
import {
  encodePackRow,
  encodePackTrailer,
  locatePackTable,
  PACK_TRAILER_BYTES,
  parsePackTable,
} from './pack-format.ts';
import { CHUNK, commitDisk, readByStream, request, sparseContent } from '../../test/fakes/small-repository.ts';

interface Scene {
  storage: MemoryStorage;
  repository: Repository;
  contents: Buffer[];
  points: PointManifest[];
}

/** Two versions, an interrupted session, a file of the machine. */
async function withScene(body: (scene: Scene) => Promise<void>): Promise<void> {
  const storage = new MemoryStorage();
  const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
  const first = sparseContent(6 * CHUNK + 900, 4);
  const second = Buffer.concat([sparseContent(2 * CHUNK, 8), first.subarray(2 * CHUNK)]);
  const files = [{ name: 'vm.vmx', kind: 'vmx', content: Buffer.from('memsize = "512"\n') }];
  const one = await commitDisk(repository, 'a', first, { files, createdAtMs: 1 });
  const base = await (await repository.openPoint(one.pointId)).openDisk('d0');
  const two = await commitDisk(repository, 'b', second, { previousPointId: one.pointId, createdAtMs: 2 }, base);
  const session = await repository.startWrite({ sessionId: 'c' });
  const writer = await session.openDisk({ key: 'd0', sizeBytes: 3 * CHUNK, base: null });
  await writer.write(0, Buffer.alloc(CHUNK, 5));
  await session.checkpoint({ delivered: CHUNK });
  await session.abort();
  try {
    await body({ storage, repository, contents: [first, second], points: [one, two] });
  } finally {
    await repository.close();
  }
}

/** Reads all as a new process would: right bytes or a named error, nothing between. Gives the number of errors. */
async function assertNothingWrong({ storage, contents, points }: Scene, where: string): Promise<number> {
  let errors = 0;
  const refuse = (error: unknown): void => {
    assert.ok(isAppError(error), `${where}: ${String(error)}`);
    assert.match(error.code, /^REPOSITORY_|^STORAGE_FAILED$|^POINT_NOT_FOUND$/, where);
    errors += 1;
  };
  let repository: Repository;
  try {
    repository = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
  } catch (error) {
    refuse(error);
    return errors;
  }
  for (const listing of await repository.listPoints()) if (listing.manifest === null) assert.ok(listing.damage);
  for (const [index, { pointId }] of points.entries()) {
    const content = contents[index] as Buffer;
    try {
      const point = await repository.openPoint(pointId);
      const disk = await point.openDisk('d0');
      assert.ok((await disk.read(0, content.length)).equals(content), `${where}: wrong bytes`);
      if (index === 0) assert.equal((await point.readFile('vm.vmx')).toString(), 'memsize = "512"\n');
    } catch (error) {
      refuse(error);
    }
  }
  await repository.close();
  return errors;
}

function structural(name: string, length: number, offset: number): boolean {
  return !name.endsWith('.pack') || offset < 64 || offset >= length - 64 - 52 * 8;
}

describe('a changed bit', () => {
  it('is found wherever it is, and never restored', async () => {
    await withScene(async (scene) => {
      const { storage, repository } = scene;
      assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
      assert.equal(await assertNothingWrong(scene, 'untouched'), 0);
      let flips = 0;
      let felt = 0;
      for (const [name, file] of [...storage.disk.files]) {
        if (name === 'readme.txt') continue;
        // Every 13th byte of what holds the rest together, and some of the chunks' own.
        for (
          let offset = 0;
          offset < file.data.length;
          offset += structural(name, file.data.length, offset) ? 13 : 3001
        ) {
          const bit = 1 << ((offset * 7) % 8);
          file.data[offset] = (file.data[offset] as number) ^ bit;
          const where = `${name} at ${offset}`;
          for (const depth of ['checksums', 'hashes'] as const) {
            const report: CheckReport = await repository.check({ depth });
            assert.ok(
              report.damages.some((damage) => damage.name === name),
              `${where} is not found by ${depth}: ${JSON.stringify(report.damages)}`,
            );
          }
          felt += await assertNothingWrong(scene, where);
          file.data[offset] = (file.data[offset] as number) ^ bit;
          flips += 1;
        }
      }
      assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
      assert.ok(flips > 200 && felt > 50, `${flips} flips, ${felt} of them felt by a reader`);
    });
  });
});

describe('a content that was exchanged together with its check sum', () => {
  it('passes a check by checksums, not one by hashes, and stays noted until hashes clear it', async () => {
    await withScene(async (scene) => {
      const { storage } = scene;
      const { name, file, honest } = forgeChunk(storage);
      const damagesBy = async (depth: CheckReport['depth']): Promise<string[]> => {
        const checker = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
        const { damages } = await checker.check({ depth, noteDamage: true });
        await checker.close();
        return damages.filter((damage) => damage.name === name).map(({ text }) => text);
      };
      assert.deepEqual(await damagesBy('checksums'), []);
      assert.match((await damagesBy('hashes')).join(' '), /its content is not what its identity names/);
      // Noted now: whatever is checked after it names it.
      assert.match((await damagesBy('structure')).join(' '), /an earlier check found it damaged/);
      assert.match((await damagesBy('checksums')).join(' '), /its content is not what its identity names/);
      await assertNothingWrong(scene, 'exchanged');
      honest.copy(file.data);
      assert.deepEqual(await damagesBy('checksums'), []);
    });
  });
});

/** Of a pack of data, one stored chunk changed, its row and the table's own hash made to fit. */
function forgeChunk(storage: MemoryStorage): { name: string; file: { data: Buffer }; honest: Buffer } {
  for (const [name, file] of storage.disk.files) {
    const packId = packIdOfName(name);
    if (packId === null) continue;
    const { data } = file;
    const { offsetBytes } = locatePackTable(data.subarray(-PACK_TRAILER_BYTES), data.length, name);
    const table = parsePackTable(packId, data.subarray(offsetBytes), name);
    if (table.kind !== 'data') continue;
    const honest = Buffer.from(data);
    for (let row = 0; row < table.rowCount; row += 1) {
      const form = { ...table.row(row), row };
      const stored = data.subarray(form.offsetBytes, form.offsetBytes + form.storedLength);
      for (let at = stored.length - 1; at >= 0; at -= 1) {
        stored[at] = (stored[at] as number) ^ 1;
        const crc = zlib.crc32(stored);
        const why = decodeChunk(stored, { ...form, crc }, null, { algorithm: 'sha256', identityKey: null });
        if (why === 'its content is not what its identity names') {
          encodePackRow({ ...form, crc }, table.bytes, row);
          encodePackTrailer(table).copy(data, data.length - PACK_TRAILER_BYTES);
          return { name, file, honest };
        }
        stored[at] = (stored[at] as number) ^ 1;
      }
    }
  }
  throw new Error('no chunk whose changed bytes decompress');
}

describe('a file cut off or missing', () => {
  it('is found, named with what needs it, and never restored', async () => {
    await withScene(async (scene) => {
      const { storage, repository } = scene;
      for (const [name, file] of [...storage.disk.files]) {
        if (name === 'readme.txt') continue;
        const { data } = file;
        for (const length of [0, 1, 63, 64, Math.floor(data.length / 2), data.length - 1]) {
          if (length >= data.length) continue;
          file.data = Buffer.from(data.subarray(0, length));
          const report = await repository.check({ depth: 'structure' });
          assert.ok(
            report.damages.some((damage) => damage.name === name),
            `${name} cut at ${length}: ${JSON.stringify(report.damages)}`,
          );
          await assertNothingWrong(scene, `${name} cut at ${length}`);
        }
        file.data = Buffer.concat([data, Buffer.from('x')]);
        const longer = await repository.check({ depth: 'structure' });
        assert.ok(
          longer.damages.some((damage) => damage.name === name),
          `${name} with a byte more`,
        );
        await assertNothingWrong(scene, `${name} with a byte more`);
        file.data = data;
        if (!name.endsWith('.pack')) continue;
        storage.disk.files.delete(name);
        const gone = await repository.check({ depth: 'structure' });
        const needed = gone.damages.filter((damage) => damage.name === name);
        const errors = await assertNothingWrong(scene, `${name} gone`);
        assert.equal(needed.length > 0, errors > 0, `${name}: ${JSON.stringify(gone.damages)}`);
        for (const damage of needed) assert.ok(damage.affects.length > 0);
        storage.disk.files.set(name, file);
      }
    });
  });

  it('costs nothing when it is the index', async () => {
    await withScene(async (scene) => {
      for (const name of [...scene.storage.disk.files.keys()])
        if (name.startsWith('index/')) scene.storage.disk.files.delete(name);

      assert.equal(await assertNothingWrong(scene, 'no index'), 0);
      assert.deepEqual((await scene.repository.check({ depth: 'hashes' })).damages, []);
      const next = await openRepository({ storage: scene.storage, threads: 0 });
      await commitDisk(next, 'd', scene.contents[0] as Buffer);
      await next.close();
      const names = [...scene.storage.disk.files.keys()].filter((name) => name.startsWith('index/'));
      assert.equal(names.length, 1, 'the next writer indexed the packs it found');
    });
  });
});

describe('damage', () => {
  it('is named by disk, range and version', async () => {
    const storage = new MemoryStorage();
    const repository = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
    const content = Buffer.alloc(300 * CHUNK);
    const noise = randomBytes(CHUNK);
    for (const chunk of [5, 270, 271]) noise.copy(content, chunk * CHUNK);
    const points = [await commitDisk(repository, 'a', content), await commitDisk(repository, 'b', content)];
    const [name, file] =
      [...storage.disk.files].find(([one, { data }]) => one.endsWith('.pack') && data[12] === 0) ?? [];
    assert.ok(name !== undefined && file !== undefined);
    for (const offset of [64, 64 + 30_000, 63 + CHUNK]) {
      file.data[offset] = (file.data[offset] as number) ^ 1;
      const { damages } = await repository.check({ depth: 'hashes' });
      file.data[offset] = (file.data[offset] as number) ^ 1;

      assert.equal(damages.length, 1);
      assert.equal(damages[0]?.code, 'REPOSITORY_CHUNK_DAMAGED');
      assert.equal(damages[0].name, name);
      const extents = [
        { offsetBytes: 5 * CHUNK, lengthBytes: CHUNK },
        { offsetBytes: 270 * CHUNK, lengthBytes: 2 * CHUNK },
      ];
      const affects = points.map(({ pointId }) => ({ pointId, machineName: 'web', diskKey: 'd0', extents }));
      affects.sort((a, b) => (a.pointId < b.pointId ? -1 : 1));
      assert.deepEqual(damages[0].affects, affects);
    }
    await repository.close();
  });

  it('of one manifest hides no other point', async () => {
    await withScene(async ({ storage, points, contents }) => {
      const name = `points/${points[0]?.pointId ?? ''}.point`;
      (storage.disk.files.get(name) as { data: Buffer }).data.fill(0, 70, 80);
      const repository = await openRepository({ storage, threads: 0 });
      const listings = await repository.listPoints();

      assert.equal(listings.length, 2);
      const damaged = listings.find((listing) => listing.pointId === points[0]?.pointId);
      assert.equal(damaged?.manifest, null);
      assert.match(damaged?.damage ?? '', /damaged/);
      await assert.rejects(repository.openPoint(points[0]?.pointId ?? ''), { code: 'REPOSITORY_MANIFEST_DAMAGED' });
      const disk = await (await repository.openPoint(points[1]?.pointId ?? '')).openDisk('d0');
      assert.ok((await readByStream(disk)).equals(contents[1] as Buffer));
      const next = await commitDisk(repository, 'd', contents[0] as Buffer, {
        previousPointId: points[0]?.pointId ?? '',
      });
      assert.equal(next.previousRootHash, null);
      await repository.close();
    });
  });

  it('is a time that there is not, in a version that somebody else made, which hides no other', async () => {
    await withScene(async ({ repository, points, contents }) => {
      const { pointId } = await commitDisk(repository, 'forged', contents[0] as Buffer, { createdAtMs: 8.64e15 + 1 });
      const listings = await repository.listPoints();

      assert.deepEqual(
        listings.map((listing) => [listing.pointId, listing.manifest === null]),
        [...points.map((point) => [point.pointId, false]), [pointId, true]],
      );
      assert.match(listings[2]?.damage ?? '', /damaged/);
    });
  });

  it('of a base is noticed before anything is built on it', async () => {
    await withScene(async ({ storage, points }) => {
      for (const name of [...storage.disk.files.keys()]) if (name.endsWith('.pack')) storage.disk.files.delete(name);
      const repository = await openRepository({ storage, threads: 0 });
      const base = await (await repository.openPoint(points[1]?.pointId ?? '')).openDisk('d0');
      const session = await repository.startWrite({ sessionId: 'x' });

      await assert.rejects(session.openDisk({ key: 'd0', sizeBytes: base.sizeBytes, base }), {
        code: 'REPOSITORY_CHUNK_MISSING',
      });
      const writer = await session.openDisk({ key: 'd0', sizeBytes: base.sizeBytes, base: null });
      await writer.write(0, Buffer.alloc(CHUNK, 9));
      await writer.finish();
      await session.commit(request({}));
      await repository.close();
    });
  });

  it('is a version that there is no permission to read, which hides no other and keeps nothing from being whole', async () => {
    await withScene(async ({ storage, points, contents }) => {
      const [hidden, shown] = points as [PointManifest, PointManifest];
      const door = new MemoryStorage(storage.disk);
      door.fault = (operation, name) =>
        operation === 'read' && name.includes(hidden.pointId) ? { when: 'before', error: errnoError('EACCES') } : null;
      const repository = await openRepository({ storage: door, threads: 0 });
      const listings = await repository.listPoints();
      assert.equal(listings.length, 2);
      const listing = listings.find(({ pointId }) => pointId === hidden.pointId);
      assert.match(listing?.damage ?? '', /permission/);
      const disk = await (await repository.openPoint(shown.pointId)).openDisk('d0');
      assert.ok((await readByStream(disk)).equals(contents[1] as Buffer));
      const { damages } = await repository.check({ depth: 'structure' });
      assert.deepEqual(
        damages.map(({ name }) => name),
        [`points/${hidden.pointId}.point`],
      );
      await assert.rejects(repository.collect({ patienceMs: 0 }), { code: 'STORAGE_FAILED' });
      await repository.close();
    });
  });

  it('of one copy is made up for by another', async () => {
    const storage = new MemoryStorage();
    const content = sparseContent(5 * CHUNK, 3);
    const one = await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 });
    const other = await openRepository({ storage, threads: 0 });
    // Each of the two began before the other had published: both store everything.
    const sessions = await Promise.all(
      [one, other].map((door) => door.startWrite({ sessionId: `s${door === one ? 1 : 2}` })),
    );
    const manifests: PointManifest[] = [];
    for (const session of sessions) {
      const writer = await session.openDisk({ key: 'd0', sizeBytes: content.length, base: null });
      await writer.write(0, Buffer.from(content));
      await writer.finish();
      manifests.push(await session.commit(request({})));
    }
    const dataPacks = [...storage.disk.files].filter(([name, { data }]) => name.endsWith('.pack') && data[12] === 0);
    assert.equal(dataPacks.length, 2);
    dataPacks[0]?.[1].data.fill(0xaa, 64, 400);
    const reader = await openRepository({ storage, threads: 0 });

    for (const { pointId } of manifests) {
      const disk = await (await reader.openPoint(pointId)).openDisk('d0');
      assert.ok((await readByStream(disk)).equals(content));
      assert.ok((await disk.read(0, content.length)).equals(content));
    }
    const { damages } = await reader.check({ depth: 'hashes' });
    assert.ok(damages.length > 0);
    for (const door of [one, other, reader]) await door.close();
  });

  it('is not what a collector or a session removes beside the check', async () => {
    for (const folder of ['points', 'index', 'sessions', 'evidence']) {
      await withScene(async ({ storage }) => {
        const keeper = await openRepository({ storage: new MemoryStorage(storage.disk), threads: 0 });
        await keeper.collect({ patienceMs: 0 });
        await keeper.close();
        const victim = [...storage.disk.files.keys()].filter((name) => name.startsWith(`${folder}/`)).at(-1);
        assert.ok(victim !== undefined, folder);
        const beside = new MemoryStorage(storage.disk);
        let isRemoved = false;
        const reader = await openRepository({ storage: beside, threads: 0 });
        // It is listed, and removed before it is read.
        beside.fault = (operation, name) => {
          const file = beside.disk.files.get(victim);
          if (operation !== 'read' || name !== victim || file === undefined) return null;
          isRemoved = beside.disk.files.delete(victim);
          if (folder === 'evidence') beside.disk.files.set('evidence/00000001.evidence', file);
          return null;
        };
        const { damages } = await reader.check({ depth: 'hashes' });
        await reader.close();
        assert.ok(isRemoved, folder);
        assert.deepEqual(damages, [], folder);
      });
    }
  });

  it('is not a pack that a collector removes while it is read', async () => {
    await withScene(async ({ storage }) => {
      const packs = [...storage.disk.files.keys()].filter((name) => name.startsWith('packs/'));
      const checked = async (
        victim: string,
        removeAtRead: number,
      ): Promise<{ reads: number; damages: string[]; noted: string[] }> => {
        const beside = new MemoryStorage({ ...storage.disk, files: new Map(storage.disk.files) });
        const reader = await openRepository({ storage: beside, threads: 0 });
        let reads = 0;
        beside.fault = (operation, name) => {
          if (operation !== 'read' || name !== victim) return null;
          reads += 1;
          if (reads === removeAtRead) beside.disk.files.delete(victim);
          return null;
        };
        const { damages } = await reader.check({ depth: 'hashes', noteDamage: true });
        await reader.close();
        const noted = [...beside.disk.files.keys()].filter((name) => name.startsWith('damaged/'));
        return { reads, damages: damages.map(({ text }) => text), noted };
      };
      let removals = 0;
      for (const victim of packs) {
        // Of those that no version needs, which is what a collector removes.
        if ((await checked(victim, 1)).damages.some((text) => text.includes('gone'))) continue;
        const { reads } = await checked(victim, Infinity);
        for (let at = 1; at <= reads; at += 1) {
          const { damages, noted } = await checked(victim, at);
          assert.deepEqual({ damages, noted }, { damages: [], noted: [] }, `${victim}, read ${at} of ${reads}`);
          removals += 1;
        }
      }
      assert.ok(removals >= 4, `only ${removals} removals were tried`);
    });
  });

  it('is what is listed and cannot be found', async () => {
    for (const folder of ['points', 'index', 'sessions']) {
      await withScene(async ({ storage }) => {
        const victim = [...storage.disk.files.keys()].filter((name) => name.startsWith(`${folder}/`)).at(-1);
        const failing = new MemoryStorage(storage.disk);
        const reader = await openRepository({ storage: failing, threads: 0 });
        failing.fault = (operation, name) =>
          operation === 'read' && name === victim ? { when: 'before', error: errnoError('ENOENT') } : null;
        const { damages } = await reader.check({ depth: 'structure' });
        await reader.close();
        assert.deepEqual([...new Set(damages.map(({ name }) => name))], [victim]);
      });
    }
  });

  it('is a version that is gone and that nobody deleted', async () => {
    await withScene(async ({ storage, repository, points }) => {
      const keeper = await openRepository({ storage, threads: 0 });
      const lost = points[1]?.pointId ?? '';
      await keeper.collect({ patienceMs: 0 });
      storage.disk.files.delete(`points/${lost}.point`);
      const { damages } = await repository.check({ depth: 'structure' });
      assert.deepEqual(
        damages.map(({ code, affects }) => [code, affects[0]?.pointId]),
        [['REPOSITORY_EVIDENCE_MISSING', lost]],
      );
      await keeper.close();
    });
    await withScene(async ({ repository, storage, points }) => {
      const keeper = await openRepository({ storage, threads: 0 });
      await keeper.collect({ patienceMs: 0 });
      await keeper.deletePoint(points[1]?.pointId ?? '', { keepUntilMs: 0, reason: 'test' });
      assert.deepEqual((await keeper.collect({ patienceMs: 0 })).purgedPoints, [points[1]?.pointId]);
      assert.deepEqual((await repository.check({ depth: 'structure' })).damages, []);
      await keeper.close();
    });
  });
});

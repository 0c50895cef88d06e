import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { MemoryStorage } from '../../test/fakes/memory-storage.ts';
import { CHUNK, commitDisk, request, sparseContent } from '../../test/fakes/small-repository.ts';
import { silentLogger } from '../runtime/index.ts';
import { createRepository, openRepository } from './index.ts';
import { encodeSegment } from './index-segment.ts';
import { indexName, PACK_ROWS_MAX, packName, pointName } from './layout.ts';
import { PackCatalog } from './pack-catalog.ts';
import { encodePackHeader, encodePackRow, encodePackTrailer, PACK_ROW_BYTES, PackTable } from './pack-format.ts';
import { encodePoint } from './point-file.ts';

/** Of each pack 3.4 MB of table: five make a segment. */
const PACKS = 6;

/** A pack of as many rows as there may be, each of one byte that nobody reads here. */
function largePack(seed: string, rowCount = PACK_ROWS_MAX): { table: PackTable; file: Buffer } {
  const packId = createHash('sha256').update(seed).digest('hex').slice(0, 32);
  const rows = Buffer.alloc(rowCount * PACK_ROW_BYTES);
  const ids = createHash('shake256', { outputLength: 32 * rowCount })
    .update(seed)
    .digest();
  const header = encodePackHeader(packId, 'data', null);
  for (let row = 0; row < rowCount; row += 1) {
    const id = ids.subarray(row * 32, row * 32 + 32);
    const offsetBytes = header.length + row;
    encodePackRow({ id, offsetBytes, storedLength: 1, plainLength: 1, crc: 0, codec: 0 }, rows, row);
  }
  const table = new PackTable(packId, 'data', header.length + rowCount, rows);
  return { table, file: Buffer.concat([header, Buffer.alloc(rowCount), rows, encodePackTrailer(table)]) };
}

function put(storage: MemoryStorage, name: string, data: Buffer): void {
  storage.disk.files.set(name, { data, modifiedAtMs: 0 });
}

describe('an index that is larger than memory', () => {
  it('is known in 24 bytes a chunk, its segments given back as soon as they were read', async () => {
    const storage = new MemoryStorage();
    for (let number = 0; number < PACKS; number += 1) {
      const { table, file } = largePack(`known ${number}`);
      put(storage, packName(table.packId), file);
      put(storage, indexName(String(number).repeat(32)), encodeSegment([table]));
    }
    const segments: Buffer[] = [];
    const read = storage.read.bind(storage);
    storage.read = async (name, range) => {
      const bytes = await read(name, range);
      if (name.startsWith('index/')) segments.push(bytes);
      return bytes;
    };
    const identity = { algorithm: 'sha256', identityKey: null } as const;
    const catalog = new PackCatalog({ storage, keys: null, identity, logger: silentLogger });
    const before = process.memoryUsage().arrayBuffers;
    await catalog.refreshToRead();
    // Whether anything else is collected meanwhile is chance, and would only make it less.
    const perChunk = (process.memoryUsage().arrayBuffers - before) / catalog.index.size;
    assert.equal(catalog.index.size, PACKS * PACK_ROWS_MAX);
    assert.deepEqual(
      segments.map((bytes) => bytes.length),
      Array<number>(PACKS).fill(0),
    );
    assert.ok(perChunk <= 24, `${perChunk.toFixed(1)} bytes a chunk`);

    const { table } = largePack('known 3');
    for (const row of [0, 999, PACK_ROWS_MAX - 1]) {
      const form = table.row(row);
      const pack = catalog.numberOf(table.packId);
      assert.deepEqual(await catalog.locate(form.id, 'read'), { pack, row, form });
    }
  });

  it('is written anew by the next session in portions, when it was lost', async () => {
    const storage = new MemoryStorage();
    await (await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 })).close();
    for (let number = 0; number < PACKS; number += 1) {
      const { table, file } = largePack(`lost ${number}`);
      put(storage, packName(table.packId), file);
    }
    const repository = await openRepository({ storage, threads: 0 });
    const from = storage.log.length;
    await commitDisk(repository, 'one', sparseContent(3 * CHUNK, 1));
    const steps = storage.log.slice(from);
    const firstSegment = steps.findIndex(({ operation, name }) => operation === 'publish' && name.startsWith('index/'));
    const lastTable = steps.findLastIndex(({ operation, name }) => operation === 'read' && name.startsWith('packs/'));
    assert.ok(firstSegment >= 0 && firstSegment < lastTable, 'one is published before all tables were read');
    await repository.close();
    const next = await openRepository({ storage, threads: 0 });
    const readFrom = storage.log.length;
    await next.stats();
    assert.ok(
      storage.log.slice(readFrom).every(({ name }) => !name.startsWith('packs/')),
      'each pack has its segment',
    );
    await next.close();
  });

  it('is made smaller by a collection in portions, none of which is removed before the next is there', async () => {
    const storage = new MemoryStorage();
    await (await createRepository({ storage, chunkSizeBytes: CHUNK, threads: 0 })).close();
    const chunks: string[] = [];
    const going: string[] = [];
    // Each segment names another pack, that somebody removes.
    for (let number = 0; number < PACKS; number += 1) {
      const stays = largePack(`stays ${number}`);
      const goes = largePack(`goes ${number}`, PACK_ROWS_MAX >> 1);
      chunks.push(stays.table.row(0).id.toString('hex'));
      going.push(packName(goes.table.packId));
      for (const { table, file } of [stays, goes]) put(storage, packName(table.packId), file);
      put(storage, indexName(String(number).repeat(32)), encodeSegment([stays.table, goes.table]));
    }
    const repository = await openRepository({ storage, threads: 0 });
    for (const name of going) storage.disk.files.delete(name);
    const { pointId, sessionId } = { pointId: '20260101t000000z-0123456789abcdef', sessionId: 'one' };
    const { machineId, machineName, createdAtMs, state, stateReasons, machine, evidence } = request({});
    const point = encodePoint(
      {
        manifest: {
          ...{
            pointId,
            kind: 'disk-image',
            createdAtMs,
            machineId,
            machineName,
            state,
            stateReasons,
            machine,
            evidence,
          },
          ...{ disks: [], rootHash: '', previousPointId: null, previousRootHash: null },
        },
        files: [{ name: 'web.nvram', kind: 'nvram', sizeBytes: chunks.length * CHUNK, chunks }],
        sessionId,
        chunkSizeBytes: CHUNK,
      },
      null,
    );
    put(storage, pointName(pointId), point.bytes);

    const from = storage.log.length;
    const { state: outcome, removedPacks } = await repository.collect({ patienceMs: 0, liveShareMin: 0 });
    assert.deepEqual([outcome, removedPacks], ['done', 0]);
    const ofIndex = storage.log.slice(from).filter(({ name }) => name.startsWith('index/'));
    const steps = ofIndex.flatMap(({ operation }) =>
      operation === 'publish' || operation === 'remove' ? [operation] : [],
    );
    assert.equal(steps.filter((step) => step === 'remove').length, PACKS);
    assert.ok(steps.indexOf('remove') < steps.lastIndexOf('publish'), steps.join(' '));
    assert.equal(steps[0], 'publish');

    const other = await openRepository({ storage, threads: 0 });
    assert.equal((await other.stats()).packs, PACKS);
    for (const { data } of [...storage.disk.files].flatMap(([name, file]) =>
      name.startsWith('index/') ? [file] : [],
    )) {
      assert.ok(data.length < 24 * 1024 * 1024, `a segment of ${data.length} bytes`);
    }
    await other.close();
    await repository.close();
  });
});

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { openRepository } from '../../server/repository/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { GOLDEN_PASSPHRASE } from './make-golden.ts';
import { FormatReader } from './reader.ts';

const GOLDEN = path.join(import.meta.dirname, 'format-1');

interface Expected {
  points: { machineName: string; disks: Record<string, string>; files: Record<string, string> }[];
}

for (const kind of ['plain', 'encrypted'] as const) {
  const folder = path.join(GOLDEN, kind);
  const unlock = kind === 'encrypted' ? { passphrase: GOLDEN_PASSPHRASE } : {};
  const expected = async (): Promise<Expected> => {
    const all = JSON.parse(await readFile(path.join(GOLDEN, 'expected.json'), 'utf8')) as Record<string, Expected>;
    return all[kind] as Expected;
  };

  describe(`the ${kind} golden repository of format 1`, () => {
    it('is read right by a reader that knows the document alone', async () => {
      const reader = new FormatReader(folder, unlock.passphrase);
      const { points } = await expected();

      assert.equal(reader.points.length, points.length);
      for (const [index, { machineName, disks, files }] of points.entries()) {
        const point = reader.points[index];
        assert.ok(point !== undefined);
        assert.equal(point.machineName, machineName);
        assert.equal(point.previousRootHash, index === 0 ? null : reader.points[index - 1]?.rootHash);
        assert.equal(point.disks.length, Object.keys(disks).length);
        for (const [key, hash] of Object.entries(disks)) assert.equal(sha256(reader.disk(point, key)), hash, key);
        for (const [name, hash] of Object.entries(files)) assert.equal(sha256(reader.file(point, name)), hash, name);
      }
    });

    it('is read right by the product, which finds nothing wrong and can go on with it', async () => {
      const copy = await mkdtemp(path.join(tmpdir(), 'dozo-golden-'));
      try {
        await cp(folder, copy, { recursive: true });
        const storage = await openLocalStorage({ folder: copy });
        const repository = await openRepository({ storage, threads: 0, ...unlock });
        const { points } = await expected();
        const listings = await repository.listPoints();
        assert.equal(listings.length, points.length);
        for (const [index, { disks, files }] of points.entries()) {
          const point = await repository.openPoint(listings[index]?.pointId ?? '');
          for (const [key, hash] of Object.entries(disks)) {
            const disk = await point.openDisk(key);
            assert.equal(sha256(await disk.read(0, disk.sizeBytes)), hash);
          }
          for (const [name, hash] of Object.entries(files)) assert.equal(sha256(await point.readFile(name)), hash);
        }
        assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);

        const last = await repository.openPoint(listings.at(-1)?.pointId ?? '');
        const base = await last.openDisk('scsi0:1');
        const session = await repository.startWrite({ sessionId: 'next' });
        const writer = await session.openDisk({ key: 'scsi0:1', sizeBytes: base.sizeBytes, base });
        await writer.write(10, Buffer.from('changed'));
        await writer.finish();
        const changed = await base.read(0, base.sizeBytes);
        changed.write('changed', 10);
        const { manifest } = last;
        await session.commit({ ...manifest, createdAtMs: manifest.createdAtMs + 1, files: [], disks: [{ key: 'scsi0:1', changeToken: null, facts: null }] });
        // One in the trash, one brought back from there.
        const [trashed, restored] = listings;
        for (const listing of [trashed, restored]) {
          await repository.deletePoint(listing?.pointId ?? '', { keepUntilMs: Date.now() + 1e6, reason: 'test' });
        }
        await repository.restorePoint(restored?.pointId ?? '');
        await repository.close();
        const reader = new FormatReader(copy, unlock.passphrase);
        assert.ok(reader.points.every(({ pointId }) => pointId !== trashed?.pointId));
        assert.ok(reader.points.some(({ pointId }) => pointId === restored?.pointId));
        const written = reader.points.find((one) => one.disks.length === 1);
        assert.ok(written !== undefined);
        assert.equal(sha256(reader.disk(written, 'scsi0:1')), sha256(changed));
      } finally {
        await rm(copy, { recursive: true });
      }
    });
  });
}

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

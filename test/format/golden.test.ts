import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { mnemonicToEntropy } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { openKeyring, openRepository } from '../../server/repository/index.ts';
import { systemClock, type Clock } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';
import { GOLDEN_PASSPHRASE } from './make-golden.ts';
import type { ExpectedMarks } from './make-marked-golden.ts';
import type { ExpectedSkipped } from './make-skipped-golden.ts';
import { FormatReader, type ReadPoint } from './reader.ts';

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

describe('a recovery key on paper', () => {
  it('opens the golden repository for a reader that knows the document and the words of BIP 39', async () => {
    const copy = await mkdtemp(path.join(tmpdir(), 'dozo-golden-'));
    try {
      await cp(path.join(GOLDEN, 'encrypted'), copy, { recursive: true });
      const storage = await openLocalStorage({ folder: copy });
      const keyring = await openKeyring({ storage, secret: { passphrase: GOLDEN_PASSPHRASE } });
      const { recoveryKey } = await keyring.addRecoveryKey('safe');
      const secret = Buffer.from(mnemonicToEntropy(recoveryKey, wordlist));
      const byPassphrase = new FormatReader(copy, GOLDEN_PASSPHRASE);
      const byPaper = new FormatReader(copy, secret);

      assert.ok(byPaper.points.length > 0);
      for (const [index, point] of byPaper.points.entries()) {
        const other = byPassphrase.points[index];
        assert.ok(other !== undefined);
        assert.equal(sha256(byPaper.disk(point, 'scsi0:0')), sha256(byPassphrase.disk(other, 'scsi0:0')));
      }
      secret[0] = (secret[0] as number) ^ 1;
      assert.throws(() => new FormatReader(copy, secret), /opens no slot/);
    } finally {
      await rm(copy, { recursive: true });
    }
  });
});

/** Long after the goldens were made, whatever the clock of this machine says. */
const CLOCK: Clock = { ...systemClock, nowMs: () => Date.parse('2030-01-01T00:00Z') };

for (const kind of ['plain', 'encrypted'] as const) {
  const folder = path.join(import.meta.dirname, 'format-1-marks', kind);
  const unlock = kind === 'encrypted' ? { passphrase: GOLDEN_PASSPHRASE } : {};
  const expected = async (): Promise<ExpectedMarks> => {
    const text = await readFile(path.join(folder, '../expected.json'), 'utf8');
    return (JSON.parse(text) as Record<string, ExpectedMarks>)[kind] as ExpectedMarks;
  };
  const readBy = (reader: FormatReader): Record<string, string> =>
    Object.fromEntries(reader.points.map((point) => [point.pointId, sha256(reader.disk(point, 'scsi0:0'))]));

  describe(`the ${kind} golden repository with marks, damage and a collection that was cut`, () => {
    it('is read right by a reader that knows the document alone', async () => {
      const { shown, locked, trashed, purged } = await expected();
      const reader = new FormatReader(folder, unlock.passphrase);
      assert.deepEqual(readBy(reader), shown);
      assert.deepEqual(reader.fates.get(locked.pointId), {
        trashed: false,
        purged: false,
        lockedUntilMs: locked.untilMs,
      });
      assert.deepEqual(reader.fates.get(trashed), { trashed: true, purged: false, lockedUntilMs: null });
      assert.equal(reader.fates.get(purged)?.purged, true);
    });

    it('is read right by the product, which brings to its end what was cut', async () => {
      const { shown, locked, trashed, purged, fenced } = await expected();
      const copy = await mkdtemp(path.join(tmpdir(), 'dozo-golden-'));
      try {
        await cp(folder, copy, { recursive: true });
        const storage = await openLocalStorage({ folder: copy });
        const repository = await openRepository({ storage, clock: CLOCK, threads: 0, ...unlock });
        const assertShown = async (): Promise<void> => {
          const found: Record<string, string> = {};
          for (const { pointId } of await repository.listPoints()) {
            const disk = await (await repository.openPoint(pointId)).openDisk('scsi0:0');
            found[pointId] = sha256(await disk.read(0, disk.sizeBytes));
          }
          assert.deepEqual(found, shown);
        };
        await assertShown();
        assert.deepEqual(
          (await repository.listTrash()).map(({ pointId }) => pointId),
          [trashed],
        );
        assert.equal((await repository.listFates()).get(locked.pointId)?.lockedUntilMs, locked.untilMs);
        await assert.rejects(repository.deletePoint(locked.pointId, { keepUntilMs: 0, reason: 'x' }), {
          code: 'POINT_LOCKED',
        });
        await assert.rejects(repository.openPoint(purged), { code: 'POINT_NOT_FOUND' });
        await assert.rejects(repository.openPoint(fenced), { code: 'POINT_NOT_FOUND' });

        const report = await repository.collect({ patienceMs: 0 });
        assert.equal(report.state, 'done');
        assert.deepEqual(report.purgedPoints, [purged]);
        assert.ok(report.removedPacks > 0);
        assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);
        await assertShown();
        await repository.close();
        const reader = new FormatReader(copy, unlock.passphrase);
        assert.deepEqual(readBy(reader), shown);
        assert.equal(reader.fates.get(purged), undefined);
      } finally {
        await rm(copy, { recursive: true });
      }
    });
  });
}

for (const kind of ['plain', 'encrypted'] as const) {
  const folder = path.join(import.meta.dirname, 'format-1-skipped', kind);
  const unlock = kind === 'encrypted' ? { passphrase: GOLDEN_PASSPHRASE } : {};
  const expected = async (): Promise<ExpectedSkipped['points']> => {
    const text = await readFile(path.join(folder, '../expected.json'), 'utf8');
    return (JSON.parse(text) as Record<string, ExpectedSkipped>)[kind]?.points ?? [];
  };
  const skippedOf = (evidence: unknown): unknown => (evidence as NonNullable<ReadPoint['evidence']>).disks[0]?.skipped;

  describe(`the ${kind} golden repository of versions without what the guest does not need`, () => {
    it('is read right by a reader that knows the document alone, with what each version left out', async () => {
      const reader = new FormatReader(folder, unlock.passphrase);
      const points = await expected();
      assert.equal(reader.points.length, 2);
      for (const [index, { disk, source, skipped }] of points.entries()) {
        const point = reader.points[index];
        assert.ok(point !== undefined);
        const content = reader.disk(point, 'scsi0:0');
        assert.equal(sha256(content), disk);
        assert.notEqual(disk, source, 'the machine had something there');
        assert.deepEqual(skippedOf(point.evidence), skipped);
        const [ext4, swap, unsure] = skipped.volumes;
        assert.deepEqual([ext4?.kind, swap?.kind, unsure?.skippedBytes], ['ext4', 'swap', 0]);
        assert.notEqual(unsure?.reason, null);
        // Chunks of 64 KiB: what was left out are zeros like any other.
        let zeroBytes = 0;
        for (let at = 0; at < content.length; at += 65_536) {
          if (content.subarray(at, at + 65_536).every((byte) => byte === 0)) zeroBytes += 65_536;
        }
        assert.ok(zeroBytes >= (ext4?.skippedBytes ?? 0) + (swap?.skippedBytes ?? 0));
      }
    });

    it('is read right by the product, which can go on with it', async () => {
      const copy = await mkdtemp(path.join(tmpdir(), 'dozo-golden-'));
      try {
        await cp(folder, copy, { recursive: true });
        const storage = await openLocalStorage({ folder: copy });
        const repository = await openRepository({ storage, threads: 0, ...unlock });
        const points = await expected();
        const listings = await repository.listPoints();
        assert.deepEqual(
          listings.map(({ manifest }) => skippedOf(manifest?.evidence)),
          points.map(({ skipped }) => skipped),
        );
        for (const [index, { disk }] of points.entries()) {
          const point = await (await repository.openPoint(listings[index]?.pointId ?? '')).openDisk('scsi0:0');
          assert.equal(sha256(await point.read(0, point.sizeBytes)), disk);
        }
        assert.deepEqual((await repository.check({ depth: 'hashes' })).damages, []);

        const last = await repository.openPoint(listings.at(-1)?.pointId ?? '');
        const base = await last.openDisk('scsi0:0');
        const session = await repository.startWrite({ sessionId: 'next' });
        const writer = await session.openDisk({ key: 'scsi0:0', sizeBytes: base.sizeBytes, base });
        await writer.write(5_000_000, Buffer.from('in use by now'));
        await writer.finish();
        const { manifest } = last;
        const next = { ...manifest, createdAtMs: manifest.createdAtMs + 1, files: [] };
        await session.commit({ ...next, disks: [{ key: 'scsi0:0', changeToken: null, facts: null }] });
        await repository.close();

        const changed = await base.read(0, base.sizeBytes);
        changed.write('in use by now', 5_000_000);
        const reader = new FormatReader(copy, unlock.passphrase);
        const written = reader.points.at(-1);
        assert.ok(written !== undefined);
        assert.equal(sha256(reader.disk(written, 'scsi0:0')), sha256(changed));
      } finally {
        await rm(copy, { recursive: true });
      }
    });
  });
}

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';

import { RecallFolder } from '../../server/recall/index.ts';
import type { KeptRepository } from '../../server/repository/index.ts';
import { KIB, MIB, silentLogger, systemClock } from '../../server/runtime/index.ts';
import type { FakeMachine } from '../fakes/fake-source-host.ts';

import { assertRestores, assertStoreIsClean, copyDisks, openScene, type Scene } from './engine-scene.ts';

/** Counts what was recognised. */
class CountingFolder extends RecallFolder {
  matches = 0;
  asked = 0;

  override open(...[disk, former]: Parameters<RecallFolder['open']>): ReturnType<RecallFolder['open']> {
    const recall = super.open(disk, former);
    if (recall === null) return null;
    const matches = recall.matches.bind(recall);
    recall.matches = (chunk, tag) => {
      const isMatch = matches(chunk, tag);
      this.asked += 1;
      if (isMatch) this.matches += 1;
      return isMatch;
    };
    return recall;
  }
}

const DATA_CHUNKS = (9 * MIB) / (64 * KIB);

describe('a machine without change tracking', () => {
  let scene: Scene;
  let machine: FakeMachine;
  let folder: string;
  const versions: { pointId: string; disks: Map<string, Buffer> }[] = [];

  beforeEach(async () => {
    scene = await openScene();
    scene.host.changeTracking = false;
    folder = join(scene.folder, 'recall');
    machine = scene.host.addMachine('web');
    const system = Buffer.alloc(24 * MIB);
    randomBytes(8 * MIB).copy(system, 3 * MIB);
    machine.addDisk('scsi0:0', system);
    machine.addDisk('scsi0:1', randomBytes(MIB));
    versions.length = 0;
  });
  afterEach(async () => {
    for (const { pointId, disks } of versions) await assertRestores(scene, pointId, disks);
    await assertStoreIsClean(scene.repository);
    await scene.end();
  });

  /** Backs up, and gives how many chunks were recognised. */
  async function back(options: Parameters<Scene['back']>[1] = {}): Promise<number> {
    const recall = new CountingFolder({ folder, clock: systemClock, logger: silentLogger });
    const disks = copyDisks(machine);
    const result = await scene.back(machine, options, { recall });
    assert.equal(result.state, 'success', JSON.stringify(result.error));
    versions.push({ pointId: result.pointId ?? '', disks });
    return recall.matches;
  }

  test('has what is as it was recognised, what changed stored, what was put back found', async () => {
    assert.equal(await back(), 0);
    assert.equal(await back(), DATA_CHUNKS, 'unchanged');
    const before = Buffer.from(machine.diskAt('scsi0:0').content.subarray(4 * MIB, 5 * MIB));
    machine.diskAt('scsi0:0').write(4 * MIB, randomBytes(MIB));
    machine.diskAt('scsi0:0').write(20 * MIB + 7, randomBytes(100));
    machine.diskAt('scsi0:1').write(0, Buffer.alloc(64 * KIB));
    assert.equal(await back(), DATA_CHUNKS - 16 - 1, 'changed');
    machine.diskAt('scsi0:0').write(4 * MIB, before);
    assert.equal(await back(), DATA_CHUNKS - 16, 'put back, recognised but for that');
    assert.equal(await back(), DATA_CHUNKS, 'and now that, too');
    const listings = await scene.repository.listPoints();
    assert.deepEqual(
      listings.map(({ manifest }) => manifest?.disks.reduce((sum, { stats }) => sum + stats.newBytes, 0)),
      [9 * MIB, 0, MIB + 64 * KIB, 0, 0],
    );
  });

  test('that grew or shrank is right', async () => {
    await back();
    machine.diskAt('scsi0:0').resize(30 * MIB + 512);
    machine.diskAt('scsi0:0').write(30 * MIB, randomBytes(512));
    assert.equal(await back(), DATA_CHUNKS);
    machine.diskAt('scsi0:0').resize(10 * MIB + 512);
    await back();
    // 3 to 10 MiB, the chunk in which the disk ends now, and the other disk.
    assert.equal(await back(), (7 + 1) * 16 + 1);
  });

  test('is read and hashed as a whole where that is asked for, under a new key', async () => {
    await back();

    assert.equal(await back({ fullRead: true }), 0);
    assert.equal(await back(), DATA_CHUNKS, 'of the version before');
  });

  test('is hashed once when the tags are of another version: of a week ago, of a run cut around its commit', async () => {
    await back();
    const old = join(scene.folder, 'old');
    cpSync(folder, old, { recursive: true });
    machine.diskAt('scsi0:0').write(5 * MIB, randomBytes(MIB));
    await back();

    // The version is there, its tags are not: the folder was put back, or the process killed before it wrote them.
    rmSync(folder, { recursive: true });
    cpSync(old, folder, { recursive: true });
    assert.equal(await back(), 0);
    assert.equal(await back(), DATA_CHUNKS);

    // The tags are there, their version is not: it was deleted.
    await (scene.repository as KeptRepository).deletePoint(versions.pop()?.pointId ?? '', {
      keepUntilMs: 0,
      reason: 'test',
    });
    await (scene.repository as KeptRepository).collect({ patienceMs: 0 });
    assert.equal(await back(), 0);
    assert.equal(await back(), DATA_CHUNKS);

    rmSync(folder, { recursive: true });
    assert.equal(await back(), 0);
  });

  test('of which a tag file is damaged is right', async () => {
    await back();
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      const bytes = readFileSync(path);
      bytes[Math.floor(bytes.length / 2)] = (bytes[Math.floor(bytes.length / 2)] ?? 0) ^ 4;
      writeFileSync(path, bytes);
    }
    machine.diskAt('scsi0:0').write(6 * MIB, randomBytes(MIB));

    assert.equal(await back(), 0);
  });

  test('has stored again what a check found damaged in its last version', async () => {
    await back();
    const damaged = versions.pop();
    const packs = join(scene.folder, 'repository', 'packs');
    for (const name of readdirSync(packs, { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.pack') && !/[0-9a-f]{32}/.test(name)) continue;
      const path = join(packs, name);
      const bytes = readFileSync(path);
      if (bytes.readUInt32LE(12) !== 0) continue;
      bytes[100_000] = (bytes[100_000] ?? 0) ^ 1;
      writeFileSync(path, bytes);
    }
    const report = await scene.repository.check({ depth: 'hashes', noteDamage: true });
    assert.ok(report.damages.length > 0);
    await scene.reopen();

    assert.equal(await back(), DATA_CHUNKS, 'recognised, but of no use where it is damaged');
    const last = (await scene.repository.listPoints()).at(-1)?.manifest;
    assert.equal(
      last?.disks.reduce((sum, { stats }) => sum + stats.newBytes, 0),
      report.damages.length * 64 * KIB,
    );
    versions.push({ pointId: damaged?.pointId ?? '', disks: damaged?.disks ?? new Map<string, Buffer>() });
    await (scene.repository as KeptRepository).collect({ patienceMs: 0 });
  });

  test('that gets change tracking leaves no tags, and is right when it loses it again', async () => {
    await back();
    scene.host.changeTracking = true;
    await back();
    machine.diskAt('scsi0:0').write(7 * MIB, randomBytes(MIB));
    await back();
    scene.host.changeTracking = false;
    assert.equal(await back(), 0);
    assert.equal(await back(), DATA_CHUNKS);
  });
});

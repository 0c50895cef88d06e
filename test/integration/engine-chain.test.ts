import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { AppError } from '../../server/errors/index.ts';
import { runExport } from '../../server/restore/index.ts';
import { KIB, MIB, silentLogger, systemClock } from '../../server/runtime/index.ts';

import { assertRestores, assertStoreIsClean, copyDisks, openScene, type Scene } from './engine-scene.ts';

describe('a chain of five versions', () => {
  let scene: Scene;
  const versions: { pointId: string; disks: Map<string, Buffer> }[] = [];

  before(async () => {
    scene = await openScene();
    const machine = scene.host.addMachine('web');
    const system = Buffer.alloc(24 * MIB);
    randomBytes(6 * MIB).copy(system, 3 * MIB + 512);
    machine.addDisk('scsi0:0', system);
    machine.addDisk('scsi0:1', randomBytes(3 * MIB + 37 * 512));
    const writes: (() => void)[] = [
      () => undefined,
      () => {
        for (let i = 0; i < 20; i += 1) machine.diskAt('scsi0:0').write(i * MIB + 1234, randomBytes(3000));
      },
      () => {
        machine.diskAt('scsi0:0').write(4 * MIB, Buffer.alloc(2 * MIB));
        machine.diskAt('scsi0:1').write(0, randomBytes(700 * KIB));
      },
      () => {
        machine.diskAt('scsi0:0').resize(30 * MIB);
        machine.diskAt('scsi0:0').write(30 * MIB - 512, randomBytes(512));
        machine.addDisk('sata0:0', randomBytes(MIB));
      },
      () => {
        machine.disks.delete('scsi0:1');
        machine.diskAt('scsi0:0').resetTracking();
        machine.diskAt('scsi0:0').write(10 * MIB, randomBytes(64 * KIB));
      },
    ];
    for (const write of writes) {
      write();
      const disks = copyDisks(machine);
      const result = await scene.back(machine);
      assert.equal(result.state, 'success', JSON.stringify(result.error));
      versions.push({ pointId: result.pointId ?? '', disks });
    }
  });
  after(() => scene.end());

  test('restores every version exactly as it was frozen', async () => {
    for (const { pointId, disks } of versions) await assertRestores(scene, pointId, disks);
    await assertStoreIsClean(scene.repository);
  });

  test('restores the same after the store was opened anew', async () => {
    await scene.reopen();

    for (const { pointId, disks } of versions) await assertRestores(scene, pointId, disks);
  });

  test('stores only what is new', async () => {
    const listings = await scene.repository.listPoints();

    const [first, second] = listings.map(({ manifest }) => manifest?.disks[0]?.stats);
    assert.ok((first?.newBytes ?? 0) >= 6 * MIB && (first?.newBytes ?? 0) < 7 * MIB);
    assert.ok((second?.newBytes ?? Infinity) <= 40 * 64 * KIB);
    assert.deepEqual(
      listings.slice(1).map(({ manifest }) => manifest?.previousPointId),
      listings.slice(0, -1).map(({ pointId }) => pointId),
    );
  });

  test('keeps the configuration as the host gave it', async () => {
    const point = await scene.repository.openPoint(versions[0]?.pointId ?? '');

    assert.deepEqual(
      point.listFiles().map(({ name }) => name),
      ['vm.vmx'],
    );
    assert.equal((await point.readFile('vm.vmx')).toString(), 'displayName = "web"\n');
  });

  test('exports a disk that QEMU finds equal to the frozen one, raw and as VMDK', async () => {
    const { pointId, disks } = versions[3] ?? { pointId: '', disks: new Map<string, Buffer>() };
    const frozen = join(scene.folder, 'frozen.raw');
    writeFileSync(frozen, disks.get('scsi0:0') ?? '');
    for (const format of ['raw', 'vmdk'] as const) {
      const path = join(scene.folder, `exported.${format}`);
      const result = await runExport(
        { repository: scene.repository, clock: systemClock, logger: silentLogger },
        { runId: 'e', repository: { path: '' }, pointId, diskKey: 'scsi0:0', format, path },
        { progress: () => undefined, log: () => undefined, signal: new AbortController().signal },
      );
      assert.equal(result.state, 'success', JSON.stringify(result.error));
      const output = execFileSync('qemu-img', ['compare', '-f', 'raw', '-F', format, frozen, path], {
        encoding: 'utf8',
      });
      assert.match(output, /Images are identical/);
    }
  });
});

test('a change map that hides changes is found out by sampling, and the version is right', async () => {
  const scene = await openScene();
  const machine = scene.host.addMachine('db');
  machine.addDisk('scsi0:0', randomBytes(8 * MIB));
  await scene.back(machine);
  machine.diskAt('scsi0:0').write(MIB, randomBytes(4 * MIB));
  scene.host.faults.changeMap = (extents) => extents.filter((extent) => extent.offsetBytes < MIB);

  const result = await scene.back(machine, { verifySample: 0.09 });

  assert.equal(result.state, 'warning');
  assert.equal(result.disks[0]?.why.code, 'CHANGE_MAP_INVALID');
  await assertRestores(scene, result.pointId ?? '', copyDisks(machine));
  scene.host.faults.changeMap = null;
  const next = await scene.back(machine);
  assert.deepEqual([next.state, next.disks[0]?.kind], ['success', 'allocated']);
  assert.equal(next.stats.storedBytes < MIB, true);
  await assertRestores(scene, next.pointId ?? '', copyDisks(machine));
  await assertStoreIsClean(scene.repository);
  await scene.end();
});

test('an incomplete version stands beside the complete ones and its good disks restore', async () => {
  const scene = await openScene();
  const machine = scene.host.addMachine('web');
  machine.addDisk('scsi0:0', randomBytes(2 * MIB));
  machine.addDisk('scsi0:1', randomBytes(2 * MIB));
  const complete = await scene.back(machine);
  const disks = copyDisks(machine);
  scene.host.faults.unreadable.set('scsi0:1', new AppError('DISK_READ_REFUSED', 'Device or resource busy.'));
  machine.diskAt('scsi0:0').write(0, randomBytes(MIB));
  machine.diskAt('scsi0:1').write(0, randomBytes(MIB));

  const incomplete = await scene.back(machine);

  assert.equal(incomplete.state, 'incomplete');
  const refused = await scene.restore(incomplete.pointId ?? '');
  assert.equal(refused.error?.code, 'POINT_INCOMPLETE');
  const accepted = await scene.restore(incomplete.pointId ?? '', { acceptIncomplete: true });
  assert.equal(accepted.state, 'warning');
  assert.ok(scene.host.machines.at(-1)?.diskAt('scsi0:0').content.equals(machine.diskAt('scsi0:0').content));
  await assertRestores(scene, complete.pointId ?? '', disks);

  scene.host.faults.unreadable.clear();
  const again = await scene.back(machine);
  assert.equal(again.state, 'success');
  await assertRestores(scene, again.pointId ?? '', copyDisks(machine));
  await assertStoreIsClean(scene.repository);
  await scene.end();
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';

import { BACKUP_ARROWS, type BackupArrow } from '../../server/backup/index.ts';
import { AppError } from '../../server/errors/index.ts';
import { KIB, MIB, systemClock } from '../../server/runtime/index.ts';
import type { Storage, StorageWriter } from '../../server/storage/index.ts';
import type { FakeMachine } from '../fakes/fake-source-host.ts';

import {
  assertRestores,
  assertStoreIsClean,
  copyDisks,
  never,
  newHold,
  openScene,
  type Scene,
} from './engine-scene.ts';

/** A machine with a version in the store, and changes since. */
async function changedMachine(): Promise<{ scene: Scene; machine: FakeMachine; first: Version }> {
  const scene = await openScene();
  const machine = scene.host.addMachine('web');
  const system = Buffer.alloc(6 * MIB);
  randomBytes(3 * MIB).copy(system, MIB);
  machine.addDisk('scsi0:0', system);
  machine.addDisk('scsi0:1', randomBytes(MIB + 512));
  const disks = copyDisks(machine);
  const result = await scene.back(machine);
  assert.equal(result.state, 'success', JSON.stringify(result.error));
  change(machine);
  return { scene, machine, first: { pointId: result.pointId ?? '', disks } };
}

interface Version {
  pointId: string;
  disks: Map<string, Buffer>;
}

function change(machine: FakeMachine): void {
  for (let at = 0; at < 6; at += 1) machine.diskAt('scsi0:0').write(at * MIB + 777, randomBytes(150 * KIB));
  machine.diskAt('scsi0:1').write(100, randomBytes(1000));
}

/** Every arrow, and those of a disk also after its second passing. */
const CUTS: { arrow: BackupArrow; passing: number }[] = BACKUP_ARROWS.flatMap((arrow) =>
  ['transferred', 'verified', 'disk-finished'].includes(arrow)
    ? [
        { arrow, passing: 1 },
        { arrow, passing: 2 },
      ]
    : [{ arrow, passing: 1 }],
);

describe('a backup that is cut', () => {
  for (const { arrow, passing } of CUTS) {
    test(`dead after "${arrow}" (${String(passing)}): the repeated run completes, nothing is lost or left`, async () => {
      const { scene, machine, first } = await changedMachine();
      const hold = newHold();
      const died = new Promise<void>((resolve) => {
        let passed = 0;
        // The process is gone: nothing of the run is ever carried out again, also no cleaning up.
        const hooks = {
          checkpointEveryBytes: 128 * KIB,
          arrow: (name: BackupArrow) => {
            if (name !== arrow || (passed += 1) < passing) return;
            resolve();
            return never();
          },
        };
        void scene.back(machine, {}, { hold, hooks });
      });
      await died;
      await systemClock.sleep(20);
      const frozen = [...scene.host.snapshots.values()][0]?.disks;
      const atFreeze = new Map(frozen?.map(({ disk, content }) => [disk.key, content]) ?? copyDisks(machine));
      // The guest goes on meanwhile: a version must be of one moment, the old or the new one.
      change(machine);
      if (arrow !== 'thawed' && arrow !== 'opened' && arrow !== 'swept') assert.ok(frozen !== undefined);
      await scene.reopen();

      const result = await scene.back(machine, {}, { hold });

      assert.equal(result.state, 'success', JSON.stringify(result.error));
      assert.equal(result.holdReleased, true);
      assert.equal(scene.host.snapshots.size, 0);
      // A snapshot without a checkpoint is replaced: nothing had arrived, and the new one is fresher.
      const goneOn = scene.lines.some(({ code }) => code === 'RUN_RESUMED' || code === 'RUN_COMMITTED_BEFORE');
      if (['opened', 'swept', 'frozen', 'planned'].includes(arrow)) assert.ok(!goneOn);
      if (['committed', 'thawed'].includes(arrow)) assert.ok(goneOn);
      const expected = goneOn ? atFreeze : copyDisks(machine);
      const points = await scene.repository.listPoints();
      assert.deepEqual(
        points.map(({ pointId }) => pointId),
        [first.pointId, result.pointId],
      );
      await assertRestores(scene, result.pointId ?? '', expected);
      await assertRestores(scene, first.pointId, first.disks);
      await assertStoreIsClean(scene.repository);
      await scene.end();
    });

    test(`failing after "${arrow}" (${String(passing)}): thawed at once, and the next run completes`, async () => {
      const { scene, machine, first } = await changedMachine();
      let passed = 0;
      const hooks = {
        arrow: (name: BackupArrow) => {
          if (name === arrow && (passed += 1) === passing) throw new Error(`cut after ${name}`);
        },
      };

      const cut = await scene.back(machine, {}, { hooks });

      const committed = arrow === 'committed' || arrow === 'thawed';
      assert.equal(cut.state, arrow === 'thawed' ? 'success' : committed ? 'warning' : 'failed');
      assert.equal(cut.pointId !== null, committed);
      assert.equal(cut.holdReleased, true);
      assert.equal(scene.host.snapshots.size, 0);
      change(machine);
      const next = await scene.back(machine);
      assert.equal(next.state, 'success', JSON.stringify(next.error));
      await assertRestores(scene, next.pointId ?? '', copyDisks(machine));
      await assertRestores(scene, first.pointId, first.disks);
      await assertStoreIsClean(scene.repository);
      await scene.end();
    });
  }

  test('twice, with the snapshot lost in between: the data of two snapshots never meet', async () => {
    const { scene, machine, first } = await changedMachine();
    const hold = newHold();
    for (const attempt of [1, 2, 3]) {
      await scene.reopen();
      const delivered = new Promise<void>((resolve) => {
        scene.host.faults.beforeDelivery = (key, bytes) => {
          if (key !== 'scsi0:0' || bytes < 600 * KIB) return;
          resolve();
          return never();
        };
      });
      void scene.back(machine, {}, { hold, hooks: { checkpointEveryBytes: 64 * KIB } });
      await delivered;
      await systemClock.sleep(100);
      if (attempt < 3) {
        // Removed by a person; the guest goes on and changes just what had been read.
        scene.host.snapshots.clear();
        machine.diskAt('scsi0:0').write(0, randomBytes(MIB));
      }
    }
    scene.host.faults.beforeDelivery = null;
    const frozen = [...scene.host.snapshots.values()][0]?.disks ?? [];
    const expected = new Map(frozen.map(({ disk, content }) => [disk.key, content]));
    await scene.reopen();
    scene.host.takeReadBytes();

    const result = await scene.back(machine, { verifySample: 0 }, { hold });

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.ok(scene.lines.some((line) => line.code === 'RUN_STARTED_ANEW'));
    assert.equal(scene.lines.at(-1)?.level, 'info');
    assert.ok(scene.lines.some((line) => line.code === 'RUN_RESUMED'));
    await assertRestores(scene, result.pointId ?? '', expected);
    await assertRestores(scene, first.pointId, first.disks);
    await assertStoreIsClean(scene.repository);
    await scene.end();
  });

  test('by a connection that stays away: kept under its hold, and taken up without reading again', async () => {
    const { scene, machine } = await changedMachine();
    const hold = newHold();
    const gone = () => new AppError('HOST_CONNECTION_LOST', 'The connection broke.');
    let away = false;
    scene.host.faults.beforeDelivery = (key, bytes) => {
      if (key === 'scsi0:0' && bytes >= 500 * KIB) away = true;
      if (away) throw gone();
    };
    scene.host.faults.thaw = [gone()];
    scene.host.faults.sweepFails = true;
    scene.host.takeReadBytes();

    const cut = await scene.back(machine, { verifySample: 0 }, { hold });

    assert.deepEqual([cut.state, cut.error?.code, cut.holdReleased], ['failed', 'HOST_CONNECTION_LOST', false]);
    const firstBytes = scene.host.takeReadBytes();
    assert.ok(firstBytes >= 500 * KIB);
    const frozen = [...scene.host.snapshots.values()][0]?.disks ?? [];
    const expected = new Map(frozen.map(({ disk, content }) => [disk.key, content]));
    const changedBytes = 6 * 256 * KIB + 64 * KIB;
    scene.host.faults.beforeDelivery = null;
    scene.host.faults.sweepFails = false;
    change(machine);
    await scene.reopen();

    const result = await scene.back(machine, { verifySample: 0 }, { hold });

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    const secondBytes = scene.host.takeReadBytes();
    assert.ok(
      firstBytes + secondBytes <= changedBytes,
      `${String(firstBytes)} + ${String(secondBytes)} bytes were read`,
    );
    await assertRestores(scene, result.pointId ?? '', expected);
    await assertStoreIsClean(scene.repository);
    await scene.end();
  });
});

describe('a repository that takes nothing more', () => {
  for (const code of ['STORAGE_FULL', 'STORAGE_READ_ONLY', 'STORAGE_MISSING'] as const) {
    test(`${code}: named clearly, thawed, and the next run completes with space again`, async () => {
      const { scene, machine, first } = await changedMachine();
      for (const afterBytes of [0, 20 * KIB, 600 * KIB]) {
        await scene.reopen((storage) => failingStorage(storage, code, afterBytes));

        const result = await scene.back(machine, {}, { hooks: { checkpointEveryBytes: 256 * KIB } });

        assert.deepEqual([result.state, result.error?.code], ['failed', code]);
        assert.equal(scene.host.snapshots.size, 0);
        assert.equal(result.holdReleased, true);
      }
      await scene.reopen();

      const result = await scene.back(machine);

      assert.equal(result.state, 'success', JSON.stringify(result.error));
      await assertRestores(scene, result.pointId ?? '', copyDisks(machine));
      await assertRestores(scene, first.pointId, first.disks);
      await assertStoreIsClean(scene.repository);
      await scene.end();
    });
  }
});

/** A store whose writes fail once so many bytes were written; reading goes on. */
function failingStorage(
  inner: Storage,
  code: 'STORAGE_FULL' | 'STORAGE_READ_ONLY' | 'STORAGE_MISSING',
  afterBytes: number,
): Storage {
  let written = 0;
  const count = (data: Buffer | readonly Buffer[]): void => {
    written += Buffer.isBuffer(data) ? data.length : data.reduce((sum, part) => sum + part.length, 0);
    if (written > afterBytes) throw new AppError(code, 'The store takes nothing more.', { hint: 'Make room.' });
  };
  const wrap = (writer: StorageWriter): StorageWriter => ({
    append: async (data) => {
      count(data);
      await writer.append(data);
    },
    get lengthBytes() {
      return writer.lengthBytes;
    },
    publish: () => writer.publish(),
    discard: () => writer.discard(),
  });
  return new Proxy(inner, {
    get: (target, name) => {
      if (name === 'create') return async (file: string) => wrap(await target.create(file));
      if (name === 'publish') {
        return async (file: string, data: Buffer | readonly Buffer[]) => {
          count(data);
          await target.publish(file, data);
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

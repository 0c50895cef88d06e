/**
 * What a run that its window ended leaves: nothing on the host, and in the repository all that a checkpoint had made
 * durable, also after a clean-up. The next run, with a VM snapshot of its own, stores none of that again.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';

import { openRepository } from '../../server/repository/index.ts';
import { KIB, MIB } from '../../server/runtime/index.ts';
import { openLocalStorage } from '../../server/storage/index.ts';

import { assertRestores, assertStoreIsClean, copyDisks, openScene } from './engine-scene.ts';

const DISK_BYTES = 8 * MIB;
const CHECKPOINT_BYTES = 256 * KIB;

for (const isCleanedUp of [false, true]) {
  test(`the next run goes on with what arrived${isCleanedUp ? ', after a clean-up too' : ''}`, async () => {
    const scene = await openScene();
    const machine = scene.host.addMachine('large');
    machine.addDisk('scsi0:0', randomBytes(DISK_BYTES));
    const window = new AbortController();
    scene.host.faults.beforeDelivery = (_key, bytes) => {
      if (bytes >= DISK_BYTES / 2) window.abort();
    };
    const hooks = { signal: window.signal, checkpointEveryBytes: CHECKPOINT_BYTES };

    const cut = await scene.back(machine, {}, { hooks });

    assert.deepEqual([cut.state, cut.holdReleased, cut.pointId], ['cancelled', true, null]);
    assert.equal(scene.host.snapshots.size, 0, 'a VM snapshot must not wait for the next window');
    scene.host.faults.beforeDelivery = null;
    if (isCleanedUp) {
      const storage = await openLocalStorage({ folder: join(scene.folder, 'repository') });
      const repository = await openRepository({ storage, threads: 1 });
      assert.equal((await repository.collect({ patienceMs: 0 })).state, 'done');
      await repository.close();
    }
    // The guest went on meanwhile.
    machine.diskAt('scsi0:0').write(100, randomBytes(1000));
    const frozen = copyDisks(machine);

    const next = await scene.back(machine, {}, { repository: await scene.reopen() });

    assert.equal(next.state, 'success', JSON.stringify(next.error));
    const arrivedBytes = DISK_BYTES / 2 - (isCleanedUp ? 2 * CHECKPOINT_BYTES : 0);
    // The chunk that the guest wrote to differs.
    const onceMoreBytes = next.stats.storedBytes - (DISK_BYTES - arrivedBytes);
    assert.ok(onceMoreBytes < 2 * 64 * KIB, `${next.stats.storedBytes} bytes were stored`);
    await assertRestores(scene, next.pointId ?? '', frozen);
    await assertStoreIsClean(scene.repository);
    await scene.end();
  });
}

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { SourceHost } from '../../server/source/index.ts';
import { openHostEngine, type HostEngine } from './host-engine.ts';
import { MIB, startScene, type SourceScene } from './source-scene.ts';

let scene: SourceScene;
let host: SourceHost;
let engine: HostEngine;

before(async () => {
  scene = await startScene({
    edition: 'free',
    datastores: [{ name: 'ds', type: 'VMFS-5', rawFrozenRead: 'allow' }],
    vms: [
      { name: 'off', datastore: 'ds', disks: [{ sizeBytes: 24 * MIB, fill: { percent: 100, seed: 1 } }] },
      { name: 'on', datastore: 'ds', running: true, disks: [{ sizeBytes: 24 * MIB, fill: { percent: 100, seed: 2 } }] },
    ],
  });
  host = await scene.connect();
  engine = await openHostEngine(scene, host);
});
after(async () => {
  await engine.close();
  await scene.close();
});

/** Has something happen once, when so much of the disk is asked for. */
function atByte(offsetBytes: number, event: () => Promise<void>): (bytes: number) => Promise<void> | null {
  let askedBytes = 0;
  let isDone = false;
  return (bytes) => {
    askedBytes += bytes;
    if (isDone || askedBytes < offsetBytes) return null;
    isDone = true;
    return event();
  };
}

const EVERYWHERE = { count: 200, blockBytes: 4096 };

test('makes no version of a machine that was switched on while it was read', async () => {
  const id = await scene.lab.vmId('off');
  const budget = atByte(24 * MIB, async () => {
    await scene.lab.power(id, 'on');
    await scene.lab.write(id, { ...EVERYWHERE, seed: 3 });
  });
  const result = await engine.back('off', { hooks: { budget } });
  await scene.lab.power(id, 'off');
  assert.equal(result.error?.code, 'MACHINE_STATE_CHANGED', result.state);
  assert.equal(result.pointId, null);
  assert.equal((await engine.repository.listPoints()).length, 0);
  await scene.assertClean();
});

test('makes no version of a machine whose VM snapshot somebody removed while it was read', async () => {
  const id = await scene.lab.vmId('on');
  const budget = atByte(8 * MIB, async () => {
    await scene.lab.write(id, { ...EVERYWHERE, seed: 4 });
    await scene.lab.call('DELETE', `/vms/${String(id)}/snapshots`);
    await scene.lab.write(id, { ...EVERYWHERE, seed: 5 });
  });
  const result = await engine.back('on', { hooks: { budget } });
  assert.equal(result.error?.code, 'MACHINE_STATE_CHANGED', result.state);
  assert.equal(result.pointId, null);
  assert.equal((await engine.repository.listPoints()).length, 0);
  assert.equal(result.holdReleased, true);
  await scene.assertClean();
});

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { globSync, readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';

import { KIB, MIB } from '../../server/runtime/index.ts';

import { assertRestores, copyDisks, openScene, type Scene } from './engine-scene.ts';

/** Flips a byte in every chunk of the largest pack. */
function damageStore(scene: Scene): void {
  const packs = globSync('**/*.pack', { cwd: `${scene.folder}/repository` });
  const [largest] = packs
    .map((name) => `${scene.folder}/repository/${name}`)
    .toSorted((a, b) => readFileSync(b).length - readFileSync(a).length);
  assert.ok(largest !== undefined, 'the store has a pack');
  const bytes = readFileSync(largest);
  for (let at = 16 * KIB; at < 3 * MIB; at += 64 * KIB) bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  writeFileSync(largest, bytes);
}

test('a version damaged in the store costs a full read, and the next version is whole', async () => {
  const scene = await openScene();
  const machine = scene.host.addMachine('web');
  machine.addDisk('scsi0:0', randomBytes(4 * MIB));
  const first = await scene.back(machine);
  assert.equal(first.state, 'success');
  damageStore(scene);
  machine.diskAt('scsi0:0').write(MIB + 100, randomBytes(512));
  // Less than a chunk is delivered, so the rest of it has to come from the damaged version.
  scene.host.faults.changeMap = (extents) => extents.map((extent) => ({ ...extent, lengthBytes: 32 * KIB }));
  await scene.reopen();

  const next = await scene.back(machine, { verifySample: 0 });

  assert.equal(next.state, 'warning', JSON.stringify(next.error));
  assert.equal(next.disks[0]?.kind, 'everything');
  assert.equal(next.disks[0]?.why.code, 'BASE_UNREADABLE');
  await assertRestores(scene, next.pointId ?? '', copyDisks(machine));
  const damaged = await scene.repository.check({ depth: 'hashes' });
  assert.ok(!damaged.damages.some(({ affects }) => affects.some(({ pointId }) => pointId === next.pointId)));
  await scene.end();
});

test('a sample that meets damage in the store is no sign of a wrong map', async () => {
  const scene = await openScene();
  const machine = scene.host.addMachine('web');
  machine.addDisk('scsi0:0', randomBytes(4 * MIB));
  await scene.back(machine);
  damageStore(scene);
  machine.diskAt('scsi0:0').write(0, randomBytes(MIB));
  await scene.reopen();

  const next = await scene.back(machine, { verifySample: 1 });

  assert.deepEqual([next.state, next.disks[0]?.why.code], ['warning', 'BASE_UNREADABLE'], JSON.stringify(next.error));
  await assertRestores(scene, next.pointId ?? '', copyDisks(machine));
  scene.lines.length = 0;
  const third = await scene.back(machine, { verifySample: 1 });
  assert.deepEqual([third.state, third.disks[0]?.kind], ['success', 'changed'], JSON.stringify(scene.lines));
  await scene.end();
});

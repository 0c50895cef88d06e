import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';

import type { BackupResult } from '../../server/contract/run.ts';
import { KIB, MIB } from '../../server/runtime/index.ts';
import type { FakeMachine } from '../fakes/fake-source-host.ts';
import { serveSourceHost } from '../fakes/remote-source-host.ts';

import { assertRestores, assertStoreIsClean, backupTask, newHold, openScene, type Scene } from './engine-scene.ts';

function startChild(scene: Scene, machine: FakeMachine, hold: string): ChildProcess {
  const task = backupTask(machine, hold, { verifySample: 0 });
  const child = fork(
    join(import.meta.dirname, 'engine-child.ts'),
    [JSON.stringify({ folder: join(scene.folder, 'repository'), task })],
    { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  );
  serveSourceHost(child, scene.host);
  return child;
}

async function resultOf(child: ChildProcess): Promise<BackupResult> {
  const result = new Promise<BackupResult>((resolve) => {
    child.on('message', (message: { result?: BackupResult }) => {
      if (message.result !== undefined) resolve(message.result);
    });
  });
  await once(child, 'exit');
  return result;
}

/** Bytes that a kill may cost: what came after the last checkpoint, and what was on its way. */
const LOST_BYTES_MAX = 512 * KIB + 2 * 128 * KIB + 2 * 64 * KIB;

test('kill -9 in mid-transfer, several times: the run goes on and reads nothing twice but the last moments', async () => {
  const scene = await openScene();
  const machine = scene.host.addMachine('web');
  machine.addDisk('scsi0:0', randomBytes(12 * MIB));
  machine.addDisk('scsi0:1', randomBytes(2 * MIB + 512));
  const hold = newHold();
  const killAtBytes = [3 * MIB, 7 * MIB, 11 * MIB];
  for (const limit of killAtBytes) {
    const child = startChild(scene, machine, hold);
    const exited = once(child, 'exit');
    scene.host.faults.beforeDelivery = () => {
      const readBytes = scene.host.asked.reads.reduce((sum, read) => sum + read.lengthBytes, 0);
      if (readBytes > limit) child.kill('SIGKILL');
    };
    const [, signal] = (await exited) as [number | null, string | null];
    assert.equal(signal, 'SIGKILL');
    assert.equal(scene.host.snapshots.size, 1);
    // The guest goes on; the version is of the moment of the freeze all the same.
    machine.diskAt('scsi0:0').write(MIB, randomBytes(MIB));
  }
  scene.host.faults.beforeDelivery = null;
  const frozen = [...scene.host.snapshots.values()][0]?.disks ?? [];
  const expected = new Map(frozen.map(({ disk, content }) => [disk.key, content]));

  const result = await resultOf(startChild(scene, machine, hold));

  assert.equal(result.state, 'success', JSON.stringify(result.error));
  assert.equal(scene.host.snapshots.size, 0);
  assert.equal(scene.host.asked.freezes, 1);
  const readBytes = scene.host.takeReadBytes();
  const allBytes = 14 * MIB + 512;
  assert.ok(readBytes >= allBytes);
  assert.ok(readBytes <= allBytes + killAtBytes.length * LOST_BYTES_MAX, `${String(readBytes - allBytes)} bytes again`);
  await scene.reopen();
  assert.equal((await scene.repository.listPoints()).length, 1);
  await assertRestores(scene, result.pointId ?? '', expected);
  await assertStoreIsClean(scene.repository);
  await scene.end();
});

test('kill -9 at random moments: no committed version is lost and no snapshot stays', async () => {
  const scene = await openScene();
  const machine = scene.host.addMachine('db');
  machine.addDisk('scsi0:0', randomBytes(4 * MIB));
  const versions: { pointId: string; disks: Map<string, Buffer> }[] = [];
  for (let round = 0; round < 6; round += 1) {
    const hold = newHold();
    let disks = new Map<string, Buffer>();
    const delayMs = 250 + (randomBytes(1)[0] ?? 0) * 2;
    const child = startChild(scene, machine, hold);
    scene.host.faults.delayMs = 3;
    const timer = setTimeout(() => child.kill('SIGKILL'), delayMs);
    const [status, signal] = (await once(child, 'exit')) as [number | null, string | null];
    clearTimeout(timer);
    assert.ok(signal === 'SIGKILL' || status === 0, `the child ended by itself with ${String(status)}`);
    scene.host.faults.delayMs = 0;

    // As the worker's retry: in this process, with everything opened anew.
    await scene.reopen();
    const resumes = [...scene.host.snapshots.values()][0]?.disks;
    disks = new Map(
      resumes?.map(({ disk, content }) => [disk.key, content]) ?? [['scsi0:0', machine.diskAt('scsi0:0').content]],
    );
    disks = new Map([...disks].map(([key, content]) => [key, Buffer.from(content)]));
    const result = await scene.back(machine, {}, { hold });

    assert.equal(
      result.state,
      'success',
      `round ${String(round)}, ${String(delayMs)} ms: ${JSON.stringify(result.error)}`,
    );
    assert.equal(scene.host.snapshots.size, 0);
    versions.push({ pointId: result.pointId ?? '', disks });
    for (let at = 0; at < 4; at += 1)
      machine.diskAt('scsi0:0').write(at * MIB + round * 64 * KIB, randomBytes(90 * KIB));
  }
  assert.equal((await scene.repository.listPoints()).length, versions.length);
  for (const { pointId, disks } of versions) await assertRestores(scene, pointId, disks);
  await assertStoreIsClean(scene.repository);
  await scene.end();
});

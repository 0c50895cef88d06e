import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { RestoreTask } from '../../server/restore/index.ts';
import type { MachineSummary, SourceHost } from '../../server/source/index.ts';
import { openHostEngine, type FrozenDisks, type HostEngine } from './host-engine.ts';
import { findMachine, MIB, startScene, type SourceScene } from './source-scene.ts';

const NAME = `web 'x' ü`;
let scene: SourceScene;
let host: SourceHost;
let engine: HostEngine;
let version: { pointId: string; frozen: FrozenDisks };

before(async () => {
  scene = await startScene({
    edition: 'free',
    datastores: [{ name: 'ds [1]', type: 'VMFS-5', rawFrozenRead: 'allow' }],
    vms: [{ name: NAME, datastore: 'ds [1]', disks: [{ sizeBytes: 8 * MIB, fill: { percent: 60, seed: 1 } }] }],
  });
  host = await scene.connect();
  engine = await openHostEngine(scene, host);
  await scene.lab.power(await scene.lab.vmId(NAME), 'on');
  const result = await engine.back(NAME);
  assert.equal(result.state, 'success', JSON.stringify(result.error));
  version = { pointId: result.pointId ?? '', frozen: result.frozen };
  await scene.lab.power(await scene.lab.vmId(NAME), 'off');
});
after(async () => {
  await engine.close();
  await scene.close();
});

/** Runs the restore in a child and kills it so long after a step. */
async function restoreAndKill(task: RestoreTask, step: string, delayMs: number): Promise<void> {
  const argument = JSON.stringify({ address: scene.address, folder: engine.repositoryPath, task });
  const child = spawn(process.execPath, [join(import.meta.dirname, 'restore-child.ts'), argument], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exit = once(child, 'exit');
  for await (const line of createInterface({ input: child.stdout })) {
    if (line !== step) continue;
    await delay(delayMs);
    child.kill('SIGKILL');
  }
  const [, signal] = (await exit) as [number | null, string | null];
  assert.equal(signal, 'SIGKILL');
}

async function machinesNamed(name: string): Promise<MachineSummary[]> {
  return (await host.listMachines()).filter(({ identity }) => identity.name === name);
}

test('a restore whose worker dies before its report is known by the retry, and not done twice', async () => {
  const task = engine.restoreTask(version.pointId, { mode: { kind: 'new', name: 'copy' }, powerOn: true });
  await restoreAndKill(task, 'finished', 0);
  const [stands] = await machinesNamed('copy');
  assert.ok(stands !== undefined);

  const result = await engine.restore(task);

  assert.equal(result.state, 'success', JSON.stringify(result.error));
  assert.equal((result.machine as MachineSummary).hostId, stands.hostId);
  assert.equal((result.machine as MachineSummary).powerState, 'on');
  assert.equal(result.writtenBytes, 0);
  assert.equal((await machinesNamed('copy')).length, 1);
  await scene.lab.power(Number(stands.hostId), 'off');
  await engine.assertBytes(stands, version.frozen);
  await scene.lab.call('DELETE', `/vms/${stands.hostId}?files=1`);
  await scene.assertClean();
  // Another restore of that version is another one.
  const other = await engine.restore(engine.restoreTask(version.pointId, { mode: { kind: 'new', name: NAME } }));
  assert.equal(other.error?.code, 'RESTORE_NAME_TAKEN');
});

for (const kind of ['new', 'replace'] as const) {
  for (const delayMs of [0, 120, 350, 800]) {
    test(`killed ${String(delayMs)} ms into the swap (${kind}), the retry ends with one whole machine`, async () => {
      const { identity } = await findMachine(host, NAME);
      const mode = kind === 'new' ? { kind, name: 'copy' } : { kind, identity };
      const task = engine.restoreTask(version.pointId, { mode, identity: kind === 'new' ? 'new' : 'keep' });
      await restoreAndKill(task, 'verified', delayMs);

      const result = await engine.restore(task);

      assert.equal(result.state, 'success', JSON.stringify(result.error));
      const restored = result.machine as MachineSummary;
      assert.equal((await machinesNamed(kind === 'new' ? 'copy' : NAME)).length, 1);
      await engine.assertBytes(restored, version.frozen);
      if (kind === 'new') await scene.lab.call('DELETE', `/vms/${restored.hostId}?files=1`);
      await scene.assertClean();
    });
  }
}

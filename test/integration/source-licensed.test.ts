import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { randomHex } from '../../server/runtime/index.ts';
import type { SourceHost } from '../../server/source/index.ts';
import type { Switches } from '../lab/lab-host.ts';
import { assertTruth, findMachine, MIB, readAll, startScene, type SourceScene } from './source-scene.ts';

let scene: SourceScene;
let host: SourceHost;
let healthy: Switches;

before(async () => {
  scene = await startScene({
    edition: 'licensed',
    version: '7.0.3',
    datastores: [{ name: 'ds', type: 'VMFS-5', rawFrozenRead: 'allow' }],
    vms: [
      {
        name: 'vm',
        datastore: 'ds',
        running: true,
        changeTracking: true,
        disks: [{ sizeBytes: 12 * MIB, fill: { percent: 50, seed: 1 } }],
      },
    ],
  });
  healthy = (await scene.lab.state()).switches;
  host = await scene.connect();
});
afterEach(async () => {
  await scene.lab.set(healthy);
  await host.sweep(scene.holds.splice(0));
});
after(async () => await scene.close());

test('snapshots through SOAP where the licence allows it, tasks that wait in line included', async () => {
  await scene.lab.set({ taskQueuedMs: 1_000 });
  assert.deepEqual([host.facts.edition, host.facts.soapWrites], ['licensed', 'unknown']);
  const machine = await findMachine(host, 'vm');
  const request = scene.request(machine, { quiesce: 'require' });
  const frozen = await host.freeze(request);
  assert.equal(host.facts.soapWrites, 'allowed');
  assert.equal(frozen.consistency.level, 'filesystem');
  await assertTruth(await readAll(frozen), await scene.lab.frozenCopy(Number(machine.hostId), request.hold));
  await frozen.thaw();
  await scene.assertClean();
  assert.equal((await scene.connect({ facts: host.facts })).facts.soapWrites, 'allowed');
});

test('goes on when the host forgets the session in the middle', async () => {
  const machine = await findMachine(host, 'vm');
  const request = scene.request(machine);
  const frozen = await host.freeze(request);
  await scene.lab.set({ soapForgetSessions: 1 });
  await assertTruth(await readAll(frozen), await scene.lab.frozenCopy(Number(machine.hostId), request.hold));
  await scene.lab.set({ soapForgetSessions: 2 });
  await frozen.thaw();
  await scene.assertClean();
});

for (const [fault, code] of [
  ['fail-application', 'SNAPSHOT_QUIESCE_REFUSED'],
  ['fail-filesystem', 'SNAPSHOT_QUIESCE_REFUSED'],
] as const) {
  test(`names a refusal of the guest by its fault: ${fault}`, async () => {
    await scene.lab.set({ quiesce: fault });
    const machine = await findMachine(host, 'vm');
    await assert.rejects(host.freeze(scene.request(machine, { quiesce: 'require' })), { code });
    const frozen = await host.freeze(scene.request(machine, { quiesce: 'try' }));
    assert.equal(frozen.consistency.level, 'crash');
    await frozen.thaw();
    await scene.assertClean();
  });
}

test('freezes what was reverted, resized or replaced meanwhile by reading all of it', async () => {
  const machine = await findMachine(host, 'vm');
  const id = Number(machine.hostId);
  const user = await scene.lab.createSnapshot(id, 'by the user');
  const first = await host.freeze(scene.request(machine));
  const before = await readAll(first);
  await first.thaw();
  await scene.lab.write(id, { count: 20, blockBytes: 4096, seed: 9 });
  await scene.lab.call('POST', `/vms/${String(id)}/snapshots/${String(user)}/revert`);
  const request = scene.request(machine);
  const second = await host.freeze(request);
  const after = await readAll(second, before);
  assert.notEqual(after['scsi0:0']?.kind, 'changed');
  await second.thaw();
  await scene.lab.removeSnapshot(id, user);
});

test('reads all of a machine that may have gone back to a snapshot, though names and numbers are as before', async () => {
  await scene.lab.set({ revertTracking: 'as-in-snapshot' });
  const machine = await findMachine(host, 'vm');
  const id = Number(machine.hostId);
  if (machine.powerState !== 'on') await scene.lab.power(id, 'on');
  const user = await scene.lab.createSnapshot(id, 'by the user');
  await scene.lab.write(id, { count: 20, blockBytes: 65536, seed: 10 });
  const first = await host.freeze(scene.request(machine));
  const before = await readAll(first);
  const tip = first.disks[0]?.disk.path;
  await first.thaw();
  // Twice: the second time the layer gets the name that the first one had.
  for (let times = 0; times < 2; times += 1) {
    await scene.lab.call('POST', `/vms/${String(id)}/snapshots/${String(user)}/revert`);
    await scene.lab.power(id, 'on');
  }
  const request = scene.request(machine);
  const second = await host.freeze(request);
  assert.equal(second.disks[0]?.disk.path, tip, 'the lab gives other names than this test is for');
  const after = await readAll(second, before);
  await assertTruth(after, await scene.lab.frozenCopy(id, request.hold));
  await second.thaw();
  assert.equal(after['scsi0:0']?.why, 'CHANGES_MAYBE_REVERTED');

  // Nothing happened to it since: what changed is enough again.
  const third = await host.freeze(scene.request(machine));
  assert.equal((await readAll(third, after))['scsi0:0']?.kind, 'changed');
  await third.thaw();
  await scene.lab.removeSnapshot(id, user);
  await scene.lab.set({ revertTracking: 'new-epoch' });
});

test('takes back a replacement that was killed between its renames', async () => {
  const machine = await findMachine(host, 'vm');
  const hostId = Number(machine.hostId);
  if (machine.powerState === 'on') await scene.lab.power(hostId, 'off');
  const truth = await scene.lab.captureTruth(hostId, 'original');
  const frozen = await host.freeze(scene.request(machine));
  const disks = await readAll(frozen);
  await frozen.thaw();
  const state = await scene.lab.state();
  const datastore = state.datastores.find((candidate) => candidate.name === 'ds');
  assert.ok(datastore !== undefined);
  const root = `/vmfs/volumes/${datastore.uuid}`;

  for (const step of ['unregistered', 'aside', 'moved', 'registered'] as const) {
    const hold = `dozo-${randomHex(8)}`;
    const current = await findMachine(host, 'vm');
    const target = await host.createTarget({
      hold,
      configuration: frozen.configuration,
      mode: { kind: 'replace', machine: current.identity },
      datastore: null,
      provisioning: 'thin',
      networks: {},
      identity: 'keep',
      powerOn: false,
      note: () => undefined,
      signal: new AbortController().signal,
    });
    await target.disks[0]?.flush();
    // What a killed process leaves at that step: its journal, and the renames up to there.
    const { mkdir, rename } = await import('node:fs/promises');
    const [temporary, aside, swap, folder] = [`.${hold}`, `.${hold}-old`, `.${hold}-swap`, 'vm'].map((name) =>
      join(datastore.localPath, name),
    ) as [string, string, string, string];
    const journal = {
      version: 1,
      name: 'vm',
      moves: [{ from: `${root}/.${hold}`, to: `${root}/vm` }],
      original: {
        name: 'vm',
        vmx: `${root}/vm/vm.vmx`,
        folder: `${root}/vm`,
        aside: `${root}/.${hold}-old`,
        files: [],
      },
    };
    await mkdir(swap);
    await writeFile(join(swap, 'journal'), JSON.stringify(journal));
    await writeFile(join(temporary, 'vm.vmx'), 'config.version = "8"\nvirtualHW.version = "17"\ndisplayName = "vm"\n');
    await scene.lab.call('DELETE', `/vms/${current.hostId}`);
    if (step !== 'unregistered') await rename(folder, aside);
    if (step === 'moved' || step === 'registered') await rename(temporary, folder);
    if (step === 'registered') await scene.lab.call('POST', '/register', { path: `${root}/vm/vm.vmx` });

    const report = await host.sweep([hold]);

    assert.deepEqual(report.failed, [], step);
    const back = await findMachine(host, 'vm');
    assert.equal(back.identity.instanceUuid, machine.identity.instanceUuid, step);
    const label = `after ${step}`;
    await assertTruth(disks, await scene.lab.captureTruth(Number(back.hostId), label));
    await scene.assertClean();
  }
  await assertTruth(disks, truth);
});

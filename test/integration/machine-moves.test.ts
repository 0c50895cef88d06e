import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { SourceHost } from '../../server/source/index.ts';
import { loginToLab, type LabLogin } from '../lab/ssh-login.ts';
import { openHostEngine, type FrozenDisks, type HostEngine } from './host-engine.ts';
import { findMachine, MIB, startScene, type SourceScene } from './source-scene.ts';

const NAME = 'db';
let scene: SourceScene;
let host: SourceHost;
let engine: HostEngine;
let ssh: LabLogin;
const versions: { pointId: string; frozen: FrozenDisks }[] = [];

before(async () => {
  scene = await startScene({
    edition: 'free',
    datastores: [
      { name: 'ds', type: 'VMFS-5', rawFrozenRead: 'allow' },
      { name: 'other', type: 'VMFS-5', rawFrozenRead: 'allow' },
    ],
    vms: [
      {
        name: NAME,
        datastore: 'ds',
        running: true,
        changeTracking: true,
        disks: [{ sizeBytes: 6 * MIB, fill: { percent: 60, seed: 1 } }],
      },
    ],
  });
  host = await scene.connect();
  engine = await openHostEngine(scene, host);
  ssh = await loginToLab(scene.lab);
});
after(async () => {
  ssh.close();
  await engine.close();
  await scene.close();
});

async function idOf(name: string): Promise<number> {
  return Number((await findMachine(host, name)).hostId);
}

/** The guest writes, then the machine is backed up. @returns how its disk was read */
async function back(name: string, seed: number): Promise<string | undefined> {
  await scene.lab.write(await idOf(name), { node: 'scsi0:0', count: 20, blockBytes: 8192, seed });
  const result = await engine.back(name);
  assert.ok(['success', 'warning'].includes(result.state), JSON.stringify(result.error));
  versions.push({ pointId: result.pointId ?? '', frozen: result.frozen });
  return result.disks[0]?.kind;
}

test('a machine that is registered anew and then moved to another datastore goes on in its chain', async () => {
  await back(NAME, 2);
  assert.equal(await back(NAME, 3), 'changed');
  const before = await findMachine(host, NAME);
  await scene.lab.power(Number(before.hostId), 'off');
  await ssh.read(`vim-cmd vmsvc/unregister ${before.hostId}`);
  await ssh.read(`vim-cmd solo/registervm /vmfs/volumes/ds/${NAME}/${NAME}.vmx`);
  const anew = await findMachine(host, NAME);
  assert.notEqual(anew.hostId, before.hostId);
  await scene.lab.power(Number(anew.hostId), 'on');
  await back(NAME, 4);

  await scene.lab.power(Number(anew.hostId), 'off');
  await ssh.read(
    `vim-cmd vmsvc/unregister ${anew.hostId} && mv /vmfs/volumes/ds/${NAME} /vmfs/volumes/other/ && cd /vmfs/volumes/other/${NAME} && echo 'uuid.action = "keep"' >> ${NAME}.vmx`,
  );
  await ssh.read(`vim-cmd solo/registervm /vmfs/volumes/other/${NAME}/${NAME}.vmx`);
  const moved = await findMachine(host, NAME);
  assert.equal(moved.identity.instanceUuid, before.identity.instanceUuid);
  await scene.lab.power(Number(moved.hostId), 'on');
  assert.notEqual(await back(NAME, 5), 'changed', 'the change map of the other place is not believed');
});

test('a copy of its folder that kept every UUID is backed up as itself, and so is the original', async () => {
  const original = await findMachine(host, NAME);
  await scene.lab.power(Number(original.hostId), 'off');
  await ssh.read(
    `cp -rp /vmfs/volumes/other/${NAME} /vmfs/volumes/ds/twin && cd /vmfs/volumes/ds/twin && sed -i 's/displayName = .*/displayName = "twin"/' ${NAME}.vmx && echo 'uuid.action = "keep"' >> ${NAME}.vmx`,
  );
  await ssh.read(`vim-cmd solo/registervm /vmfs/volumes/ds/twin/${NAME}.vmx`);
  for (const name of [NAME, 'twin']) await scene.lab.power(await idOf(name), 'on');
  const twin = await findMachine(host, 'twin');
  assert.deepEqual(
    [twin.identity.instanceUuid, twin.identity.diskUuids],
    [original.identity.instanceUuid, original.identity.diskUuids],
  );
  for (const seed of [6, 8]) {
    await back(NAME, seed);
    await back('twin', seed + 1);
  }
});

test('each version since the move restores as it was frozen', async () => {
  for (const { pointId, frozen } of versions.slice(-5)) await engine.assertRestores(pointId, frozen);
  await engine.assertStoreIsClean();
  await scene.assertClean();
});

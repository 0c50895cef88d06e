import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { SourceHost } from '../../server/source/index.ts';
import { loginToLab, type LabLogin } from '../lab/ssh-login.ts';
import { openHostEngine, type FrozenDisks, type HostEngine } from './host-engine.ts';
import { MIB, startScene, type SourceScene } from './source-scene.ts';

const NAME = 'db';
let scene: SourceScene;
let host: SourceHost;
let engine: HostEngine;
let ssh: LabLogin;
const versions: { pointId: string; frozen: FrozenDisks }[] = [];

before(async () => {
  scene = await startScene({
    edition: 'free',
    datastores: [{ name: 'ds', type: 'VMFS-5', rawFrozenRead: 'allow' }],
    vms: [
      {
        name: NAME,
        datastore: 'ds',
        running: true,
        changeTracking: true,
        disks: [
          { sizeBytes: 12 * MIB, fill: { percent: 60, seed: 1 } },
          { sizeBytes: 3 * MIB + 1024, fill: { percent: 100, seed: 2 } },
        ],
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

/** As an administrator does it: the machine is off, its disks and its .vmx change, it starts again. */
async function change(command: string, vmx: Record<string, string | null>): Promise<void> {
  const id = await scene.lab.vmId(NAME);
  await scene.lab.power(id, 'off');
  if (command !== '') await ssh.read(`cd /vmfs/volumes/ds/${NAME} && ${command}`);
  await scene.lab.call('POST', `/vms/${String(id)}/reconfigure`, { vmx });
  await scene.lab.power(id, 'on');
}

async function back(): Promise<Awaited<ReturnType<HostEngine['back']>>> {
  const result = await engine.back(NAME);
  assert.equal(
    result.state,
    'success',
    JSON.stringify(result.error ?? engine.lines.filter(({ level }) => level !== 'info')),
  );
  const [previous] = versions.slice(-1);
  const point = await engine.repository.openPoint(result.pointId ?? '');
  assert.equal(point.manifest.previousPointId, previous?.pointId ?? null, 'one chain of versions');
  versions.push({ pointId: result.pointId ?? '', frozen: result.frozen });
  return result;
}

function assertSaid(code: string, disk: string): void {
  const line = engine.lines.find((candidate) => candidate.code === code && candidate.details?.['disk'] === disk);
  assert.ok(line !== undefined, JSON.stringify(engine.lines));
}

test('a disk that is added, one that grows and one that is removed go into one chain of versions', async () => {
  await back();
  const second = await back();
  assert.deepEqual(
    second.disks.map(({ key, kind }) => [key, kind]),
    [
      ['scsi0:0', 'changed'],
      ['scsi0:1', 'changed'],
    ],
  );

  await change('vmkfstools -c 5m -d thin added.vmdk >/dev/null', {
    'scsi0:2.present': 'TRUE',
    'scsi0:2.deviceType': 'scsi-hardDisk',
    'scsi0:2.fileName': 'added.vmdk',
    'scsi0:2.ctkEnabled': 'TRUE',
  });
  const id = await scene.lab.vmId(NAME);
  await scene.lab.write(id, { node: 'scsi0:2', count: 40, blockBytes: 8192, seed: 5 });
  const added = await back();
  assert.equal(added.disks.find(({ key }) => key === 'scsi0:2')?.kind, 'allocated');
  assertSaid('DISK_ADDED', 'scsi0:2');

  await change(`vmkfstools -X 20m ${NAME}.vmdk >/dev/null`, {});
  await scene.lab.writeAt(id, 'scsi0:0', [
    { offsetBytes: 12 * MIB - 512, data: Buffer.alloc(1024, 7) },
    { offsetBytes: 20 * MIB - 512, data: Buffer.alloc(512, 8) },
  ]);
  const grown = await back();
  assert.equal(grown.disks.find(({ key }) => key === 'scsi0:0')?.sizeBytes, 20 * MIB);
  assertSaid('DISK_GROWN', 'scsi0:0');

  await change('', { 'scsi0:1.present': 'FALSE' });
  await scene.lab.write(id, { node: 'scsi0:0', count: 20, blockBytes: 8192, seed: 6 });
  const removed = await back();
  assert.deepEqual(
    removed.disks.map(({ key }) => key),
    ['scsi0:0', 'scsi0:2'],
  );
  assertSaid('DISK_REMOVED', 'scsi0:1');
  await back();
});

test('every one of these versions restores as it was frozen', async () => {
  assert.equal(versions.length, 6);
  for (const { pointId, frozen } of versions) await engine.assertRestores(pointId, frozen);
  await engine.assertStoreIsClean();
  await scene.assertClean();
});

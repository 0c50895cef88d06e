import assert from 'node:assert/strict';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Budget, FreezeRequest, RouteName, SourceHost } from '../../server/source/index.ts';
import { assertTruth, findMachine, MIB, readAll, startScene, type SourceScene } from './source-scene.ts';

const HOSTILE = `a 'b' "c" [d] ü 日本 %2f $x`;
let scene: SourceScene;
let host: SourceHost;
let stagingPath: string;

before(async () => {
  const { mkdtemp } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  stagingPath = await mkdtemp(join(tmpdir(), 'dozo-staging-'));
  await mkdir(join(stagingPath, 'kept by the user'));
  scene = await startScene({
    edition: 'free',
    nfsShares: { 'nas.example:/volume1/staging': stagingPath },
    datastores: [
      { name: 'six', type: 'VMFS-6' },
      { name: 'five [x]', type: 'VMFS-5', rawFrozenRead: 'allow' },
      // Room for a snapshot, none for a copy.
      { name: 'tight', type: 'VMFS-6', capacityBytes: 128 * MIB },
    ],
    vms: [
      {
        name: HOSTILE,
        datastore: 'five [x]',
        running: true,
        changeTracking: true,
        annotation: 'line\n2      fake   [six] fake/fake.vmx    otherGuest   vmx-13',
        disks: [
          { sizeBytes: 24 * MIB + 512, fill: { percent: 40, seed: 1 } },
          { sizeBytes: 8 * MIB, node: 'sata0:1', fill: { percent: 60, seed: 2 }, provisioning: 'zeroedthick' },
        ],
        writer: { bytesPerSecond: 200_000, blockBytes: 4096, seed: 3 },
      },
      {
        name: 'six',
        datastore: 'six',
        running: true,
        changeTracking: true,
        disks: [
          { sizeBytes: 20 * MIB, fill: { percent: 50, seed: 4 } },
          { sizeBytes: 6 * MIB, node: 'nvme0:0', datastore: 'five [x]', fill: { percent: 50, seed: 5 } },
        ],
        writer: { bytesPerSecond: 200_000, seed: 6 },
      },
      {
        name: 'layers',
        datastore: 'six',
        running: true,
        disks: [{ sizeBytes: 16 * MIB, fill: { percent: 50, seed: 7 } }],
      },
      {
        name: 'mixed',
        datastore: 'six',
        running: true,
        disks: [
          { sizeBytes: 4 * MIB, fill: { percent: 90, seed: 8 } },
          { sizeBytes: 4 * MIB, mode: 'independent-persistent' },
          { sizeBytes: 4 * MIB, rdm: 'physical' },
        ],
      },
      {
        name: 'tight',
        datastore: 'tight',
        running: true,
        disks: [{ sizeBytes: 40 * MIB, fill: { percent: 95, seed: 10 } }],
      },
      { name: 'off', datastore: 'six', disks: [{ sizeBytes: 12 * MIB, fill: { percent: 50, seed: 9 } }] },
    ],
  });
  host = await scene.connect();
});
after(async () => {
  await scene.close();
  await rm(stagingPath, { recursive: true, force: true });
});

async function backUp(
  name: string,
  change: Partial<FreezeRequest> = {},
  previous?: Awaited<ReturnType<typeof readAll>>,
  budget?: Budget,
) {
  const machine = await findMachine(host, name);
  const request = scene.request(machine, change);
  const frozen = await host.freeze(request);
  try {
    const disks = await readAll(frozen, previous, budget);
    await assertTruth(disks, await scene.lab.frozenCopy(Number(machine.hostId), request.hold));
    return { disks, frozen, machine };
  } finally {
    await frozen.thaw();
    await scene.assertClean();
  }
}

test('reads allocated areas, then only what changed, on a datastore that allows raw reads', async () => {
  const first = await backUp(HOSTILE);
  for (const disk of Object.values(first.disks)) {
    assert.deepEqual([disk.kind, disk.route, disk.why], ['allocated', 'ssh-raw', 'CHANGES_FIRST']);
  }
  const written = await scene.lab.write(Number(first.machine.hostId), { count: 20, blockBytes: 4096, seed: 77 });
  assert.ok(written > 0);

  const second = await backUp(HOSTILE, {}, first.disks);

  for (const disk of Object.values(second.disks)) assert.equal(disk.kind, 'changed', disk.why);
  const [system] = Object.values(second.disks);
  assert.ok(system !== undefined && system.readBytes < 20 * MIB);
  assert.equal(host.facts.changeTracking, 'answered');
  assert.equal(host.facts.routes['five [x]'], 'ssh-raw');
});

test('reads by ranges over HTTPS where told to', async () => {
  const { disks } = await backUp(HOSTILE, { withoutRoutes: ['ssh-raw'] });
  for (const disk of Object.values(disks)) assert.equal(disk.route, 'https-folder');
});

for (const [what, change, route] of [
  ['by a temporary copy on the host', {}, 'host-clone'],
  ['by a copy on the NAS', { nfsStaging: true }, 'nfs-clone'],
] as const) {
  test(`reads a machine ${what} where raw reads are refused`, async () => {
    const nfsStaging =
      'nfsStaging' in change ? { server: 'nas.example', share: '/volume1/staging', localPath: stagingPath } : null;
    const first = await backUp('six', { nfsStaging });
    assert.equal(first.disks['scsi0:0']?.route, route);
    assert.equal(first.disks['nvme0:0']?.route, 'ssh-raw');
    assert.equal(host.facts.routes['six'], route);
    const second = await backUp('six', { nfsStaging }, first.disks);
    assert.equal(second.disks['scsi0:0']?.kind, 'changed');
    assert.deepEqual(await readdir(stagingPath), ['kept by the user']);
  });
}

test('held to a speed, has a copy made where it can be read slowly, and says where none can', async () => {
  const nfsStaging = { server: 'nas.example', share: '/volume1/staging', localPath: stagingPath };
  const budgetedBytes: number[] = [];
  const budget = async (bytes: number): Promise<void> => {
    budgetedBytes.push(bytes);
    await Promise.resolve();
  };
  const held = await backUp('six', { nfsStaging }, undefined, budget);
  const disk = held.disks['scsi0:0'];
  assert.equal(disk?.route, 'host-clone');
  const askedBytes = budgetedBytes.reduce((sum, bytes) => sum + bytes, 0);
  const readBytes = Object.values(held.disks).reduce((sum, one) => sum + one.readBytes, 0);
  // Its own words for each piece come on top.
  assert.ok(askedBytes <= readBytes && readBytes - askedBytes < 4096, `${askedBytes} of ${readBytes}`);

  scene.notes.length = 0;
  const unheld = await backUp('tight', { nfsStaging }, undefined, budget);
  assert.equal(unheld.disks['scsi0:0']?.route, 'nfs-clone');
  const told = scene.notes.filter(({ code }) => code === 'ROUTE_UNLIMITED');
  assert.deepEqual(
    told.map(({ details }) => details?.['disk']),
    ['scsi0:0'],
  );
});

test('reads the merged disk of a machine with snapshots of its own, and leaves those alone', async () => {
  const id = await scene.lab.vmId('layers');
  await scene.lab.createSnapshot(id, 'before "update"', {
    description: 'text\n--Snapshot Name        : dozo-0000000000000000',
  });
  await scene.lab.write(id, { count: 30, blockBytes: 8192, seed: 5 });
  await scene.lab.createSnapshot(id, 'second');
  await scene.lab.write(id, { count: 30, blockBytes: 4096, seed: 6 });

  const { disks, frozen } = await backUp('layers');

  assert.equal(disks['scsi0:0']?.route, 'host-clone');
  const names = frozen.configuration.neutral.snapshots.map((snapshot) => snapshot.name);
  assert.deepEqual(names, ['before "update"', 'second']);
  const state = await scene.lab.state();
  const vm = state.vms.find((candidate) => candidate.id === id);
  assert.equal(vm?.snapshots?.roots[0]?.name, 'before "update"');
  assert.equal(vm?.snapshots.roots[0]?.children[0]?.name, 'second');
});

test('names the disks that no snapshot covers', async () => {
  const { frozen, disks } = await backUp('mixed');
  assert.deepEqual(Object.keys(disks), ['scsi0:0']);
  assert.deepEqual(
    frozen.excluded.map(({ disk, reason }) => [disk.key, reason]),
    [
      ['scsi0:1', 'independent'],
      ['scsi0:2', 'rdm-physical'],
    ],
  );
});

test('reads a machine that is off without a snapshot', async () => {
  const machine = await findMachine(host, 'off');
  const frozen = await host.freeze(scene.request(machine));
  assert.equal(frozen.consistency.level, 'off');
  const disks = await readAll(frozen);
  assert.equal(disks['scsi0:0']?.route, 'ssh-raw');
  assert.equal(disks['scsi0:0'].kind, 'allocated');
  await assertTruth(disks, await scene.lab.captureTruth(Number(machine.hostId), 'off'));
  await frozen.thaw();
  await scene.assertClean();
});

test('does not pass off a machine that was switched on meanwhile', async () => {
  const machine = await findMachine(host, 'off');
  const frozen = await host.freeze(scene.request(machine));
  const [disk] = frozen.disks;
  const signal = new AbortController().signal;
  const plan = await disk?.plan(null, signal);
  await scene.lab.power(Number(machine.hostId), 'on');
  const nothing = { write: async () => await Promise.resolve(), zero: async () => await Promise.resolve() };
  await assert.rejects(plan?.transfer(nothing, { signal }) ?? Promise.resolve(), { code: 'MACHINE_STATE_CHANGED' });
  await frozen.thaw();
  await scene.lab.power(Number(machine.hostId), 'off');
});

test('takes areas again on request, of any place', async () => {
  const machine = await findMachine(host, 'six');
  const request = scene.request(machine);
  const frozen = await host.freeze(request);
  const [disk] = frozen.disks;
  assert.ok(disk !== undefined);
  const signal = new AbortController().signal;
  const plan = await disk.plan(null, signal);
  const got: number[] = [];
  const sink = {
    write: async (offsetBytes: number, data: Buffer) =>
      void (await Promise.resolve(got.push(offsetBytes, data.length))),
    zero: async (offsetBytes: number, lengthBytes: number) =>
      void (await Promise.resolve(got.push(offsetBytes, lengthBytes))),
  };
  await plan.transfer(sink, { signal, extents: [{ offsetBytes: 4096 * 3, lengthBytes: 512 }] });
  await plan.transfer(sink, { signal, extents: [{ offsetBytes: 4096 * 5, lengthBytes: 512 }] });
  assert.deepEqual(got, [4096 * 3, 512, 4096 * 5, 512]);
  await frozen.thaw();
  await frozen.thaw();
  await scene.assertClean();
});

test('gives every way a name, and none where all are forbidden', async () => {
  const machine = await findMachine(host, 'six');
  const all: RouteName[] = ['ssh-raw', 'https-folder', 'nfs-clone', 'host-clone'];
  const frozen = await host.freeze(scene.request(machine, { withoutRoutes: all }));
  const [disk] = frozen.disks;
  await assert.rejects(disk?.plan(null, new AbortController().signal) ?? Promise.resolve(), { code: 'DISK_NO_ROUTE' });
  await frozen.thaw();
  await scene.assertClean();
});

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { randomHex } from '../../server/runtime/index.ts';
import type { MachineConfiguration, MachineTarget, SourceHost, TargetRequest } from '../../server/source/index.ts';
import { assertTruth, findMachine, MIB, readAll, startScene, type ReadBack, type SourceScene } from './source-scene.ts';

const NAME = `db 'x' "y" [z] ü 日本`;
let scene: SourceScene;
let host: SourceHost;
let point: { configuration: MachineConfiguration; disks: Record<string, ReadBack> };

before(async () => {
  scene = await startScene({
    edition: 'free',
    datastores: [
      { name: 'one [a]', type: 'VMFS-5', rawFrozenRead: 'allow' },
      { name: 'two', type: 'VMFS-6' },
      { name: 'usb', type: 'VMFS-6' },
      { name: 'small', type: 'VMFS-6', capacityBytes: 80 * MIB },
    ],
    vms: [
      {
        name: NAME,
        datastore: 'one [a]',
        running: true,
        firmware: 'efi',
        disks: [
          { sizeBytes: 20 * MIB + 1024, fill: { percent: 50, seed: 1 } },
          { sizeBytes: 6 * MIB, node: 'sata0:2', datastore: 'two', fill: { percent: 50, seed: 2 } },
        ],
      },
      { name: 'neighbour', datastore: 'two', disks: [{ sizeBytes: 1 * MIB }] },
    ],
  });
  host = await scene.connect();
  const machine = await findMachine(host, NAME);
  const request = scene.request(machine);
  const frozen = await host.freeze(request);
  const disks = await readAll(frozen);
  await assertTruth(disks, await scene.lab.frozenCopy(Number(machine.hostId), request.hold));
  point = { configuration: frozen.configuration, disks };
  await frozen.thaw();
});
after(async () => await scene.close());

function targetRequest(change: Partial<TargetRequest>): TargetRequest {
  return {
    hold: `dozo-${randomHex(8)}`,
    configuration: point.configuration,
    mode: { kind: 'new', name: 'copy' },
    datastore: null,
    provisioning: 'thin',
    networks: {},
    identity: 'new',
    powerOn: false,
    note: (note) => void scene.notes.push(note),
    signal: new AbortController().signal,
    ...change,
  };
}

async function writeAll(target: MachineTarget): Promise<void> {
  await Promise.all(
    target.disks.map(async (disk) => {
      const image = point.disks[disk.key]?.image ?? Buffer.alloc(0);
      assert.equal(disk.sizeBytes, image.length);
      for (let at = 0; at < image.length; at += 256 * 1024) {
        const chunk = image.subarray(at, at + 256 * 1024);
        if (chunk.some((byte) => byte !== 0)) await disk.write(at, Buffer.from(chunk));
      }
      await disk.flush();
      const half = Math.floor(image.length / 1024) * 512;
      const extents = [
        { offsetBytes: half, lengthBytes: image.length - half, chunkBytes: null },
        { offsetBytes: 0, lengthBytes: half, chunkBytes: null },
      ];
      const wanted = extents.map(({ offsetBytes, lengthBytes }) =>
        createHash('sha256')
          .update(image.subarray(offsetBytes, offsetBytes + lengthBytes))
          .digest('hex'),
      );
      assert.deepEqual(await disk.hash(extents), wanted);
    }),
  );
}

async function geometryOf(descriptor: string): Promise<string | undefined> {
  const [datastore] = (await scene.lab.state()).datastores;
  const text = await readFile(join(datastore?.localPath ?? '', descriptor), 'utf8');
  return /^ddb\.geometry\.heads = .*$/m.exec(text)?.[0];
}

/** The bytes that a machine of the host has now are those of the point. */
async function assertRestored(hostId: string): Promise<void> {
  const state = await scene.lab.state();
  const vm = state.vms.find((candidate) => String(candidate.id) === hostId);
  if (vm?.powerState === 'poweredOn') await scene.lab.power(Number(hostId), 'off');
  await assertTruth(point.disks, await scene.lab.captureTruth(Number(hostId), `check-${randomHex(4)}`));
}

test('restores a machine to a new place with a new identity, and starts it', async () => {
  const original = await findMachine(host, NAME);
  const name = `restored 'ä' "q" [b]`;
  const target = await host.createTarget(
    targetRequest({
      mode: { kind: 'new', name },
      datastore: 'two',
      powerOn: true,
      networks: { 'VM Network': 'Management Network' },
    }),
  );
  await writeAll(target);
  const machine = await target.finish(new AbortController().signal);

  assert.equal(machine.identity.name, name);
  assert.equal(machine.powerState, 'on');
  assert.notEqual(machine.identity.biosUuid, original.identity.biosUuid);
  assert.deepEqual(machine.networks, ['Management Network']);
  assert.deepEqual(
    machine.disks.map((disk) => [disk.key, disk.sizeBytes, disk.datastore]),
    original.disks.map((disk) => [disk.key, disk.sizeBytes, 'two']),
  );
  for (const [index, { diskUuid }] of machine.disks.entries()) {
    assert.ok(diskUuid !== null && diskUuid !== original.disks[index]?.diskUuid, 'a copy has disks of its own');
  }
  await assertRestored(machine.hostId);
  await scene.assertClean();
});

test('restores with thick disks, the old identity and the old disks, answering nothing by guess', async () => {
  const original = await findMachine(host, NAME);
  const { neutral, files } = point.configuration;
  const configuration = {
    neutral,
    files: files.map((file) => {
      if (file.kind !== 'descriptor') return file;
      // As a disk has it that was converted from a real machine.
      return { ...file, content: Buffer.from(file.content.toString().replace('heads = "255"', 'heads = "64"')) };
    }),
  };
  const mode = { kind: 'new', name: 'kept' } as const;
  const target = await host.createTarget(
    targetRequest({ configuration, mode, provisioning: 'thick', identity: 'keep', powerOn: true }),
  );
  await writeAll(target);
  const machine = await target.finish(new AbortController().signal);
  assert.equal(machine.identity.biosUuid, original.identity.biosUuid);
  assert.deepEqual(machine.identity.diskUuids, original.identity.diskUuids);
  assert.equal(await geometryOf('kept/kept.vmdk'), 'ddb.geometry.heads = "64"');
  assert.equal(machine.powerState, 'on');
  assert.ok(scene.notes.some((note) => note.code === 'IDENTITY_KEPT'));
  await assertRestored(machine.hostId);
  await scene.lab.call('DELETE', `/vms/${machine.hostId}?files=1`);
});

test('refuses names that are taken and datastores that are not there or too small, and leaves nothing', async () => {
  await assert.rejects(host.createTarget(targetRequest({ mode: { kind: 'new', name: 'neighbour' } })), {
    code: 'RESTORE_NAME_TAKEN',
  });
  await assert.rejects(host.createTarget(targetRequest({ datastore: 'nowhere' })), { code: 'DATASTORE_NOT_FOUND' });
  await assert.rejects(host.createTarget(targetRequest({ datastore: 'small', provisioning: 'eager' })), {
    code: 'DATASTORE_FULL',
  });
  await scene.assertClean();
});

test('ends a restore before a datastore is full, and gives back what it took', async () => {
  const watching = await scene.connect({ limits: { watchIntervalMs: 100, freeFloorBytes: 76 * MIB } });
  const target = await watching.createTarget(
    targetRequest({ mode: { kind: 'new', name: 'too large' }, datastore: 'small' }),
  );
  const [disk] = target.disks;
  assert.ok(disk !== undefined);
  // There is room for all of it, but not above the floor.
  await assert.rejects(
    async () => {
      const endMs = performance.now() + 120_000;
      for (let at = 0; performance.now() < endMs; at = (at + MIB) % (16 * MIB)) {
        await disk.write(at, Buffer.alloc(MIB, 1 + at / MIB));
        await disk.flush();
      }
    },
    { code: 'DATASTORE_FULL' },
  );
  await target.abort();
  await scene.assertClean();
});

test('leaves nothing of a restore that is given up', async () => {
  const target = await host.createTarget(targetRequest({ mode: { kind: 'new', name: 'given up' } }));
  await target.disks[0]?.write(0, Buffer.alloc(1024 * 1024, 7));
  await target.abort();
  await target.abort();
  assert.ok((await host.listMachines()).every((machine) => machine.identity.name !== 'given up'));
  await scene.assertClean();
});

test('does not replace a running machine', async () => {
  const { identity } = await findMachine(host, NAME);
  await assert.rejects(host.createTarget(targetRequest({ mode: { kind: 'replace', machine: identity } })), {
    code: 'RESTORE_MACHINE_RUNNING',
  });
});

async function originalFolder(): Promise<string> {
  const state = await scene.lab.state();
  const vm = state.vms.find((candidate) => candidate.name === NAME);
  assert.ok(vm !== undefined);
  return scene.lab.localPath(vm.vmxAbsolutePath.replace(/\/[^/]*$/, ''));
}

async function folderState(folder: string): Promise<Record<string, string>> {
  const state: Record<string, string> = {};
  for (const name of (await readdir(folder)).sort()) {
    if (name.endsWith('.log')) continue;
    state[name] = createHash('sha256')
      .update(await readFile(join(folder, name)))
      .digest('hex');
  }
  return state;
}

test('an abandoned replacement leaves the original as it was', async () => {
  const id = await scene.lab.vmId(NAME);
  await scene.lab.power(id, 'off');
  const folder = await originalFolder();
  await writeFile(join(folder, "user's notes.txt"), 'mine');
  const before = await folderState(folder);
  const { identity, hostId } = await findMachine(host, NAME);
  const target = await host.createTarget(
    targetRequest({ mode: { kind: 'replace', machine: identity }, identity: 'keep' }),
  );
  await target.disks[0]?.write(0, Buffer.alloc(65536, 1));
  await target.abort();
  assert.deepEqual(await folderState(folder), before);
  assert.equal((await findMachine(host, NAME)).hostId, hostId);
  await scene.assertClean();
});

test('puts the original back when the host does not register the new machine, beside one whose datastore is gone', async () => {
  await scene.lab.createVm({ name: 'orphan', datastore: 'usb', disks: [{ sizeBytes: MIB }] });
  await scene.lab.loseDatastore('usb');
  const folder = await originalFolder();
  const before = await folderState(folder);
  const { identity } = await findMachine(host, NAME);
  const configuration = structuredClone(point.configuration);
  for (const file of configuration.files) {
    if (file.kind === 'vmx')
      file.content = Buffer.from('config.version = "8"\nvirtualHW.version = "99"\ndisplayName = "x"\n');
  }
  const target = await host.createTarget(
    targetRequest({ configuration, mode: { kind: 'replace', machine: identity }, identity: 'keep' }),
  );
  await assert.rejects(target.finish(new AbortController().signal), { code: 'RESTORE_REGISTER_FAILED' });
  assert.deepEqual(await folderState(folder), before);
  await target.abort();
  const now = await findMachine(host, NAME);
  assert.equal(now.identity.instanceUuid, identity.instanceUuid);
  await scene.assertClean();
});

test('replaces a machine that has snapshots; what the user kept beside it stays', async () => {
  const id = await scene.lab.vmId(NAME);
  await scene.lab.createSnapshot(id, 'by the user');
  await scene.lab.power(id, 'on');
  await scene.lab.write(id, { count: 10, blockBytes: 4096, seed: 4 });
  await scene.lab.power(id, 'off');
  await scene.lab.setAutostart(id, { startOrder: 2, startAction: 'powerOn' });
  scene.notes.length = 0;
  const folder = await originalFolder();
  const { identity } = await findMachine(host, NAME);
  const target = await host.createTarget(
    targetRequest({ mode: { kind: 'replace', machine: identity }, identity: 'keep', powerOn: true }),
  );
  await writeAll(target);
  const machine = await target.finish(new AbortController().signal);

  assert.equal(machine.identity.instanceUuid, identity.instanceUuid);
  assert.equal(machine.identity.path, identity.path);
  assert.equal(machine.powerState, 'on');
  assert.equal(machine.hasSnapshots, false);
  const autostart = scene.notes.find(({ code }) => code === 'AUTOSTART_LOST');
  assert.deepEqual([autostart?.level, autostart?.details], ['warning', { machine: NAME, place: 2 }]);
  await assertRestored(machine.hostId);
  const names = await readdir(folder);
  assert.equal(await readFile(join(folder, "user's notes.txt"), 'utf8'), 'mine');
  assert.deepEqual(
    names.filter((name) => /-0000\d\d|\.vmsn|\.dozo/.test(name)),
    [],
  );
  const machines = (await host.listMachines()).filter((candidate) => candidate.identity.name === NAME);
  assert.equal(machines.length, 1);
  await scene.assertClean();
});

test('a disk that the version does not hold keeps its name and its bytes when the machine is replaced', async () => {
  const { lab } = scene;
  const disks = [1, 2].map((seed) => ({ sizeBytes: MIB, fill: { percent: 100, seed } }));
  const id = await lab.createVm({ name: 'pair', datastore: 'two', disks });
  const two = (await lab.state()).datastores.find(({ name }) => name === 'two');
  const folder = join(two?.localPath ?? '', 'pair');
  const before = await folderState(folder);
  const kept = Object.keys(before).filter((name) => /^pair(?:-flat)?\.vmdk$/.test(name));
  assert.equal(kept.length, 2, 'what a disk of a new machine would be called');
  const pair = await findMachine(host, 'pair');
  const frozen = await host.freeze(scene.request(pair));
  const { files, neutral } = frozen.configuration;
  await frozen.thaw();
  const configuration = { files, neutral: { ...neutral, disks: neutral.disks.slice(1) } };
  const target = await host.createTarget(
    targetRequest({ configuration, mode: { kind: 'replace', machine: pair.identity }, identity: 'keep' }),
  );
  const image = Buffer.alloc(MIB, 7);
  await target.disks[0]?.write(0, Buffer.from(image));
  const machine = await target.finish(new AbortController().signal);

  const after = await folderState(folder);
  for (const name of kept) assert.equal(after[name], before[name], name);
  const note = scene.notes.find(({ code }) => code === 'DISK_KEPT');
  assert.equal(note?.details?.['path'], '[two] pair/pair.vmdk');
  const [restored] = Object.values(await lab.captureTruth(Number(machine.hostId), 'pair'));
  assert.ok((await readFile(restored ?? '')).equals(image));
  assert.notEqual(String(id), machine.hostId);
  await scene.assertClean();
});

test('refuses at once a machine whose hardware the host cannot know', async () => {
  const { version } = host.facts;
  host.facts.version = '6.7.0';
  try {
    const { files, neutral } = point.configuration;
    const configuration = { files, neutral: { ...neutral, hardwareVersion: 'vmx-19' } };
    await assert.rejects(host.createTarget(targetRequest({ configuration })), { code: 'RESTORE_REGISTER_FAILED' });
  } finally {
    host.facts.version = version;
  }
  await scene.assertClean();
});

test('deletes no layer of another machine: of the base of a linked clone, or below a clone', async () => {
  const { lab } = scene;
  const state = await lab.state();
  const two = state.datastores.find(({ name }) => name === 'two');
  assert.ok(two !== undefined);
  const base = join(two.localPath, 'neighbour');
  const clone = join(two.localPath, 'clone');
  // What scripts for single hosts make: a layer in a folder of its own over the disk of another machine.
  const id = await lab.vmId('neighbour');
  const snapshot = await lab.createSnapshot(id, 'for the clone');
  await mkdir(clone);
  for (const name of await readdir(base)) {
    const content = await readFile(join(base, name));
    if (name === 'neighbour-000001.vmdk') {
      const there = `parentFileNameHint="/vmfs/volumes/${two.uuid}/neighbour/neighbour.vmdk"`;
      await writeFile(join(clone, name), content.toString().replace('parentFileNameHint="neighbour.vmdk"', there));
    } else if (name.startsWith('neighbour-000001-')) await writeFile(join(clone, name), content);
    else if (name.endsWith('.vmx')) {
      const text = content.toString().replace(/^(?:uuid\..*|vc\.uuid.*)\n/gm, '');
      await writeFile(join(clone, 'clone.vmx'), text.replaceAll(/^displayName = .*$/gm, 'displayName = "clone"'));
    }
  }
  await lab.removeSnapshot(id, snapshot);
  await lab.call('POST', '/register', { path: '[two] clone/clone.vmx', name: 'clone' });
  const before = await folderState(base);

  const neighbour = await findMachine(host, 'neighbour');
  await assert.rejects(host.createTarget(targetRequest({ mode: { kind: 'replace', machine: neighbour.identity } })), {
    code: 'CONFLICT',
  });
  // Elsewhere its folder is not in the way, and what the clone reads is not deleted with it.
  for (const name of ['neighbour', 'clone']) {
    const { identity } = await findMachine(host, name);
    const frozen = await host.freeze(scene.request(await findMachine(host, name)));
    const { configuration } = frozen;
    await frozen.thaw();
    const datastore = name === 'clone' ? null : 'one [a]';
    const target = await host.createTarget(
      targetRequest({ configuration, mode: { kind: 'replace', machine: identity }, datastore, identity: 'keep' }),
    );
    await target.finish(new AbortController().signal);
    for (const [file, digest] of Object.entries(before)) {
      if (/\.vmdk$/.test(file)) assert.equal((await folderState(base))[file], digest, `${file}, after ${name}`);
    }
  }
  await scene.assertClean();
});

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { randomHex } from '../../server/runtime/index.ts';
import type { MachineSummary, SourceHost, TargetRequest } from '../../server/source/index.ts';
import { findMachine, MIB, startScene, type SourceScene } from './source-scene.ts';

let scene: SourceScene;
let host: SourceHost;

before(async () => {
  const disks = [{ sizeBytes: MIB, fill: { percent: 50, seed: 1 } }];
  scene = await startScene({
    edition: 'free',
    datastores: [
      { name: 'one', type: 'VMFS-6' },
      { name: 'two', type: 'VMFS-6' },
      { name: 'usb', type: 'VMFS-6' },
    ],
    vms: [
      { name: 'web', datastore: 'two', disks },
      { name: 'web-2', folder: 'web', datastore: 'two', disks },
      { name: 'mail', datastore: 'two', disks },
      { name: 'files', datastore: 'usb', disks },
    ],
  });
  host = await scene.connect();
});
after(async () => await scene.close());

/** To replace a machine by itself. */
async function requestFor(machine: MachineSummary, change: Partial<TargetRequest> = {}): Promise<TargetRequest> {
  const frozen = await host.freeze(scene.request(machine));
  const { configuration } = frozen;
  await frozen.thaw();
  return {
    hold: `dozo-${randomHex(8)}`,
    configuration,
    mode: { kind: 'replace', machine: machine.identity },
    datastore: null,
    provisioning: 'thin',
    networks: {},
    identity: 'keep',
    powerOn: false,
    note: (note) => void scene.notes.push(note),
    signal: new AbortController().signal,
    ...change,
  };
}

async function rootOf(datastore: string): Promise<string> {
  const found = (await scene.lab.state()).datastores.find(({ name }) => name === datastore);
  assert.ok(found !== undefined);
  return found.localPath;
}

async function folderState(folder: string): Promise<Record<string, string>> {
  const state: Record<string, string> = {};
  for (const name of await readdir(folder)) {
    const content = await readFile(join(folder, name));
    state[name] = createHash('sha256').update(content).digest('hex');
  }
  return state;
}

async function machineNames(): Promise<string[]> {
  return (await host.listMachines()).map(({ identity }) => identity.name).sort();
}

test('a replaced machine takes nothing along of another one in its folder', async () => {
  const folder = join(await rootOf('two'), 'web');
  await writeFile(join(folder, 'web-old.vmx'), 'of the user');
  await writeFile(join(folder, 'web-old.nvram'), 'of the user');
  const before = await folderState(folder);
  const target = await host.createTarget(await requestFor(await findMachine(host, 'web'), { datastore: 'one' }));
  await target.finish(new AbortController().signal);

  const after = await folderState(folder);
  const isOther = (name: string): boolean => /^web-(?:2|old)[.-]/.test(name);
  assert.deepEqual(after, Object.fromEntries(Object.entries(before).filter(([name]) => isOther(name))));
  assert.ok(Object.keys(after).includes('web-2.vmx'));
  assert.deepEqual(await machineNames(), ['files', 'mail', 'web', 'web-2']);
  await scene.assertClean();
});

test('a machine that the host calls invalid gives its place back to the original', async () => {
  const folder = join(await rootOf('two'), 'mail');
  const before = await folderState(folder);
  const request = await requestFor(await findMachine(host, 'mail'));
  for (const file of request.configuration.files) {
    if (file.kind !== 'vmx') continue;
    file.content = Buffer.from(
      file.content.toString().replace(/^virtualHW\.version = .*$/m, 'virtualHW.version = "99"'),
    );
  }
  const target = await host.createTarget(request);

  await assert.rejects(target.finish(new AbortController().signal), { code: 'RESTORE_REGISTER_FAILED' });

  await target.abort();
  assert.deepEqual(await folderState(folder), before);
  assert.deepEqual(await machineNames(), ['files', 'mail', 'web', 'web-2']);
  await scene.assertClean();
});

test('a swap whose commit failed when it was there already counts as done', async () => {
  const mail = await findMachine(host, 'mail');
  const request = await requestFor(mail);
  const target = await host.createTarget(request);
  // What is to be written there cannot be: as on a datastore that has room for a name and for nothing else.
  await mkdir(join(await rootOf('two'), `.${request.hold}-swap`, 'done'), { recursive: true });

  const restored = await target.finish(new AbortController().signal);

  assert.notEqual(restored.hostId, mail.hostId);
  assert.deepEqual(await machineNames(), ['files', 'mail', 'web', 'web-2']);
  await scene.assertClean();
});

test('a restore whose folder another worker has begun anew replaces nothing by what lies there now', async () => {
  const folder = join(await rootOf('two'), 'mail');
  const before = await folderState(folder);
  const request = await requestFor(await findMachine(host, 'mail'));
  const target = await host.createTarget(request);
  await target.disks[0]?.write(0, Buffer.alloc(MIB, 7));
  await target.disks[0]?.flush();
  // It lost the queue but not the host, and its task was given to this one.
  const other = await scene.connect();
  await other.sweep([request.hold]);
  const again = await other.createTarget(request);

  await assert.rejects(target.finish(new AbortController().signal), { code: 'CONFLICT' });

  await again.disks[0]?.write(0, Buffer.alloc(MIB, 8));
  assert.deepEqual(await folderState(folder), before);
  await again.finish(new AbortController().signal);
  const image = await readFile(join(folder, 'mail-flat.vmdk'));
  assert.ok(image.equals(Buffer.alloc(MIB, 8)));
  assert.deepEqual(await machineNames(), ['files', 'mail', 'web', 'web-2']);
  await scene.assertClean();
});

test('a swap whose journal says nothing is left as it is, and told of', async () => {
  const root = await rootOf('two');
  const mail = await findMachine(host, 'mail');
  const hold = `dozo-${randomHex(8)}`;
  await scene.lab.call('DELETE', `/vms/${mail.hostId}`);
  await rename(join(root, 'mail'), join(root, `.${hold}-old`));
  await mkdir(join(root, `.${hold}-swap`));
  // As a host may leave it that lost its power.
  await writeFile(join(root, `.${hold}-swap`, 'journal'), '');

  for (let turn = 0; turn < 2; turn += 1) {
    const { removed, failed } = await host.sweep([hold]);
    assert.deepEqual(removed, []);
    assert.match(failed[0]?.message ?? '', /journal of an interrupted restore/);
    assert.match(failed[0]?.what ?? '', /^unfinished restore/);
  }

  // What the hint says.
  await rename(join(root, `.${hold}-old`), join(root, 'mail'));
  await scene.lab.call('POST', '/register', { path: '[two] mail/mail.vmx', name: 'mail' });
  await rm(join(root, `.${hold}-swap`), { recursive: true });
  assert.deepEqual((await host.sweep([hold])).failed, []);
  await scene.assertClean();
});

test('an original whose place is taken while it is to be put back is not forgotten', async () => {
  const root = await rootOf('two');
  const vm = (await scene.lab.state()).vms.find(({ name }) => name === 'mail');
  assert.ok(vm !== undefined);
  const before = await folderState(join(root, 'mail'));
  const vmx = vm.vmxAbsolutePath;
  const folder = vmx.replace(/\/[^/]*$/, '');
  const hold = `dozo-${randomHex(8)}`;
  const aside = folder.replace(/mail$/, `.${hold}-old`);
  const original = { name: 'mail', vmx, folder, aside, files: [] };
  // As a restore in its place leaves it that was killed, and what somebody made there since.
  await scene.lab.call('DELETE', `/vms/${String(vm.id)}`);
  await rename(join(root, 'mail'), join(root, `.${hold}-old`));
  await mkdir(join(root, `.${hold}-swap`));
  await writeFile(
    join(root, `.${hold}-swap`, 'journal'),
    JSON.stringify({ version: 1, name: 'mail', moves: [], original }),
  );
  await mkdir(join(root, 'mail'));
  await writeFile(join(root, 'mail', 'mail.vmx'), 'of somebody else');

  const { failed } = await host.sweep([hold]);

  assert.match(failed[0]?.message ?? '', /is in the way/);
  await rm(join(root, 'mail'), { recursive: true });
  assert.deepEqual((await host.sweep([hold])).failed, []);
  assert.deepEqual(await folderState(join(root, 'mail')), before);
  assert.deepEqual(await machineNames(), ['files', 'mail', 'web', 'web-2']);
  await scene.assertClean();
});

test('a host that is back with its inventory of before gets the restored machine again and loses none', async () => {
  const [one, usb] = [await rootOf('one'), await rootOf('usb')];
  const state = await scene.lab.state();
  const vm = state.vms.find(({ name }) => name === 'files');
  const uuid = state.datastores.find(({ name }) => name === 'one')?.uuid ?? '';
  assert.ok(vm !== undefined);
  const before = await folderState(join(usb, 'files'));
  const vmx = vm.vmxAbsolutePath;
  const folder = vmx.replace(/\/[^/]*$/, '');
  const files = Object.keys(before).map((name) => `${folder}/${name}`);
  const hold = `dozo-${randomHex(8)}`;
  const to = `/vmfs/volumes/${uuid}/files`;
  const moves = [{ from: `/vmfs/volumes/${uuid}/.${hold}`, to }];
  const journal = { version: 1, name: 'files', moves, original: { name: 'files', vmx, folder, aside: null, files } };
  const swap = join(one, `.${hold}-swap`);
  // At first the restored machine is gone: its folder was renamed, for one.
  for (const isThere of [false, true]) {
    if (isThere) await cp(join(usb, 'files'), join(one, 'files'), { recursive: true });
    await mkdir(swap);
    await writeFile(join(swap, 'journal'), JSON.stringify(journal));
    await writeFile(join(swap, 'done'), 'done');

    assert.deepEqual((await host.sweep([hold])).failed, []);

    assert.deepEqual(await folderState(join(usb, 'files')), before);
  }
  const paths = (await host.listMachines()).map(({ identity }) => identity.path).sort();
  assert.ok(paths.includes('[one] files/files.vmx') && paths.includes('[usb] files/files.vmx'), paths.join());
  await scene.assertClean();
  const again = (await host.listMachines()).find(({ identity }) => identity.path === '[one] files/files.vmx');
  await scene.lab.call('DELETE', `/vms/${again?.hostId ?? ''}?files=1`);
});

test('an original whose datastore is away while it is taken back is registered once it is there again', async () => {
  const [root, usb] = [await rootOf('one'), await rootOf('usb')];
  const { hostId } = await findMachine(host, 'files');
  const vm = (await scene.lab.state()).vms.find(({ name }) => name === 'files');
  assert.ok(vm !== undefined);
  const vmx = vm.vmxAbsolutePath;
  const hold = `dozo-${randomHex(8)}`;
  const original = { name: 'files', vmx, folder: vmx.replace(/\/[^/]*$/, ''), aside: null, files: [] };
  // As a restore to another datastore leaves it that was killed when the original was off the inventory.
  await scene.lab.call('DELETE', `/vms/${hostId}`);
  await mkdir(join(root, `.${hold}-swap`));
  const journal = { version: 1, name: 'files', moves: [], original };
  await writeFile(join(root, `.${hold}-swap`, 'journal'), JSON.stringify(journal));
  await rename(join(usb, 'files'), join(usb, 'away'));

  const { failed } = await host.sweep([hold]);

  assert.match(failed[0]?.message ?? '', /"files" cannot be put back/);
  await rename(join(usb, 'away'), join(usb, 'files'));
  // The same for the one on which the journal lies: all that is known then is that it is away.
  await rename(root, `${root}-away`);
  assert.deepEqual(await host.sweep([hold]), { removed: [], failed: [], unseen: ['one'] });
  await rename(`${root}-away`, root);
  assert.deepEqual((await host.sweep([hold])).failed, []);
  assert.deepEqual(await machineNames(), ['files', 'mail', 'web', 'web-2']);
  await scene.assertClean();
});

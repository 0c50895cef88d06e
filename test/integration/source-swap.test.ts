import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
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

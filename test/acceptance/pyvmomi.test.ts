import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type LabHost, startLabHost } from '../lab/lab-host.ts';
import type { Edition } from '../lab/hostd/protocol.ts';
import { labSoapObstacle } from '../lab/soap/build.ts';

/** Debian's Python, which has Debian's pyVmomi; another one may come first in the path. */
const PYTHON = '/usr/bin/python3';
const CLIENT = join(import.meta.dirname, 'pyvmomi_client.py');
const MIB = 1024 * 1024;
const BLOCK_BYTES = 4096;
const NAME = 'web [1]/50%';
/** As the API escapes it. */
const SHOWN_NAME = 'web [1]%2f50%25';

interface Disk {
  key: number;
  capacityBytes: number;
  backing: string;
  chain: string[];
  uuid: string;
  changeId: string | null;
  diskMode: string;
}

interface Machine {
  id: string;
  name: string;
  vmPathName: string;
  uuid: string;
  powerState: string;
  hasSnapshots: boolean;
  consolidationNeeded: boolean;
  macAddresses: string[];
  datastores: string[];
  disks: Disk[];
}

interface Areas {
  areas: [number, number][];
  calls: number;
}

interface Report {
  about: string[];
  edition: string;
  machines: Machine[];
  run: {
    refused?: string;
    text?: string;
    snapshot: string;
    tree: unknown[];
    live: Disk[];
    frozen: Disk[];
    changed: Record<string, Areas & { refused?: string; keys?: string[] }>;
    after: Machine;
  };
}

async function missing(): Promise<string | false> {
  if (process.getuid?.() !== 0) return 'the lab host needs root';
  const found = spawnSync(PYTHON, ['-c', 'import pyVmomi']);
  if (found.status !== 0) return 'python3-pyvmomi is missing; scripts/setup test installs it';
  return (await labSoapObstacle()) ?? false;
}

const skip = await missing();
let directory: string;
let lab: LabHost | null = null;

async function startLab(edition: Edition): Promise<LabHost> {
  await lab?.close();
  lab = await startLabHost({
    directory: join(directory, edition),
    edition,
    datastores: [{ name: 'data store 1' }, { name: 'nfs', type: 'NFS' }],
    vms: [
      {
        name: NAME,
        folder: 'web',
        running: true,
        changeTracking: true,
        disks: [
          { sizeBytes: 64 * MIB, fill: { percent: 20 } },
          { sizeBytes: 16 * MIB, datastore: 'nfs' },
        ],
      },
      { name: 'idle', disks: [{ sizeBytes: 8 * MIB }] },
    ],
  });
  return lab;
}

/** Runs the script beside this file; the lab lives in its own process, so waiting here blocks nothing. */
async function runClient(host: LabHost, what: string): Promise<unknown> {
  const child = spawn(PYTHON, [CLIENT, String(host.httpsPort), host.user, SHOWN_NAME, what]);
  child.stdin.end(`${host.password}\n`);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  const status = await new Promise((resolve) => child.once('close', resolve));
  assert.equal(status, 0, Buffer.concat(err).toString('utf8'));
  return JSON.parse(Buffer.concat(out).toString('utf8'));
}

const drive = (host: LabHost, previous: Record<string, string> = {}) =>
  runClient(host, JSON.stringify(previous)) as Promise<Report>;

/** Offsets of the blocks that differ. */
function changedBlocks(old: Buffer, written: Buffer): number[] {
  const offsets: number[] = [];
  for (let at = 0; at < old.length; at += BLOCK_BYTES) {
    if (!old.subarray(at, at + BLOCK_BYTES).equals(written.subarray(at, at + BLOCK_BYTES))) offsets.push(at);
  }
  return offsets;
}

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'lab-'));
});
after(async () => {
  await lab?.close();
  rmSync(directory, { recursive: true, force: true });
});

test('pyVmomi lists the machines of a licensed host, and takes, reads and removes a snapshot', { skip }, async () => {
  const host = await startLab('licensed');
  const id = await host.vmId(NAME);

  const first = await drive(host);

  assert.deepEqual(first.about.slice(0, 2), ['HostAgent', 'embeddedEsx']);
  assert.deepEqual(first.machines.map((machine) => machine.name).sort(), ['idle', SHOWN_NAME]);
  const web = first.machines.find((machine) => machine.name === SHOWN_NAME);
  assert.ok(web !== undefined);
  assert.equal(web.id, String(id));
  assert.equal(web.vmPathName, (await host.state()).vms.find((vm) => vm.id === id)?.vmxPath);
  assert.ok(web.vmPathName.startsWith('[data store 1] web/'), web.vmPathName);
  assert.equal(web.powerState, 'poweredOn');
  assert.deepEqual(web.datastores, ['data store 1', 'nfs']);
  assert.match(web.macAddresses[0] ?? '', /^00:0c:29(:[0-9a-f]{2}){3}$/);
  assert.deepEqual(
    web.disks.map((disk) => [disk.key, disk.capacityBytes, disk.chain.length]),
    [
      [2000, 64 * MIB, 1],
      [2001, 16 * MIB, 1],
    ],
  );

  const { run } = first;
  assert.equal(run.snapshot, `${id}-snapshot-1`);
  assert.deepEqual(run.tree, [['acceptance', 'taken by pyVmomi', 1, false, 'poweredOff']]);
  assert.deepEqual(
    run.frozen.map((disk) => disk.chain),
    web.disks.map((disk) => disk.chain),
  );
  assert.match(run.live[0]?.backing ?? '', /SeSparseBackingInfo$/);
  assert.match(run.live[1]?.backing ?? '', /SparseVer2BackingInfo$/);
  assert.deepEqual(
    run.live.map((disk) => disk.chain[1]),
    web.disks.map((disk) => disk.chain[0]),
  );
  assert.equal(run.after.hasSnapshots, false);
  assert.equal(run.after.consolidationNeeded, false);
  assert.deepEqual(
    run.after.disks.map((disk) => disk.chain),
    web.disks.map((disk) => disk.chain),
  );
  assert.equal((await host.state()).vms.find((vm) => vm.id === id)?.snapshots, null);
});

test('pyVmomi reads areas that cover all that was written since a changeId, reply by reply', { skip }, async () => {
  const host = lab ?? (await startLab('licensed'));
  const id = await host.vmId(NAME);
  const before = await drive(host);
  const previous = Object.fromEntries(before.run.frozen.map((disk) => [String(disk.key), disk.changeId ?? '']));
  for (const changeId of Object.values(previous)) assert.match(changeId, /^([0-9a-f]{2}[ -]?){16}\/\d+$/);
  const old = readFileSync((await host.captureTruth(id, 'old'))['scsi0:0'] ?? '');
  await host.write(id, { count: 5, blockBytes: 64 * 1024, seed: 3, node: 'scsi0:0' });
  const written = readFileSync((await host.captureTruth(id, 'written'))['scsi0:0'] ?? '');

  const complete = await drive(host, previous);
  await host.set({ changedAreas: 'partial', changedAreasMax: 1 });
  const again = Object.fromEntries(complete.run.frozen.map((disk) => [String(disk.key), disk.changeId ?? '']));
  await host.write(id, { count: 5, blockBytes: 64 * 1024, seed: 4, node: 'scsi0:0' });
  const partial = await drive(host, again);
  await host.set({ changedAreas: 'noTrack' });
  const refused = await drive(host, again);
  await host.set({ changedAreas: 'works' });

  const changed = complete.run.changed['2000'];
  assert.ok(changed !== undefined && changed.areas.length > 0);
  const blocks = changedBlocks(old, written);
  assert.ok(blocks.length > 0, 'the guest wrote something');
  const isCovered = (offset: number) =>
    changed.areas.some(([start, length]) => offset >= start && offset < start + length);
  assert.deepEqual(
    blocks.filter((offset) => !isCovered(offset)),
    [],
  );
  const claimedBytes = changed.areas.reduce((sum, [, length]) => sum + length, 0);
  assert.ok(claimedBytes <= blocks.length * BLOCK_BYTES + 5 * 2 * MIB, `${claimedBytes} bytes said to be changed`);
  assert.deepEqual(complete.run.changed['2001']?.areas, []);
  assert.ok((partial.run.changed['2000']?.calls ?? 0) > 1, 'a partial map takes several calls');
  assert.equal(refused.run.changed['2000']?.refused, 'FileFault');
  assert.deepEqual(refused.run.changed['2000']?.keys, ['vim.hostd.vmsvc.cbt.noTrack']);
});

test('pyVmomi switches, reconfigures and re-registers a machine of a licensed host', { skip }, async () => {
  const host = lab ?? (await startLab('licensed'));
  const id = await host.vmId(NAME);

  const steps = new Map((await runClient(host, 'operations')) as [string, unknown][]);

  const { vms } = await host.state();
  const machine = vms.find((vm) => vm.name === 're/named');
  assert.ok(machine !== undefined && machine.id !== id, 'registered anew under another id');
  const snapshots = [steps.get('first snapshot'), steps.get('second snapshot')];
  for (const snapshot of snapshots) assert.match(String(snapshot), new RegExp(`^${id}-snapshot-\\d+$`));
  for (const name of ['first snapshot', 'second snapshot']) steps.delete(name);
  assert.deepEqual(Object.fromEntries(steps), {
    'power on again': 'fault InvalidPowerState',
    tree: [['first', true, ['second']]],
    'remove all': null,
    'power off': null,
    'power off again': 'fault InvalidPowerState',
    reconfigure: null,
    name: ['re%2fnamed', 'two\nlines', false],
    'register twice': 'fault AlreadyExists',
    unregister: null,
    gone: 'fault ManagedObjectNotFound',
    'register nothing': 'fault NotFound',
    register: String(machine.id),
    'name again': 're%2fnamed',
    'power on': null,
    state: 'poweredOn',
    browse: [machine.vmxPath.slice(machine.vmxPath.lastIndexOf('/') + 1)],
  });
});

test('pyVmomi reads a free host and is refused with RestrictedVersion when it writes', { skip }, async () => {
  const host = await startLab('free');

  const report = await drive(host);

  assert.match(report.edition, /^esx\.hypervisor/);
  assert.equal(report.machines.length, 2);
  assert.equal(report.run.refused, 'RestrictedVersion');
  assert.equal(report.run.text, 'Current license or ESXi version prohibits execution of the requested operation.');
  const state = await host.state();
  assert.deepEqual(
    state.tasks.filter((task) => task.descriptionId !== 'VirtualMachine.powerOn'),
    [],
  );
  assert.equal(state.vms.find((vm) => vm.name === NAME)?.snapshots, null);
});

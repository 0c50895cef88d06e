import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { openFileDisk, startIscsiServer, type BackingDisk } from '../../server/iscsi/index.ts';
import { startLabHost, type LabHost, type Switches } from './lab-host.ts';
import { loginToLab, type LabLogin } from './ssh-login.ts';

const MIB = 1024 * 1024;
const SIZE_BYTES = 24 * MIB + 512 * 3;
const TARGET = 'iqn.2020-01.test.dozo:lab';
const SECRET = 'a-secret-of-a-run';
const POINTER = '/vmfs/volumes/six/copy.vmdk';

let directory: string;
let lab: LabHost;
let login: LabLogin;
let healthy: Switches;
let server: Awaited<ReturnType<typeof startIscsiServer>>;
let disk: BackingDisk;
let device: string;
let portal: string;
let initiator: string;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dozo-lab-'));
  lab = await startLabHost({
    directory: join(directory, 'lab'),
    https: false,
    datastores: [{ name: 'six' }],
    switches: { keepTruth: true },
    vms: [{ name: 'vm', running: true, disks: [{ sizeBytes: SIZE_BYTES, fill: { percent: 40 } }], memoryMib: 64 }],
  });
  healthy = (await lab.state()).switches;
  login = await loginToLab(lab);
  await lab.createSnapshot(await lab.vmId('vm'), 'frozen');
  server = await startIscsiServer({ host: '127.0.0.1', port: 0 });
  writeFileSync(join(directory, 'image'), '');
  truncateSync(join(directory, 'image'), SIZE_BYTES);
  disk = await openFileDisk(join(directory, 'image'), { writable: true });
  initiator = (await lab.iscsi()).initiator;
  const target = server.addTarget({
    name: TARGET,
    access: [{ initiatorName: initiator, chapUser: 'dozo', chapSecret: SECRET }],
    disks: [{ disk, seed: 'lab' }],
  });
  device = `naa.${target.identities[0]?.naa ?? ''}`;
  portal = `127.0.0.1:${server.port}`;
});

after(async () => {
  login.close();
  await lab.close();
  await server.close();
  await disk.close();
  rmSync(directory, { recursive: true, force: true });
});

afterEach(async () => {
  await lab.set(healthy);
  await login.run(
    `vmkfstools -U ${POINTER}; esxcli storage core device set --state=off -d ${device}; ` +
      `esxcli iscsi session remove -A vmhba64 -n ${TARGET}; ` +
      `esxcli iscsi adapter discovery statictarget remove -A vmhba64 -a ${portal} -n ${TARGET}; ` +
      `esxcli storage core device detached remove -d ${device}; ` +
      `esxcli network firewall ruleset set -r vSPC -e false; esxcli iscsi software set --enabled=false`,
  );
  const state = await lab.iscsi();
  assert.deepEqual(
    [state.enabled, state.statics, state.sessions, state.devices, state.detached],
    [false, [], [], [], []],
  );
});

const ADD = (): string => `esxcli iscsi adapter discovery statictarget add -A vmhba64 -a ${portal} -n ${TARGET}`;
const CHAP = (secret = SECRET): string =>
  `esxcli iscsi adapter target portal auth chap set -A vmhba64 --direction=uni --level=required ` +
  `--authname=dozo --secret=${secret} -a ${portal} -n ${TARGET}`;
const RESCAN = 'esxcli storage core adapter rescan --adapter=vmhba64';
const CLONE = (kind = 'rdm'): string =>
  `vmkfstools -i /vmfs/volumes/six/vm/vm.vmdk -d ${kind}:/vmfs/devices/disks/${device} ${POINTER}`;

async function attach(): Promise<void> {
  await login.read('esxcli iscsi software set --enabled=true');
  await login.read('esxcli network firewall ruleset set -r vSPC -e true');
  await login.read(ADD());
  await login.read(CHAP());
  await login.read(RESCAN);
}

describe('The software initiator of the lab', () => {
  test('is off, then has an adapter with a name', async () => {
    assert.equal(await login.read('esxcli iscsi software get'), 'false\n');
    assert.notEqual((await login.run('esxcli iscsi adapter get -A vmhba64')).code, 0);
    await login.read('esxcli iscsi software set --enabled=true');

    const list = await login.read('esxcli --formatter=csv iscsi adapter list');
    assert.match(list, /^vmhba64,iscsi_vmk,online,iscsi.vmhba64,iSCSI Software Adapter,$/m);
    assert.match(await login.read('esxcli iscsi adapter get -A vmhba64'), new RegExp(`^   Name: ${initiator}$`, 'm'));
  });

  test('does not get through the firewall to another port, nor in without the secret', async () => {
    await login.read('esxcli iscsi software set --enabled=true');
    await login.read(ADD());
    await login.read(CHAP());
    await login.read(RESCAN);
    assert.deepEqual((await lab.iscsi()).sessions, []);

    await login.read('esxcli network firewall ruleset set -r vSPC --allowed-all false -e true');
    await login.read(RESCAN);
    assert.deepEqual((await lab.iscsi()).sessions, []);

    await login.read('esxcli network firewall ruleset allowedip add -r vSPC -i 127.0.0.1');
    await login.read(CHAP('another-secret-entirely'));
    await login.read(RESCAN);
    assert.deepEqual((await lab.iscsi()).sessions, []);

    await login.read(CHAP());
    await login.read(RESCAN);
    assert.deepEqual((await lab.iscsi()).sessions, [TARGET]);
    await login.read('esxcli network firewall ruleset allowedip remove -r vSPC -i 127.0.0.1');
    await login.read('esxcli network firewall ruleset set -r vSPC --allowed-all true');
  });

  test('shows the device by the name that the target gives it', async () => {
    await attach();

    const block = await login.read(`esxcli storage core device list -d ${device}`);

    assert.match(block, new RegExp(`^${device}\n {3}Display Name: `));
    assert.match(block, /^ {3}Vendor: DOZO/m);
    assert.match(block, /^ {3}Size: 24$/m);
    assert.match(await login.read(`esxcli storage core path list -d ${device}`), /^ {3}State: active$/m);
    assert.equal(await login.read('ls /vmfs/devices/disks'), `${device}\n`);
    assert.notEqual((await login.run('esxcli iscsi software set --enabled=false')).code, 0);
  });

  for (const [kind, holes] of [
    ['rdm', 'write-same'],
    ['rdmp', 'zeros'],
  ] as const) {
    test(`is written by vmkfstools -d ${kind}, unallocated areas by ${holes}`, async () => {
      await disk.write(0, Buffer.alloc(4 * MIB, 'old'));
      await disk.write(20 * MIB, Buffer.alloc(4 * MIB, 'old'));
      await lab.set({ rdmHoles: holes });
      await attach();

      const output = await login.read(CLONE(kind));

      assert.match(output, /\rClone: 100% done\.\n$/);
      const truth = await lab.frozenCopy(await lab.vmId('vm'), 'frozen');
      const [wanted, got] = [readFileSync(truth?.['scsi0:0'] ?? ''), readFileSync(join(directory, 'image'))];
      assert.ok(wanted.equals(got), 'the device is not the frozen disk');
      assert.match(await login.read(`cat ${POINTER}`), /createType="vmfs(Passthrough)?RawDeviceMap"/);
    });
  }

  for (const [taken, refused] of [
    ['physical', 'rdm'],
    ['virtual', 'rdmp'],
  ] as const)
    test(`takes ${taken} mappings alone for a copy when told so, and writes nothing by the other`, async () => {
      await disk.write(0, Buffer.alloc(4 * MIB, 'old'));
      await lab.set({ rdmClone: taken });
      await attach();

      const failed = await login.run(CLONE(refused));

      assert.equal(failed.code, 255);
      assert.match(
        failed.stderr,
        /Failed to clone disk: The specified feature is not supported by this version \(24\)\./,
      );
      assert.notEqual((await login.run(`ls ${POINTER}`)).code, 0, 'a pointer was made');
      assert.ok((await disk.read(0, 4 * MIB)).equals(Buffer.alloc(4 * MIB, 'old')));
      assert.match(await login.read(CLONE(taken === 'physical' ? 'rdmp' : 'rdm')), /\rClone: 100% done\.\n$/);
    });

  test('goes on after a cut, and gives up on a dead path', async () => {
    await lab.set({ cloneWaitsAtPercent: 40 });
    await attach();
    const running = await login.start(CLONE());
    await lab.cloneWaits();
    assert.equal(await lab.cutIscsi(), 1);
    await lab.set({ cloneWaitsAtPercent: null });
    assert.equal((await running.ended).code, 0);
    const truth = await lab.frozenCopy(await lab.vmId('vm'), 'frozen');
    assert.ok(readFileSync(truth?.['scsi0:0'] ?? '').equals(readFileSync(join(directory, 'image'))));
    await login.read(`vmkfstools -U ${POINTER}`);

    await lab.set({ iscsiPath: 'dead', iscsiPathTimeoutMs: 300 });
    const failed = await login.run(CLONE());
    assert.equal(failed.code, 255);
    assert.match(failed.stderr, /Input\/output error/);
    assert.match(await login.read(`esxcli storage core path list -d ${device}`), /^ {3}State: dead$/m);
  });

  test('loses sessions, devices and commands with the power of the host, and keeps what is configured', async () => {
    await lab.set({ cloneWaitsAtPercent: 40 });
    await attach();
    const id = await lab.vmId('vm');
    const running = await login.start(CLONE());
    await lab.cloneWaits();

    await lab.losePower();

    assert.notEqual((await running.ended.catch(() => null))?.code, 0);
    await assert.rejects(loginToLab(lab));
    const { enabled, statics, sessions, devices, openRules } = await lab.iscsi();
    assert.deepEqual([enabled, statics, sessions, devices], [true, [TARGET], [], []]);
    assert.ok(openRules.includes('vSPC'));
    login.close();
    await lab.boot();
    login = await loginToLab(lab);
    const { vms } = await lab.state();
    assert.equal(vms.find((vm) => vm.id === id)?.powerState, 'poweredOn');
    assert.notEqual((await login.run(`esxcli storage core device list -d ${device}`)).code, 0);
    await login.read(RESCAN);
    assert.deepEqual((await lab.iscsi()).devices, [device]);
    await login.read(`vmkfstools -U ${POINTER}`);
    await lab.set({ cloneWaitsAtPercent: null });
    await login.read(CLONE());
    const truth = await lab.frozenCopy(id, 'frozen');
    assert.ok(readFileSync(truth?.['scsi0:0'] ?? '').equals(readFileSync(join(directory, 'image'))));
  });

  test('does not let go of a device in use, and lets go of a detached one', async () => {
    await lab.set({ cloneWaitsAtPercent: 40 });
    await attach();
    const running = await login.start(CLONE());
    await lab.cloneWaits();

    assert.notEqual((await login.run(`esxcli storage core device set --state=off -d ${device}`)).code, 0);
    assert.notEqual((await login.run(`esxcli iscsi session remove -A vmhba64 -n ${TARGET}`)).code, 0);
    running.abort();
    await lab.set({ cloneWaitsAtPercent: null });
    await running.ended.catch(() => undefined);

    await waitFor(async () => (await login.run(`esxcli storage core device set --state=off -d ${device}`)).code === 0);
    assert.match(await login.read('esxcli storage core device detached list'), new RegExp(device));
  });
});

async function waitFor(condition: () => Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 900; attempt += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail('it did not happen within 90 seconds');
}

import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { SharedPortal } from '../../server/iscsi/index.ts';
import { LOGIN_STATUS } from '../../server/iscsi/login.ts';
import { randomHex } from '../../server/runtime/index.ts';
import type { SourceHost } from '../../server/source/index.ts';
import { OwnInitiator } from '../iscsi/own-initiator.ts';
import { freePort } from '../lab/free-port.ts';
import type { Switches } from '../lab/lab-host.ts';
import { startIscsiScene, type ChildOrder, type IscsiScene } from './iscsi-scene.ts';
import { findMachine, MIB } from './source-scene.ts';

const SIZE_BYTES = 24 * MIB + 512;
const BLOCK_BYTES = 64 * 1024;
let scene: IscsiScene;
let healthy: Switches;
let child: ChildProcess | null = null;

before(async () => {
  scene = await startIscsiScene({
    edition: 'free',
    datastores: [{ name: 'six', type: 'VMFS-6' }],
    vms: [
      {
        name: 'web',
        datastore: 'six',
        running: true,
        disks: [
          { sizeBytes: SIZE_BYTES, fill: { percent: 60, seed: 2 } },
          { sizeBytes: 4 * MIB, node: 'sata0:1', fill: { percent: 50, seed: 3 } },
        ],
        writer: { bytesPerSecond: 100_000, blockBytes: 4096, seed: 6, spanPercent: 10 },
      },
      {
        name: 'mail',
        datastore: 'six',
        running: true,
        disks: [{ sizeBytes: 8 * MIB, fill: { percent: 60, seed: 4 } }],
      },
    ],
  });
  healthy = (await scene.lab.state()).switches;
});
afterEach(async () => {
  child?.kill('SIGKILL');
  child = null;
  await scene.lab.set(healthy);
  delete scene.host.facts.iscsiRefusedAtMs;
  await scene.host.sweep(scene.holds.splice(0));
  await scene.assertUntouched();
  assert.deepEqual((await scene.repository.check({ depth: 'hashes' })).damages, []);
});
after(async () => await scene.close());

/** A host by a connection of its own, whose disks that do not appear are not waited for longer than that. */
async function connectImpatient(deviceTimeoutMs = 2_000): Promise<SourceHost> {
  const iscsi = { portal: new SharedPortal({ bind: '127.0.0.1' }), address: null };
  return await scene.connect({ iscsi, limits: { deviceTimeoutMs } });
}

/** A complete version by this route, equal to what was frozen. */
async function assertBacksUp(machine: string, hold?: string) {
  const backup = await scene.back(machine, hold === undefined ? {} : { hold });
  const { result } = backup;
  assert.equal(result.state, 'success', JSON.stringify([result.error, backup.lines], null, 1));
  assert.deepEqual([...new Set(result.disks.map((disk) => disk.route))], ['iscsi-clone']);
  assert.ok(result.holdReleased);
  await scene.assertEqualsFrozen(result.pointId ?? '', machine, backup.hold);
  return backup;
}

test('backs a running machine up twice, the second time storing what changed, and leaves nothing', async () => {
  const first = await assertBacksUp('web');
  assert.ok(first.lines.some((line) => line.code === 'ROUTE_ISCSI_CLONE'));
  await scene.assertUntouched();

  await scene.lab.set({ writersPaused: true });
  await assertBacksUp('web');
  const blocks = [0, 5 * MIB, SIZE_BYTES - 512].map((offsetBytes) => ({ offsetBytes, data: Buffer.alloc(512, 'new') }));
  await scene.lab.writeAt(await scene.lab.vmId('web'), 'scsi0:0', blocks);
  const second = await assertBacksUp('web');

  assert.ok(second.result.stats.storedBytes > 0);
  assert.ok(
    second.result.stats.storedBytes <= 3 * BLOCK_BYTES + 64 * 1024,
    `${String(second.result.stats.storedBytes)} bytes were stored`,
  );
  assert.equal(second.result.stats.readBytes > 10 * MIB, true);
  for (const { result, hold } of [first, second]) await scene.assertRestores(result.pointId ?? '', 'web', hold);
});

test('has no old bytes where the host leaves out what no layer holds', async () => {
  const id = await scene.lab.vmId('mail');
  await scene.lab.set({ rdmHoles: 'skip' });
  await assertBacksUp('mail');
  // The area goes back to being a hole, as after a guest's discard.
  await scene.lab.writeAt(id, 'scsi0:0', [{ offsetBytes: 0, data: Buffer.alloc(8 * MIB) }]);

  const { result } = await assertBacksUp('mail');

  assert.ok(result.stats.zeroBytes >= 7 * MIB);
});

test('takes two machines at once, and takes back what both needed when the last one ends', async () => {
  await scene.lab.set({ cloneBytesPerSecond: 8 * MIB });
  const backups = await Promise.all([scene.back('web'), scene.back('mail')]);
  for (const { result } of backups) {
    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.deepEqual([...new Set(result.disks.map((disk) => disk.route))], ['iscsi-clone']);
  }
});

test('uses another port when 3260 is taken, opens the firewall for it and closes it again', async () => {
  const squatter = createServer().listen(3260, '127.0.0.1');
  try {
    // Somebody else's target there does just as well.
    await new Promise((resolve) => squatter.once('listening', resolve).once('error', resolve));

    const { lines } = await assertBacksUp('mail');

    const opened = lines.find((line) => line.code === 'ISCSI_FIREWALL_OPENED');
    assert.equal(opened?.details?.['ruleset'], 'vSPC');
    assert.notEqual(opened.details['port'], 3260);
  } finally {
    squatter.close();
  }
});

test('leaves software iSCSI on where it was on', async () => {
  const { run, close } = await loginToHost();
  try {
    await run('esxcli iscsi software set --enabled=true');
    await assertBacksUp('mail');
    assert.equal((await scene.lab.iscsi()).enabled, true);
    await run('esxcli iscsi software set --enabled=false');
  } finally {
    close();
  }
});

test('maps the device physically where the host takes no virtual mapping for a copy, and virtually where it does', async () => {
  for (const rdmClone of ['physical', 'virtual'] as const) {
    await scene.lab.set({ rdmClone });
    await assertBacksUp('web');
    await scene.assertUntouched();
  }
});

test('waits for a slow rescan', async () => {
  await scene.lab.set({ iscsiRescanMs: 4000 });
  await assertBacksUp('mail');
});

test('goes on after the link was cut', async () => {
  await scene.lab.set({ cloneWaitsAtPercent: 40, cloneBytesPerSecond: 6 * MIB });
  const backing = assertBacksUp('web');
  await scene.lab.cloneWaits();
  assert.equal(await scene.lab.cutIscsi(), 1);
  await scene.lab.set({ cloneWaitsAtPercent: null });
  // Once more with writes on their way, unless the copy is over by now.
  await scene.lab.cutIscsi();
  await backing;
});

for (const [fault, switches] of [
  ['the secret is wrong', { iscsiSecret: 'wrong' }],
  ['there is no path', { iscsiPath: 'dead' }],
  ['the initiator cannot be enabled', { iscsiEnable: 'refuse' }],
  ['the host knows no secret for one target', { iscsiTargetChap: 'unknown' }],
  ['the host gives the device another name', { iscsiDeviceName: 'other' }],
  ['the host copies onto no device', { rdmClone: 'none' }],
] as const) {
  test(`takes another route when ${fault}, and remembers it`, async () => {
    await scene.lab.set(switches);
    const host = await connectImpatient();

    const { result, lines, hold } = await scene.back('mail', { host });

    assert.equal(result.state, 'success', JSON.stringify(result.error));
    assert.equal(result.disks[0]?.route, 'host-clone');
    assert.ok(lines.some((line) => line.code === 'ROUTE_CHANGED'));
    assert.ok(host.facts.iscsiRefusedAtMs !== undefined);
    await scene.assertEqualsFrozen(result.pointId ?? '', 'mail', hold);
    await scene.assertUntouched();
    const again = await scene.back('mail', { host });
    assert.ok(again.lines.every((line) => line.code !== 'ROUTE_ISCSI_CLONE'));
  });
}

test('ends by another route when the path dies in the middle', async () => {
  await scene.lab.set({ cloneWaitsAtPercent: 40, iscsiPathTimeoutMs: 500 });
  const backing = scene.back('web', { host: await connectImpatient(5_000) });
  await scene.lab.cloneWaits();
  await scene.lab.set({ iscsiPath: 'dead' });
  await scene.lab.cutIscsi();
  await scene.lab.set({ cloneWaitsAtPercent: null });

  const { result, hold } = await backing;

  assert.equal(result.state, 'success', JSON.stringify(result.error));
  await scene.assertEqualsFrozen(result.pointId ?? '', 'web', hold);
});

test('serves nothing to anybody but the host in the middle of a copy', async () => {
  const port = await freePort();
  const iscsi = { portal: new SharedPortal({ bind: '127.0.0.1', port }), address: null };
  const host = await scene.connect({ iscsi });
  await scene.lab.set({ cloneWaitsAtPercent: 40 });
  const backing = scene.back('mail', { host });
  await scene.lab.cloneWaits();
  const { initiator: initiatorName, statics } = await scene.lab.iscsi();
  const target = statics[0] ?? '';

  for (const choice of [
    { initiatorName, target, user: 'dozo', secret: 'not-the-secret-of-this-run' },
    { initiatorName, target: null, user: 'dozo', secret: 'not-the-secret-of-this-run' },
    { initiatorName: 'iqn.2020-01.test.dozo:stranger', target },
    { initiatorName: 'iqn.2020-01.test.dozo:stranger', target: null },
  ]) {
    const stranger = await OwnInitiator.connect(port);
    assert.equal(await stranger.login(choice), LOGIN_STATUS.authenticationFailed, JSON.stringify(choice));
    assert.equal(await stranger.next(), null);
  }

  await scene.lab.set({ cloneWaitsAtPercent: null });
  const { result, hold } = await backing;
  assert.equal(result.disks[0]?.route, 'iscsi-clone');
  await scene.assertEqualsFrozen(result.pointId ?? '', 'mail', hold);
  await host.close();
});

test('is cancelled in the middle', async () => {
  await scene.lab.set({ cloneWaitsAtPercent: 40 });
  const cancel = new AbortController();
  const backing = scene.back('web', { signal: cancel.signal });
  await scene.lab.cloneWaits();
  cancel.abort();

  const { result } = await backing;

  assert.deepEqual([result.state, result.pointId, result.holdReleased], ['cancelled', null, true]);
  await scene.assertUntouched();
});

test('goes on after the host lost the SSH connection', async () => {
  await scene.lab.set({ cloneWaitsAtPercent: 40 });
  const backing = assertBacksUp('web');
  await scene.lab.cloneWaits();
  assert.ok((await scene.lab.killSessions()) > 0);
  await scene.lab.set({ cloneWaitsAtPercent: null });
  await backing;
});

test('is taken up by a retry, or swept, after kill -9 in the middle of a clone', async () => {
  for (const next of ['retry', 'sweep'] as const) {
    await scene.lab.set({ cloneWaitsAtPercent: 40 });
    const { identity } = await findMachine(scene.host, 'web');
    const hold = `dozo-${randomHex(8)}`;
    scene.holds.push(hold);
    const order: ChildOrder = { address: scene.address, repositoryPath: scene.repositoryPath, identity, hold };
    child = spawn(process.execPath, [join(import.meta.dirname, 'iscsi-child.ts')], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    child.stdin?.end(`${JSON.stringify(order)}\n`);
    await scene.lab.cloneWaits();
    const ended = new Promise((resolve) => child?.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
    assert.ok((await scene.lab.iscsi()).statics.length > 0, 'nothing was left: the test proves nothing');
    await scene.lab.set({ cloneWaitsAtPercent: null });

    if (next === 'retry') await assertBacksUp('web', hold);
    else {
      const report = await scene.host.sweep([hold]);
      assert.deepEqual(report.failed, []);
      assert.ok(report.removed.some(({ what }) => what === 'iSCSI target'));
    }
    await scene.assertUntouched();
  }
});

const HAS_IPV6 = Object.values(networkInterfaces()).some((list) => list?.some(({ address }) => address === '::1'));
for (const [bind, address] of [
  ['0.0.0.0', '127.0.0.2'],
  ['::', '::1'],
] as const) {
  const skip = address === '::1' && !HAS_IPV6 ? 'this machine has no IPv6' : false;
  test(`serves at the address and port that it is told, ${address}`, { skip }, async () => {
    const iscsi = { portal: new SharedPortal({ bind, port: await freePort() }), address };
    const host = await scene.connect({ iscsi });

    const { result, lines } = await scene.back('mail', { host });

    assert.equal(result.disks[0]?.route, 'iscsi-clone', JSON.stringify(lines));
    await scene.assertUntouched();
    await host.close();
  });
}

async function loginToHost() {
  const { loginToLab } = await import('../lab/ssh-login.ts');
  const login = await loginToLab(scene.lab);
  return { run: (command: string) => login.read(command), close: () => login.close() };
}

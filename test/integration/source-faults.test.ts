import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, before, test } from 'node:test';
import { isAppError } from '../../server/errors/index.ts';
import { randomHex } from '../../server/runtime/index.ts';
import type { FreezeRequest, SourceHost } from '../../server/source/index.ts';
import type { Switches } from '../lab/lab-host.ts';
import { startOddSsh } from './odd-ssh.ts';
import {
  assertTruth,
  findMachine,
  HURRIED_CLOCK,
  ImageSink,
  MIB,
  readAll,
  startScene,
  type SourceScene,
} from './source-scene.ts';

let scene: SourceScene;
let host: SourceHost;
let healthy: Switches;
let stagingPath: string;
const children = new Set<ChildProcess>();

before(async () => {
  stagingPath = await mkdtemp(join(tmpdir(), 'dozo-staging-'));
  scene = await startScene({
    edition: 'free',
    nfsShares: { 'nas.example:/volume1/staging': stagingPath },
    datastores: [
      { name: 'raw', type: 'VMFS-5', rawFrozenRead: 'allow' },
      { name: 'six', type: 'VMFS-6' },
    ],
    vms: [
      {
        name: 'raw',
        datastore: 'raw',
        running: true,
        changeTracking: true,
        disks: [{ sizeBytes: 40 * MIB, fill: { percent: 90, seed: 1 } }],
      },
      {
        name: 'six',
        datastore: 'six',
        running: true,
        changeTracking: true,
        disks: [{ sizeBytes: 24 * MIB, fill: { percent: 50, seed: 2 } }],
      },
      { name: 'no tools', datastore: 'six', running: true, tools: false, disks: [{ sizeBytes: MIB }] },
    ],
  });
  healthy = (await scene.lab.state()).switches;
  host = await scene.connect();
});
afterEach(async () => {
  await scene.lab.set(healthy);
  // A failed test must not fail the others.
  if (scene.holds.length > 0) await host.sweep(scene.holds.splice(0));
});
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await scene.close();
  await rm(stagingPath, { recursive: true, force: true });
});

async function freeze(name: string, change: Partial<FreezeRequest> = {}) {
  const request = scene.request(await findMachine(host, name), change);
  return { request, frozen: await host.freeze(request) };
}

for (const [fault, switches, code] of [
  ['SSH is off', { ssh: 'off' }, 'HOST_SSH_OFF'],
  ['SSH drops connections', { ssh: 'drop' }, 'HOST_SSH_DROPPED'],
  ['the host is in lockdown', { lockdown: 'lockdownStrict' }, 'HOST_LOCKDOWN'],
  ['the account has no shell', { role: 'no-shell' }, 'HOST_NOT_ADMINISTRATOR'],
  ['the account may do nothing', { role: 'shell-only' }, 'HOST_NOT_ADMINISTRATOR'],
  ['the host key changed', { sshHostKeyChanged: true }, 'HOST_KEY_CHANGED'],
  ['the certificate changed', { httpsCertificateChanged: true }, 'HOST_CERTIFICATE_CHANGED'],
] as const) {
  test(`does not connect when ${fault}, and says so`, async () => {
    await scene.lab.set(switches);
    await assert.rejects(scene.connect(), { code });
  });
}

for (const [fault, behave, code, retry] of [
  [
    'ends the connection while it has the right password in hand',
    { onPassword: 'hang up' },
    'HOST_SSH_DROPPED',
    'transient',
  ],
  ['ends the connection after the login', { onReady: 'hang up' }, 'HOST_CONNECTION_LOST', 'transient'],
  ['refuses every command', { onSession: 'refuse' }, 'HOST_COMMAND_FAILED', 'permanent'],
  ['has no shell for the account', { onSession: 'no shell' }, 'HOST_NOT_ADMINISTRATOR', 'permanent'],
] as const) {
  test(`does not connect when SSH ${fault}, and tells it apart from the others`, async () => {
    const { connectEsxi } = await import('../../server/source/index.ts');
    const sshd = await startOddSsh(behave);
    try {
      await assert.rejects(connectEsxi({ ...scene.address, sshPort: sshd.port, sshHostKey: null }), { code, retry });
      assert.deepEqual(new Set(sshd.passwords), new Set([scene.address.password]));
    } finally {
      sshd.close();
    }
  });
}

test('says what became of a machine that was moved and called a copy', async () => {
  const machine = await findMachine(host, 'six');
  const identity = { ...machine.identity, instanceUuid: 'c0b1', biosUuid: 'c0b1', path: '[six] elsewhere/six.vmx' };
  await assert.rejects(host.freeze(scene.request({ ...machine, identity })), (error) => {
    assert.ok(isAppError(error));
    assert.equal(error.code, 'MACHINE_NOT_FOUND');
    assert.match(error.hint ?? '', /I Copied It/);
    return true;
  });
});

test('tries a wrong password once', async () => {
  const { connectEsxi } = await import('../../server/source/index.ts');
  await scene.lab.unlockAccounts();
  await assert.rejects(connectEsxi({ ...scene.address, password: 'wrong' }), { code: 'HOST_LOGIN_REFUSED' });
  assert.equal(await scene.lab.loginFailures(), 1);
  await scene.lab.unlockAccounts();
});

test('says that a password is needed beside a key', async () => {
  const { connectEsxi } = await import('../../server/source/index.ts');
  const { password, ...withoutPassword } = scene.address;
  assert.ok(password !== undefined);
  await assert.rejects(connectEsxi({ ...withoutPassword, privateKey: 'any' }), { code: 'HOST_PASSWORD_NEEDED' });
});

test('does not find a machine that is gone', async () => {
  const machine = await findMachine(host, 'six');
  const identity = {
    ...machine.identity,
    instanceUuid: 'x',
    biosUuid: 'x',
    path: '[six] gone/gone.vmx',
    diskUuids: [],
  };
  await assert.rejects(host.freeze(scene.request({ ...machine, identity })), { code: 'MACHINE_NOT_FOUND' });
});

for (const [what, switches, code] of [
  ['silently not taken', { snapshotCreate: 'lost' }, 'SNAPSHOT_NOT_TAKEN'],
  ['refused', { snapshotCreate: 'fail' }, 'SNAPSHOT_FAILED'],
] as const) {
  test(`reports a snapshot that is ${what}, and leaves nothing`, async () => {
    await scene.lab.set(switches);
    await assert.rejects(freeze('six'), { code });
    await scene.lab.set(healthy);
    await scene.assertClean();
  });
}

test('waits for a snapshot that is late, and for its removal', async () => {
  await scene.lab.set({ snapshotCreateMs: 2_000, snapshotRemove: 'early', snapshotRemoveMs: 2_500 });
  const { frozen, request } = await freeze('six');
  await assertTruth(await readAll(frozen), await scene.lab.frozenCopy(await scene.lab.vmId('six'), request.hold));
  await frozen.thaw();
  await scene.assertClean();
});

test('judges consistency by the mark on the snapshot', async () => {
  const works = await freeze('six', { quiesce: 'require' });
  assert.equal(works.frozen.consistency.level, 'filesystem');
  await works.frozen.thaw();

  await scene.lab.set({ quiesce: 'ignored' });
  const ignored = await freeze('six', { quiesce: 'try' });
  assert.equal(ignored.frozen.consistency.level, 'crash');
  await ignored.frozen.thaw();
  await assert.rejects(freeze('six', { quiesce: 'require' }), { code: 'SNAPSHOT_QUIESCE_REFUSED' });

  await scene.lab.set({ quiesce: 'fail-application' });
  const failed = await freeze('six', { quiesce: 'try' });
  assert.equal(failed.frozen.consistency.level, 'crash');
  assert.match(failed.frozen.consistency.evidence, /\S/);
  await failed.frozen.thaw();
  await assert.rejects(freeze('six', { quiesce: 'require' }), { code: 'SNAPSHOT_QUIESCE_REFUSED' });
  await assert.rejects(freeze('no tools', { quiesce: 'require' }), { code: 'SNAPSHOT_QUIESCE_REFUSED' });
  const without = await freeze('no tools', { quiesce: 'try' });
  assert.equal(without.frozen.consistency.level, 'crash');
  await without.frozen.thaw();
  await scene.lab.set(healthy);
  await scene.assertClean();
});

test('says that a snapshot cannot be removed, and removes it once it can', async () => {
  const { frozen, request } = await freeze('six');
  await scene.lab.set({ snapshotRemove: 'fail' });
  await assert.rejects(frozen.thaw(), { code: 'SNAPSHOT_REMOVE_FAILED' });
  await scene.lab.set(healthy);
  const report = await host.sweep([request.hold]);
  assert.deepEqual(report.failed, []);
  assert.equal(report.removed.length, 1);
  await scene.assertClean();
});

test('says that disks need consolidation, and does not snapshot them again', async () => {
  const { frozen } = await freeze('no tools');
  await scene.lab.set({ snapshotRemove: 'stays' });
  await assert.rejects(frozen.thaw(), { code: 'SNAPSHOT_CONSOLIDATION_NEEDED' });
  await scene.lab.set(healthy);
  await assert.rejects(freeze('no tools'), { code: 'SNAPSHOT_CONSOLIDATION_NEEDED' });
  await scene.lab.call('POST', `/vms/${String(await scene.lab.vmId('no tools'))}/consolidate`);
  await scene.assertClean();
});

test('does not snapshot on a full datastore', async () => {
  await scene.lab.set({ datastoresFull: ['six'] });
  await assert.rejects(freeze('six'), { code: 'DATASTORE_FULL' });
  await scene.lab.set(healthy);
  await scene.assertClean();
});

test('ends the run and removes the snapshot before a datastore is full', async () => {
  const watching = await scene.connect({ limits: { watchIntervalMs: 200 } });
  const machine = await findMachine(watching, 'raw');
  const frozen = await watching.freeze(scene.request(machine));
  const [disk] = frozen.disks;
  assert.ok(disk !== undefined);
  const signal = new AbortController().signal;
  const plan = await disk.plan(null, signal);
  const slow = {
    write: async () => await new Promise<void>((done) => void setTimeout(done, 400)),
    zero: async () => await Promise.resolve(),
  };
  const reading = plan.transfer(slow, { signal });
  await scene.lab.set({ datastoresFull: ['raw'] });
  await assert.rejects(reading, { code: 'DATASTORE_FULL' });
  await scene.lab.set(healthy);
  await frozen.thaw();
  await scene.assertClean();
});

test('goes on after sessions are killed in the middle of a disk', async () => {
  const { frozen, request } = await freeze('raw');
  const [disk] = frozen.disks;
  assert.ok(disk !== undefined);
  const signal = new AbortController().signal;
  const plan = await disk.plan(null, signal);
  const sink = new ImageSink(disk.disk.sizeBytes);
  let kills = 0;
  const cutting = {
    write: async (offsetBytes: number, data: Buffer) => {
      if (kills < 2 && sink.delivered.length % 3 === 2) {
        kills += 1;
        await scene.lab.killSessions();
      }
      await sink.write(offsetBytes, data);
    },
    zero: async (offsetBytes: number, lengthBytes: number) => await sink.zero(offsetBytes, lengthBytes),
  };
  await plan.transfer(cutting, { signal });
  assert.equal(kills, 2);
  const image = { image: sink.image, kind: '', route: '', why: '', token: null, readBytes: 0 };
  await assertTruth({ 'scsi0:0': image }, await scene.lab.frozenCopy(await scene.lab.vmId('raw'), request.hold));
  await frozen.thaw();
  await scene.assertClean();
});

test('gives up within bounds when SSH stays away in the middle of a disk', async () => {
  const hurried = await scene.connect({ clock: HURRIED_CLOCK });
  const frozen = await hurried.freeze(scene.request(await findMachine(hurried, 'raw')));
  const [disk] = frozen.disks;
  assert.ok(disk !== undefined);
  const signal = new AbortController().signal;
  const plan = await disk.plan(null, signal);
  const cutting = {
    write: async () => {
      await scene.lab.set({ ssh: 'off' });
      await scene.lab.killSessions();
    },
    zero: async () => await Promise.resolve(),
  };
  await assert.rejects(plan.transfer(cutting, { signal }), { code: 'HOST_CONNECTION_LOST' });
  await scene.lab.set(healthy);
  await frozen.thaw();
  await scene.assertClean();
});

for (const [what, switches, code] of [
  ['is short of windows', { changedAreas: 'partial', changedAreasMax: 2 }, 'CHANGES_FIRST'],
  ['overlaps', { changedAreas: 'overlap' }, 'CHANGES_MAP_INVALID'],
  ['is not kept', { changedAreas: 'noTrack' }, 'CHANGES_NOT_TRACKED'],
  ['has no epoch', { changedAreas: 'noEpoch' }, 'CHANGES_NO_MAP'],
  ['is broken', { changedAreas: 'cannotGetChanges' }, 'CHANGES_UNKNOWN'],
] as const) {
  test(`reads the right bytes when the change map ${what}, and says why it reads them all`, async () => {
    await scene.lab.set(switches);
    const { frozen, request } = await freeze('raw');
    const disks = await readAll(frozen);
    assert.equal(disks['scsi0:0']?.why, code);
    await assertTruth(disks, await scene.lab.frozenCopy(await scene.lab.vmId('raw'), request.hold));
    await frozen.thaw();
    await scene.assertClean();
  });
}

test('remembers that the licence refuses change maps', async () => {
  await scene.lab.set({ freeChangedAreas: 'refuse' });
  const fresh = await scene.connect();
  const machine = await findMachine(fresh, 'raw');
  const frozen = await fresh.freeze(scene.request(machine));
  const disks = await readAll(frozen);
  assert.deepEqual([disks['scsi0:0']?.why, fresh.facts.changeTracking], ['CHANGES_LICENSE', 'refused']);
  await frozen.thaw();
  const again = await scene.connect({ facts: fresh.facts });
  assert.equal(again.facts.changeTracking, 'refused');
  assert.equal(again.facts.routes['raw'], 'ssh-raw');
});

test('takes the next way when HTTPS ignores ranges or the NAS cannot be mounted', async () => {
  await scene.lab.set({ folderRange: 'ignored', nfsMount: 'denied' });
  const nfsStaging = { server: 'nas.example', share: '/volume1/staging', localPath: stagingPath };
  const { frozen, request } = await freeze('raw', { withoutRoutes: ['ssh-raw'], nfsStaging });
  const disks = await readAll(frozen);
  assert.equal(disks['scsi0:0']?.route, 'host-clone');
  await assertTruth(disks, await scene.lab.frozenCopy(await scene.lab.vmId('raw'), request.hold));
  await frozen.thaw();
  await scene.assertClean();
});

test('reports a copy that fails half way, and leaves nothing of it', async () => {
  await scene.lab.set({ cloneFailAtPercent: 40 });
  const { frozen } = await freeze('six');
  await assert.rejects(readAll(frozen), { code: 'DISK_CLONE_FAILED' });
  await frozen.thaw();
  await scene.assertClean();
});

test('leaves nothing when it is cancelled while a copy runs', async () => {
  await scene.lab.set({ cloneWaitsAtPercent: 40 });
  const stop = new AbortController();
  const { frozen } = await freeze('six');
  const [disk] = frozen.disks;
  assert.ok(disk !== undefined);
  const plan = await disk.plan(null, stop.signal);
  const reading = plan.transfer(new ImageSink(disk.disk.sizeBytes), { signal: stop.signal });
  const ended = assert.rejects(reading);
  await scene.lab.cloneWaits();
  stop.abort();
  await ended;
  await scene.lab.set(healthy);
  await frozen.thaw();
  await scene.assertClean();
});

test('leaves nothing when it is cancelled while the snapshot is made', async () => {
  await scene.lab.set({ snapshotCreateMs: 3_000 });
  const stop = new AbortController();
  const machine = await findMachine(host, 'six');
  const ended = assert.rejects(host.freeze(scene.request(machine, { signal: stop.signal })));
  await untilSnapshots('begun');
  stop.abort();
  await ended;
  await untilSnapshots('over');
  await scene.assertClean();
});

/** Waits until the host is making a snapshot, or does nothing any more. */
async function untilSnapshots(what: 'begun' | 'over'): Promise<void> {
  for (let attempt = 0; attempt < 1200; attempt += 1) {
    const running = (await scene.lab.state()).tasks.filter(({ state }) => state === 'running');
    const isBegun = running.some(({ descriptionId }) => descriptionId === 'VirtualMachine.createSnapshot');
    if (what === 'begun' ? isBegun : running.length === 0) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.fail(`not ${what} within a minute`);
}

async function startChild(
  order: { name: string; hold: string; nfs: boolean; read: boolean },
  until: string,
): Promise<ChildProcess> {
  const machine = await findMachine(host, order.name);
  const child = spawn(process.execPath, [join(import.meta.dirname, 'source-child.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const nfsStaging = order.nfs ? { server: 'nas.example', share: '/volume1/staging', localPath: stagingPath } : null;
  const { hold, read } = order;
  child.stdin.write(
    `${JSON.stringify({ address: scene.address, machine: machine.identity, hold, nfsStaging, read })}\n`,
  );
  const lines = createInterface({ input: child.stdout });
  await new Promise<void>((resolve, reject) => {
    lines.on('line', (line) => {
      if (line === until) resolve();
    });
    children.add(child);
    child.once('exit', (code) => reject(new Error(`the child ended with ${String(code)} before "${until}"`)));
  });
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

test('takes up the snapshot of a run that was killed', async () => {
  const hold = `dozo-${randomHex(8)}`;
  await kill(await startChild({ name: 'raw', hold, nfs: false, read: false }, 'frozen'));
  const machine = await findMachine(host, 'raw');
  await assert.rejects(host.freeze(scene.request(machine)), { code: 'SNAPSHOT_LEFTOVER' });
  const frozen = await host.resume(scene.request(machine, { hold }));
  assert.ok(frozen !== null);
  await assertTruth(await readAll(frozen), await scene.lab.frozenCopy(await scene.lab.vmId('raw'), hold));
  await frozen.thaw();
  assert.equal(await host.resume(scene.request(machine, { hold })), null);
  await scene.assertClean();
});

test('sweeps a snapshot that the host was still making when the run was killed', async () => {
  await scene.lab.set({ snapshotCreateMs: 3_000 });
  const hold = `dozo-${randomHex(8)}`;
  const child = await startChild({ name: 'raw', hold, nfs: false, read: false }, 'connected');
  await untilSnapshots('begun');
  await kill(child);
  const report = await host.sweep([hold]);
  assert.deepEqual(report, { removed: [{ hold, what: 'snapshot of raw' }], failed: [], unseen: [] });
  await scene.assertClean();
});

for (const [what, nfs] of [
  ['on the host', false],
  ['on the NAS', true],
] as const) {
  test(`sweeps what a run left that was killed while it copied ${what}, and nothing else`, async () => {
    const id = await scene.lab.vmId('no tools');
    await scene.lab.createSnapshot(id, 'dozo-like, but not ours');
    await scene.lab.set({ cloneWaitsAtPercent: 40 });
    const hold = `dozo-${randomHex(8)}`;
    const child = await startChild(
      { name: 'six', hold, nfs, read: true },
      nfs ? 'ROUTE_NFS_CLONE' : 'ROUTE_HOST_CLONE',
    );
    await scene.lab.cloneWaits();
    await kill(child);

    const report = await host.sweep([hold, 'not-a-hold', '../../etc']);

    assert.deepEqual(report.failed, []);
    assert.ok(report.removed.length >= 2, JSON.stringify(report.removed));
    assert.deepEqual((await host.sweep([hold])).removed, []);
    await scene.assertClean();
    const state = await scene.lab.state();
    const vm = state.vms.find((candidate) => candidate.id === id);
    assert.equal(vm?.snapshots?.roots[0]?.name, 'dozo-like, but not ours');
    await scene.lab.removeSnapshot(id, vm.snapshots.roots[0]?.id ?? 0);
  });
}

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isAppError } from '../../server/errors/index.ts';
import { connectSsh, shell, type SshConnection, type SshOptions } from '../../server/ssh/index.ts';
import {
  connectVsphere,
  type ObjectContent,
  type Reference,
  type VsphereClient,
  type VsphereOptions,
} from '../../server/vsphere/index.ts';
import { type LabHost, type LabOptions, startLabHost } from '../lab/lab-host.ts';
import { labSoapObstacle } from '../lab/soap/build.ts';

const MIB = 1024 * 1024;
const NAME = 'web [1]';
const obstacle = userInfo().uid === 0 ? await labSoapObstacle() : 'the lab needs root';
const skip = obstacle ?? false;

const hasCode =
  (code: string, details: Record<string, unknown> = {}) =>
  (error: unknown): boolean => {
    assert.ok(isAppError(error), `an AppError, not ${String(error)}`);
    assert.equal(error.code, code, error.message);
    for (const [name, value] of Object.entries(details)) assert.equal(error.details[name], value);
    return true;
  };

interface Lab {
  host: LabHost;
  https(changes?: Partial<VsphereOptions>): VsphereOptions;
  ssh(changes?: Partial<SshOptions>): SshOptions;
  stop(): Promise<void>;
}

async function startLab(options: Partial<LabOptions>): Promise<Lab> {
  const directory = mkdtempSync(join(tmpdir(), 'dozo-lab-'));
  const host = await startLabHost({ directory, ...options });
  const { address, user, password } = host;
  return {
    host,
    https: (changes = {}) => ({
      host: address,
      port: host.httpsPort ?? 0,
      user,
      password,
      certificate: host.tlsCertificate,
      ...changes,
    }),
    ssh: (changes = {}) => ({
      host: address,
      port: host.sshPort,
      user,
      password,
      hostKey: host.sshHostKey,
      channelsMax: 4,
      ...changes,
    }),
    stop: async () => {
      await host.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** First disk of a machine or of a snapshot of it. */
function disk(content: ObjectContent): { key: number; capacityInBytes: number; backing: Record<string, unknown> } {
  const hardware = content.properties['config.hardware'] as { device: Record<string, unknown>[] };
  const found = hardware.device.find((device) => device['_type'] === 'VirtualDisk');
  assert.ok(found);
  return found as never;
}

describe('a licensed host', { skip }, () => {
  let lab: Lab;
  let client: VsphereClient;
  before(async () => {
    lab = await startLab({
      edition: 'licensed',
      datastores: [{ name: 'ds (1) ü', type: 'VMFS-6' }],
      vms: [
        { name: NAME, disks: [{ sizeBytes: 64 * MIB, fill: 'random' as never }], running: true, changeTracking: true },
        { name: 'off', disks: [{ sizeBytes: 8 * MIB }] },
        { name: 'third', disks: [{ sizeBytes: MIB }] },
      ],
    } as Partial<LabOptions>);
    client = await connectVsphere(lab.https());
  });
  after(async () => {
    await client?.close();
    await lab?.stop();
  });

  const machine = async (name: string): Promise<Reference> => ({
    type: 'VirtualMachine',
    value: String(await lab.host.vmId(name)),
  });

  test('tells itself, its licence and its machines, page by page', async () => {
    await lab.host.set({ soapPageSizeMax: 1 });

    const machines = await client.retrieve('VirtualMachine', [
      'name',
      'runtime.powerState',
      'config.hardware',
      'snapshot',
    ]);

    await lab.host.set({ soapPageSizeMax: null });
    assert.equal(client.about.apiType, 'HostAgent');
    assert.equal(client.certificate, lab.host.tlsCertificate);
    assert.equal(await client.lockdownMode(), 'lockdownDisabled');
    assert.equal((await client.licenses()).length, 1);
    const names = machines.map(({ properties }) => properties['name']);
    assert.deepEqual(new Set(names), new Set([NAME, 'off', 'third']));
    const running = machines.find(({ properties }) => properties['name'] === NAME);
    assert.ok(running);
    assert.equal(running.properties['runtime.powerState'], 'poweredOn');
    assert.equal(running.properties['snapshot'], undefined);
    assert.equal(disk(running).capacityInBytes, 64 * MIB);
  });

  test('takes snapshots, tells what changed between them, and removes them', async () => {
    await lab.host.set({ taskQueuedMs: 300 });
    const reference = await machine(NAME);
    const vmId = Number(reference.value);
    const options = { name: `dozo-1 <&> "x"`, description: '仮想', memory: false, quiesce: false };
    const first = await client.createSnapshot(reference, options);
    const before = disk(await client.retrieveOne(first, ['config.hardware']));
    await lab.host.write(vmId, { count: 20, blockBytes: 65_536, seed: 7 });
    const second = await client.createSnapshot(reference, { ...options, name: 'dozo-2' });

    const reply = await client.queryChangedDiskAreas({
      machine: reference,
      snapshot: second,
      deviceKey: before.key,
      startOffsetBytes: 0,
      changeId: String(before.backing['changeId']),
    });

    const known = await lab.host.changedAreas(vmId, {
      snapshot: Number(second.value.split('-').at(-1)),
      deviceKey: before.key,
      startOffset: 0,
      changeId: String(before.backing['changeId']),
    });
    assert.ok(reply.areas.length > 0);
    assert.deepEqual(
      reply.areas,
      known.areas.map(({ start, length }) => ({ offsetBytes: start, lengthBytes: length })),
    );
    assert.equal(reply.startOffsetBytes, 0);
    assert.equal(reply.lengthBytes, known.length);

    await client.removeSnapshot(second);
    await client.removeSnapshot(first);
    const left = await client.retrieveOne(reference, ['snapshot']);
    assert.equal(left.properties['snapshot'], undefined);
    await lab.host.set({ taskQueuedMs: 0 });
  });

  test('passes the faults of change maps and of snapshots', async () => {
    const reference = await machine(NAME);
    const options = { name: 'dozo-3', description: '', memory: false, quiesce: false };
    const snapshot = await client.createSnapshot(reference, options);
    const { key } = disk(await client.retrieveOne(snapshot, ['config.hardware']));
    const wanted = { machine: reference, snapshot, deviceKey: key, startOffsetBytes: 0, changeId: '*' };

    await lab.host.set({ changedAreas: 'noTrack' });
    await assert.rejects(
      client.queryChangedDiskAreas(wanted),
      hasCode('SOAP_FAULT', { fault: 'FileFault', key: 'vim.hostd.vmsvc.cbt.noTrack' }),
    );
    await lab.host.set({ changedAreas: 'works' });
    await assert.rejects(
      client.queryChangedDiskAreas({ ...wanted, startOffsetBytes: 64 * MIB }),
      hasCode('SOAP_FAULT', { fault: 'InvalidArgument' }),
    );

    await lab.host.set({ snapshotRemove: 'fail' });
    await assert.rejects(client.removeSnapshot(snapshot), hasCode('SOAP_FAULT'));
    await lab.host.set({ snapshotRemove: 'works' });
    await client.removeSnapshot(snapshot);
    await assert.rejects(client.removeSnapshot(snapshot), hasCode('SOAP_FAULT', { fault: 'ManagedObjectNotFound' }));
  });

  test('logs in again when the host forgot the session', async () => {
    await lab.host.set({ soapForgetSessions: 1 });

    const options = { name: 'dozo-4', description: '', memory: false, quiesce: false };
    const snapshot = await client.createSnapshot(await machine(NAME), options);
    await lab.host.set({ soapForgetSessions: 2 });
    await client.removeSnapshot(snapshot);

    assert.equal((await client.retrieveOne(await machine(NAME), ['snapshot'])).properties['snapshot'], undefined);
  });

  test('registers and unregisters a machine', async () => {
    const off = await machine('third');
    const path = (await client.retrieveOne(off, ['config.files.vmPathName'])).properties['config.files.vmPathName'];
    await client.unregisterMachine(off);
    const names = (await client.retrieve('VirtualMachine', ['name'])).map(({ properties }) => properties['name']);
    assert.ok(!names.includes('third'));

    const again = await client.registerMachine(String(path), 'third');

    assert.equal((await client.retrieveOne(again, ['name'])).properties['name'], 'third');
  });

  test('reads files of a datastore, in parts where they are not locked', async () => {
    const descriptor = (await client.folder.read('ds (1) ü', 'off/off.vmdk')).toString();
    assert.match(descriptor, /# Disk DescriptorFile/);

    const flat = readFileSync(lab.host.localPath(`/vmfs/volumes/ds (1) ü/off/off-flat.vmdk`));
    const range = { offsetBytes: 3 * MIB + 512, lengthBytes: MIB };
    const part = await client.folder.readRange('ds (1) ü', 'off/off-flat.vmdk', range);
    assert.ok(part.equals(flat.subarray(range.offsetBytes, range.offsetBytes + range.lengthBytes)));

    await assert.rejects(
      client.folder.readRange('ds (1) ü', `${NAME}/${NAME}-flat.vmdk`, range),
      hasCode('DISK_READ_REFUSED'),
    );
    await assert.rejects(client.folder.read('ds (1) ü', 'off/none.vmx'), hasCode('NOT_FOUND'));
    await assert.rejects(
      client.folder.readRange('ds (1) ü', 'off/off-flat.vmdk', { offsetBytes: 8 * MIB, lengthBytes: 512 }),
      hasCode('DISK_READ_SHORT'),
    );

    await lab.host.set({ folderRange: 'ignored' });
    await assert.rejects(
      client.folder.readRange('ds (1) ü', 'off/off-flat.vmdk', range),
      hasCode('DISK_RANGE_IGNORED'),
    );
    await lab.host.set({ folderRange: 'works', folderCutAfterBytes: 100_000 });
    await assert.rejects(client.folder.readRange('ds (1) ü', 'off/off-flat.vmdk', range), (error) => {
      assert.ok(isAppError(error) && ['HOST_CONNECTION_LOST', 'DISK_READ_SHORT'].includes(error.code));
      return true;
    });
    await lab.host.set({ folderCutAfterBytes: null });
  });
});

describe('a free host that misbehaves', { skip }, () => {
  let lab: Lab;
  before(async () => {
    lab = await startLab({ edition: 'free', vms: [{ name: 'one', disks: [{ sizeBytes: MIB }], running: true }] });
  });
  after(async () => await lab?.stop());
  afterEach(async () => await lab.host.unlockAccounts());

  test('lets itself be read and refuses what its licence does not allow', async () => {
    const client = await connectVsphere(lab.https());
    const reference = { type: 'VirtualMachine', value: String(await lab.host.vmId('one')) };

    assert.equal((await client.retrieveOne(reference, ['name'])).properties['name'], 'one');
    await assert.rejects(
      client.createSnapshot(reference, { name: 'dozo', description: '', memory: false, quiesce: false }),
      hasCode('HOST_LICENSE_REFUSES'),
    );
    await client.close();
  });

  test('sees a wrong password once from each side', async () => {
    await assert.rejects(connectVsphere(lab.https({ password: 'wrong' })), hasCode('HOST_LOGIN_REFUSED'));
    assert.equal(await lab.host.loginFailures(), 1);
    await assert.rejects(connectSsh(lab.ssh({ password: 'wrong' })), hasCode('HOST_LOGIN_REFUSED'));
    assert.equal(await lab.host.loginFailures(), 2);
  });

  test('is not trusted with another certificate or key', async () => {
    await lab.host.set({ httpsCertificateChanged: true, sshHostKeyChanged: true });

    await assert.rejects(connectVsphere(lab.https()), hasCode('HOST_CERTIFICATE_CHANGED'));
    await assert.rejects(connectSsh(lab.ssh()), hasCode('HOST_KEY_CHANGED'));

    assert.equal(await lab.host.loginFailures(), 0);
    await lab.host.set({ httpsCertificateChanged: false, sshHostKeyChanged: false });
  });

  test('tells lockdown, closed ports and silence apart', async () => {
    await lab.host.set({ lockdown: 'lockdownNormal' });
    await assert.rejects(connectVsphere(lab.https()), hasCode('HOST_LOCKDOWN'));
    await lab.host.set({ lockdown: 'lockdownDisabled', https: 'off', ssh: 'off' });
    await assert.rejects(connectVsphere(lab.https()), hasCode('HOST_PORT_REFUSED'));
    await assert.rejects(connectSsh(lab.ssh()), hasCode('HOST_SSH_OFF'));
    await lab.host.set({ https: 'stall', ssh: 'drop' });
    await assert.rejects(connectVsphere(lab.https({ connectTimeoutMs: 500 })), hasCode('HOST_UNREACHABLE'));
    await assert.rejects(connectSsh(lab.ssh()), hasCode('HOST_SSH_DROPPED'));
    await lab.host.set({ https: 'on', ssh: 'on' });
  });
});

describe('the shell of a host', { skip }, () => {
  let lab: Lab;
  let ssh: SshConnection;
  before(async () => {
    lab = await startLab({ https: false });
    ssh = await connectSsh(lab.ssh());
  });
  after(async () => {
    await ssh?.close();
    await lab?.stop();
  });

  test('runs commands with names of every kind', async () => {
    const name = `it's "a" $(b) [c] 仮想`;

    await ssh.exec(shell`mkdir -p ${`/tmp/${name}`}`);

    const listed = await ssh.exec(shell`cd /tmp && printf '%s\\n' *`);
    assert.ok(listed.stdout.toString('utf8').split('\n').includes(name));
    assert.equal(listed.stderr, '');
    assert.equal((await ssh.exec(shell`command-that-is-not-there`)).code, 127);
  });

  test('moves bytes both ways whole', async () => {
    const content = Buffer.alloc(9_000_001, 'abcdefg');
    const written = await ssh.open(shell`cat > ${'/tmp/moved'}`);
    written.stdout.resume();
    written.stdin.end(content);
    assert.equal((await written.exit).code, 0);

    const read = await ssh.open(shell`dd if=${'/tmp/moved'} bs=1048576`);
    const hash = createHash('sha256');
    for await (const chunk of read.stdout) hash.update(chunk as Buffer);

    assert.equal((await read.exit).code, 0);
    assert.equal(hash.digest('hex'), createHash('sha256').update(content).digest('hex'));
  });

  test('ends an aborted command on the host', async () => {
    const isRunning = async (): Promise<boolean> =>
      (await ssh.exec(shell`ps w | grep '[s]leep 4321'`)).stdout.length > 0;
    const running = ssh.exec(shell`sleep 4321; echo over`, { signal: AbortSignal.timeout(300) });
    await assert.rejects(running, hasCode('CANCELLED'));

    for (let attempt = 0; await isRunning(); attempt += 1) {
      assert.ok(attempt < 900, 'it still runs');
      await delay(100);
    }
  });

  test('tells a session that was cut in the middle of a disk, and one that froze', async () => {
    await ssh.close(); // It has sent enough by now to be the one that is cut.
    await lab.host.set({ killSessionAfterBytes: 2_000_000, killSessionsMax: 1 });
    const cut = await connectSsh(lab.ssh());
    const channel = await cut.open(shell`cat /dev/zero`);
    await assert.rejects(async () => {
      for await (const chunk of channel.stdout) assert.ok(chunk);
    }, hasCode('HOST_CONNECTION_LOST'));
    await cut.close();
    await lab.host.set({ killSessionAfterBytes: null, killSessionsMax: null });

    const frozen = await connectSsh(lab.ssh({ stallTimeoutMs: 5_000 }));
    const command = frozen.exec(shell`sleep 600`);
    await lab.host.set({ ssh: 'stall' });
    await assert.rejects(command, hasCode('HOST_STALLED'));
    await lab.host.set({ ssh: 'on' });
    await frozen.close();
  });
});

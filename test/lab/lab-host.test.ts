import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { LabFault, startLabHost, type LabHost } from './lab-host.ts';
import { loginToLab, type LabLogin } from './ssh-login.ts';

const MIB = 1024 * 1024;

let directory: string;
let lab: LabHost;
let login: LabLogin;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dozo-lab-'));
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(directory, 'key')]);
  lab = await startLabHost({
    directory: join(directory, 'lab'),
    https: false,
    authorizedKeys: [readFileSync(join(directory, 'key.pub'), 'utf8')],
    datastores: [
      { name: 'vmfs six', type: 'VMFS-6', capacityBytes: 2048 * MIB },
      { name: 'vmfs5', type: 'VMFS-5', capacityBytes: 2048 * MIB },
      { name: 'nfs', type: 'NFS', capacityBytes: 2048 * MIB },
    ],
    nfsShares: { 'nas.example:/volume1/stage': join(directory, 'stage') },
    switches: { keepTruth: true, snapshotCreateMs: 0, snapshotRemoveMs: 0, quiesceMs: 0 },
    vms: [
      {
        name: 'six',
        datastore: 'vmfs six',
        running: true,
        changeTracking: true,
        // Not a multiple of a grain, of a tracked block or of a mebibyte.
        disks: [{ sizeBytes: 48 * MIB + 512 * 5, fill: { percent: 40 } }],
        writer: { bytesPerSecond: 2 * MIB },
        memoryMib: 64,
      },
      {
        name: 'five (Größe) 日本',
        datastore: 'vmfs5',
        running: true,
        changeTracking: true,
        disks: [
          { sizeBytes: 32 * MIB, fill: { percent: 40, seed: 2 } },
          { sizeBytes: 16 * MIB, datastore: 'nfs', provisioning: 'zeroedthick', node: 'sata0:3' },
          { sizeBytes: 8 * MIB, mode: 'independent-persistent' },
        ],
        writer: { bytesPerSecond: 2 * MIB },
        memoryMib: 64,
        annotation: 'first line\n13     imitated      [ds] a/a.vmx     other     vmx-19',
      },
    ],
  });
  login = await loginToLab(lab);
});

after(async () => {
  login.close();
  await lab.close();
  rmSync(directory, { recursive: true, force: true });
});

async function disk(name: string, index = 0): Promise<{ folder: string; base: string; flat: string; top: string }> {
  const vm = (await lab.state()).vms.find((candidate) => candidate.name === name);
  const chain = vm?.disks[index]?.chain;
  const base = chain?.at(-1)?.absolutePath ?? '';
  return {
    folder: base.slice(0, base.lastIndexOf('/')),
    base,
    flat: base.replace(/\.vmdk$/, '-flat.vmdk'),
    top: chain?.[0]?.absolutePath ?? '',
  };
}

function local(path: string): string {
  return lab.localPath(path);
}

function assertSameBytes(one: string, other: string): void {
  execFileSync('cmp', [one, other]);
}

function sectorsDiffering(one: string, other: string, sizeBytes: number, blockBytes: number): number[] {
  const [a, b] = [openSync(one, 'r'), openSync(other, 'r')];
  const [left, right] = [Buffer.alloc(blockBytes), Buffer.alloc(blockBytes)];
  const differing: number[] = [];
  for (let at = 0; at < sizeBytes; at += blockBytes) {
    const length = Math.min(blockBytes, sizeBytes - at);
    readSync(a, left, 0, length, at);
    readSync(b, right, 0, length, at);
    if (!left.subarray(0, length).equals(right.subarray(0, length))) differing.push(at);
  }
  closeSync(a);
  closeSync(b);
  return differing;
}

describe('login', () => {
  beforeEach(() => lab.unlockAccounts());

  test('offers public keys and keyboard-interactive, and no plain password', async () => {
    const { stderr } = await new Promise<{ stderr: string }>((resolve) => {
      const child = spawn('ssh', [
        ...['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'BatchMode=yes'],
        ...['-o', 'PreferredAuthentications=none', '-p', String(lab.sshPort), `${lab.user}@${lab.address}`, 'true'],
      ]);
      let text = '';
      child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
      child.on('close', () => resolve({ stderr: text }));
    });
    assert.match(stderr, /\(publickey,keyboard-interactive\)/);
  });

  test('takes a key', async () => {
    const other = await loginToLab(lab, { privateKey: readFileSync(join(directory, 'key'), 'utf8') });
    assert.equal(await other.read('echo hello'), 'hello\n');
    other.close();
  });

  test('locks an account after repeated wrong passwords, for SSH and SOAP alike', async () => {
    await lab.set({ loginFailuresMax: 3 });
    await assert.rejects(loginToLab(lab, { password: 'wrong' }));
    assert.equal(await lab.loginFailures(), 1);
    const soap = (password: string) => lab.call('POST', '/login', { user: lab.user, password });
    assert.deepEqual(await soap('wrong'), { refused: true });
    assert.deepEqual(await soap('wrong'), { refused: true });
    assert.deepEqual(await soap(lab.password), { locked: true });
    await assert.rejects(loginToLab(lab));
    await assert.rejects(loginToLab(lab, { privateKey: readFileSync(join(directory, 'key'), 'utf8') }));
    await lab.unlockAccounts();
    const again = await loginToLab(lab);
    again.close();
    assert.equal(await lab.loginFailures(), 0);
  });

  test('keeps its host key until told to show another', async () => {
    const shown = () =>
      execFileSync(
        'sh',
        ['-c', `ssh-keyscan -t ed25519 -p ${lab.sshPort} ${lab.address} 2>/dev/null | ssh-keygen -lf -`],
        {
          encoding: 'utf8',
        },
      ).split(' ')[1];
    assert.equal(shown(), lab.sshHostKey);
    await lab.set({ sshHostKeyChanged: true });
    assert.notEqual(shown(), lab.sshHostKey);
    await lab.set({ sshHostKeyChanged: false });
    assert.equal(shown(), lab.sshHostKey);
    // Sessions outlive a change of the service.
    assert.equal(await login.read('echo still here'), 'still here\n');
  });

  test('refuses, drops and stalls connections as told', async () => {
    await lab.set({ ssh: 'off' });
    await assert.rejects(loginToLab(lab), { code: 'ECONNREFUSED' });
    await lab.set({ ssh: 'drop' });
    await assert.rejects(loginToLab(lab), (error: { code?: string }) => error.code !== 'ECONNREFUSED');
    await lab.set({ ssh: 'on' });
    const session = await loginToLab(lab);
    await lab.set({ ssh: 'stall' });
    const silent = session.run('echo late');
    assert.equal(await Promise.race([silent, delay(400, 'silent')]), 'silent');
    await lab.set({ ssh: 'on' });
    assert.equal((await silent).stdout, 'late\n');
    session.close();
  });

  test('cuts a session in the middle of a stream', async () => {
    const session = await loginToLab(lab);
    await lab.set({ killSessionAfterBytes: 4 * MIB, killSessionsMax: 1 });
    const { stdout, code } = await session.run('dd if=/dev/zero bs=1048576 count=400 2>/dev/null');
    assert.ok(stdout.length < 400 * MIB);
    assert.equal(code, null);
    await lab.set({ killSessionAfterBytes: null, killSessionsMax: null });
    session.close();
    login.close();
    login = await loginToLab(lab);
  });
});

describe('shell', () => {
  test('is an ash that lacks what a host lacks', async () => {
    assert.equal((await login.run('tr a b')).code, 127);
    assert.equal((await login.run('timeout 1 true')).code, 127);
    assert.equal(await login.read('which vim-cmd vmkfstools esxcli'), '/bin/vim-cmd\n/sbin/vmkfstools\n/bin/esxcli\n');
    assert.match(await login.read('vmware -v'), /^VMware ESXi 8\.0\.3 build-\d+$/m);
    assert.match(await login.read('uname -a'), /^VMkernel /);
    assert.equal(await login.read('python3 -c "print(6 * 7)"'), '42\n');
    await lab.set({ python3: false, missingTools: ['stat'] });
    assert.equal((await login.run('python3 -c 1')).code, 127);
    assert.equal((await login.run('stat /')).code, 127);
    await lab.set({ python3: true, missingTools: [] });
  });

  test('sees nothing of the machine that runs it', async () => {
    const processes = await login.read('ps');
    assert.ok(!processes.includes('node'));
    assert.deepEqual((await login.read('ls /')).trim().split('\n').sort(), [
      ...['bin', 'dev', 'etc', 'lib', 'lib64', 'opt', 'proc', 'root', 'run', 'sbin', 'scratch', 'tmp', 'usr', 'var'],
      'vmfs',
    ]);
  });

  test('runs only programs that came with the host', async () => {
    const attempt = await login.run('cp /bin/busybox /tmp/echo && chmod 755 /tmp/echo && /tmp/echo');
    assert.match(attempt.stderr, /\/tmp\/echo: Operation not permitted/);
    await lab.set({ execInstalledOnly: false });
    assert.equal((await login.run('/tmp/echo true')).code, 0);
    await lab.set({ execInstalledOnly: true });
  });

  test('answers nothing from vim-cmd while the host agent hangs, and goes on after', async () => {
    await lab.set({ hang: true });
    const waiting = login.run('vim-cmd vmsvc/getallvms');
    assert.equal(await Promise.race([waiting, delay(400, 'silent')]), 'silent');
    assert.equal(await login.read('echo shell'), 'shell\n');
    await lab.set({ hang: false });
    assert.equal((await waiting).code, 0);
  });

  test('hands out files over SFTP under the same locks', async () => {
    const { flat, folder } = await disk('six');
    const read = (path: string) =>
      new Promise<string>((resolve, reject) => {
        login.client.sftp((error, sftp) => {
          if (error !== undefined) reject(error);
          else
            sftp.readFile(path, (failed, data) =>
              resolve(failed === undefined || failed === null ? data.toString() : 'refused'),
            );
        });
      });
    assert.match(await read(`${folder}/six.vmx`), /displayName = "six"/);
    assert.equal(await read(flat), 'refused');
  });

  test('lets a detached command outlive its session', async () => {
    const session = await loginToLab(lab);
    await session.read("cd /tmp && nohup sh -c 'sleep 0.5; echo 7 > rc' >log 2>&1 & echo $!");
    session.close();
    await waitFor(async () => (await login.run('cat /tmp/rc')).stdout === '7\n');
  });

  test('fails writes to a datastore that is full', async () => {
    await lab.set({ datastoresFull: ['nfs'] });
    const full = await login.run('dd if=/dev/zero of=/vmfs/volumes/nfs/filler bs=4096 count=10');
    assert.notEqual(full.code, 0);
    assert.match(full.stderr, /No space left on device/);
    assert.equal((await login.run('dd if=/dev/zero of=/vmfs/volumes/vmfs5/filler bs=4096 count=10')).code, 0);
    await lab.set({ datastoresFull: [] });
    await login.read('rm -f /vmfs/volumes/nfs/filler /vmfs/volumes/vmfs5/filler');
  });
});

describe('vim-cmd', () => {
  test('lists machines as text, annotations and all', async () => {
    const text = await login.read('vim-cmd vmsvc/getallvms');
    const rows = [...text.matchAll(/^(\d+)\s+(.+?)\s+\[(.+?)\] (.+?\.vmx)\s+(\S+)\s+(vmx-\d+)/gm)].map((row) => row[2]);
    assert.deepEqual(rows, ['six', 'five (Größe) 日本', 'imitated']);
  });

  test('says what it does not know', async () => {
    const { code, stdout } = await login.run('vim-cmd vmsvc/power.getstate 999');
    assert.equal(code, 1);
    assert.equal(stdout, 'Unable to find a VM corresponding to "999"\n');
  });

  test('asks whether a registered copy was moved or copied, and acts on the answer', async () => {
    const { folder } = await disk('six');
    await lab.set({ writersPaused: true });
    const id = await lab.vmId('six');
    await login.read(`vim-cmd vmsvc/power.off ${id}`);
    await login.read(`mkdir /vmfs/volumes/vmfs5/copy && cp '${folder}/six.vmx' /vmfs/volumes/vmfs5/copy/copy.vmx`);
    await login.read(`vmkfstools -i '${folder}/six.vmdk' -d thin /vmfs/volumes/vmfs5/copy/six.vmdk`);
    const copy = (await login.read('vim-cmd solo/registervm /vmfs/volumes/vmfs5/copy/copy.vmx copied')).trim();
    const again = await login.run('vim-cmd solo/registervm /vmfs/volumes/vmfs5/copy/copy.vmx');
    assert.equal(again.code, 1);
    const starting = login.run(`vim-cmd vmsvc/power.on ${copy}`);
    let message = 'No message.\n';
    while (message === 'No message.\n') message = await login.read(`vim-cmd vmsvc/message ${copy}`);
    assert.match(
      message,
      /^Virtual machine message (\d+):\nmsg\.uuid\.altered:This virtual machine may have been moved or copied\./,
    );
    assert.match(message, /\n2\. I _copied it \(I _copied it\) \[default\]\n$/);
    const question = /message (\d+)/.exec(message)?.[1] ?? '';
    await login.read(`vim-cmd vmsvc/message ${copy} ${question} 2`);
    assert.equal((await starting).code, 0);
    assert.equal(await login.read(`vim-cmd vmsvc/power.getstate ${copy}`), 'Retrieved runtime info\nPowered on\n');
    const { vms } = await lab.state();
    const [original, other] = [vms.find((vm) => vm.name === 'six'), vms.find((vm) => String(vm.id) === copy)];
    assert.ok(original !== undefined && other !== undefined);
    assert.notEqual(other.biosUuid, original.biosUuid);
    assert.notEqual(other.nics[0]?.macAddress, original.nics[0]?.macAddress);
    await login.read(`vim-cmd vmsvc/power.off ${copy} && vim-cmd vmsvc/destroy ${copy}`);
    assert.equal((await login.run('ls /vmfs/volumes/vmfs5/copy')).code, 1);
    await login.read(`vim-cmd vmsvc/power.on ${id}`);
    await lab.set({ writersPaused: false });
  });
});

describe('snapshots', () => {
  for (const name of ['six', 'five (Größe) 日本']) {
    test(`of ${name} freeze every disk at one instant while the guest writes`, async () => {
      const id = await lab.vmId(name);
      const first = await lab.createSnapshot(id, 'first');
      await lab.write(id, { count: 60, blockBytes: 5120, seed: 1 });
      const second = await lab.createSnapshot(id, 'second');
      await lab.write(id, { count: 60, blockBytes: 4096, seed: 2 });
      const vm = (await lab.state()).vms.find((candidate) => candidate.id === id);
      const [outer] = vm?.snapshots?.roots ?? [];
      const [inner] = outer?.children ?? [];
      assert.equal(outer?.id, first);
      assert.equal(inner?.id, second);
      for (const snapshot of [outer, inner]) {
        const truth = await lab.frozenCopy(id, snapshot.name);
        assert.ok(truth !== null);
        for (const frozen of snapshot.disks.filter((each) => each.diskMode === 'persistent')) {
          const top = local(frozen.chain[0]?.absolutePath ?? '');
          const raw: string = truth[frozen.node] ?? '';
          assert.equal(statSync(raw).size, frozen.capacityBytes);
          // QEMU reads the layers by code of its own. -U: the lab holds no locks that QEMU knows.
          const [format, image] =
            frozen.chain.length === 1 ? ['raw', top.replace(/\.vmdk$/, '-flat.vmdk')] : ['vmdk', top];
          execFileSync('qemu-img', ['compare', '-U', '-f', format, '-F', 'raw', image, raw]);
          if (format === 'vmdk') {
            const info = execFileSync('qemu-img', ['info', '-U', '--output=json', top], { encoding: 'utf8' });
            assert.match(info, vm?.datastore === 'vmfs six' ? /"seSparse"/ : /"vmfsSparse"/);
          }
        }
      }
      if (name !== 'six') assert.equal(Object.keys((await lab.frozenCopy(id, 'first')) ?? {}).length, 2);

      // The content before and after removal, with the guest standing still.
      await lab.set({ writersPaused: true });
      const before = await lab.captureTruth(id, 'before');
      await lab.removeSnapshot(id, first);
      const afterFirst = await lab.captureTruth(id, 'after first');
      const truth = await lab.frozenCopy(id, 'second');
      const kept = (await lab.state()).vms.find((candidate) => candidate.id === id)?.snapshots?.roots[0];
      assert.equal(kept?.id, second);
      for (const node of Object.keys(before)) assertSameBytes(before[node] ?? '', afterFirst[node] ?? '');
      for (const frozen of kept?.disks.filter((each) => each.diskMode === 'persistent') ?? []) {
        const clone = `/vmfs/volumes/vmfs5/clone-${frozen.key}.vmdk`;
        await login.read(`vmkfstools -i '${frozen.chain[0]?.absolutePath ?? ''}' -d thin ${clone}`);
        assertSameBytes(local(clone.replace(/\.vmdk$/, '-flat.vmdk')), truth?.[frozen.node] ?? '');
        await login.read(`vmkfstools -U ${clone}`);
      }
      await lab.removeSnapshot(id, second);
      const afterAll = await lab.captureTruth(id, 'after all');
      for (const node of Object.keys(before)) assertSameBytes(before[node] ?? '', afterAll[node] ?? '');
      await lab.set({ writersPaused: false });
      const { folder, top, base } = await disk(name);
      assert.equal(top, base);
      assert.deepEqual(
        readdirSync(local(folder)).filter((file) => /-\d{6}[.-]|Snapshot/.test(file)),
        [],
      );
    });
  }

  test('are removed under load without losing a write', async () => {
    const id = await lab.vmId('six');
    await lab.set({ writersPaused: true });
    const snapshot = await lab.createSnapshot(id, 'loaded');
    const rounds = Array.from({ length: 12 }, (_, round) => ({ count: 20, blockBytes: 8192, seed: 100 + round }));
    await lab.write(id, { count: 500, blockBytes: 65536, seed: 5 });
    await lab.set({ consolidateBytesPerSecond: 4 * MIB });
    const removing = lab.removeSnapshot(id, snapshot);
    let during = 0;
    void removing.then(() => (during = Infinity));
    for (const round of rounds) {
      await lab.write(id, round);
      if (during < rounds.length) during += 1;
      await delay(40);
    }
    assert.ok(during >= 5, 'the guest wrote while layers were merged');
    await removing;
    await lab.set({ consolidateBytesPerSecond: null });

    // The same writes again, in the same order, change nothing: each was still there.
    const before = await lab.captureTruth(id, 'loaded before');
    for (const round of rounds) await lab.write(id, round);
    const again = await lab.captureTruth(id, 'loaded after');
    assertSameBytes(before['scsi0:0'] ?? '', again['scsi0:0'] ?? '');
    const frozen = await lab.frozenCopy(id, 'loaded');
    assert.ok(sectorsDiffering(frozen?.['scsi0:0'] ?? '', before['scsi0:0'] ?? '', 48 * MIB, 65536).length > 300);
    await lab.set({ writersPaused: false });
    const { base, top } = await disk('six');
    assert.equal(top, base);
    assert.match(await login.read(`vmkfstools -e '${base}'`), /Disk chain is consistent/);
  });

  test('go back to what they froze when reverted to', async () => {
    const id = await lab.vmId('six');
    const snapshot = await lab.createSnapshot(id, 'return');
    await lab.write(id, { count: 50, blockBytes: 4096, seed: 9 });
    await login.read(`vim-cmd vmsvc/snapshot.revert ${id} ${snapshot} 0`);
    assert.match(await login.read(`vim-cmd vmsvc/power.getstate ${id}`), /Powered off/);
    const now = await lab.captureTruth(id, 'reverted');
    const then = await lab.frozenCopy(id, 'return');
    assertSameBytes(now['scsi0:0'] ?? '', then?.['scsi0:0'] ?? '');
    await login.read(`vim-cmd vmsvc/snapshot.removeall ${id} && vim-cmd vmsvc/power.on ${id}`);
  });

  test('can get lost, stay behind or end early', async () => {
    const id = await lab.vmId('six');
    await lab.set({ snapshotCreate: 'lost' });
    assert.equal(await login.read(`vim-cmd vmsvc/snapshot.create ${id} nothing '' 0 0`), 'Create Snapshot:\n');
    assert.equal(await login.read(`vim-cmd vmsvc/snapshot.get ${id}`), 'Get Snapshot:\n');
    await lab.set({ snapshotCreate: 'fail' });
    const failed = await login.run(`vim-cmd vmsvc/snapshot.create ${id} nothing '' 0 0`);
    assert.equal(failed.code, 1);
    assert.match(failed.stdout, /^Create Snapshot:\nCreate snapshot failed\n/);
    await lab.set({ snapshotCreate: 'works', snapshotRemove: 'stays' });
    await lab.removeSnapshot(id, await lab.createSnapshot(id, 'stays'));
    assert.equal((await lab.state()).vms.find((vm) => vm.id === id)?.consolidationNeeded, true);
    assert.match((await disk('six')).top, /-000001\.vmdk$/);
    await lab.set({ snapshotRemove: 'works' });
    await lab.call('POST', `/vms/${id}/consolidate`);
    assert.equal((await lab.state()).vms.find((vm) => vm.id === id)?.consolidationNeeded, false);
    assert.match((await disk('six')).top, /six\.vmdk$/);

    const early = await lab.createSnapshot(id, 'early');
    await lab.set({ snapshotRemove: 'early', snapshotRemoveMs: 600_000 });
    await login.read(`vim-cmd vmsvc/snapshot.remove ${id} ${early}`);
    assert.match(await login.read(`vim-cmd vmsvc/get.tasklist ${id}`), /removeSnapshot/);
    await assert.rejects(
      lab.createSnapshot(id, 'too soon'),
      (error) => error instanceof LabFault && error.fault.type === 'TaskInProgress',
    );
    await lab.set({ snapshotRemove: 'works', snapshotRemoveMs: 0 });
    while ((await login.read(`vim-cmd vmsvc/get.tasklist ${id}`)).includes('removeSnapshot')) await delay(50);
    assert.match((await disk('six')).top, /six\.vmdk$/);
  });

  test('leave their layers when a clone still reads them, until the next removal', async () => {
    const id = await lab.vmId('six');
    const snapshot = await lab.createSnapshot(id, 'read');
    const { base } = await disk('six');
    await lab.set({ cloneWaitsAtPercent: 10 });
    const clone = await login.start(`vmkfstools -i '${base}' -d thin /vmfs/volumes/vmfs5/read.vmdk`);
    await lab.cloneWaits();
    await assert.rejects(
      lab.removeSnapshot(id, snapshot),
      (error) => error instanceof LabFault && error.fault.type === 'FileLocked',
    );
    await lab.set({ cloneWaitsAtPercent: null });
    assert.equal((await clone.ended).code, 0);
    const truth = await lab.frozenCopy(id, 'read');
    assertSameBytes(local('/vmfs/volumes/vmfs5/read-flat.vmdk'), truth?.['scsi0:0'] ?? '');
    await login.read('vmkfstools -U /vmfs/volumes/vmfs5/read.vmdk');
    const needed = async () => (await lab.state()).vms.find((vm) => vm.id === id)?.consolidationNeeded;
    assert.equal(await needed(), true);
    assert.equal(await login.read(`vim-cmd vmsvc/snapshot.get ${id}`), 'Get Snapshot:\n');
    await login.read(`vim-cmd vmsvc/snapshot.removeall ${id}`);
    assert.equal(await needed(), true);
    await login.read(`vim-cmd vmsvc/snapshot.create ${id} helper && vim-cmd vmsvc/snapshot.removeall ${id}`);
    assert.equal(await needed(), false);
    assert.match((await disk('six')).top, /six\.vmdk$/);
  });

  test('pass by mapped and independent disks, and refuse shared ones', async () => {
    const id = await lab.createVm({
      name: 'mixed',
      datastore: 'nfs',
      running: true,
      memoryMib: 16,
      disks: [
        { sizeBytes: MIB },
        { sizeBytes: MIB, rdm: 'physical' },
        { sizeBytes: MIB, rdm: 'virtual' },
        { sizeBytes: MIB, mode: 'independent-nonpersistent' },
      ],
    });
    await lab.createSnapshot(id, 'mixed');
    const vm = (await lab.state()).vms.find((candidate) => candidate.id === id);
    assert.deepEqual(
      vm?.disks.map((each) => each.chain.length),
      [2, 1, 2, 1],
    );
    await login.read(
      `vim-cmd vmsvc/snapshot.removeall ${id} && vim-cmd vmsvc/power.off ${id} && vim-cmd vmsvc/destroy ${id}`,
    );
    const shared = await lab.createVm({
      name: 'shared',
      datastore: 'nfs',
      running: true,
      memoryMib: 16,
      disks: [{ sizeBytes: MIB, sharing: 'multi-writer' }],
    });
    await assert.rejects(lab.createSnapshot(shared, 'no'), LabFault);
    await login.read(`vim-cmd vmsvc/power.off ${shared} && vim-cmd vmsvc/destroy ${shared}`);
  });

  test('can hang in their task, and with them everything else for the machine', async () => {
    const id = await lab.vmId('six');
    await lab.set({ snapshotCreate: 'hang' });
    const hanging = login.run(`vim-cmd vmsvc/snapshot.create ${id} slow '' 0 0`);
    await waitFor(async () => (await login.read(`vim-cmd vmsvc/get.tasklist ${id}`)).includes('createSnapshot'));
    assert.equal((await login.run(`vim-cmd vmsvc/power.off ${id}`)).code, 1);
    await lab.set({ snapshotCreate: 'works' });
    assert.equal((await hanging).code, 0);
    await login.read(`vim-cmd vmsvc/snapshot.removeall ${id}`);
  });

  test('are quiesced only when the guest answers', async () => {
    const id = await lab.vmId('six');
    const quiesced = async () => {
      const root = (await lab.state()).vms.find((vm) => vm.id === id)?.snapshots?.roots[0];
      if (root !== undefined) await lab.removeSnapshot(id, root.id);
      return root?.quiesced;
    };
    await lab.createSnapshot(id, 'quiet', { quiesce: true });
    assert.equal(await quiesced(), true);
    await lab.set({ quiesce: 'ignored' });
    await lab.createSnapshot(id, 'quiet', { quiesce: true });
    assert.equal(await quiesced(), false);
    await lab.set({ quiesce: 'fail-filesystem' });
    const failed = await login.run(`vim-cmd vmsvc/snapshot.create ${id} quiet '' 0 1`);
    assert.match(failed.stdout, /The error code was: 3 /);
    assert.equal(await quiesced(), undefined);
    await lab.set({ quiesce: 'works' });
  });
});

describe('locks', () => {
  const read = async (path: string) => (await login.run(`dd if='${path}' of=/dev/null bs=1M count=1`)).stderr;

  test('follow the state of the machine and the kind of datastore', async () => {
    const id = await lab.vmId('six');
    const { flat, base, folder } = await disk('six');
    const busy = /Device or resource busy/;
    assert.match(await read(flat), busy);
    const refused = await login.run(`vmkfstools -i '${base}' /vmfs/volumes/vmfs5/x.vmdk`);
    assert.match(refused.stderr, /Failed to open '.*': Failed to lock the file \(16392\)\./);
    assert.equal(refused.code, 255);
    assert.equal(existsSync(local('/vmfs/volumes/vmfs5/x.vmdk')), false);
    assert.match(await login.read(`vmkfstools -D '${flat}'`), /mode 1, owner 5f0e9a10/);
    const snapshot = await lab.createSnapshot(id, 'lock');
    assert.match(await read(flat), busy);
    assert.match(await login.read(`vmkfstools -D '${flat}'`), /mode 2, .*\nnum 0 .*\nnHld 1 nOvf 0\]\nRO Owner\[0\]/);
    assert.match(await read(`${folder}/six-000001-sesparse.vmdk`), busy);
    assert.match((await login.run(`rm '${flat}'`)).stderr, busy);
    assert.match((await login.run(`mv '${flat}' '${folder}/away'`)).stderr, busy);
    assert.match((await login.run(`: > '${flat}'`)).stderr, busy);
    assert.match((await login.run(`python3 -c "open('${flat}', 'rb')"`)).stderr, busy);
    assert.equal((await login.run(`cat '${base}' '${folder}/six.vmx' '${folder}/six.nvram'`)).code, 0);
    assert.match(
      await read(`${folder}/${readdirSync(local(folder)).find((name) => name.endsWith('.vswp')) ?? ''}`),
      busy,
    );
    await lab.set({ rawFrozenRead: { 'vmfs six': 'allow' } });
    assert.match(await read(flat), /1\+0 records in/);
    assert.match((await login.run(`rm '${flat}'`)).stderr, busy);
    assert.match((await login.run(`dd if=/dev/zero of='${flat}' bs=1 count=1 conv=notrunc`)).stderr, busy);
    await lab.set({ rawFrozenRead: {} });
    await lab.removeSnapshot(id, snapshot);
    await lab.power(id, 'off');
    assert.match(await read(flat), /1\+0 records in/);
    await lab.power(id, 'on');
    assert.match(await read(flat), busy);
  });

  test('let a frozen base be read raw on VMFS-5 and NFS, the active layer nowhere', async () => {
    const name = 'five (Größe) 日本';
    const id = await lab.vmId(name);
    // In the order of controllers: scsi before sata.
    const [five, independent, nfs] = [await disk(name, 0), await disk(name, 1), await disk(name, 2)];
    const snapshot = await lab.createSnapshot(id, 'lock');
    assert.match(await read(five.flat), /1\+0 records in/);
    assert.match(await read(nfs.flat), /1\+0 records in/);
    assert.match(await read(independent.flat), /Device or resource busy/);
    assert.match(await read(five.flat.replace('-flat', '-000001-delta')), /Device or resource busy/);
    await lab.removeSnapshot(id, snapshot);
    assert.match(await read(nfs.flat), /Device or resource busy/);
  });
});

describe('vmkfstools', () => {
  test('creates, grows, renames, maps and deletes disks', async () => {
    const at = '/vmfs/volumes/vmfs5/tool.vmdk';
    assert.equal(await login.read(`vmkfstools -c 10485760 -d thin ${at}`), 'Create: 100% done.\n');
    assert.equal((await login.run(`vmkfstools -c 1m ${at}`)).code, 255);
    await login.read(`dd if=/bin/busybox of=/vmfs/volumes/vmfs5/tool-flat.vmdk bs=64k seek=48 count=4 conv=notrunc`);
    assert.deepEqual(
      [...(await login.read(`vmkfstools -t0 ${at}`)).matchAll(/\[\s*(\d+):\s*(\d+)\] --> \[(NOMP|VMFS) (--|Z-)/g)].map(
        (row) => row.slice(1, 4),
      ),
      [
        ['0', '3145728', 'NOMP'],
        ['3145728', '1048576', 'VMFS'],
        ['4194304', '6291456', 'NOMP'],
      ],
    );
    assert.match(
      await login.read(`vmkfstools --extendedstatinfo ${at}`),
      /^Capacity bytes: 10485760\nUsed bytes: 262144\n/,
    );
    await login.read(`vmkfstools -X 12m ${at}`);
    assert.equal(statSync(local('/vmfs/volumes/vmfs5/tool-flat.vmdk')).size, 12 * MIB);
    await login.read(`cd /vmfs/volumes/vmfs5 && vmkfstools -E tool.vmdk renamed.vmdk`);
    assert.match(await login.read('cat /vmfs/volumes/vmfs5/renamed.vmdk'), /RW 24576 VMFS "renamed-flat\.vmdk"/);
    const thick = await login.read(
      'cd /vmfs/volumes/vmfs5 && vmkfstools -i renamed.vmdk thick.vmdk && stat -c %b thick-flat.vmdk',
    );
    assert.match(
      thick,
      /^Destination disk format: VMFS zeroedthick\nCloning disk 'renamed\.vmdk'\.\.\.\nClone: \d+% done\.\r/,
    );
    assert.ok(Number(thick.trim().split('\n').at(-1)) >= 24576);
    assertSameBytes(local('/vmfs/volumes/vmfs5/renamed-flat.vmdk'), local('/vmfs/volumes/vmfs5/thick-flat.vmdk'));
    await login.read('cd /vmfs/volumes/vmfs5 && vmkfstools -U renamed.vmdk && vmkfstools -U thick.vmdk');
    assert.deepEqual(
      readdirSync(local('/vmfs/volumes/vmfs5')).filter((name) => name.endsWith('.vmdk')),
      [],
    );
  });

  test('refuses a second clone of one frozen chain, leaves a partial target when killed, fails as told', async () => {
    const id = await lab.vmId('six');
    const snapshot = await lab.createSnapshot(id, 'clones');
    const { base } = await disk('six');
    await lab.set({ cloneWaitsAtPercent: 10 });
    const first = await login.start(`echo $$; exec vmkfstools -i '${base}' -d thin /vmfs/volumes/vmfs5/a.vmdk`);
    await lab.cloneWaits();
    const second = await login.run(`vmkfstools -i '${base}' -d thin /vmfs/volumes/vmfs5/b.vmdk`);
    assert.match(second.stderr, /Failed to lock the file \(16392\)/);
    const busy = await login.run('cat /vmfs/volumes/vmfs5/a-flat.vmdk');
    assert.match(busy.stderr, /Device or resource busy/);
    await login.read("kill $(ps | grep '[v]mkfstools -i' | awk '{print $1}')");
    await first.ended;
    await lab.set({ cloneWaitsAtPercent: null });
    // The killed clone lets go of its target a moment later.
    await waitFor(async () => (await login.run('vmkfstools -U /vmfs/volumes/vmfs5/a.vmdk')).code === 0);
    await lab.set({ cloneFailAtPercent: 40 });
    const failing = await login.run(`vmkfstools -i '${base}' -d thin /vmfs/volumes/vmfs5/c.vmdk`);
    assert.equal(failing.code, 255);
    assert.match(failing.stderr, /Failed to clone disk/);
    await lab.set({ cloneFailAtPercent: null, datastoresFull: ['nfs'] });
    const full = await login.run(`vmkfstools -i '${base}' -d thin /vmfs/volumes/nfs/d.vmdk`);
    assert.match(full.stderr, /There is not enough space on the file system for the selected operation \(13\)/);
    await lab.set({ datastoresFull: [] });
    await login.read('vmkfstools -U /vmfs/volumes/vmfs5/c.vmdk');
    await lab.removeSnapshot(id, snapshot);
  });

  test('clones onto a mounted export, where the file can be read as it grows', async () => {
    const id = await lab.vmId('six');
    const denied = await login.run('esxcli storage nfs add -H nas.example -s /volume1/other -v stage');
    assert.equal(denied.code, 1);
    assert.match(denied.stdout, /The mount request was denied by the NFS server/);
    await login.read('esxcli storage nfs add -H nas.example -s /volume1/stage -v stage');
    assert.match(
      await login.read('esxcli storage nfs list'),
      /^stage +nas\.example +\/volume1\/stage +true +true +false/m,
    );
    const snapshot = await lab.createSnapshot(id, 'export');
    const { base } = await disk('six');
    await login.read(`mkdir /vmfs/volumes/stage/x && vmkfstools -i '${base}' -d thin /vmfs/volumes/stage/x/x.vmdk`);
    const truth = await lab.frozenCopy(id, 'export');
    assertSameBytes(join(directory, 'stage/x/x-flat.vmdk'), truth?.['scsi0:0'] ?? '');
    assert.match(await login.read('ls -l /vmfs/volumes/stage/x'), /x-flat\.vmdk/);
    await login.read('rm -r /vmfs/volumes/stage/x && esxcli storage nfs remove -v stage');
    assert.doesNotMatch(await login.read('ls /vmfs/volumes'), /stage/);
    await lab.removeSnapshot(id, snapshot);
  });
});

describe('change tracking', () => {
  for (const [name, deviceKey, node] of [
    ['six', 2000, 'scsi0:0'],
    ['five (Größe) 日本', 16003, 'sata0:3'],
  ] as const) {
    test(`of ${name} names exactly what was written between two snapshots`, async () => {
      const id = await lab.vmId(name);
      const change = async (label: string) => {
        const snapshot = await lab.createSnapshot(id, label);
        const vm = (await lab.state()).vms.find((candidate) => candidate.id === id);
        const frozen = vm?.snapshots?.roots[0]?.disks.find((each) => each.key === deviceKey);
        assert.ok(frozen !== undefined && frozen.changeId !== null);
        const truth = await lab.frozenCopy(id, label);
        return { snapshot, changeId: frozen.changeId, sizeBytes: frozen.capacityBytes, file: truth?.[node] ?? '' };
      };
      const one = await change('one');
      const pattern = /^([0-9a-f]{2} ){7}[0-9a-f]{2}-([0-9a-f]{2} ){7}[0-9a-f]{2}\/\d+$/;
      assert.match(one.changeId, pattern);
      await lab.removeSnapshot(id, one.snapshot);
      await lab.write(id, { count: 30, blockBytes: 4096, seed: 77 });
      const two = await change('two');
      assert.equal(two.changeId.split('/')[0], one.changeId.split('/')[0]);
      // Written after the freeze: must not be said.
      await lab.write(id, { count: 10, blockBytes: 4096, seed: 78 });

      const said = async (changeId: string) => {
        const blocks = new Set<number>();
        for (let startOffset = 0; startOffset < two.sizeBytes;) {
          const reply = await lab.changedAreas(id, { snapshot: two.snapshot, deviceKey, startOffset, changeId });
          assert.equal(reply.startOffset, startOffset);
          assert.ok(reply.length > 0);
          for (const area of reply.areas) {
            assert.ok(area.start >= startOffset && area.start + area.length <= startOffset + reply.length);
            for (let at = area.start - (area.start % 65536); at < area.start + area.length; at += 65536) blocks.add(at);
          }
          startOffset += reply.length;
        }
        return blocks;
      };
      await lab.set({ changedAreas: 'partial' });
      const changed = await said(one.changeId);
      await lab.set({ changedAreas: 'works' });
      assert.deepEqual(await said(one.changeId), changed);
      const differing = sectorsDiffering(one.file, two.file, two.sizeBytes, 65536);
      assert.ok(differing.length > 5);
      for (const at of differing) assert.ok(changed.has(at), `block ${at} changed and was not said`);
      assert.ok(changed.size < two.sizeBytes / 65536);
      const ever = await said('*');
      for (const at of changed) assert.ok(ever.has(at));
      await lab.removeSnapshot(id, two.snapshot);
    });
  }

  test('begins at the next power on after keys in the .vmx, or at the next snapshot after a call', async () => {
    const id = await lab.createVm({
      name: 'late',
      datastore: 'vmfs six',
      memoryMib: 16,
      disks: [{ sizeBytes: 4 * MIB, fill: { percent: 50 } }],
    });
    const changeId = async () => {
      const snapshot = await lab.createSnapshot(id, 'probe');
      const vm = (await lab.state()).vms.find((candidate) => candidate.id === id);
      await lab.removeSnapshot(id, snapshot);
      return vm?.snapshots?.roots[0]?.disks[0]?.changeId;
    };
    const vmx = `'/vmfs/volumes/vmfs six/late/late.vmx'`;
    await login.read(`printf 'ctkEnabled = "TRUE"\\nscsi0:0.ctkEnabled = "TRUE"\\n' >> ${vmx}`);
    await login.read(`vim-cmd vmsvc/reload ${id}`);
    assert.equal(await changeId(), null);
    await lab.power(id, 'on');
    const first = await changeId();
    assert.match(first ?? '', /\/1$/);
    await lab.power(id, 'off');
    await lab.power(id, 'on');
    assert.equal((await changeId())?.split('/')[0], first?.split('/')[0]);
    await lab.call('POST', `/vms/${id}/reconfigure`, { changeTrackingEnabled: false });
    assert.equal(await changeId(), null);
    await lab.call('POST', `/vms/${id}/reconfigure`, { changeTrackingEnabled: true });
    const second = await changeId();
    assert.match(second ?? '', /\/1$/);
    assert.notEqual(second?.split('/')[0], first?.split('/')[0]);
    await login.read(`vim-cmd vmsvc/power.off ${id} && vim-cmd vmsvc/destroy ${id}`);
  });

  test('answers with the faults of a host', async () => {
    const id = await lab.vmId('six');
    const snapshot = await lab.createSnapshot(id, 'faults');
    const ask = (request: Partial<Parameters<LabHost['changedAreas']>[1]>) =>
      lab.changedAreas(id, { snapshot, deviceKey: 2000, startOffset: 0, changeId: '*', ...request }).then(
        () => 'answered',
        (error: LabFault) =>
          error.fault.messages[0]?.key ?? `${error.fault.type} ${error.fault.fields['invalidProperty'] ?? ''}`,
      );
    assert.equal(await ask({}), 'answered');
    assert.equal(await ask({ startOffset: 48 * MIB + 512 * 5 }), 'InvalidArgument startOffset');
    assert.equal(await ask({ changeId: 'nonsense' }), 'InvalidArgument changeId');
    assert.equal(await ask({ deviceKey: 2001 }), 'InvalidArgument deviceKey');
    assert.equal(await ask({ snapshot: 999 }), 'ManagedObjectNotFound ');
    const foreign = '00 11 22 33 44 55 66 77-88 99 aa bb cc dd ee ff/1';
    assert.equal(await ask({ changeId: foreign }), 'vim.hostd.vmsvc.cbt.cannotGetChanges');
    for (const key of ['noTrack', 'noEpoch', 'cannotGetChanges'] as const) {
      await lab.set({ changedAreas: key });
      assert.equal(await ask({}), `vim.hostd.vmsvc.cbt.${key}`);
    }
    await lab.set({ changedAreas: 'works', freeChangedAreas: 'refuse' });
    assert.equal(await ask({}), 'RestrictedVersion ');
    await lab.set({ freeChangedAreas: 'answer' });
    await lab.removeSnapshot(id, snapshot);
  });
});

describe('the lab', () => {
  test('refuses a switch it does not know', async () => {
    await assert.rejects(lab.set({ rawFrozenReads: {} } as never), /no switch is called rawFrozenReads/);
  });

  test('stops a guest with a question when its datastore is full', async () => {
    const id = await lab.vmId('six');
    await lab.set({ datastoresFull: ['vmfs six'] });
    let message = '';
    await waitFor(async () => {
      message = await login.read(`vim-cmd vmsvc/message ${id}`);
      return message.includes('outofspace');
    });
    assert.match(message, /msg\.hbacommon\.outofspace:There is no more space for virtual disk/);
    const failed = await login.run(`vim-cmd vmsvc/snapshot.create ${id} full '' 0 0`);
    assert.match(failed.stdout, /not enough space/);
    await lab.set({ datastoresFull: [] });
    await login.read(`vim-cmd vmsvc/message ${id} ${/message (\d+)/.exec(message)?.[1] ?? ''} 0`);
    assert.equal(await login.read(`vim-cmd vmsvc/message ${id}`), 'No message.\n');
  });

  test('imitates older hosts, and takes up what an earlier lab left in its directory', async () => {
    const options = {
      directory: join(directory, 'old'),
      https: false,
      version: '6.7',
      datastores: [{ name: 'ds', type: 'VMFS-5' as const, capacityBytes: 64 * MIB }],
      vms: [{ name: 'a', running: true, memoryMib: 16, disks: [{ sizeBytes: MIB, fill: { percent: 100 } }] }],
    };
    const first = await startLabHost(options);
    const session = await loginToLab(first);
    assert.equal((await session.run('command -v ls')).code, 127);
    assert.match(await session.read('vmware -v'), /^VMware ESXi 6\.7\.0 build-\d+$/m);
    assert.match((await session.run('vmkfstools -h')).stdout, /--adaptertype \[buslogic/);
    assert.equal((await session.run('cp /bin/busybox /tmp/echo && /tmp/echo ran')).stdout, 'ran\n');
    const before = (await first.state()).vms[0]?.disks[0]?.uuid;
    session.close();
    await first.close();
    const second = await startLabHost(options);
    const vm = (await second.state()).vms[0];
    assert.equal(vm?.powerState, 'poweredOn');
    assert.equal(vm?.disks[0]?.uuid, before);
    assert.equal(second.sshHostKey, first.sshHostKey);
    await second.close();
  });

  test('leaves no process and no mount behind when its parent is killed', async () => {
    const other = join(directory, 'other');
    const options = { directory: other, https: false, vms: [] };
    writeFileSync(join(directory, 'other.json'), JSON.stringify(options));
    const parent = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), join(directory, 'other.json')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const port = await new Promise<number>((resolve) => {
      parent.stdout.once('data', (chunk: Buffer) =>
        resolve((JSON.parse(chunk.toString()) as { sshPort: number }).sshPort),
      );
    });
    const copy = { ...lab, sshPort: port, password: 'lab-Password-1' };
    const session = await loginToLab(copy);
    await session.read('nohup sleep 300 >/dev/null 2>&1 &');
    parent.kill('SIGKILL');
    const leftovers = () =>
      readdirSync('/proc').filter((pid) => {
        try {
          return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(other);
        } catch {
          return false;
        }
      });
    await waitFor(() => leftovers().length === 0);
    await assert.rejects(loginToLab(copy), { code: 'ECONNREFUSED' });
    assert.ok(!readFileSync('/proc/mounts', 'utf8').includes(other));
    session.close();
    rmSync(other, { recursive: true });
  });
});

async function waitFor(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 900; attempt += 1) {
    if (await condition()) return;
    await delay(100);
  }
  assert.fail('it did not happen within 90 seconds');
}

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { type LabHost, startLabHost } from '../lab/lab-host.ts';
import { labSoapObstacle } from '../lab/soap/build.ts';

const MIB = 1024 * 1024;

interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
  certificate: string;
}

const skip: string | false =
  process.getuid?.() === 0 ? ((await labSoapObstacle()) ?? false) : 'the lab host needs root';
let directory: string;
let lab: LabHost;

/** One request of a datastore file; a new connection each, so that a changed door is seen. */
function fetchFile(
  datastore: string,
  path: string,
  options: { range?: string; password?: string } = {},
): Promise<Reply> {
  const encoded = path.split('/').map(encodeURIComponent).join('/');
  return new Promise((resolve, reject) => {
    const call = request(
      {
        host: lab.address,
        port: lab.httpsPort,
        path: `/folder/${encoded}?dcPath=ha-datacenter&dsName=${encodeURIComponent(datastore)}`,
        auth: `${lab.user}:${options.password ?? lab.password}`,
        headers: options.range === undefined ? {} : { range: options.range },
        agent: new Agent({ rejectUnauthorized: false }),
        timeout: 90_000,
      },
      (response) => {
        const chunks: Buffer[] = [];
        const socket = response.socket as TLSSocket;
        const certificate = socket.getPeerCertificate().fingerprint256.replaceAll(':', '').toLowerCase();
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
            certificate,
          }),
        );
      },
    );
    call.on('error', reject);
    call.on('timeout', () => call.destroy(new Error('timed out')));
    call.end();
  });
}

before(async () => {
  if (skip !== false) return;
  directory = mkdtempSync(join(tmpdir(), 'lab-'));
  lab = await startLabHost({
    directory,
    edition: 'free',
    datastores: [{ name: 'vmfs 6' }, { name: 'nfs', type: 'NFS' }],
    vms: [
      { name: 'off', datastore: 'vmfs 6', disks: [{ sizeBytes: 16 * MIB, fill: { percent: 60 } }] },
      { name: 'on vmfs', datastore: 'vmfs 6', running: true, disks: [{ sizeBytes: 8 * MIB }] },
      { name: 'on nfs', datastore: 'nfs', running: true, disks: [{ sizeBytes: 8 * MIB, fill: { percent: 80 } }] },
    ],
    switches: { keepTruth: true },
  });
});
after(async () => {
  if (skip !== false) return;
  await lab.close();
  rmSync(directory, { recursive: true, force: true });
});

test('ranges of a free disk read side by side are its bytes', { skip }, async () => {
  const machine = (await lab.state()).vms.find((vm) => vm.name === 'off');
  const file = machine?.disks[0]?.chain[0]?.absolutePath.replace(/\.vmdk$/, '-flat.vmdk') ?? '';
  const content = readFileSync(lab.localPath(file));
  const starts = Array.from({ length: 16 }, (_, index) => index * MIB);

  const replies = await Promise.all(
    starts.map((start) => fetchFile('vmfs 6', 'off/off-flat.vmdk', { range: `bytes=${start}-${start + MIB - 1}` })),
  );

  assert.deepEqual([...new Set(replies.map((reply) => reply.status))], [206]);
  assert.equal(content.length, 16 * MIB);
  assert.ok(Buffer.concat(replies.map((reply) => reply.body)).equals(content));
});

test('a descriptor is served as text, a locked disk as the host says it', { skip }, async () => {
  const descriptor = await fetchFile('vmfs 6', 'on vmfs/on vmfs.vmdk');
  const live = await fetchFile('vmfs 6', 'on vmfs/on vmfs-flat.vmdk');

  assert.match(descriptor.body.toString('utf8'), /^# Disk DescriptorFile[\s\S]*RW 16384 VMFS "on vmfs-flat\.vmdk"/);
  assert.equal(live.status, 500);
  assert.match(String(live.headers['content-type']), /^text\/html/);
  assert.match(
    live.body.toString('utf8'),
    /Failed to open file \/vmfs\/volumes\/.*-flat\.vmdk: Device or resource busy/,
  );
});

test('a frozen base opens on NFS with the bytes that were frozen, and not on VMFS-6', { skip }, async () => {
  const [vmfsId, nfsId] = [await lab.vmId('on vmfs'), await lab.vmId('on nfs')];
  await lab.createSnapshot(vmfsId, 'frozen');
  await lab.createSnapshot(nfsId, 'frozen');
  await lab.write(nfsId, { count: 20, blockBytes: 4096, seed: 1 });

  const vmfs = await fetchFile('vmfs 6', 'on vmfs/on vmfs-flat.vmdk', { range: 'bytes=0-4095' });
  const nfs = await fetchFile('nfs', 'on nfs/on nfs-flat.vmdk');

  assert.equal(vmfs.status, 500);
  assert.equal(nfs.status, 200);
  const truth = (await lab.frozenCopy(nfsId, 'frozen'))?.['scsi0:0'];
  assert.ok(truth !== undefined);
  assert.ok(nfs.body.equals(readFileSync(truth)));
});

test('the switches reach the door: another certificate, a shut port, a range ignored', { skip }, async () => {
  const first = await fetchFile('vmfs 6', 'off/off.vmx');
  await lab.set({ folderRange: 'ignored' });
  const whole = await fetchFile('vmfs 6', 'off/off.vmx', { range: 'bytes=0-3' });
  await lab.set({ folderRange: 'works', httpsCertificateChanged: true });
  const changed = await eventually(async () => {
    const reply = await fetchFile('vmfs 6', 'off/off.vmx');
    return reply.certificate === first.certificate ? null : reply;
  });
  await lab.set({ https: 'off', httpsCertificateChanged: false });
  const refusal = await eventually(() =>
    fetchFile('vmfs 6', 'off/off.vmx').then(
      () => null,
      (error: NodeJS.ErrnoException) => (error.code === 'ECONNREFUSED' ? error : null),
    ),
  );
  await lab.set({ https: 'on' });
  const back = await eventually(() => fetchFile('vmfs 6', 'off/off.vmx').catch(() => null));

  assert.equal(first.certificate, lab.tlsCertificate);
  assert.equal(whole.status, 200);
  assert.ok(whole.body.equals(first.body));
  assert.equal(changed.status, 200);
  assert.equal(refusal.code, 'ECONNREFUSED');
  assert.equal(back.certificate, first.certificate);
});

test('wrong passwords lock the account for files as for everything else', { skip }, async () => {
  await lab.set({ loginFailuresMax: 3 });
  const statuses: number[] = [];
  for (let attempt = 0; attempt < 3; attempt += 1) {
    statuses.push((await fetchFile('vmfs 6', 'off/off.vmx', { password: 'wrong' })).status);
  }
  const locked = await fetchFile('vmfs 6', 'off/off.vmx');
  await lab.unlockAccounts();
  const unlocked = await fetchFile('vmfs 6', 'off/off.vmx');

  assert.deepEqual(statuses, [401, 401, 401]);
  assert.equal(locked.status, 401);
  assert.equal(unlocked.status, 200);
});

/** Repeats until there is a value: the front follows a switch a moment after it was set. */
async function eventually<T>(attempt: () => Promise<T | null>): Promise<T> {
  const endMs = Date.now() + 90_000;
  for (;;) {
    const value = await attempt();
    if (value !== null) return value;
    if (Date.now() > endMs) throw new Error('nothing changed in 90 seconds');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

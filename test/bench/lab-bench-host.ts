import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { connectEsxi } from '../../server/source/index.ts';
import { startLabHost } from '../lab/lab-host.ts';
import type { BenchHost } from './bench-host.ts';

const DATASTORE = 'bench';
const MACHINE = 'machine';
const NODE = 'scsi0:0';
/** The first choice of Dozo's client; named for OpenSSH's, so that nobody's cipher is faster. */
const CIPHER = 'aes128-gcm@openssh.com';

/**
 * A licensed lab host with one datastore that allows raw reads of a frozen disk, and a running
 * machine with change tracking whose disk is a copy of `image`. Nobody writes unless told.
 *
 * @param folder new; holds the host's datastores and thus all restored disks
 */
export async function startBenchHost(folder: string, image: string): Promise<BenchHost> {
  mkdirSync(folder, { recursive: true });
  const key = join(folder, 'key');
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  const lab = await startLabHost({
    directory: join(folder, 'host'),
    edition: 'licensed',
    authorizedKeys: [readFileSync(`${key}.pub`, 'utf8').trim()],
    datastores: [{ name: DATASTORE, type: 'VMFS-6', rawFrozenRead: 'allow' }],
    vms: [
      {
        name: MACHINE,
        running: true,
        changeTracking: true,
        disks: [{ node: NODE, sizeBytes: statSync(image).size, provisioning: 'thin', image }],
      },
    ],
  });
  try {
    const address = {
      host: lab.address,
      sshPort: lab.sshPort,
      httpsPort: lab.httpsPort ?? 0,
      user: lab.user,
      password: lab.password,
      sshHostKey: lab.sshHostKey,
      tlsCertificate: lab.tlsCertificate,
    };
    const source = await connectEsxi(address);
    const machine = (await source.listMachines()).find(({ identity }) => identity.name === MACHINE)?.identity;
    await source.close();
    if (machine === undefined) throw new Error('the lab host does not show its machine');
    const machineId = await lab.vmId(MACHINE);
    const plainFolder = `/vmfs/volumes/${DATASTORE}/plain`;
    const localFolder = lab.localPath(plainFolder);
    mkdirSync(localFolder, { recursive: true });
    return {
      ssh: [
        `ssh -F none -q -i ${key} -p ${String(lab.sshPort)} -c ${CIPHER} -o BatchMode=yes -o IdentitiesOnly=yes`,
        `-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=${join(folder, 'known-hosts')}`,
        `${lab.user}@${lab.address}`,
      ].join(' '),
      folder: plainFolder,
      localFolder,
      address,
      datastore: DATASTORE,
      machine,
      async write(changes) {
        const writes = changes.map(({ offsetBytes, data }) => ({ offsetBytes, base64: data.toString('base64') }));
        await lab.call('POST', `/lab/vms/${String(machineId)}/write-at`, { node: NODE, writes });
      },
      async diskOf(name) {
        const { vms } = await lab.state();
        const path = vms.find((vm) => vm.name === name)?.disks[0]?.chain.at(-1)?.absolutePath;
        if (path === undefined) throw new Error(`the lab host has no disk of ${name}`);
        return lab.localPath(path.replace(/\.vmdk$/, '-flat.vmdk'));
      },
      async destroy(name) {
        await lab.call('DELETE', `/vms/${String(await lab.vmId(name))}?files=1`);
      },
      stop: () => lab.close(),
    };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

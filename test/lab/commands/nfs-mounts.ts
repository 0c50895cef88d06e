import { existsSync, mkdirSync } from 'node:fs';
import type { Host } from '../hostd/host.ts';

/** Binds a folder into the namespace of the host's shell; set by the daemon once the shell is up. */
export interface Mounts {
  bind(source: string, target: string): Promise<void>;
  unbind(target: string): Promise<void>;
}

const mounts = new WeakMap<Host, Mounts>();

/** Mounts anew what the host had mounted, since its mounts outlive a restart. */
export async function setMounts(host: Host, value: Mounts): Promise<void> {
  mounts.set(host, value);
  for (const { uuid, localPath, nfs } of host.datastores.list()) {
    if (nfs !== null && !localPath.endsWith(uuid)) await value.bind(localPath, `/vmfs/volumes/${uuid}`);
  }
}

/**
 * "Mounts" an export: the option `nfsShares` says which folder of this machine stands for it. Gives the
 * host's complaint, or null.
 */
export async function addNfs(
  host: Host,
  request: { name: string; server: string; share: string; isReadOnly: boolean },
): Promise<string | null> {
  const { name, server, share, isReadOnly } = request;
  const prefix = `Unable to complete Sysinfo operation.  Please see the VMkernel log file for more details.: Sysinfo error: `;
  const { nfsMount } = host.switches;
  const folder = host.options.nfsShares?.[`${server}:${share}`] ?? host.options.nfsShares?.[share];
  if (nfsMount === 'unreachable') return `${prefix}Unable to connect to NFS server`;
  if (nfsMount === 'denied' || folder === undefined) {
    return `${prefix}The mount request was denied by the NFS server. Check that the export exists and that the client is permitted to mount it.`;
  }
  if (host.datastores.byName(name) !== undefined) return `A datastore with the name ${name} already exists`;
  if (!existsSync(folder)) mkdirSync(folder, { recursive: true });
  const volume = host.datastores.add({
    name,
    type: 'NFS',
    capacityBytes: null,
    localPath: folder,
    nfs: { host: server, share, readOnly: isReadOnly },
  });
  await mounts.get(host)?.bind(folder, `/vmfs/volumes/${volume.uuid}`);
  host.changed();
  return null;
}

export async function removeDatastore(host: Host, name: string): Promise<string | null> {
  const volume = host.datastores.byName(name);
  if (volume === undefined) return `Unknown volume '${name}'`;
  if (volume.nfs === null) return `Volume '${name}' is not an NFS volume`;
  if (host.usersOf(volume).length > 0) return `Sysinfo error: Busy. The volume ${name} is in use.`;
  if (host.options.datastores?.some((store) => store.name === name) !== true) {
    await mounts.get(host)?.unbind(`/vmfs/volumes/${volume.uuid}`);
  }
  host.datastores.remove(name);
  host.changed();
  return null;
}

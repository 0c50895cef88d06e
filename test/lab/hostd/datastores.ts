import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, rmdirSync, rmSync, statfsSync, symlinkSync } from 'node:fs';
import { join, normalize, posix } from 'node:path';
import type { DatastoreType } from './protocol.ts';

const VOLUMES = '/vmfs/volumes';
const USED_CACHE_MS = 500;

export interface Volume {
  name: string;
  uuid: string;
  type: DatastoreType;
  /** Folder on this machine. */
  localPath: string;
  /** Null: as big as the file system that the folder lies on. */
  capacityBytes: number | null;
  nfs: { host: string; share: string; readOnly: boolean } | null;
}

/** The datastores of the host, and the ways to write a path on them. */
export class Datastores {
  readonly #root: string;
  readonly #volumes: Volume[] = [];
  readonly #used = new Map<string, { atMs: number; bytes: number }>();
  /** Names said to be full by a switch. */
  full: readonly string[] = [];

  /** @param root the lab's root folder, in which `/vmfs/volumes` lies */
  constructor(root: string) {
    this.#root = root;
    mkdirSync(join(root, VOLUMES), { recursive: true });
  }

  list(): readonly Volume[] {
    return this.#volumes;
  }

  add(volume: Omit<Volume, 'uuid' | 'localPath'> & { localPath?: string }): Volume {
    const uuid = volume.nfs === null ? vmfsUuid(volume.name) : nfsUuid(volume.nfs.host, volume.nfs.share);
    const mountPoint = join(this.#root, VOLUMES, uuid);
    mkdirSync(mountPoint, { recursive: true });
    const link = join(this.#root, VOLUMES, volume.name);
    rmSync(link, { force: true });
    symlinkSync(uuid, link);
    const added: Volume = { ...volume, uuid, localPath: volume.localPath ?? mountPoint };
    this.#volumes.push(added);
    return added;
  }

  remove(name: string): void {
    const index = this.#volumes.findIndex((volume) => volume.name === name);
    const volume = this.#volumes[index];
    if (volume === undefined) return;
    this.#volumes.splice(index, 1);
    rmSync(join(this.#root, VOLUMES, name), { force: true });
    try {
      // The mount point, empty; never what was mounted on it.
      rmdirSync(join(this.#root, VOLUMES, volume.uuid));
    } catch {
      // A datastore of the lab's own keeps its files.
    }
  }

  byName(name: string): Volume | undefined {
    return this.#volumes.find((volume) => volume.name === name);
  }

  /**
   * `[ds1] a/b.vmdk`, `/vmfs/volumes/ds1/a/b.vmdk` or relative to `folder` → volume and path inside; else undefined.
   */
  locate(path: string, folder = '/'): { volume: Volume; inside: string } | undefined {
    const bracket = /^\[([^\]]*)\] ?(.*)$/.exec(path);
    const absolute =
      bracket !== null
        ? posix.join(VOLUMES, bracket[1] ?? '', bracket[2] ?? '')
        : path.startsWith('/')
          ? posix.normalize(path)
          : posix.join(folder, path);
    if (!absolute.startsWith(VOLUMES + '/')) return undefined;
    const [name = '', ...rest] = absolute.slice(VOLUMES.length + 1).split('/');
    const volume = this.#volumes.find((candidate) => candidate.uuid === name || candidate.name === name);
    return volume === undefined ? undefined : { volume, inside: rest.join('/') };
  }

  /** Path on this machine of any path that the host's shell may name. */
  local(path: string, folder = '/'): string {
    const found = this.locate(path, folder);
    if (found !== undefined) return join(found.volume.localPath, found.inside);
    return join(this.#root, normalize(path.startsWith('/') ? path : posix.join(folder, path)));
  }

  /** `/vmfs/volumes/<uuid>/…` of a file of this machine, or undefined outside any datastore. */
  absolute(local: string): string | undefined {
    for (const volume of this.#volumes) {
      if (local === volume.localPath || local.startsWith(volume.localPath + '/')) {
        return `${VOLUMES}/${volume.uuid}${local.slice(volume.localPath.length)}`;
      }
    }
    return undefined;
  }

  /** `[ds1] a/b.vmdk` of a file of this machine; `[] /…` where its datastore is gone. */
  bracketed(local: string): string {
    for (const volume of this.#volumes) {
      if (local.startsWith(volume.localPath + '/')) {
        return `[${volume.name}] ${local.slice(volume.localPath.length + 1)}`;
      }
    }
    return `[] ${local}`;
  }

  volumeOf(local: string): Volume | undefined {
    return this.#volumes.find((volume) => local.startsWith(volume.localPath + '/'));
  }

  capacityBytes(volume: Volume): number {
    if (volume.capacityBytes !== null) return volume.capacityBytes;
    const { blocks, bsize } = statfsSync(volume.localPath);
    return blocks * bsize;
  }

  /** Exact to half a second. */
  freeBytes(volume: Volume): number {
    if (this.full.includes(volume.name)) return 0;
    if (volume.capacityBytes === null) {
      const { bavail, bsize } = statfsSync(volume.localPath);
      return bavail * bsize;
    }
    const known = this.#used.get(volume.uuid);
    const nowMs = performance.now();
    let bytes = known?.bytes ?? 0;
    if (known === undefined || nowMs - known.atMs > USED_CACHE_MS) {
      bytes = allocatedBytes(volume.localPath);
      this.#used.set(volume.uuid, { atMs: nowMs, bytes });
    }
    return Math.max(0, volume.capacityBytes - bytes);
  }
}

function allocatedBytes(path: string): number {
  let total = 0;
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const child = join(path, entry.name);
      if (entry.isDirectory()) total += allocatedBytes(child);
      else if (entry.isFile()) total += lstatSync(child).blocks * 512;
    }
  } catch {
    // Files come and go while guests run.
  }
  return total;
}

function vmfsUuid(name: string): string {
  const hex = createHash('sha256').update(`vmfs ${name}`).digest('hex');
  return `5f0e${hex.slice(0, 4)}-${hex.slice(4, 12)}-${hex.slice(12, 16)}-0cc47a${hex.slice(16, 22)}`;
}

/** From the texts as given: another spelling of one server is another datastore, as on a real host. */
function nfsUuid(host: string, share: string): string {
  const hex = createHash('sha256').update(`nfs ${host} ${share}`).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 16)}`;
}

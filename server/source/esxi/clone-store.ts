import { AppError } from '../../errors/index.ts';
import type { DiskSink, Extent } from '../../disk/index.ts';
import { formatBytes, KIB } from '../../runtime/index.ts';
import { shell } from '../../ssh/index.ts';
import type { Note } from '../source.ts';
import { cloneDisk, endClones, findHoldFolders, removeCloneFolder, removeDisk } from './clone-job.ts';
import { holdFolder, type EsxiContext } from './context.ts';
import type { DatastoreMap } from './datastore-path.ts';
import { readFilesystems } from './filesystems.ts';
import { IscsiClones } from './iscsi-clone.ts';
import { readHostUuid, takeBackChanges } from './iscsi-journal.ts';
import { removeHoldTargets } from './iscsi-targets.ts';
import { mountStaging, unmountStaging, type NfsStaging } from './nfs-staging.ts';
import { parseBlockMap } from './vmkfstools.ts';

interface CloneSource {
  key: string;
  /** Descriptor of the frozen tip, for the shell. */
  tip: string;
  sizeBytes: number;
  datastore: string;
  /** Data files of the chain: what a thin copy can take at most. */
  layerPaths: string[];
}

interface Clone {
  target: string;
  flat: string;
  /** Null where the host does not tell. */
  written: Extent[] | null;
  datastore: string;
  users: number;
}

/**
 * Temporary copies of a frozen machine's disks, each made once and kept until the thaw, since a
 * transfer may be followed by another one of the same disk. One copy is made at a time: hosts refuse
 * parallel copies of one chain, and several slow each other down.
 */
export class CloneStore {
  readonly #context: EsxiContext;
  readonly #datastores: DatastoreMap;
  readonly #hold: string;
  readonly #staging: NfsStaging | null;
  readonly #note: (note: Note) => void;
  readonly #onHost = new Map<string, Promise<Clone>>();
  readonly #onNas = new Map<string, Promise<Clone>>();
  /** Those of `#onHost` that stand. */
  readonly #made = new Map<string, Clone>();
  /** Folders on the host's own datastores that hold copies. */
  readonly #folders = new Set<string>();
  #line: Promise<unknown> = Promise.resolve();
  readonly #overIscsi: IscsiClones | null;
  readonly #isResumed: boolean;
  #mount: Promise<string> | null = null;

  constructor(parts: {
    context: EsxiContext;
    datastores: DatastoreMap;
    hold: string;
    staging: NfsStaging | null;
    note: (note: Note) => void;
    /** An earlier attempt of the hold may have left something. */
    isResumed: boolean;
  }) {
    this.#isResumed = parts.isResumed;
    this.#context = parts.context;
    this.#datastores = parts.datastores;
    this.#hold = parts.hold;
    this.#staging = parts.staging;
    this.#note = parts.note;
    const { context, hold, note } = parts;
    this.#overIscsi = context.iscsi === null ? null : new IscsiClones({ context, access: context.iscsi, hold, note });
  }

  async useOnHost(
    source: CloneSource,
    signal: AbortSignal,
    use: (flatPath: string, written: Extent[] | null) => Promise<void>,
  ): Promise<void> {
    await this.#use(
      this.#onHost,
      source,
      async () => await this.#cloneOnHost(source, signal),
      async (clone) => {
        await use(clone.flat, clone.written);
      },
    );
  }

  /** @param use is given the path of the copy on this machine, not on the host */
  async useOnNas(source: CloneSource, signal: AbortSignal, use: (localPath: string) => Promise<void>): Promise<void> {
    await this.#use(
      this.#onNas,
      source,
      async () => await this.#cloneOnNas(source, signal),
      async (clone) => {
        await use(clone.flat);
      },
    );
  }

  /** Has the host write a disk into the sink, whole; nothing of it is kept, so each call is a clone of its own. */
  async pushOverIscsi(source: CloneSource, sink: DiskSink, signal: AbortSignal): Promise<void> {
    const clones = this.#overIscsi;
    if (clones === null) {
      throw new AppError('DISK_READ_REFUSED', 'No disks are served over iSCSI by this process.');
    }
    await this.#inLine(async () => {
      const folder = holdFolder(this.#datastores.rootOf(source.datastore), this.#hold);
      this.#folders.add(folder);
      const text = `The host copies the disk ${source.key} over iSCSI onto a disk of this NAS, since it lets nobody read it directly while the machine runs.`;
      const details = { disk: source.key, datastore: source.datastore };
      this.#note({ level: 'info', code: 'ROUTE_ISCSI_CLONE', text, details });
      await clones.clone({ ...source, folder }, sink, signal);
    });
  }

  /**
   * Removes every copy, the mount and what iSCSI changed on the host; also what an earlier attempt of the hold left,
   * whose VM snapshot this one took up. Idempotent.
   */
  async dispose(): Promise<void> {
    await this.#line.catch(() => undefined);
    const host = this.#context.shell;
    // Before the folders: one of them holds the journal of what is to be taken back.
    await this.#overIscsi?.dispose();
    for (const folder of this.#folders) await removeCloneFolder(host, folder);
    this.#folders.clear();
    this.#onHost.clear();
    this.#made.clear();
    this.#onNas.clear();
    if (this.#mount !== null) {
      const root = await this.#mount.catch(() => null);
      this.#mount = null;
      if (root !== null) {
        await removeCloneFolder(host, holdFolder(root, this.#hold));
        await unmountStaging(host, root, this.#hold);
      }
    }
    if (this.#isResumed) await this.#removeEarlier();
  }

  /** What an earlier attempt left and this one had no need of, in the order in which a sweep does it. */
  async #removeEarlier(): Promise<void> {
    const { shell: host, clock } = this.#context;
    for (const folder of await findHoldFolders(host, this.#hold)) {
      await endClones(host, folder);
      await removeHoldTargets(host, this.#hold);
      await takeBackChanges(host, clock, { folder, hostUuid: await readHostUuid(host) });
      await removeCloneFolder(host, folder);
    }
    const mount = `/vmfs/volumes/${this.#hold}`;
    if (await host.exists(mount)) await unmountStaging(host, mount, this.#hold);
  }

  async #use(
    clones: Map<string, Promise<Clone>>,
    source: CloneSource,
    make: () => Promise<Clone>,
    use: (clone: Clone) => Promise<void>,
  ): Promise<void> {
    let pending = clones.get(source.key);
    if (pending === undefined) {
      pending = this.#inLine(make);
      clones.set(source.key, pending);
      pending.catch(() => clones.delete(source.key));
    }
    const clone = await pending;
    clone.users += 1;
    try {
      await use(clone);
    } finally {
      clone.users -= 1;
    }
  }

  async #inLine<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#line.then(work, work);
    this.#line = turn.catch(() => undefined);
    return await turn;
  }

  async #cloneOnHost(source: CloneSource, signal: AbortSignal): Promise<Clone> {
    const { shell: host, clock } = this.#context;
    await this.#makeRoom(source, signal);
    const folder = holdFolder(this.#datastores.rootOf(source.datastore), this.#hold);
    this.#folders.add(folder);
    await host.run(shell`mkdir -p -- ${folder}`, 'make a temporary folder', { signal });
    const target = `${folder}/${fileNameOf(source.key)}.vmdk`;
    this.#announce(source, 'on the host', 'ROUTE_HOST_CLONE');
    const flat = await cloneDisk(host, clock, { source: source.tip, target, sizeBytes: source.sizeBytes, signal });
    const map = await host.exec(shell`vmkfstools -t0 ${target}`, { isRepeatable: true, signal });
    const written = map.code === 0 ? parseBlockMap(map.stdout.toString('utf8'), source.sizeBytes) : null;
    const clone: Clone = { target, flat, written, datastore: source.datastore, users: 0 };
    this.#made.set(source.key, clone);
    return clone;
  }

  async #cloneOnNas(source: CloneSource, signal: AbortSignal): Promise<Clone> {
    const { shell: host, clock } = this.#context;
    const staging = this.#staging;
    if (staging === null) {
      throw new AppError('DISK_NO_ROUTE', 'No NFS staging folder is set up for this host.', {
        hint: 'Set one up in the host settings.',
      });
    }
    this.#mount ??= mountStaging(host, staging, this.#hold, signal);
    let root: string;
    try {
      root = await this.#mount;
    } catch (error) {
      this.#mount = null;
      throw error;
    }
    const folder = holdFolder(root, this.#hold);
    const name = fileNameOf(source.key);
    const target = `${folder}/${name}.vmdk`;
    this.#announce(source, 'on the NAS', 'ROUTE_NFS_CLONE');
    await cloneDisk(host, clock, { source: source.tip, target, sizeBytes: source.sizeBytes, signal });
    // The host makes disks for its own root alone; this process mostly is somebody else.
    await host.exec(shell`chmod a+rx ${folder}; chmod a+r ${folder}/${name}-flat.vmdk`, { isRepeatable: true, signal });
    const flat = `${holdFolder(staging.localPath, this.#hold)}/${name}-flat.vmdk`;
    return { target, flat, written: null, datastore: '', users: 0 };
  }

  #announce(source: CloneSource, where: string, code: string): void {
    const text = `The disk ${source.key} is copied ${where} first, since the host lets nobody read it directly while the machine runs.`;
    this.#note({ level: 'info', code, text, details: { disk: source.key, datastore: source.datastore } });
  }

  /** Space for one more copy; copies that nobody reads now go first. @throws DATASTORE_FULL */
  async #makeRoom(source: CloneSource, signal: AbortSignal): Promise<void> {
    const { shell: host, limits } = this.#context;
    const root = this.#datastores.rootOf(source.datastore);
    const neededBytes = Math.min(source.sizeBytes, await this.#allocatedBytes(source, signal)) + limits.freeFloorBytes;
    const isEnough = async (): Promise<number | null> => {
      const free = (await readFilesystems(host, signal)).find((fs) =>
        isSameVolume(fs, root, source.datastore),
      )?.freeBytes;
      return free === undefined || free >= neededBytes ? null : free;
    };
    let missing = await isEnough();
    if (missing === null) return;
    // Not those that are still to be made: they, and this very one, wait for this to end.
    for (const [key, clone] of this.#made) {
      if (clone.users > 0 || clone.datastore !== source.datastore) continue;
      this.#made.delete(key);
      this.#onHost.delete(key);
      await removeDisk(host, clone.target);
    }
    missing = await isEnough();
    if (missing === null) return;
    throw new AppError(
      'DATASTORE_FULL',
      `The datastore ${source.datastore} has ${formatBytes(missing)} free; a temporary copy of the disk ${source.key} needs ${formatBytes(neededBytes)}.`,
      {
        hint: 'Free space on the datastore, or set up an NFS staging folder, which needs none.',
        details: { datastore: source.datastore, disk: source.key, freeBytes: missing, neededBytes },
      },
    );
  }

  /** What the files of the chain take on the datastore; holes take nothing. */
  async #allocatedBytes(source: CloneSource, signal: AbortSignal): Promise<number> {
    if (source.layerPaths.length === 0) return source.sizeBytes;
    const { code, stdout } = await this.#context.shell.exec(shell`du -k -- ${source.layerPaths}`, {
      isRepeatable: true,
      signal,
    });
    if (code !== 0) return source.sizeBytes;
    const sizes = stdout.toString('utf8').match(/^\d+/gm) ?? [];
    return sizes.reduce((sum, size) => sum + Number(size) * KIB, 0);
  }
}

/** `scsi0:0` as part of a file name. */
function fileNameOf(key: string): string {
  return key.replace(':', '-');
}

function isSameVolume(fs: { root: string; name: string }, root: string, name: string): boolean {
  return fs.root === root || fs.name === name;
}

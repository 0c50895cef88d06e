import type { DiskSink, Extent } from '../disk/index.ts';

/**
 * What Dozo asks of a hypervisor. One folder implements it per kind (`source/esxi`); the rooms above
 * know only these types. Everything a method leaves on the host (snapshot, folder, mount) carries
 * the hold's name, so that `sweep` finds it after any crash without other knowledge.
 */
export interface SourceHost {
  readonly facts: HostFacts;
  listMachines(signal?: AbortSignal): Promise<MachineSummary[]>;
  listDatastores(signal?: AbortSignal): Promise<DatastoreSummary[]>;
  listNetworks(signal?: AbortSignal): Promise<string[]>;
  /**
   * Takes a VM snapshot (or none where the machine is off) and proves by state that it is there.
   * On any error nothing is left behind, or the error names what is.
   * @throws MACHINE_NOT_FOUND, MACHINE_NOT_PROTECTABLE, SNAPSHOT_*, DATASTORE_FULL
   */
  freeze(request: FreezeRequest): Promise<FrozenMachine>;
  /**
   * Takes up the snapshot that an interrupted run of the same hold left, if it is still whole.
   * Null when there is none: then `freeze`.
   */
  resume(request: FreezeRequest): Promise<FrozenMachine | null>;
  /** Removes whatever the named holds left on the host. Touches nothing else. Idempotent. */
  sweep(holds: readonly string[], signal?: AbortSignal): Promise<SweepReport>;
  /**
   * The machine that an interrupted attempt of the same hold had finished, started where that was asked
   * and is still to do; null when there is none. To be asked after a sweep of the hold.
   */
  findRestored(request: TargetRequest): Promise<MachineSummary | null>;
  /** Begins a restore; nothing the user can see is changed before `MachineTarget.finish`. */
  createTarget(request: TargetRequest): Promise<MachineTarget>;
  close(): Promise<void>;
}

/** How to reach a host, with everything secret in it. Lives in memory and sealed, nowhere else. */
export interface HostAddress {
  host: string;
  sshPort: number;
  httpsPort: number;
  user: string;
  password?: string;
  /** OpenSSH private key, PEM text. */
  privateKey?: string;
  /** `SHA256:…` as OpenSSH prints it; null on the first contact, then pinned. */
  sshHostKey: string | null;
  /** SHA-256 of the certificate (DER), lower-case hex; null on the first contact, then pinned. */
  tlsCertificate: string | null;
}

/** What a probe found. Remembered with the host, found again when `build` or `edition` changes. */
export interface HostFacts {
  product: string;
  version: string;
  build: string;
  /** `free`, `evaluation` or `licensed`; decides wording only, behaviour is tried out. */
  edition: 'free' | 'evaluation' | 'licensed';
  /** As the host names it. */
  licenseName: string;
  hostName: string;
  sshHostKey: string;
  tlsCertificate: string;
  /** Whether a writing SOAP call is answered. */
  soapWrites: 'allowed' | 'refused' | 'unknown';
  changeTracking: 'answered' | 'refused' | 'unknown';
  /** Route per datastore name, as measured; absent where nothing was tried yet. */
  routes: Record<string, RouteName>;
  /** When a disk of ours could last not be brought to the host over iSCSI; absent: it could, or was not tried. */
  iscsiRefusedAtMs?: number;
  /** How fast disks were read, by type of datastore (`VMFS-6`, `NFS`) and route. */
  rates?: RouteRates;
  warnings: Note[];
}

export type RouteName = 'ssh-raw' | 'https-folder' | 'iscsi-clone' | 'nfs-clone' | 'host-clone';

/** Bytes of disk content a second, 0 where a route was refused, and when that was. */
export type RouteRates = Record<string, Partial<Record<RouteName, { bytesPerSecond: number; atMs: number }>>>;

/** A sentence for the run's log: a code that the window translates, with its names and numbers. */
export interface Note {
  level: 'info' | 'warning' | 'error';
  /** UPPER_SNAKE, stable. */
  code: string;
  /** English sentence. */
  text: string;
  details?: Record<string, string | number | boolean | null>;
}

/**
 * Who a machine is, whatever its id today. Two identities are the same machine when instance UUIDs
 * agree; else BIOS UUID and a disk id; else path and a disk id.
 */
export interface MachineIdentity {
  name: string;
  instanceUuid: string | null;
  biosUuid: string | null;
  /** `[datastore] folder/name.vmx` */
  path: string;
  diskUuids: string[];
}

export interface MachineSummary {
  identity: MachineIdentity;
  /** The host's id of today. */
  hostId: string;
  powerState: 'on' | 'off' | 'suspended';
  guest: string;
  hardwareVersion: string;
  changeTracking: boolean;
  toolsRunning: boolean;
  hasSnapshots: boolean;
  consolidationNeeded: boolean;
  annotation: string;
  networks: string[];
  macAddresses?: string[] | undefined;
  /** The guest's first, while VMware Tools tell it. */
  ipAddress?: string | null | undefined;
  disks: MachineDisk[];
}

export interface MachineDisk {
  /** Where it is plugged in: `scsi0:0`. Stable through backup and restore. */
  key: string;
  label: string;
  sizeBytes: number;
  datastore: string;
  /** `[datastore] folder/file.vmdk` */
  path: string;
  diskUuid: string | null;
  provisioning: 'thin' | 'thick' | 'eager' | 'unknown';
  /** Why it cannot be backed up with a snapshot, or null. */
  excluded: 'independent' | 'rdm-physical' | 'shared' | 'encrypted' | null;
}

export interface DatastoreSummary {
  name: string;
  type: string;
  capacityBytes: number;
  freeBytes: number;
  accessible: boolean;
}

export interface FreezeRequest {
  machine: MachineIdentity;
  /** Unique to one run of one machine: `dozo-` and 16 hex digits. */
  hold: string;
  quiesce: 'require' | 'try' | 'off';
  /** NFS folder of the NAS that the host may mount for staging clones, if one is set up. */
  nfsStaging: { server: string; share: string; localPath: string } | null;
  /** Routes that must not be used, by the user's choice or a failed try. */
  withoutRoutes?: RouteName[];
  note(note: Note): void;
  signal: AbortSignal;
}

/** A machine at one instant, readable for as long as `thaw` was not called. */
export interface FrozenMachine {
  identity: MachineIdentity;
  /** Wall clock of the host at the freeze, milliseconds since 1970. */
  frozenAtMs: number;
  consistency: Consistency;
  configuration: MachineConfiguration;
  disks: FrozenDisk[];
  excluded: { disk: MachineDisk; reason: NonNullable<MachineDisk['excluded']> }[];
  /**
   * Removes the snapshot and proves by state that it is gone. Idempotent. Must be called also after
   * a failure, with a signal of its own.
   * @throws SNAPSHOT_REMOVE_FAILED, SNAPSHOT_CONSOLIDATION_NEEDED
   */
  thaw(signal?: AbortSignal): Promise<void>;
}

/** How consistent a point is, from the host's own flag and never from what was asked for. */
export interface Consistency {
  level: 'application' | 'filesystem' | 'crash' | 'off';
  requested: 'require' | 'try' | 'off';
  /** What the host said, word for word where it refused. */
  evidence: string;
}

/** Twice: as the host gave it, and as we understand it. */
export interface MachineConfiguration {
  files: { name: string; kind: 'vmx' | 'nvram' | 'vmsd' | 'vmxf' | 'descriptor'; content: Buffer }[];
  neutral: {
    name: string;
    guest: string;
    firmware: 'bios' | 'efi';
    cpus: number;
    memoryMib: number;
    hardwareVersion: string;
    disks: (MachineDisk & { adapter: string })[];
    networks: { key: string; adapter: string; network: string; mac: string | null }[];
    /** The user's own snapshots at the time, as facts. */
    snapshots: { id: string; name: string; parent: string | null; createdAtMs: number | null }[];
  };
}

export interface FrozenDisk {
  disk: MachineDisk;
  /** Point in time to ask changes from at the next run; only valid once our point is committed. */
  changeToken: string | null;
  /**
   * Decides what to read and by which route. Asks the host; nothing is transferred yet.
   * @param since token and size stored with the previous complete version of this disk
   */
  plan(since: { changeToken: string; sizeBytes: number } | null, signal: AbortSignal): Promise<ReadPlan>;
}

export interface ReadPlan {
  /**
   * `changed`: what is outside `extents` is as in the previous version; `allocated`: what is outside
   * is zero; `everything`: one extent, the disk.
   */
  kind: 'changed' | 'allocated' | 'everything';
  /** Normalized, within the disk. */
  extents: Extent[];
  /** Why this kind and not a better one, for the run's explanation. */
  why: Note;
  route: RouteName;
  /**
   * Delivers all `extents` to the sink, each byte at least once, in any order. Zero areas that the
   * host can tell arrive as `zero`. May be called again with other extents (a resumed run, a sample
   * of areas said to be unchanged).
   * A route by which the host pushes the disk delivers all of it, whatever the extents.
   * @throws DISK_*, HOST_CONNECTION_LOST, HOST_STALLED
   */
  transfer(sink: DiskSink, options: TransferOptions): Promise<TransferReport>;
}

export interface TransferOptions {
  /** Instead of the plan's extents. */
  extents?: Extent[];
  signal: AbortSignal;
  /** Called often; bytes of the disk dealt with since the last call. */
  progress?(bytes: number): void;
  /**
   * Called before so many bytes are asked of the host; what it gives is waited for. Keeps to a speed. Asked for
   * nothing at the start: where it answers, ways that can be slowed down come before others.
   */
  budget?: Budget;
}

/** Null: go ahead. */
export type Budget = (bytes: number) => Promise<void> | null;

export interface TransferReport {
  /** Bytes of the disk that were read on the host. */
  readBytes: number;
  /** Bytes that crossed the wire, as the transport counted them. */
  wireBytes: number;
}

export interface SweepReport {
  removed: { hold: string; what: string }[];
  failed: { hold: string; what: string; message: string }[];
  /** Datastores of the host that do not answer: what a hold has on them stays, and nobody knows of it. */
  unseen: string[];
}

export interface TargetRequest {
  hold: string;
  configuration: MachineConfiguration;
  /** `new`: beside everything that is there; `replace`: takes the place of the machine named. */
  mode: { kind: 'new'; name: string } | { kind: 'replace'; machine: MachineIdentity };
  datastore: string | null;
  provisioning: 'thin' | 'thick' | 'eager' | 'as-source';
  /** Old network name → new; networks not named keep their name. */
  networks: Record<string, string>;
  identity: 'keep' | 'new';
  powerOn: boolean;
  note(note: Note): void;
  signal: AbortSignal;
}

/** A machine being written. Written beside, verified, swapped: the original stays until `finish`. */
export interface MachineTarget {
  disks: TargetDisk[];
  /**
   * Verifies sizes, swaps (mode `replace`), registers, answers the moved-or-copied question, powers
   * on if asked. Returns the machine as the host knows it now.
   */
  finish(signal: AbortSignal): Promise<MachineSummary>;
  /** Removes what was written; the original is as it was. Idempotent. */
  abort(): Promise<void>;
}

export interface TargetDisk {
  key: string;
  sizeBytes: number;
  /** What is never written reads as zero. Order and size are free; calls may overlap. */
  write(offsetBytes: number, data: Buffer, signal?: AbortSignal): Promise<void>;
  flush(signal?: AbortSignal): Promise<void>;
  /** The host can hash chunk by chunk at no more cost. */
  readonly hashesChunks: boolean;
  /** SHA-256 of each range, lower-case hex, computed on the host, in the order asked. */
  hash(extents: readonly HashedExtent[], signal?: AbortSignal): Promise<string[]>;
}

/** A range to hash: its bytes, or with `chunkBytes` the SHA-256s of its chunks, one after the other. */
export interface HashedExtent extends Extent {
  chunkBytes: number | null;
}

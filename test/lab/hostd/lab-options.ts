import type { Fill } from '../disks/fill-disk.ts';
import type { Provisioning } from '../disks/descriptor.ts';
import type { DatastoreType, Edition, Switches } from './protocol.ts';

/** Everything about a lab host that is decided when it starts. Plain JSON. */
export interface LabOptions {
  /** All state lives below it; made if it is missing. Short: a unix socket lies inside. */
  directory: string;
  edition?: Edition;
  /** `8.0.3` unless told; see host-profile.ts. */
  version?: string;
  hostName?: string;
  user?: string;
  password?: string;
  /** Lines as in authorized_keys. */
  authorizedKeys?: string[];
  listenAddress?: string;
  /** 0 or absent: a free one. */
  sshPort?: number;
  httpsPort?: number;
  /** False: a lab without the HTTPS front, which needs no Go. */
  https?: boolean;
  datastores?: DatastoreOptions[];
  /** Folders of this machine that the lab may mount as NFS shares: `server:/share` → folder. */
  nfsShares?: Record<string, string>;
  vms?: MachineOptions[];
  switches?: Partial<Switches>;
}

export interface DatastoreOptions {
  name: string;
  type?: DatastoreType;
  capacityBytes?: number;
  rawFrozenRead?: 'refuse' | 'allow';
}

export interface MachineOptions {
  name: string;
  /** Of the .vmx, and of disks that name none. */
  datastore?: string;
  /** Folder on the datastore; the name unless told. */
  folder?: string;
  disks: DiskOptions[];
  running?: boolean;
  changeTracking?: boolean;
  writer?: WriterOptions;
  memoryMib?: number;
  cpus?: number;
  guestId?: string;
  firmware?: 'bios' | 'efi';
  hardwareVersion?: number;
  annotation?: string;
  networks?: string[];
  /** Guest tools answer while the machine runs. True unless told. */
  tools?: boolean;
  /** More lines for the .vmx. */
  vmx?: Record<string, string>;
}

export interface DiskOptions {
  sizeBytes: number;
  provisioning?: Provisioning;
  /** `scsi0:0`; the next free place on scsi0 unless told. */
  node?: string;
  datastore?: string;
  fill?: Fill;
  /** A raw image to copy instead of a fill. */
  image?: string;
  mode?: 'independent-persistent' | 'independent-nonpersistent';
  /** A pointer that says it is a mapped device; its data are a flat file all the same. */
  rdm?: 'virtual' | 'physical';
  sharing?: 'multi-writer';
}

/** A guest that keeps writing while its machine runs. */
export interface WriterOptions {
  bytesPerSecond: number;
  /** Size of one write. */
  blockBytes?: number;
  /** It writes only in the first so many percent of each disk. */
  spanPercent?: number;
  seed?: number;
}

/** What the daemon says on standard output once it is ready. */
export interface LabReady {
  sshPort: number;
  httpsPort: number | null;
  /** `SHA256:…` */
  sshHostKey: string;
  /** SHA-256 of the DER, lower-case hex. */
  tlsCertificate: string | null;
}

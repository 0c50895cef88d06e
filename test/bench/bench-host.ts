import type { HostAddress, MachineIdentity } from '../../server/source/index.ts';
import type { BlockChange } from './disk-image.ts';

/** The host that all contenders read from and write to, over the same SSH server. */
export interface BenchHost {
  /** Shell words; a remote command follows. One cipher for all. */
  readonly ssh: string;
  /** A folder on a datastore for plain files: as the host's shell names it, and on this machine. */
  readonly folder: string;
  readonly localFolder: string;
  readonly address: HostAddress;
  readonly datastore: string;
  /** Running, with change tracking and one disk. */
  readonly machine: MachineIdentity;
  /** The guest writes to its disk. */
  write(changes: readonly BlockChange[]): Promise<void>;
  /** On this machine: the flat file of a restored machine's disk. */
  diskOf(machineName: string): Promise<string>;
  destroy(machineName: string): Promise<void>;
  stop(): Promise<void>;
}

/** The disk as plain files on the host, and the same files on this machine. */
export interface BenchDisk {
  sizeBytes: number;
  /** The whole disk. */
  image: { remote: string; local: string };
  /** Only its blocks that are not zero, one after the other. */
  data: { remote: string; local: string; sizeBytes: number };
}

import type { Clock, Logger } from '../../runtime/index.ts';
import { GIB } from '../../runtime/index.ts';
import type { VsphereClient } from '../../vsphere/index.ts';
import type { HostFacts } from '../source.ts';
import { DatastoreMap } from './datastore-path.ts';
import type { SharedPortal } from '../../iscsi/index.ts';
import type { HostShell } from './host-shell.ts';
import { listDatastores } from './inventory.ts';
import { MEASURED_BYTES_MIN } from './route-rates.ts';

/** Numbers that tests and cautious users change; the defaults fit a host in daily work. */
export interface SourceLimits {
  /** Parallel readers or writers of one disk over the SSH connection. */
  rawChannels: number;
  /** A datastore with less free is not snapshotted, and a run on it is ended. */
  freeFloorBytes: number;
  /** How seldom the free space is looked at, at most, while a machine is frozen; more often where it goes fast. */
  watchIntervalMs: number;
  /** Longest wait for a snapshot to be there; quiescing may take 15 minutes by itself. */
  snapshotTimeoutMs: number;
  /** How long a snapshot may stay missing after the host said it was done. */
  snapshotSettleMs: number;
  /** Longest wait for the layers of a removed snapshot to be merged. */
  consolidateTimeoutMs: number;
  /** How long a removal may stand still, with no task of the host, before it counts as failed. */
  removeIdleMs: number;
  /** Longest wait for a disk of ours to appear on the host, once it was told to look for it. */
  deviceTimeoutMs: number;
  pollIntervalMs: number;
  /** A transfer of less is no measure for the speed of its route. */
  measuredBytesMin: number;
}

export const DEFAULT_LIMITS: SourceLimits = {
  rawChannels: 3,
  freeFloorBytes: 1 * GIB,
  watchIntervalMs: 30_000,
  snapshotTimeoutMs: 20 * 60_000,
  snapshotSettleMs: 15_000,
  consolidateTimeoutMs: 6 * 3_600_000,
  removeIdleMs: 30_000,
  deviceTimeoutMs: 60_000,
  pollIntervalMs: 1_000,
  measuredBytesMin: MEASURED_BYTES_MIN,
};

/** How hosts reach the iSCSI targets of this process. */
export interface IscsiAccess {
  portal: SharedPortal;
  /** Address that hosts are to use; null: the one by which this process reached them. */
  address: string | null;
}

/** Channels of one connection: readers of two disks and some for control. */
export const CHANNELS_MAX = 8;

/** What every part of this folder works with. */
export interface EsxiContext {
  shell: HostShell;
  vsphere: VsphereClient;
  facts: HostFacts;
  clock: Clock;
  logger: Logger;
  limits: SourceLimits;
  /** Null: no disks are served from here. */
  iscsi: IscsiAccess | null;
}

/** Datastores as they are named now. */
export async function loadDatastores(context: EsxiContext): Promise<DatastoreMap> {
  return new DatastoreMap(await listDatastores(context.vsphere));
}

/** Names of holds; everything that carries one is ours. */
export const HOLD = /^dozo-[0-9a-f]{16}$/;

/** The folder on a datastore in which a hold keeps its temporary files. */
export function holdFolder(root: string, hold: string): string {
  return `${root}/.${hold}`;
}

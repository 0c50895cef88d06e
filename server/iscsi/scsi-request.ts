import type { BackingDisk } from './backing-disk.ts';
import type { UnitIdentity } from './device-pages.ts';
import type { RangeLock } from './range-lock.ts';
import type { Reservations } from './reservations.ts';
import type { SenseCode } from './sense.ts';

export interface ScsiRequest {
  /** 16 bytes, padded with zeros. */
  cdb: Buffer;
  /** Name of the nexus: the initiator's port. */
  nexus: string;
  dataOut: Buffer;
  /** How much data the initiator said that it would send. */
  announcedBytes: number;
  /** Gives a buffer for data to be sent, once a command. */
  takeBuffer?(lengthBytes: number): Buffer;
}

export interface ScsiReply {
  status: number;
  dataIn: Buffer | null;
  sense: Buffer | null;
}

/** What commands see of the unit that they are for. */
export interface CommandUnit {
  readonly disk: BackingDisk;
  readonly blocks: number;
  readonly identity: UnitIdentity;
  readonly reservations: Reservations;
  /** Keeps COMPARE AND WRITE apart from other writes to the same blocks. */
  readonly locks: RangeLock;
  /** Takes the oldest unit attention of a nexus. */
  takeAttention(nexus: string): SenseCode | undefined;
}

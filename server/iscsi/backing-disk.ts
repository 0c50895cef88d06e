import type { DiskReader } from '../disk/index.ts';

/**
 * The bytes behind a logical unit. Offsets and lengths are whole sectors within the disk. Calls may
 * overlap in time; two that touch the same bytes at once leave either's bytes.
 */
export interface BackingDisk extends DiskReader {
  /** Absent or false: writes are refused before they get here. */
  readonly writable: boolean;
  /** The same as `read`, into a buffer of the caller's; for disks that can spare one of their own. */
  readInto?(offsetBytes: number, target: Buffer): Promise<void>;
  /** May be kept in a volatile cache until `flush`. The data is taken over by the time the promise resolves. */
  write(offsetBytes: number, data: Buffer): Promise<void>;
  /** The same as writing zeros. */
  zero(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** What nobody needs any more. It reads as zeros afterwards. */
  discard(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** Everything whose write had resolved before is on stable storage after. */
  flush(): Promise<void>;
  /** After `close` no other call is made. */
  close(): Promise<void>;
}

/**
 * Bytes of a disk that can be read at any offset: a file, a disk of a restore point, a frozen disk
 * on a host where that is possible.
 */
export interface DiskReader {
  readonly sizeBytes: number;
  /**
   * Exactly `lengthBytes` bytes from `offsetBytes`; both within the disk. Concurrent calls allowed.
   * Rejects rather than give fewer bytes.
   */
  read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer>;
}

/**
 * Takes the bytes of a disk in any order and any size. What is never delivered keeps the content of
 * the previous version, or zero where there is none.
 */
export interface DiskSink {
  /**
   * The promise settles when the sink can take more and is done with `data`: waiting for it is the only
   * back-pressure, and from then on the caller may fill the same buffer again. Fresh buffers for every
   * piece cost as much processor time as hashing.
   */
  write(offsetBytes: number, data: Buffer): Promise<void>;
  /** The same as writing zeros, at no cost. */
  zero(offsetBytes: number, lengthBytes: number): Promise<void>;
  /** What it holds now, previous version included, where a sink can tell. For hosts that read what they wrote. */
  read?(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}

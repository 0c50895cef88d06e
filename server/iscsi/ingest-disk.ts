import { AppError } from '../errors/index.ts';
import type { DiskWriter, WriteStats } from '../repository/index.ts';
import type { BackingDisk } from './backing-disk.ts';
import { ReadAheadReader } from './read-ahead-disk.ts';

/**
 * A disk whose writes go into a point that is being made: an unchanged block costs nothing in the store. Reads give
 * what was written, else the previous version. Nothing of it is a point until the caller commits the session.
 */
export interface IngestDisk extends BackingDisk {
  /** What arrived so far. */
  stats(): WriteStats;
  /**
   * Takes the disk out of service and completes it in its write session. The initiator must have logged out before,
   * see `SessionEnd.orderly`: the caller's to know. Once.
   * @throws the error of a write that failed, for then the disk is not what the initiator sent
   */
  finish(): Promise<{ rootHash: string; stats: WriteStats }>;
}

/** @param writer of a disk of that size, opened over the previous version */
export function createIngestDisk(writer: DiskWriter, sizeBytes: number): IngestDisk {
  return new WriterDisk(writer, sizeBytes);
}

class WriterDisk implements IngestDisk {
  readonly sizeBytes: number;
  readonly writable = true;
  readonly #writer: DiskWriter;
  readonly #cache: ReadAheadReader;
  readonly #working = new Set<Promise<void>>();
  #failure: unknown = null;
  #isFinished = false;

  constructor(writer: DiskWriter, sizeBytes: number) {
    this.#writer = writer;
    this.sizeBytes = sizeBytes;
    this.#cache = new ReadAheadReader({
      sizeBytes,
      read: (offsetBytes, lengthBytes) => writer.read(offsetBytes, lengthBytes),
    });
  }

  stats(): WriteStats {
    return this.#writer.stats();
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    this.#assertServing();
    return this.#cache.read(offsetBytes, lengthBytes);
  }

  write(offsetBytes: number, data: Buffer): Promise<void> {
    return this.#change(offsetBytes, data.length, () => this.#writer.write(offsetBytes, data));
  }

  zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#change(offsetBytes, lengthBytes, () => this.#writer.zero(offsetBytes, lengthBytes));
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.zero(offsetBytes, lengthBytes);
  }

  /** What arrived is with the writer. It is durable with a checkpoint or the commit, which are the session's. */
  async flush(): Promise<void> {
    await Promise.all(this.#working);
    this.#assertServing();
  }

  async close(): Promise<void> {
    this.#isFinished = true;
    await Promise.allSettled(this.#working);
  }

  async finish(): Promise<{ rootHash: string; stats: WriteStats }> {
    await this.flush();
    this.#isFinished = true;
    return this.#writer.finish();
  }

  async #change(offsetBytes: number, lengthBytes: number, work: () => Promise<void>): Promise<void> {
    this.#assertServing();
    this.#cache.forget(offsetBytes, lengthBytes);
    const change = work();
    this.#working.add(change);
    try {
      await change;
    } catch (error) {
      // The initiator was told, but a clone that goes on all the same must not become a point.
      this.#failure ??= error;
      throw error;
    } finally {
      this.#working.delete(change);
      // Once more: a read may have come in between.
      this.#cache.forget(offsetBytes, lengthBytes);
    }
  }

  #assertServing(): void {
    if (this.#failure !== null) throw this.#failure as Error;
    if (this.#isFinished)
      throw new AppError('INVARIANT_BROKEN', 'Broken invariant: a finished ingest disk was used again');
  }
}

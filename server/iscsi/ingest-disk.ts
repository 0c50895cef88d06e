import { normalizeExtents, subtractExtents, type DiskSink, type Extent } from '../disk/index.ts';
import { AppError } from '../errors/index.ts';
import type { BackingDisk } from './backing-disk.ts';
import { ReadAheadReader } from './read-ahead-disk.ts';

/**
 * A disk whose writes go into a sink, in whatever order, size and repetition an initiator chooses. Nothing of it is
 * complete until the caller says so.
 */
export interface IngestDisk extends BackingDisk {
  /**
   * Takes the disk out of service once every write is through. That the initiator has sent all is the caller's to
   * know. Once.
   * @returns what was never written, in order
   * @throws the error of a write that failed, for then the sink does not hold what the initiator sent
   */
  finish(): Promise<Extent[]>;
}

/** @param sink is read as well, where it can be; else all reads as zeros */
export function createIngestDisk(sink: DiskSink, sizeBytes: number): IngestDisk {
  return new SinkDisk(sink, sizeBytes);
}

/** Runs remembered before they are sorted and joined. Writers go up mostly, so there are few. */
const LOOSE_RUNS_MAX = 4096;

class SinkDisk implements IngestDisk {
  readonly sizeBytes: number;
  readonly writable = true;
  readonly #sink: DiskSink;
  readonly #cache: ReadAheadReader;
  readonly #working = new Set<Promise<void>>();
  #written: Extent[] = [];
  #runsMax = LOOSE_RUNS_MAX;
  #failure: unknown = null;
  #isFinished = false;

  constructor(sink: DiskSink, sizeBytes: number) {
    this.#sink = sink;
    this.sizeBytes = sizeBytes;
    this.#cache = new ReadAheadReader({
      sizeBytes,
      read: async (offsetBytes, lengthBytes) =>
        (await sink.read?.(offsetBytes, lengthBytes)) ?? Buffer.alloc(lengthBytes),
    });
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    this.#assertServing();
    return this.#cache.read(offsetBytes, lengthBytes);
  }

  write(offsetBytes: number, data: Buffer): Promise<void> {
    return this.#change(offsetBytes, data.length, () => this.#sink.write(offsetBytes, data));
  }

  zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#change(offsetBytes, lengthBytes, () => this.#sink.zero(offsetBytes, lengthBytes));
  }

  discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.zero(offsetBytes, lengthBytes);
  }

  /** What arrived is with the sink. When it is durable is for a checkpoint or commit above to say. */
  async flush(): Promise<void> {
    await Promise.all(this.#working);
    this.#assertServing();
  }

  async close(): Promise<void> {
    this.#isFinished = true;
    await Promise.allSettled(this.#working);
  }

  async finish(): Promise<Extent[]> {
    await this.flush();
    this.#isFinished = true;
    const whole = [{ offsetBytes: 0, lengthBytes: this.sizeBytes }];
    return subtractExtents(whole, normalizeExtents(this.#written));
  }

  async #change(offsetBytes: number, lengthBytes: number, work: () => Promise<void>): Promise<void> {
    this.#assertServing();
    this.#cache.forget(offsetBytes, lengthBytes);
    const change = work();
    this.#working.add(change);
    try {
      await change;
      this.#remember(offsetBytes, lengthBytes);
    } catch (error) {
      // The initiator was told, but what goes on all the same must not pass for complete.
      this.#failure ??= error;
      throw error;
    } finally {
      this.#working.delete(change);
      // Once more: a read may have come in between.
      this.#cache.forget(offsetBytes, lengthBytes);
    }
  }

  #remember(offsetBytes: number, lengthBytes: number): void {
    const last = this.#written.at(-1);
    if (last !== undefined && last.offsetBytes + last.lengthBytes === offsetBytes) last.lengthBytes += lengthBytes;
    else this.#written.push({ offsetBytes, lengthBytes });
    if (this.#written.length < this.#runsMax) return;
    this.#written = normalizeExtents(this.#written);
    this.#runsMax = Math.max(LOOSE_RUNS_MAX, 2 * this.#written.length);
  }

  #assertServing(): void {
    if (this.#failure !== null) throw this.#failure as Error;
    if (this.#isFinished)
      throw new AppError('INVARIANT_BROKEN', 'Broken invariant: a finished ingest disk was used again');
  }
}

import type { DiskSink } from '../disk/index.ts';
import { toAppError, type AppError } from '../errors/index.ts';

import { ExtentSet } from './extent-set.ts';

/** Where delivered bytes go, and what has to know of them. */
interface ArrivalSinkOptions {
  inner: DiskSink;
  /** What had arrived before; grows with every delivery. */
  arrived?: ExtentSet;
  beginWrite?(): void;
  endWrite?(): void;
  /** After each delivery that the inner sink took; `newBytes` had not arrived before. */
  taken?(newBytes: number): Promise<void> | void;
}

/**
 * Passes deliveries on and remembers what of the disk has arrived, so that a transfer that was cut
 * goes on with the rest, and one that claims to be done without having delivered all is found out.
 */
export class ArrivalSink implements DiskSink {
  readonly arrived: ExtentSet;
  /** What the inner sink threw first: the cause when the transfer then fails with something else. */
  failure: AppError | null = null;
  readonly #options: ArrivalSinkOptions;

  constructor(options: ArrivalSinkOptions) {
    this.#options = options;
    this.arrived = options.arrived ?? new ExtentSet();
  }

  write(offsetBytes: number, data: Buffer): Promise<void> {
    return this.#pass(offsetBytes, data.length, () => this.#options.inner.write(offsetBytes, data));
  }

  zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    return this.#pass(offsetBytes, lengthBytes, () => this.#options.inner.zero(offsetBytes, lengthBytes));
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return (await this.#options.inner.read?.(offsetBytes, lengthBytes)) ?? Buffer.alloc(lengthBytes);
  }

  async #pass(offsetBytes: number, lengthBytes: number, deliver: () => Promise<void>): Promise<void> {
    this.#options.beginWrite?.();
    try {
      if (this.failure !== null) throw this.failure;
      await deliver();
      const before = this.arrived.totalBytes;
      this.arrived.add(offsetBytes, lengthBytes);
      await this.#options.taken?.(this.arrived.totalBytes - before);
    } catch (error) {
      this.failure ??= toAppError(error);
      throw error;
    } finally {
      this.#options.endWrite?.();
    }
  }
}

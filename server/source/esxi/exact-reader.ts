import type { Readable } from 'node:stream';
import { AppError } from '../../errors/index.ts';
import { giveBackChunk } from '../../ssh/index.ts';

/** The connection may be alive while the datastore behind a read is not. */
const SILENCE_MS = 120_000;

interface Request {
  target: Buffer;
  filledBytes: number;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Takes exact numbers of bytes from a stream into buffers of the caller's. Bytes are copied once, as
 * they come: the stream's own iterator would join them into new buffers first, and so many buffers make
 * collecting garbage cost as much as compressing. One call at a time.
 */
export class ExactReader {
  readonly #stream: Readable;
  /** What came and was not asked for yet; the stream is paused while there is any. */
  #rest: Buffer = Buffer.alloc(0);
  #request: Request | null = null;
  #isDraining = false;
  #isEnded = false;
  #failure: unknown = null;
  #silence: NodeJS.Timeout | null = null;

  constructor(stream: Readable) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
    stream.once('end', () => this.#end());
    stream.once('close', () => this.#end());
    stream.once('error', (error) => {
      this.#failure = error;
      this.#settle();
    });
  }

  /** Fills the whole buffer. @throws DISK_READ_SHORT at the end, HOST_STALLED, what the stream throws */
  async fill(target: Buffer): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#request = { target, filledBytes: 0, resolve, reject };
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    if (rest.length > 0) this.#take(rest);
    this.#settle();
    if (this.#rest.length === 0) this.#stream.resume();
    // As long as nothing is asked for, silence means nothing.
    this.#silence = setTimeout(() => this.#stream.destroy(silent()), SILENCE_MS);
    await promise.finally(() => clearTimeout(this.#silence ?? undefined));
  }

  /** Reads and drops what is left: a channel tells its status only after its last byte was read. */
  async drain(): Promise<void> {
    this.#isDraining = true;
    if (this.#rest.length > 0) giveBackChunk(this.#rest);
    this.#rest = Buffer.alloc(0);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#request = { target: Buffer.alloc(0), filledBytes: -1, resolve, reject };
    this.#settle();
    this.#stream.resume();
    await promise;
  }

  #take(chunk: Buffer): void {
    if (this.#isDraining) {
      giveBackChunk(chunk);
      return;
    }
    const request = this.#request;
    if (request === null) {
      this.#keep(chunk);
      this.#stream.pause();
      return;
    }
    this.#silence?.refresh();
    const copiedBytes = chunk.copy(request.target, request.filledBytes);
    request.filledBytes += copiedBytes;
    if (copiedBytes < chunk.length) {
      this.#rest = chunk.subarray(copiedBytes);
      this.#stream.pause();
    } else giveBackChunk(chunk);
    if (request.filledBytes === request.target.length) {
      this.#request = null;
      request.resolve();
    }
  }

  #keep(chunk: Buffer): void {
    if (this.#rest.length === 0) {
      this.#rest = chunk;
      return;
    }
    const parts = [this.#rest, chunk];
    this.#rest = Buffer.concat(parts);
    for (const part of parts) giveBackChunk(part);
  }

  #end(): void {
    this.#isEnded = true;
    this.#settle();
  }

  #settle(): void {
    const request = this.#request;
    if (request === null || (this.#failure === null && !this.#isEnded)) return;
    this.#request = null;
    if (this.#failure !== null) request.reject(this.#failure);
    else if (this.#isDraining) request.resolve();
    else request.reject(endedEarly());
  }
}

function endedEarly(): AppError {
  return new AppError('DISK_READ_SHORT', 'The host ended a read before its end.', {
    hint: 'The read is repeated; if it fails again, look at vmkernel.log on the host.',
  });
}

function silent(): AppError {
  return new AppError('HOST_STALLED', 'A read on the host gave nothing for two minutes.', {
    hint: 'Check that the datastore answers (paths, NFS server); the next run goes on.',
  });
}

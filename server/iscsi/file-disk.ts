import { open as openCallback, type FileHandle } from 'node:fs/promises';
import { read, write } from 'node:fs';
import { AppError } from '../errors/index.ts';
import { releaseMemory } from '../runtime/index.ts';
import type { BackingDisk } from './backing-disk.ts';

const ZERO_STEP_BYTES = 1024 * 1024;

/** A raw image as a disk. Zeros are not written where zeros or a hole are, so a sparse file stays sparse. */
export async function openFileDisk(path: string, options: { writable: boolean }): Promise<BackingDisk> {
  const file = await openCallback(path, options.writable ? 'r+' : 'r');
  try {
    const { size } = await file.stat();
    return new FileDisk(file, size, options.writable);
  } catch (error) {
    await file.close();
    throw error;
  }
}

class FileDisk implements BackingDisk {
  readonly sizeBytes: number;
  readonly writable: boolean;
  readonly #file: FileHandle;
  readonly #zeros = Buffer.alloc(ZERO_STEP_BYTES);

  constructor(file: FileHandle, sizeBytes: number, writable: boolean) {
    this.#file = file;
    this.sizeBytes = sizeBytes;
    this.writable = writable;
  }

  async read(offsetBytes: number, lengthBytes: number): Promise<Buffer> {
    return readFully(this.#file.fd, offsetBytes, lengthBytes);
  }

  readInto(offsetBytes: number, target: Buffer): Promise<void> {
    return readFullyInto(this.#file.fd, offsetBytes, target);
  }

  async write(offsetBytes: number, data: Buffer): Promise<void> {
    await writeFully(this.#file.fd, offsetBytes, data);
  }

  async zero(offsetBytes: number, lengthBytes: number): Promise<void> {
    for (let at = 0; at < lengthBytes; at += ZERO_STEP_BYTES) {
      const bytes = Math.min(ZERO_STEP_BYTES, lengthBytes - at);
      const found = await this.read(offsetBytes + at, bytes);
      if (found.compare(this.#zeros, 0, bytes) !== 0)
        await this.write(offsetBytes + at, this.#zeros.subarray(0, bytes));
      releaseMemory(found);
    }
  }

  async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.zero(offsetBytes, lengthBytes);
  }

  async flush(): Promise<void> {
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** Callbacks rather than promises of node:fs: half the cost for a small block. */
export async function readFully(fd: number, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(lengthBytes);
  await readFullyInto(fd, offsetBytes, buffer);
  return buffer;
}

function readFullyInto(fd: number, offsetBytes: number, buffer: Buffer): Promise<void> {
  const lengthBytes = buffer.length;
  return new Promise((resolve, reject) => {
    const readFrom = (at: number): void => {
      read(fd, buffer, at, lengthBytes - at, offsetBytes + at, (error, bytes) => {
        if (error !== null) reject(error);
        else if (at + bytes >= lengthBytes) resolve();
        else if (bytes > 0) readFrom(at + bytes);
        else
          reject(new AppError('INVARIANT_BROKEN', `Broken invariant: a disk image ends at byte ${offsetBytes + at}`));
      });
    };
    readFrom(0);
  });
}

export async function writeFully(fd: number, offsetBytes: number, data: Buffer): Promise<void> {
  let at = 0;
  while (at < data.length) {
    at += await new Promise<number>((resolve, reject) =>
      write(fd, data, at, data.length - at, offsetBytes + at, (error, count) =>
        error === null ? resolve(count) : reject(error),
      ),
    );
  }
}

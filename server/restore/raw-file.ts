import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';

import type { Extent } from '../disk/index.ts';
import { MIB, releaseMemory } from '../runtime/index.ts';

import type { WritableDisk } from './write-disk.ts';

const READ_BYTES = 4 * MIB;

/** A disk as a plain file of its bytes; what is never written stays a hole. */
export async function createRawFile(file: FileHandle, sizeBytes: number): Promise<WritableDisk> {
  await file.truncate(sizeBytes);
  return {
    write: async (offsetBytes, data) => {
      await writeFully(file, data, offsetBytes);
      releaseMemory(data);
    },
    flush: () => file.sync(),
    hashesChunks: false,
    hash: async (extents, signal) => {
      const hashes: string[] = [];
      for (const extent of extents) hashes.push(await hashRange(file, extent, signal));
      return hashes;
    },
  };
}

async function hashRange(file: FileHandle, extent: Extent, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for (let done = 0; done < extent.lengthBytes; done += READ_BYTES) {
    signal?.throwIfAborted();
    const length = Math.min(READ_BYTES, extent.lengthBytes - done);
    const data = await readFully(file, extent.offsetBytes + done, length);
    hash.update(data);
    releaseMemory(data);
  }
  return hash.digest('hex');
}

/** Writes all of `data`; a short write is continued. */
export async function writeFully(file: FileHandle, data: Buffer, offsetBytes: number): Promise<void> {
  for (let done = 0; done < data.length;) {
    done += (await file.write(data, done, data.length - done, offsetBytes + done)).bytesWritten;
  }
}

/** Exactly so many bytes; a file that ends before is an error, since everything was given its size. */
export async function readFully(file: FileHandle, offsetBytes: number, lengthBytes: number): Promise<Buffer> {
  const data = Buffer.alloc(lengthBytes);
  for (let done = 0; done < lengthBytes;) {
    const { bytesRead } = await file.read(data, done, lengthBytes - done, offsetBytes + done);
    if (bytesRead === 0) throw new Error(`The file ends at ${String(offsetBytes + done)} bytes`);
    done += bytesRead;
  }
  return data;
}

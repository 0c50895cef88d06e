import type { DiskReader } from '../disk/index.ts';
import { AppError } from '../errors/index.ts';
import type { BackingDisk } from './backing-disk.ts';
import { ReadAheadReader } from './read-ahead-disk.ts';

/**
 * Anything that can be read at any offset, a disk of a restore point above all, as a disk that cannot be written.
 * Reads ahead, with at most 16 MiB in its cache. Closing it leaves the reader open.
 */
export function serveReader(reader: DiskReader): BackingDisk {
  const cached = new ReadAheadReader(reader);
  const refuse = async (): Promise<never> => {
    throw new AppError('INVARIANT_BROKEN', 'Broken invariant: a write reached a disk that is only read');
  };
  return {
    sizeBytes: reader.sizeBytes,
    writable: false,
    read: (offsetBytes, lengthBytes) => cached.read(offsetBytes, lengthBytes),
    write: refuse,
    zero: refuse,
    discard: refuse,
    flush: async () => {},
    close: async () => {},
  };
}

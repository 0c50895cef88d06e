import type { DiskDownload, DiskDownloads } from '../http/index.ts';
import { MIB, type Clock, type Logger } from '../runtime/index.ts';
import { openFolder } from './open-repository.ts';

/** What is read and sent at a time: whole chunks of every allowed size. */
const PIECE_BYTES = 4 * MIB;

/** Disks of versions for downloads, read by the server itself. */
export function createDiskDownloads(clock: Clock, logger: Logger): DiskDownloads {
  return {
    open: async (repositoryPath, pointId, diskKey): Promise<DiskDownload> => {
      const repository = await openFolder(repositoryPath, { clock, logger });
      try {
        const point = await repository.openPoint(pointId);
        const disk = await point.openDisk(diskKey);
        return {
          sizeBytes: disk.sizeBytes,
          bytes: async function* (signal) {
            for (let offsetBytes = 0; offsetBytes < disk.sizeBytes; offsetBytes += PIECE_BYTES) {
              signal.throwIfAborted();
              yield await disk.read(offsetBytes, Math.min(PIECE_BYTES, disk.sizeBytes - offsetBytes), signal);
            }
          },
          close: () => repository.close(),
        };
      } catch (error) {
        await repository.close();
        throw error;
      }
    },
  };
}

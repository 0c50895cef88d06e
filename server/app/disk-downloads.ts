import type { DiskDownload, DiskDownloads } from '../http/index.ts';
import type { Sealer } from '../queue/index.ts';
import { MIB, type Clock, type Logger } from '../runtime/index.ts';
import { openFolder } from './open-repository.ts';
import { openAddressKey } from './repository-secrets.ts';

/** What is read and sent at a time: whole chunks of every allowed size. */
const PIECE_BYTES = 4 * MIB;

/** Disks of versions for downloads, read by the server itself. */
export function createDiskDownloads(parts: { sealer: Sealer; clock: Clock; logger: Logger }): DiskDownloads {
  const { sealer, clock, logger } = parts;
  return {
    open: async (address, pointId, diskKey): Promise<DiskDownload> => {
      const secret = openAddressKey(sealer, address);
      const repository = await openFolder(address.path, { clock, logger, secret });
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

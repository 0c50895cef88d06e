import type { DiskBrowser, DiskDownload, DiskDownloads } from '../http/index.ts';
import type { RepositoryAddress } from '../contract/task.ts';
import type { DiskReader } from '../disk/index.ts';
import {
  KeptContents,
  listGuestFolder,
  listGuestVolumes,
  openGuestArchive,
  openGuestFile,
  wasQuiet,
} from '../restore/index.ts';
import type { Sealer } from '../queue/index.ts';
import { MIB, type Clock, type Logger } from '../runtime/index.ts';
import { SharedRepositories } from './shared-repositories.ts';

/** What is read and sent at a time: whole chunks of every allowed size. */
const PIECE_BYTES = 4 * MIB;

export interface OwnDownloads extends DiskDownloads {
  /** Ids of the versions of a repository that are being read now. */
  readPoints(repositoryPath: string): string[];
}

/** Disks of versions for downloads, read by the server itself. */
export function createDiskDownloads(parts: { sealer: Sealer; clock: Clock; logger: Logger }): OwnDownloads {
  const repositories = new SharedRepositories(parts);
  const reads = new Set<{ path: string; pointId: string }>();
  const keptContents = new KeptContents(parts.clock);
  const openDisk = async (address: RepositoryAddress, pointId: string, diskKey: string): Promise<OpenedDisk> => {
    const { repository, release } = await repositories.open(address);
    const read = { path: address.path, pointId };
    reads.add(read);
    const close = async (): Promise<void> => {
      reads.delete(read);
      await release();
    };
    try {
      const point = await repository.openPoint(pointId);
      const disk = await point.openDisk(diskKey);
      const otherKeys = point.manifest.disks.map(({ key }) => key).filter((key) => key !== diskKey);
      const others = await Promise.all(otherKeys.map((key) => point.openDisk(key)));
      return { disk, others, wasQuiet: wasQuiet(point), close };
    } catch (error) {
      await close();
      throw error;
    }
  };
  return {
    readPoints: (repositoryPath) =>
      [...reads].flatMap(({ path, pointId }) => (path === repositoryPath ? [pointId] : [])),
    open: async (address, pointId, diskKey): Promise<DiskDownload> => {
      const { disk, close } = await openDisk(address, pointId, diskKey);
      return {
        sizeBytes: disk.sizeBytes,
        bytes: async function* (signal) {
          for (let offsetBytes = 0; offsetBytes < disk.sizeBytes; offsetBytes += PIECE_BYTES) {
            signal.throwIfAborted();
            yield await disk.read(offsetBytes, Math.min(PIECE_BYTES, disk.sizeBytes - offsetBytes), signal);
          }
        },
        close,
      };
    },
    browse: async (address, pointId, diskKey): Promise<DiskBrowser> => {
      const { disk, others, wasQuiet: isQuiet, close } = await openDisk(address, pointId, diskKey);
      return {
        volumes: (signal) => listGuestVolumes(disk, signal, others, isQuiet),
        list: (volume, options, signal) => listGuestFolder(disk, volume, options, signal, others),
        file: (volume, path, signal) => openGuestFile(disk, volume, path, signal, others),
        archive: async (volume, { path, names, language, isAsked }, signal) => {
          const key = JSON.stringify([address.path, pointId, diskKey, volume, path, names]);
          const known = keptContents.take(key);
          const archive = await openGuestArchive(disk, volume, path, { signal, others, language, names, known });
          if (isAsked) keptContents.keep(key, archive.contents);
          return archive;
        },
        close,
      };
    },
  };
}

interface OpenedDisk {
  disk: DiskReader;
  /** Of the same version: logical volumes may go on there. */
  others: DiskReader[];
  wasQuiet: boolean;
  close(): Promise<void>;
}

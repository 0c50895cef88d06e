import type { GuestFileView, GuestFolderPage, GuestVolumeView } from '../contract/api/guest-file.schema.ts';
import type { DiskReader } from '../disk/index.ts';
import { AppError } from '../errors/index.ts';
import { findVolumes, recogniseForeign, type DiskVolume, type GuestFileSystem } from '../filesystem/index.ts';
import { MIB } from '../runtime/index.ts';

/** What is read of a file at a time. */
const PIECE_BYTES = 4 * MIB;

/** A file of a guest, ready to be given out. */
export interface GuestDownload {
  /** The last name of its path: a stranger's, to be checked by whoever makes a file of it. */
  name: string;
  sizeBytes: number;
  /** From beginning to end, holes as zeros. */
  bytes(signal: AbortSignal): AsyncIterable<Buffer>;
}

/**
 * The volumes of a stored disk, in the order of the disk.
 * @param others the other disks of the same version: logical volumes may go on there
 * @param wasQuiet the guest brought its volumes in order for the freeze, whatever their logs look like
 */
export async function listGuestVolumes(
  disk: DiskReader,
  signal?: AbortSignal,
  others?: readonly DiskReader[],
  wasQuiet = false,
): Promise<GuestVolumeView[]> {
  const views: GuestVolumeView[] = [];
  for (const volume of await findVolumes(disk, signal, others)) {
    const isUnknown = volume.system === null && (volume.failure === null || volume.isPhysical);
    const holds = isUnknown ? await recogniseForeign(volume, signal) : null;
    views.push({
      number: volume.number,
      ...(volume.name === null ? {} : { name: volume.name }),
      offsetBytes: volume.offsetBytes,
      sizeBytes: volume.sizeBytes,
      partitionType: volume.partitionType,
      fileSystem: volume.system?.kind ?? null,
      label: volume.system?.label ?? '',
      unreadable: volume.failure?.message ?? null,
      ...(holds === null ? {} : { holds }),
      ...(volume.system?.isUnsettled === true && !wasQuiet ? { isUnsettled: true } : {}),
    });
  }
  return views;
}

/**
 * A page of a folder, in the order of the disk.
 * @param options.from entries to pass over
 * @param others as for `listGuestVolumes`
 * @throws NOT_FOUND for the volume, FILESYSTEM_*, INPUT_INVALID for the path
 */
export async function listGuestFolder(
  disk: DiskReader,
  volumeNumber: number,
  options: { path: string; from: number; limit: number },
  signal?: AbortSignal,
  others?: readonly DiskReader[],
): Promise<GuestFolderPage> {
  const system = await openVolume({ disk, others }, volumeNumber, signal);
  const entries: GuestFileView[] = [];
  let index = 0;
  for await (const entry of system.list(options.path, signal)) {
    if (entries.length === options.limit) return { entries, next: index };
    if (index >= options.from) entries.push({ ...entry, name: entry.name.toWellFormed() });
    index += 1;
  }
  return { entries, next: null };
}

/**
 * @param others as for `listGuestVolumes`
 * @throws NOT_FOUND for the volume, FILESYSTEM_*, INPUT_INVALID for the path
 */
export async function openGuestFile(
  disk: DiskReader,
  volumeNumber: number,
  path: string,
  signal?: AbortSignal,
  others?: readonly DiskReader[],
): Promise<GuestDownload> {
  const system = await openVolume({ disk, others }, volumeNumber, signal);
  const file = await system.open(path, signal);
  return {
    name: path.split('/').findLast((name) => name !== '') ?? '',
    sizeBytes: file.sizeBytes,
    bytes: async function* (readSignal) {
      for (let offsetBytes = 0; offsetBytes < file.sizeBytes; offsetBytes += PIECE_BYTES) {
        readSignal.throwIfAborted();
        yield await file.read(offsetBytes, Math.min(PIECE_BYTES, file.sizeBytes - offsetBytes), readSignal);
      }
    },
  };
}

export async function openVolume(
  { disk, others }: { disk: DiskReader; others: readonly DiskReader[] | undefined },
  number: number,
  signal: AbortSignal | undefined,
): Promise<GuestFileSystem> {
  const volumes: DiskVolume[] = await findVolumes(disk, signal, others);
  const volume = volumes.find((one) => one.number === number);
  if (volume === undefined) {
    throw new AppError('NOT_FOUND', `The disk has no volume ${String(number)}.`, { hint: 'List its volumes.' });
  }
  if (volume.failure !== null) throw volume.failure;
  if (volume.system === null) {
    throw new AppError('FILESYSTEM_UNSUPPORTED', 'The volume holds no file system that Dozo reads.', {
      hint: 'Restore the disk, and get at the file in the guest.',
      details: { volume: number },
    });
  }
  return volume.system;
}

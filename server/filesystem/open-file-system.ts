import { isAppError, type AppError } from '../errors/index.ts';

import { openExt4 } from './ext4.ts';
import type { GuestFileSystem, OpenFileSystem, Volume } from './filesystem.ts';
import { openNtfs } from './ntfs.ts';
import { openXfs } from './xfs.ts';

const OPENERS: readonly OpenFileSystem[] = [openExt4, openNtfs, openXfs];

/** What a volume turned out to hold. */
export interface VolumeContent {
  /** Null: nothing that Dozo reads, or the reason stands in `failure`. */
  system: GuestFileSystem | null;
  /** Why a file system that was recognised cannot be read. */
  failure: AppError | null;
  /** Null: what is free may be relied upon. Else an English clause why not, also where nothing was recognised. */
  freeUnknown: string | null;
}

/** What a volume may hold that Dozo knows by its mark alone. */
export type ForeignKind =
  'lvm' | 'luks' | 'bitlocker' | 'raid' | 'btrfs' | 'swap' | 'bcache' | 'fat' | 'exfat' | 'storage-pool';

/**
 * Marks that others leave on a volume: where one of them is found, a file system beside it may be what was there
 * before, and what it calls free may be in use. By offset from the start, or from the end where negative.
 */
const FOREIGN_MARKS: readonly { kind: ForeignKind; name: string; atBytes: number; bytes: Buffer }[] = [
  ...[0, 512, 1024, 1536].map((atBytes) => ({
    kind: 'lvm' as const,
    name: 'a physical volume of LVM',
    atBytes,
    bytes: text('LABELONE'),
  })),
  { kind: 'luks', name: 'an encrypted volume (LUKS)', atBytes: 0, bytes: text('LUKS\xba\xbe') },
  { kind: 'bitlocker', name: 'an encrypted volume (BitLocker)', atBytes: 3, bytes: text('-FVE-FS-') },
  { kind: 'raid', name: 'a member of a Linux RAID', atBytes: 0, bytes: Buffer.from('fc4e2ba9', 'hex') },
  { kind: 'raid', name: 'a member of a Linux RAID', atBytes: 4096, bytes: Buffer.from('fc4e2ba9', 'hex') },
  { kind: 'raid', name: 'a member of a Linux RAID', atBytes: -8192, bytes: Buffer.from('fc4e2ba9', 'hex') },
  { kind: 'raid', name: 'a member of a Linux RAID', atBytes: -65_536, bytes: Buffer.from('fc4e2ba9', 'hex') },
  { kind: 'btrfs', name: 'a Btrfs file system', atBytes: 65_600, bytes: text('_BHRfS_M') },
  { kind: 'swap', name: 'a swap area', atBytes: 4086, bytes: text('SWAPSPACE2') },
  {
    kind: 'bcache',
    name: 'a bcache device',
    atBytes: 4120,
    bytes: Buffer.from('c68573f64e1a45ca8265f57f48ba6d81', 'hex'),
  },
  { kind: 'fat', name: 'a FAT file system', atBytes: 82, bytes: text('FAT32   ') },
  { kind: 'fat', name: 'a FAT file system', atBytes: 54, bytes: text('FAT1') },
  { kind: 'exfat', name: 'an exFAT file system', atBytes: 3, bytes: text('EXFAT   ') },
  { kind: 'storage-pool', name: 'a Windows storage pool', atBytes: 0, bytes: text('SPACEDB ') },
];

/** Recognises and opens what a volume holds. Rejects only with what reading the volume throws. */
export async function openFileSystem(volume: Volume, signal?: AbortSignal): Promise<VolumeContent> {
  const found: GuestFileSystem[] = [];
  let failure: AppError | null = null;
  for (const open of OPENERS) {
    try {
      const system = await open(volume, signal);
      if (system !== null) found.push(system);
    } catch (error) {
      if (!isAppError(error) || !error.code.startsWith('FILESYSTEM_')) throw error;
      failure = error;
    }
  }
  const system = found[0] ?? null;
  if (system === null) return { system, failure, freeUnknown: failure?.message ?? 'no file system that Dozo reads' };
  const mark = await findForeignMark(volume, signal);
  const rival = found.length > 1 || failure !== null ? 'another file system' : (mark?.name ?? null);
  return {
    system,
    failure: null,
    freeUnknown: rival === null ? system.freeUnknown : `it bears the mark of ${rival} as well`,
  };
}

/** The first mark of another program on a volume; null where there is none. */
export async function findForeignMark(
  volume: Volume,
  signal: AbortSignal | undefined,
): Promise<{ kind: ForeignKind; name: string } | null> {
  for (const { kind, name, atBytes, bytes } of FOREIGN_MARKS) {
    // Marks near the end lie at whole 64 KiB or 4 KiB of what is left.
    const unitBytes = atBytes === -65_536 ? 65_536 : 4096;
    const offsetBytes = atBytes >= 0 ? atBytes : Math.floor(volume.sizeBytes / unitBytes) * unitBytes + atBytes;
    if (offsetBytes < 0 || offsetBytes + bytes.length > volume.sizeBytes) continue;
    if ((await volume.read(offsetBytes, bytes.length, signal)).equals(bytes)) return { kind, name };
  }
  return null;
}

function text(characters: string): Buffer {
  return Buffer.from(characters, 'latin1');
}

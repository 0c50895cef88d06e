import * as z from 'zod';
import { languageSchema } from './notification.schema.ts';

/** A volume of a version's disk: a partition, or the disk where it has none. */
export const guestVolumeSchema = z
  .object({
    /** Of its partition; 0 for a disk without partitions; from 1001 for logical volumes. */
    number: z.number().int(),
    /** Of a logical volume of LVM: its group and name, parted by `/`. Absent for any other. */
    name: z.string().exactOptional(),
    offsetBytes: z.number(),
    sizeBytes: z.number(),
    /** Two hex digits of MBR or the GUID of GPT; null for a disk without partitions. */
    partitionType: z.string().nullable(),
    /** Null: none that Dozo reads. */
    fileSystem: z.enum(['ext4', 'xfs', 'ntfs']).nullable(),
    label: z.string(),
    /** Why a file system that was recognised cannot be read; an English sentence. */
    unreadable: z.string().nullable(),
    /** What is there instead of a file system that Dozo reads, where its mark is known. Absent: nothing known. */
    holds: z
      .enum(['lvm', 'luks', 'bitlocker', 'raid', 'btrfs', 'swap', 'bcache', 'fat', 'exfat', 'storage-pool'])
      .exactOptional(),
    /**
     * The volume was at work when it was frozen, and changes that stand in its log alone are not read: files that were
     * being changed at that moment may be old, cut short or missing. Absent: nothing of that.
     */
    isUnsettled: z.literal(true).exactOptional(),
  })
  .meta({ id: 'GuestVolume' });
export type GuestVolumeView = z.infer<typeof guestVolumeSchema>;

export const guestVolumesSchema = z.object({ volumes: z.array(guestVolumeSchema) }).meta({ id: 'GuestVolumes' });

/** An entry of a guest's folder. Names are the guest's: shown as text, never as markup or path. */
export const guestFileSchema = z
  .object({
    name: z.string(),
    type: z.enum(['file', 'folder', 'link', 'other']),
    sizeBytes: z.number(),
    modifiedAtMs: z.number().nullable(),
    linkTarget: z.string().nullable(),
  })
  .meta({ id: 'GuestFile' });
export type GuestFileView = z.infer<typeof guestFileSchema>;

export const guestFolderQuerySchema = z.strictObject({
  /** From the root of the volume; names parted by `/`. */
  path: z.string().max(65_536).default('/'),
  /** `next` of the page before. */
  from: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(1000).default(500),
});

export const guestFolderPageSchema = z
  .object({ entries: z.array(guestFileSchema), next: z.number().int().nullable() })
  .meta({ id: 'GuestFolderPage' });
export type GuestFolderPage = z.infer<typeof guestFolderPageSchema>;

export const guestFileQuerySchema = z.strictObject({ path: z.string().min(1).max(65_536) });

export const guestArchiveQuerySchema = z.strictObject({
  path: z.string().min(1).max(65_536).default('/'),
  /** Of the files and folders in it only these; names parted by `/`. Absent: all. */
  names: z.string().max(65_536).regex(/[^/]/).exactOptional(),
  /** Of the text file in it that names what is left out. */
  language: languageSchema.default('en'),
});

import { execFileSync } from 'node:child_process';
import { cp, mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MIB, SECTOR_BYTES } from '../../server/runtime/index.ts';
import { mbrSector } from '../../test/guest-images/partition-table.ts';

/** Bytes; the file system begins at 1 MiB, where installers put it. */
export const FILE_SERVER_DISK_BYTES = 64 * MIB;
const SYSTEM = { atBytes: MIB, sizeBytes: 60 * MIB };
const LINUX_PARTITION = 0x83;

/**
 * Makes the disk of a guest whose single files are worth looking for: ext4, with this project's own documents and
 * pictures in folders as people name them.
 * @param folder exists; what is made on the way goes
 * @returns path of the raw image
 */
export async function makeFileServerDisk(folder: string): Promise<string> {
  const docs = join(import.meta.dirname, '../../docs');
  const files = join(folder, 'file-server');
  const handbooks = join(files, 'srv/office/Handbücher');
  const reports = join(files, 'srv/office/報告書');
  for (const place of [handbooks, reports]) await mkdir(place, { recursive: true });
  for (const name of await readdir(docs)) if (name.endsWith('.md')) await cp(join(docs, name), join(handbooks, name));
  await cp(join(docs, 'performance.md'), join(reports, '2026年度 性能報告.md'));
  await cp(join(docs, 'pictures'), join(files, 'srv/office/Pictures'), { recursive: true });

  const image = join(folder, 'file-server.raw');
  const file = await open(image, 'w');
  await file.truncate(FILE_SERVER_DISK_BYTES);
  const partition = { firstSector: SYSTEM.atBytes / SECTOR_BYTES, sectorCount: SYSTEM.sizeBytes / SECTOR_BYTES };
  await file.write(mbrSector([{ type: LINUX_PARTITION, ...partition }]), 0, SECTOR_BYTES, 0);
  await file.close();
  const options = ['-q', '-F', '-L', 'office', '-E', `offset=${SYSTEM.atBytes},root_owner=0:0`, '-d', files];
  execFileSync('mkfs.ext4', [...options, image, `${SYSTEM.sizeBytes / 1024}k`], { stdio: 'pipe' });
  await rm(files, { recursive: true });
  return image;
}

import { execFileSync } from 'node:child_process';
import { mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KIB, MIB, SECTOR_BYTES } from '../../server/runtime/index.ts';
import { mbrSector } from '../guest-images/partition-table.ts';
import type { LabHost } from '../lab/lab-host.ts';

export const GUEST_DISK_MEBIBYTES = 32;
/** More than one page of the API. */
export const MANY = 1200;
/** As a stranger names a file: markup, a direction that turns, an end of line. */
export const STRANGE_NAMES = [
  `<img src=x id=x onerror="document.title='owned'"><b>`,
  'photo\u202Egpj.exe',
  'new\nline',
];

const SYSTEM = { atBytes: MIB, sizeBytes: 16 * MIB };
const BITLOCKER = { atBytes: 18 * MIB, sizeBytes: 4 * MIB };
const LUKS = { atBytes: 23 * MIB, sizeBytes: 2 * MIB };
const SWAP = { atBytes: 26 * MIB, sizeBytes: 2 * MIB };
const BLOCK_BYTES = 64 * KIB;

/**
 * Writes a disk as guests have it to a machine of the lab: ext4 with files, and beside it volumes that are
 * encrypted, and swap.
 * @param report the content of `/home/anna/report 2026.bin`
 */
export async function writeGuestDisk(
  lab: LabHost,
  machine: string,
  { folder, report }: { folder: string; report: Buffer },
): Promise<void> {
  const files = join(folder, 'guest-files');
  await fill(files, report);
  const image = join(folder, 'guest.img');
  await writeFile(image, '');
  await truncate(image, SYSTEM.sizeBytes);
  execFileSync('mkfs.ext4', ['-q', '-F', '-L', 'system', '-N', '2048', '-d', files, image], { stdio: 'pipe' });
  const swap = join(folder, 'swap.img');
  await writeFile(swap, '');
  await truncate(swap, SWAP.sizeBytes);
  execFileSync('mkswap', [swap], { stdio: 'pipe' });

  const table = mbrSector(
    [
      { type: 0x83, ...SYSTEM },
      { type: 0x07, ...BITLOCKER },
      { type: 0x83, ...LUKS },
      { type: 0x82, ...SWAP },
    ].map(({ type, atBytes, sizeBytes }) => ({
      type,
      firstSector: atBytes / SECTOR_BYTES,
      sectorCount: sizeBytes / SECTOR_BYTES,
    })),
  );
  const system = await readFile(image);
  const blocks = Array.from({ length: system.length / BLOCK_BYTES }, (_, index) => index * BLOCK_BYTES);
  await lab.writeAt(await lab.vmId(machine), 'scsi0:0', [
    { offsetBytes: 0, data: table },
    ...blocks
      .map((at) => ({ offsetBytes: SYSTEM.atBytes + at, data: system.subarray(at, at + BLOCK_BYTES) }))
      .filter(({ data }) => data.some((byte) => byte !== 0)),
    { offsetBytes: BITLOCKER.atBytes + 3, data: Buffer.from('-FVE-FS-') },
    { offsetBytes: LUKS.atBytes, data: Buffer.from('LUKS\xba\xbe', 'latin1') },
    { offsetBytes: SWAP.atBytes, data: await readFile(swap) },
  ]);
  await rm(files, { recursive: true });
}

async function fill(root: string, report: Buffer): Promise<void> {
  const home = join(root, 'home/anna');
  await mkdir(home, { recursive: true });
  await writeFile(join(home, 'report 2026.bin'), report);
  await writeFile(join(home, 'empty.txt'), '');
  await writeFile(join(home, '売上報告書.txt'), 'text');
  await mkdir(join(home, 'photos'));
  await writeFile(join(home, 'invoice 2026-10.pdf'), report.subarray(0, 90_000));
  await mkdir(join(root, 'home/strange'));
  for (const name of STRANGE_NAMES) await writeFile(join(root, 'home/strange', name), 'strange');
  await symlink('report 2026.bin', join(home, 'newest'));
  await mkdir(join(home, 'Donaudampfschifffahrtsgesellschaft'));
  await mkdir(join(root, 'etc'));
  await writeFile(join(root, 'etc/hosts'), '127.0.0.1 localhost\n');
  await mkdir(join(root, 'many'));
  for (let number = 0; number < MANY; number += 1) await writeFile(join(root, 'many', `file ${number}`), '');
}

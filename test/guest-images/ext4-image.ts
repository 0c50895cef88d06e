import { execFileSync } from 'node:child_process';
import { cp, open, mkdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { mkdtempSync } from 'node:fs';
import type { DiskReader } from '../../server/disk/index.ts';

/** A file read as a disk, or a part of it. */
export async function readImage(path: string): Promise<DiskReader & { close(): Promise<void> }> {
  const file = await open(path);
  const { size } = await file.stat();
  return {
    sizeBytes: size,
    async read(offsetBytes, lengthBytes) {
      const bytes = Buffer.alloc(lengthBytes);
      const { bytesRead } = await file.read(bytes, 0, lengthBytes, offsetBytes);
      if (bytesRead !== lengthBytes)
        throw new Error(`${String(bytesRead)} of ${String(lengthBytes)} bytes at ${String(offsetBytes)}`);
      return bytes;
    },
    close: () => file.close(),
  };
}

export async function makeExt4(image: string, sizeBytes: number, mkfsOptions: readonly string[]): Promise<void> {
  await writeFile(image, '');
  await truncate(image, sizeBytes);
  execFileSync('mkfs.ext4', ['-q', '-F', '-E', 'root_owner=0:0', ...mkfsOptions, image], { stdio: 'pipe' });
}

/**
 * Mounts an image, has it written to, and ends it. `journaled`: as frozen with its journal written and nothing of
 * it brought home; `cut`: the same, without what was not in the journal yet; `clean`: unmounted.
 */
export async function useMounted(
  image: string,
  end: 'clean' | 'journaled' | 'cut',
  write: (folder: string) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'dozo-guest-'));
  execFileSync('mount', ['-o', 'loop', image, folder], { stdio: 'pipe' });
  try {
    await write(folder);
    if (end !== 'clean') {
      const shutdown = end === 'journaled' ? 'shutdown -f' : 'shutdown';
      execFileSync('xfs_io', ['-x', '-c', shutdown, folder], { stdio: 'pipe' });
      // Before it is unmounted, which would bring the journal home after all.
      await cp(image, `${image}.frozen`);
    }
  } finally {
    execFileSync('umount', [folder], { stdio: 'pipe' });
    await rm(folder, { recursive: true });
  }
  if (end !== 'clean') await rename(`${image}.frozen`, image);
}

/** A file whose blocks are in the journal when this is done. */
export async function writeThrough(path: string, data: Buffer): Promise<void> {
  const file = await open(path, 'w');
  await file.writeFile(data);
  await file.sync();
  await file.close();
}

/** What a guest may hold: sizes of every kind, a large folder, holes, links, names, things that were deleted. */
export async function fillGuest(folder: string, seed = 1): Promise<void> {
  let state = seed;
  const bytes = (count: number): Buffer => {
    const data = Buffer.alloc(count);
    for (let at = 0; at + 4 <= count; at += 4) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      data.writeUInt32LE(state, at);
    }
    return data;
  };
  for (let number = 0; number < 60; number += 1) {
    const under = join(folder, `folder ${String(number % 7)}`);
    await mkdir(under, { recursive: true });
    await writeFile(join(under, `file-${String(number)}`), bytes((number * 7919) % 200_000));
  }
  execFileSync('sync', ['-f', folder]);
  await rm(join(folder, 'folder 3'), { recursive: true });
  const large = join(folder, 'large');
  await mkdir(large);
  for (let number = 0; number < 250; number += 1) {
    await writeFile(join(large, `a name of some length ${String(number)}`), String(number));
  }
  const sparse = await open(join(folder, 'sparse'), 'w');
  await sparse.write(bytes(5000), 0, 5000, 3_000_000);
  await sparse.truncate(20_000_000);
  await sparse.close();
  const shattered = await open(join(folder, 'shattered'), 'w');
  for (let number = 0; number < 500; number += 1) await shattered.write(bytes(4096), 0, 4096, number * 12_288);
  await shattered.close();
  await symlink('large/a name', join(folder, 'short link'));
  await symlink(`/${'far/'.repeat(30)}`, join(folder, 'long link'));
  await writeFile(join(folder, '日本語 ü'), 'text');
  await writeFile(join(folder, 'journal magic'), Buffer.concat([Buffer.from('c03b3998', 'hex'), bytes(9000)]));
}

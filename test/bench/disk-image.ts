import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  readdirSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { execute } from './execute.ts';

/** Where real files are taken from; what a system disk consists of. */
const ROOTS = ['/usr/bin', '/usr/lib', '/usr/share'];
/** Unit in which a change is counted and an empty area is looked for. */
export const BLOCK_BYTES = 64 * 1024;
/** What a changed block has of new bytes: one page of a file system. */
export const CHANGE_BYTES = 4096;

interface SourceFile {
  path: string;
  sizeBytes: number;
}

/**
 * Makes a raw image with an ext4 file system that is about half full of files of this machine. Which
 * files: those whose paths' hashes come first, so every kind of file is there at any size, and the
 * same machine gives the same choice again.
 */
export async function makeDiskImage(path: string, sizeBytes: number, scratch: string): Promise<{ fileBytes: number }> {
  const staging = join(scratch, 'staging');
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  const chosen = chooseFiles(listFiles(ROOTS), sizeBytes / 2);
  try {
    for (const file of chosen) copyWithTimes(file.path, join(staging, file.path));
    rmSync(path, { force: true });
    writeFileSync(path, '');
    truncateSync(path, sizeBytes);
    await execute('mkfs.ext4', ['-q', '-F', '-m', '0', '-d', staging, path]);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  return { fileBytes: chosen.reduce((sum, file) => sum + file.sizeBytes, 0) };
}

/** Files in the order of their paths' hashes until `bytes` are reached; none takes more than an eighth. */
export function chooseFiles(files: readonly SourceFile[], bytes: number): SourceFile[] {
  const ranked = files
    .map((file) => ({ file, rank: createHash('sha256').update(file.path).digest('hex') }))
    .sort((a, b) => (a.rank < b.rank ? -1 : 1));
  const chosen: SourceFile[] = [];
  let left = bytes;
  for (const { file } of ranked) {
    if (file.sizeBytes > Math.min(left, bytes / 8)) continue;
    chosen.push(file);
    left -= file.sizeBytes;
  }
  return chosen;
}

function listFiles(roots: readonly string[]): SourceFile[] {
  const files: SourceFile[] = [];
  const walk = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path);
      else if (entry.isFile()) files.push({ path, sizeBytes: lstatSync(path).size });
    }
  };
  for (const root of roots) walk(root);
  return files;
}

function copyWithTimes(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  const { atime, mtime } = lstatSync(from);
  utimesSync(to, atime, mtime);
}

/** Numbers of the 64 KiB blocks that are not all zero. */
export function findDataBlocks(path: string): number[] {
  const blocks: number[] = [];
  const zeros = Buffer.alloc(BLOCK_BYTES);
  const window = Buffer.alloc(64 * BLOCK_BYTES);
  const file = openSync(path, 'r');
  try {
    for (let first = 0; ; first += 64) {
      const length = readSync(file, window, 0, window.length, first * BLOCK_BYTES);
      for (let at = 0; at < length; at += BLOCK_BYTES) {
        const block = window.subarray(at, Math.min(at + BLOCK_BYTES, length));
        if (!block.equals(zeros.subarray(0, block.length))) blocks.push(first + at / BLOCK_BYTES);
      }
      if (length < window.length) return blocks;
    }
  } finally {
    closeSync(file);
  }
}

/** Writes the given blocks one after the other into a file: what there is to send of an image. */
export function packBlocks(image: string, blocks: readonly number[], target: string): void {
  const buffer = Buffer.alloc(BLOCK_BYTES);
  const from = openSync(image, 'r');
  const to = openSync(target, 'w');
  try {
    for (const block of blocks) {
      const length = readSync(from, buffer, 0, BLOCK_BYTES, block * BLOCK_BYTES);
      writeSync(to, buffer, 0, length);
    }
  } finally {
    closeSync(from);
    closeSync(to);
  }
}

/** One write of a guest. */
export interface BlockChange {
  offsetBytes: number;
  data: Buffer;
}

/**
 * 4 KiB of incompressible bytes at a page of each of so many different blocks. The same seed gives the
 * same changes.
 */
export function planChanges(blocks: readonly number[], count: number, seed: string): BlockChange[] {
  const ranked = blocks
    .map((block) => ({
      block,
      digest: createHash('sha256')
        .update(`${seed} ${String(block)}`)
        .digest(),
    }))
    .sort((a, b) => Buffer.compare(a.digest, b.digest));
  return ranked
    .slice(0, count)
    .map(({ block, digest }) => {
      const page = (digest[31] ?? 0) % (BLOCK_BYTES / CHANGE_BYTES);
      return {
        offsetBytes: block * BLOCK_BYTES + page * CHANGE_BYTES,
        data: createHash('shake256', { outputLength: CHANGE_BYTES }).update(digest).digest(),
      };
    })
    .sort((a, b) => a.offsetBytes - b.offsetBytes);
}

export function applyChanges(path: string, changes: readonly BlockChange[]): void {
  const file = openSync(path, 'r+');
  try {
    for (const { offsetBytes, data } of changes) writeSync(file, data, 0, data.length, offsetBytes);
  } finally {
    closeSync(file);
  }
}

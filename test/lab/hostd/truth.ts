import { execFile } from 'node:child_process';
import { closeSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { DiskChain, type ResolvePath } from '../disks/disk-chain.ts';
import { writeFully } from '../disks/layer.ts';

const run = promisify(execFile);
const CHUNK_BYTES = 1024 * 1024;

/**
 * Hard copy of a disk's merged content as a sparse raw file. The base is copied by cp; what the layers
 * above it hold is written over it. The disk must not change meanwhile.
 */
export async function copyMerged(top: string, target: string, resolve: ResolvePath): Promise<void> {
  mkdirSync(dirname(target), { recursive: true });
  const chain = DiskChain.open(top, resolve);
  const temporary = `${target}.part`;
  try {
    const base = chain.links.at(-1)?.extentPaths[0];
    if (base === undefined) throw new Error(`${top} has no base`);
    await run('cp', ['--sparse=always', '--reflink=auto', base, temporary]);
    const file = openSync(temporary, 'r+');
    try {
      for (const { layer } of chain.links.slice(0, -1)) {
        for (const piece of layer.allocatedRuns() ?? []) {
          for (let at = piece.offsetBytes; at < piece.offsetBytes + piece.lengthBytes; at += CHUNK_BYTES) {
            const length = Math.min(CHUNK_BYTES, piece.offsetBytes + piece.lengthBytes - at);
            const buffer = Buffer.alloc(length);
            await chain.readInto(buffer, at);
            writeFully(file, buffer, at);
          }
        }
      }
    } finally {
      closeSync(file);
    }
    renameSync(temporary, target);
  } finally {
    chain.close();
    rmSync(temporary, { force: true });
  }
}

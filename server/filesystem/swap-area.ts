import { KIB } from '../runtime/index.ts';

import type { Volume } from './filesystem.ts';

const MARK = Buffer.from('SWAPSPACE2', 'latin1');
/** The mark ends the first page, whose size is that of the guest's processor. */
const PAGE_BYTES = [4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB];
const VERSION_AT = 1024;
const BAD_PAGES_AT = 1032;

/**
 * How many bytes a Linux swap area needs to be taken up again after a start: its first page. Null where the volume
 * is none, or is one that holds a sleeping guest's memory (Linux, `mm/swapfile.c`; the mark is another one then).
 */
export async function readSwapArea(volume: Volume, signal?: AbortSignal): Promise<number | null> {
  for (const pageBytes of PAGE_BYTES) {
    if (volume.sizeBytes < 2 * pageBytes) return null;
    const page = await volume.read(0, pageBytes, signal);
    if (!page.subarray(pageBytes - MARK.length).equals(MARK)) continue;
    const isPlain = page.readUInt32LE(VERSION_AT) === 1 && page.readUInt32LE(BAD_PAGES_AT) === 0;
    return isPlain ? pageBytes : null;
  }
  return null;
}

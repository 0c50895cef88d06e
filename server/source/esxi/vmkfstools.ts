import type { Extent } from '../../disk/index.ts';
import { SECTOR_BYTES } from '../../runtime/index.ts';

/** Texts of `vmkfstools`, as captured from ESXi 6.5 to 8.0 (see docs/vmware.md). */

/** Percent of the last `Clone: 12% done.`; steps are parted by carriage returns. Null before the first. */
export function parseProgress(text: string): number | null {
  let percent: number | null = null;
  for (const match of text.matchAll(/\b(?:Clone|Create|Grow): (\d{1,3})% done/g)) {
    percent = Math.min(100, Number(match[1]));
  }
  return percent;
}

/**
 * What a failed `vmkfstools`, `dd` or file command means. `other` where the words are new to us;
 * the caller then shows its own sentence with the words in the details.
 */
export function classifyHostText(text: string): 'locked' | 'full' | 'missing' | 'exists' | 'denied' | 'other' {
  if (/Failed to lock the file|\(16392\)|Device or resource busy|NFC_FILE_LOCKED/i.test(text)) return 'locked';
  if (/not enough space|No space left on device|insufficient space|out of space/i.test(text)) return 'full';
  if (/cannot find the (?:file|path|disk)|No such file or directory|cannot find disk source/i.test(text))
    return 'missing';
  if (/already exists|File exists/i.test(text)) return 'exists';
  if (/Operation not permitted|Permission denied|Read-only file system|access rights/i.test(text)) return 'denied';
  return 'other';
}

/** The last line that says something, without progress steps: for the details of an error. */
export function lastWords(text: string): string {
  const lines = text
    .split(/[\r\n]+/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/% done\.?$/.test(line) && !/^\d+\+\d+ records (?:in|out)$/.test(line));
  return (lines.at(-1) ?? '').slice(0, 300);
}

/**
 * `vmkfstools -t0 X.vmdk`: which parts of a disk are written. Null unless the lines cover the whole
 * disk without gap or overlap: the unit of the numbers is not documented, so only a map that adds up
 * (in bytes, or in sectors) is believed.
 *
 * @returns written parts; the rest reads as zero
 */
export function parseBlockMap(text: string, sizeBytes: number): Extent[] | null {
  const parts: { start: number; length: number; isWritten: boolean }[] = [];
  for (const match of text.matchAll(/^\[\s*(\d+)\s*:\s*(\d+)\s*\]\s*-*>?\s*\[?\s*(\S+)[ \t]+(\S+)/gm)) {
    const kind = `${match[3] ?? ''} ${match[4] ?? ''}`;
    parts.push({
      start: Number(match[1]),
      length: Number(match[2]),
      isWritten: !kind.startsWith('NOMP') && !/^VMFS Z-/.test(kind),
    });
  }
  let end = 0;
  for (const part of parts) {
    if (part.start !== end || part.length <= 0 || !Number.isSafeInteger(part.start + part.length)) return null;
    end += part.length;
  }
  const unitBytes = end === sizeBytes ? 1 : end * SECTOR_BYTES === sizeBytes ? SECTOR_BYTES : null;
  if (unitBytes === null) return null;
  return parts
    .filter((part) => part.isWritten)
    .map(({ start, length }) => ({ offsetBytes: start * unitBytes, lengthBytes: length * unitBytes }));
}

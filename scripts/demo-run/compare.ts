import { open } from 'node:fs/promises';
import { MIB } from '../../server/runtime/index.ts';

/**
 * Compares two files byte for byte. The offset of the first difference, or null when they are equal;
 * different lengths are a difference at the shorter one's end.
 */
export async function firstDifference(pathA: string, pathB: string): Promise<number | null> {
  const a = await open(pathA);
  const b = await open(pathB);
  try {
    const sizeA = (await a.stat()).size;
    const sizeB = (await b.stat()).size;
    const bufferA = Buffer.allocUnsafe(4 * MIB);
    const bufferB = Buffer.allocUnsafe(4 * MIB);
    for (let offset = 0; offset < Math.max(sizeA, sizeB); offset += bufferA.length) {
      const [readA, readB] = await Promise.all([
        a.read(bufferA, 0, bufferA.length, offset),
        b.read(bufferB, 0, bufferB.length, offset),
      ]);
      const length = Math.min(readA.bytesRead, readB.bytesRead);
      if (bufferA.compare(bufferB, 0, length, 0, length) !== 0) {
        for (let i = 0; i < length; i += 1) if (bufferA[i] !== bufferB[i]) return offset + i;
      }
      if (readA.bytesRead !== readB.bytesRead) return offset + length;
    }
    return null;
  } finally {
    await a.close();
    await b.close();
  }
}

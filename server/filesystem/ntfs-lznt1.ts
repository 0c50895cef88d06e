import { damaged } from './filesystem.ts';

/** What one chunk unfolds to. */
const CHUNK_BYTES = 4096;

/**
 * LZNT1, the compression of NTFS ([MS-XCA] section 2.5): chunks of up to 4 KiB, each a two-byte head and either
 * plain bytes or groups of eight tokens. What the chunks do not fill is zeros.
 * @param plainBytes size of the result
 * @throws FILESYSTEM_DAMAGED
 */
export function decompressLznt1(packed: Buffer, plainBytes: number): Buffer {
  const plain = Buffer.alloc(plainBytes);
  let from = 0;
  let chunkStart = 0;
  while (from + 2 <= packed.length && chunkStart < plainBytes) {
    const head = packed.readUInt16LE(from);
    if (head === 0) break;
    const end = from + 2 + (head & 0x0fff) + 1;
    if (end > packed.length) throw broken();
    if ((head & 0x8000) === 0) {
      packed.copy(plain, chunkStart, from + 2, Math.min(end, from + 2 + CHUNK_BYTES));
    } else {
      unfoldChunk(packed.subarray(from + 2, end), plain, chunkStart);
    }
    from = end;
    chunkStart += CHUNK_BYTES;
  }
  return plain;
}

function unfoldChunk(packed: Buffer, plain: Buffer, start: number): void {
  const limit = Math.min(start + CHUNK_BYTES, plain.length);
  let to = start;
  let from = 0;
  while (from < packed.length && to < limit) {
    let flags = packed[from] as number;
    from += 1;
    for (let token = 0; token < 8 && from < packed.length && to < limit; token += 1, flags >>= 1) {
      if ((flags & 1) === 0) {
        plain[to] = packed[from] as number;
        to += 1;
        from += 1;
        continue;
      }
      if (from + 2 > packed.length || to === start) throw broken();
      const pair = packed.readUInt16LE(from);
      from += 2;
      const lengthBits = lengthBitsAt(to - start);
      const distance = (pair >> lengthBits) + 1;
      const length = (pair & ((1 << lengthBits) - 1)) + 3;
      if (distance > to - start || to + length > limit) throw broken();
      // Byte by byte: a copy may reach into what it writes.
      for (const copyEnd = to + length; to < copyEnd; to += 1) plain[to] = plain[to - distance] as number;
    }
  }
}

/** A pair has as many bits for the distance as the chunk needs so far, at least four; the rest is the length. */
function lengthBitsAt(position: number): number {
  let bits = 12;
  for (let reach = 16; reach < position; reach *= 2) bits -= 1;
  return bits;
}

function broken(): Error {
  return damaged('ntfs', 'compressed data that do not unfold');
}

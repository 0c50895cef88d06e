/**
 * Stands in for `node:zlib` in the bundle of the restore tool: with Node 20 and early 22 there is no
 * zstd and no CRC-32 in it. What the running Node has is used; the rest is made up for here.
 */
import zlib from 'node:zlib';
import { decompress } from 'fzstd';

type Present = Partial<Pick<typeof zlib, 'crc32' | 'zstdDecompressSync'>>;

export default {
  ...zlib,
  crc32: (zlib as Present).crc32 ?? crc32,
  zstdDecompressSync: (zlib as Present).zstdDecompressSync ?? decompressZstd,
};

/**
 * @param options.maxOutputLength the room that the content gets; what is longer fails, what is shorter is followed by
 *   zeros, which the hash over every content tells
 */
export function decompressZstd(packed: Buffer, options: { maxOutputLength: number }): Buffer {
  const content = Buffer.alloc(options.maxOutputLength);
  const result = decompress(packed, content);
  return result === content ? content : Buffer.from(result);
}

/** IEEE, reflected: as in zlib. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = (value & 1) === 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

export function crc32(data: Buffer, before = 0): number {
  let value = ~before >>> 0;
  for (const byte of data) value = (value >>> 8) ^ (CRC_TABLE[(value ^ byte) & 0xff] as number);
  return ~value >>> 0;
}

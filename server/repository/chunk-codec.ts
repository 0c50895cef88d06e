import { createCipheriv, createDecipheriv, type CipherGCM, type DecipherGCM, type KeyObject } from 'node:crypto';
import zlib from 'node:zlib';
import { releaseMemory, SPARE_BYTES } from '../runtime/index.ts';
import { identify, type IdentityAlgorithm } from './keys.ts';

/**
 * A chunk's form in a pack, section "Chunk" of the format: perhaps compressed, perhaps encrypted. Pure,
 * so that the threads and the main thread share it.
 */
export const CODEC_PLAIN = 0;
export const CODEC_ZSTD = 1;
export const TAG_BYTES = 16;
const CIPHER = 'aes-256-gcm';

/** zstd must save this share to be worth decompressing at every restore. */
const SAVED_SHARE_MIN = 1 / 32;

export interface ChunkIdentity {
  algorithm: IdentityAlgorithm;
  identityKey: KeyObject | null;
}

export interface EncodedChunk {
  codec: number;
  stored: Buffer;
  crc: number;
}

/** What zstd may add to contents that it cannot make smaller, beside a 256th of them. */
const PACKED_ROOM_BYTES = 1024;

/**
 * Bytes given to a cipher at a time. It answers in two new buffers of that length each: larger ones are fetched from
 * the system and given back every time, which costs more than the cipher itself.
 */
const CIPHER_PIECE_BYTES = 64 * 1024;

/**
 * @param packKey null in a plain repository
 * @param row the chunk's row in its pack's table: the nonce
 * @param options.room where an encrypted form may be put, 16 bytes longer than `content` at least; else it gets a
 *   buffer of its own
 * @param options.level of zstd
 */
export function encodeChunk(
  content: Buffer,
  id: Buffer,
  packKey: KeyObject | null,
  row: number,
  { room, level = 1 }: { room?: Buffer; level?: number } = {},
): EncodedChunk {
  // Room for the worst case: zstd then writes into the buffer itself, not into one of its own first.
  const chunkSize = content.length + (content.length >> 8) + PACKED_ROOM_BYTES;
  const params = { [zlib.constants.ZSTD_c_compressionLevel]: level, [zlib.constants.ZSTD_c_contentSizeFlag]: 1 };
  const packed = zlib.zstdCompressSync(content, { chunkSize, params });
  const helps = packed.length <= content.length * (1 - SAVED_SHARE_MIN);
  let stored = helps ? packed : content;
  if (packKey !== null) {
    const cipher = createCipheriv(CIPHER, packKey, nonceOf(row), { authTagLength: TAG_BYTES });
    cipher.setAAD(id);
    const sealedBytes = stored.length + TAG_BYTES;
    const sealed = room?.subarray(0, sealedBytes) ?? Buffer.allocUnsafeSlow(sealedBytes);
    runCipher(cipher, stored, sealed);
    cipher.getAuthTag().copy(sealed, stored.length);
    stored = sealed;
  }
  if (stored !== packed) releaseMemory(packed);
  return { codec: helps ? CODEC_ZSTD : CODEC_PLAIN, stored, crc: zlib.crc32(stored) };
}

/** Null: the bytes are those that were written, which anybody could have done; else what is wrong. */
export function checkStored(stored: Buffer, crc: number): string | null {
  return zlib.crc32(stored) === crc ? null : 'its stored bytes have changed';
}

export interface StoredForm {
  id: Buffer;
  codec: number;
  plainLength: number;
  crc: number;
  row: number;
}

/**
 * The content, proven to be what `id` names, or one sentence about what is wrong. The checksum of the stored bytes
 * comes first where they are decompressed as they are. Elsewhere the authentication or the hash covers each of them, at
 * the price of one look: the checksum only tells damage from a wrong key or content then.
 * @param room where decrypted bytes may lie until they are decompressed, at least as long as `stored`; else they get a
 *   buffer of their own. Memory that was just used is in the processor's cache: with fresh one, decrypting costs a
 *   third more
 */
export function decodeChunk(
  stored: Buffer,
  form: StoredForm,
  packKey: KeyObject | null,
  identity: ChunkIdentity,
  room?: Buffer,
): Buffer | string {
  if (packKey === null && form.codec !== CODEC_PLAIN) {
    const changed = checkStored(stored, form.crc);
    if (changed !== null) return changed;
  }
  let packed = stored;
  if (packKey !== null) {
    if (stored.length < TAG_BYTES) return 'it is too short to be encrypted';
    const sealed = stored.subarray(0, stored.length - TAG_BYTES);
    const decipher = createDecipheriv(CIPHER, packKey, nonceOf(form.row), { authTagLength: TAG_BYTES });
    decipher.setAAD(form.id);
    decipher.setAuthTag(stored.subarray(sealed.length));
    // A content that is given out as it is must not lie where the next one will.
    const shared = form.codec === CODEC_ZSTD ? room?.subarray(0, sealed.length) : undefined;
    packed = shared ?? Buffer.allocUnsafeSlow(sealed.length);
    try {
      runCipher(decipher, sealed, packed);
    } catch {
      return checkStored(stored, form.crc) ?? 'it fails its authentication';
    }
  }
  let content = packed;
  if (form.codec === CODEC_ZSTD) {
    try {
      content = zlib.zstdDecompressSync(packed, {
        // As soon as its output is full, zlib makes a second one of the same size, for nothing: 100 MB of a restore.
        chunkSize: form.plainLength + SPARE_BYTES,
        maxOutputLength: form.plainLength,
      });
    } catch {
      return 'it does not decompress';
    }
    if (packed !== stored && packed.buffer !== room?.buffer) releaseMemory(packed);
  } else if (form.codec !== CODEC_PLAIN) return `it is stored in an unknown way (${form.codec})`;
  if (content.length !== form.plainLength) return `it is ${content.length} bytes long instead of ${form.plainLength}`;
  if (identify(content, identity.algorithm, identity.identityKey).equals(form.id)) return content;
  return checkStored(stored, form.crc) ?? 'its content is not what its identity names';
}

/** @throws what the cipher's end throws: bytes that fail their authentication lie in `to` by then */
function runCipher(cipher: CipherGCM | DecipherGCM, from: Buffer, to: Buffer): void {
  for (let at = 0; at < from.length; at += CIPHER_PIECE_BYTES) {
    const piece = cipher.update(from.subarray(at, at + CIPHER_PIECE_BYTES));
    piece.copy(to, at);
    releaseMemory(piece);
  }
  cipher.final();
}

function nonceOf(row: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(row, 0);
  return nonce;
}

import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import zlib from 'node:zlib';
import type { ErrorCode } from '../contract/error-codes.ts';
import { AppError } from '../errors/index.ts';
import type { RepositoryKeys } from './keys.ts';
import { FORMAT_VERSION } from './layout.ts';

/**
 * The frame around every small file (header, key slot, index, point, session): section "Sealed file"
 * of the format. Its last 32 bytes are the SHA-256 of all before, so no changed bit goes unnoticed.
 */
export type SealedKind =
  | 'DOZOHEAD'
  | 'DOZOKEYS'
  | 'DOZOINDX'
  | 'DOZOPONT'
  | 'DOZOFENC'
  | 'DOZOSESS'
  | 'DOZOCOND'
  | 'DOZOVERD'
  | 'DOZOMARK'
  | 'DOZOEVID'
  | 'DOZODAMG';

export const SEALED_HEADER_BYTES = 64;
const HASH_BYTES = 32;
const TAG_BYTES = 16;
const FLAG_ZSTD = 1;
const FLAG_ENCRYPTED = 2;
/** No such file is larger; a length beyond it is damage, not a reason to allocate. */
const BODY_BYTES_MAX = 1024 * 1024 * 1024;
/**
 * What a compressed body may unpack to: so much whatever its length, and so many times its length. JSON of hashes and
 * lists of areas stay far below; beyond it a body is stored as it is, so that a small file never costs much memory.
 */
const UNPACKED_BYTES_FREE = 1024 * 1024;
const UNPACKED_RATIO_MAX = 64;
const NONCE = Buffer.alloc(12);

export interface SealOptions {
  compress: boolean;
  /** Null: the body is not encrypted. */
  keys: RepositoryKeys | null;
}

export function encodeSealed(kind: SealedKind, body: Buffer, options: SealOptions): Buffer {
  const packed = options.compress ? zlib.zstdCompressSync(body) : body;
  const compressed = packed.length < body.length && body.length <= unpackedBytesMax(packed.length);
  let stored = compressed ? packed : body;
  const header = Buffer.alloc(SEALED_HEADER_BYTES);
  header.write(kind, 0, 'latin1');
  header.writeUInt16LE(FORMAT_VERSION, 8);
  header.writeUInt16LE((compressed ? FLAG_ZSTD : 0) | (options.keys === null ? 0 : FLAG_ENCRYPTED), 10);
  header.writeBigUInt64LE(BigInt(stored.length + (options.keys === null ? 0 : TAG_BYTES)), 16);
  header.writeBigUInt64LE(BigInt(body.length), 24);
  if (options.keys !== null) {
    options.keys.keyId.copy(header, 32);
    randomBytes(16).copy(header, 48);
    const cipher = createCipheriv('aes-256-gcm', fileKey(options.keys, header), NONCE);
    cipher.setAAD(header);
    stored = Buffer.concat([cipher.update(stored), cipher.final(), cipher.getAuthTag()]);
  }
  const hash = createHash('sha256').update(header).update(stored).digest();
  return Buffer.concat([header, stored, hash]);
}

/**
 * @param code what a damaged file of this kind is called
 * @throws `code`, REPOSITORY_FORMAT_UNKNOWN for a newer version, REPOSITORY_KEY_NEEDED, REPOSITORY_KEY_WRONG
 */
export function decodeSealed(
  kind: SealedKind,
  bytes: Buffer,
  source: SealedSource,
  keys: RepositoryKeys | null,
): Buffer {
  const { name, code } = source;
  const damaged = (why: string, cause?: unknown): AppError =>
    new AppError(code, `${name} is damaged: ${why}.`, { hint: source.hint, details: { name }, cause });

  if (bytes.length < SEALED_HEADER_BYTES + HASH_BYTES) throw damaged(`it is only ${bytes.length} bytes long`);
  const end = bytes.length - HASH_BYTES;
  if (!createHash('sha256').update(bytes.subarray(0, end)).digest().equals(bytes.subarray(end))) {
    throw damaged('its check sum does not match its content');
  }
  // From here on the bytes are as they were written; what is wrong now was written by another program.
  if (bytes.toString('latin1', 0, 8) !== kind) throw damaged('it is a file of another kind');
  const version = bytes.readUInt16LE(8);
  if (version !== FORMAT_VERSION) throw formatUnknown(name, `version ${version}`);
  const flags = bytes.readUInt16LE(10);
  if ((flags & ~(FLAG_ZSTD | FLAG_ENCRYPTED)) !== 0) throw formatUnknown(name, `flags ${flags}`);
  const storedLength = Number(bytes.readBigUInt64LE(16));
  const plainLength = Number(bytes.readBigUInt64LE(24));
  if (storedLength !== end - SEALED_HEADER_BYTES) throw damaged('its length does not match its header');
  if (plainLength > BODY_BYTES_MAX) throw damaged('its header names an impossible length');

  let body = bytes.subarray(SEALED_HEADER_BYTES, end);
  // Without the key nobody can make a file that passes here, whatever its check sum says.
  if (keys !== null && (flags & FLAG_ENCRYPTED) === 0) throw damaged('it is not encrypted, as all others here are');
  if ((flags & FLAG_ENCRYPTED) !== 0) body = decrypt(bytes.subarray(0, SEALED_HEADER_BYTES), body, name, keys, damaged);
  if ((flags & FLAG_ZSTD) !== 0) {
    if (plainLength > unpackedBytesMax(body.length)) throw damaged('it would unpack to many times its length');
    try {
      body = zlib.zstdDecompressSync(body, { maxOutputLength: Math.max(1, plainLength) });
    } catch (error) {
      throw damaged('its content does not decompress', error);
    }
  }
  if (body.length !== plainLength) throw damaged('its content has not the length that its header names');
  return body;
}

function unpackedBytesMax(packedBytes: number): number {
  return UNPACKED_BYTES_FREE + UNPACKED_RATIO_MAX * packedBytes;
}

export interface SealedSource {
  name: string;
  code: ErrorCode;
  hint: string;
}

export function formatUnknown(name: string, what: string): AppError {
  return new AppError('REPOSITORY_FORMAT_UNKNOWN', `${name} was written by a newer version of Dozo (${what}).`, {
    hint: 'Update Dozo, then try again. Nothing was changed.',
    details: { name },
  });
}

function decrypt(
  header: Buffer,
  body: Buffer,
  name: string,
  keys: RepositoryKeys | null,
  damaged: (why: string, cause?: unknown) => AppError,
): Buffer {
  if (keys === null) {
    throw new AppError('REPOSITORY_KEY_NEEDED', `${name} is encrypted, and no key was given.`, {
      hint: 'Unlock the repository with its passphrase or its recovery key.',
      details: { name },
    });
  }
  if (!keys.keyId.equals(header.subarray(32, 48))) {
    throw new AppError('REPOSITORY_KEY_WRONG', `${name} is encrypted with another key than the one given.`, {
      hint: 'The file may come from another repository. Check the repository.',
      details: { name },
    });
  }
  if (body.length < TAG_BYTES) throw damaged('it is too short to be encrypted');
  const decipher = createDecipheriv('aes-256-gcm', fileKey(keys, header), NONCE);
  decipher.setAAD(header);
  decipher.setAuthTag(body.subarray(body.length - TAG_BYTES));
  try {
    return Buffer.concat([decipher.update(body.subarray(0, body.length - TAG_BYTES)), decipher.final()]);
  } catch (error) {
    throw damaged('it fails its authentication', error);
  }
}

/** A key for this one file: its salt is random and used once, so a fixed nonce cannot repeat under it. */
function fileKey(keys: RepositoryKeys, header: Buffer): Buffer {
  const salt = header.subarray(48, 64);
  return Buffer.from(hkdfSync('sha256', keys.masterKey, salt, `dozo file 1 ${header.toString('latin1', 0, 8)}`, 32));
}

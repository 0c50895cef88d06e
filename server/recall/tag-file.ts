import { createCipheriv, hash, type KeyObject } from 'node:crypto';

/**
 * The bytes of a tag file. A header: the magic, the key, a salt, the digest of what the tags are of, and the SHA-256 of
 * all that; then for each 256 chunks a record: their tags and a SHA-256 over the salt, the record's number and the
 * tags. Whatever is not as it was written says nothing: a record that fails its sum, or was never written, has no tags.
 */
const MAGIC = Buffer.from('DOZOTAG1');
export const KEY_BYTES = 32;
export const SALT_BYTES = 16;
const SUM_BYTES = 32;
export const HEADER_BYTES = MAGIC.length + KEY_BYTES + SALT_BYTES + 2 * SUM_BYTES;
export const TAG_BYTES = 16;
/** As many as a page of a disk has identities: both are read for the same stretch. */
export const RECORD_TAGS = 256;
export const RECORD_BYTES = RECORD_TAGS * TAG_BYTES + SUM_BYTES;

/** What tags are of: the content of one disk of one version. Its root hash alone would name that. */
export interface TagSubject {
  repositoryId: string;
  machineId: string;
  diskKey: string;
  pointId: string;
  /** Root of the disk's Merkle pages, hex. */
  rootHash: string;
  sizeBytes: number;
  chunkSizeBytes: number;
}

export interface TagHeader {
  key: Buffer;
  salt: Buffer;
  subject: TagSubject;
}

const NONCE = Buffer.alloc(12);

/**
 * The tag of a chunk: Poly1305 under a key derived from `key` (the authenticator of RFC 8439, section 2.8, with the
 * content as additional data and nothing to encrypt). One nonce for all: a tag is compared with tags alone and
 * never leaves this machine, so all that is asked of it is that of a universal hash. Two different contents
 * of 256 KiB that were made without knowing the key have equal tags with a probability below 2^-88 (8 ⌈L/16⌉ / 2^106).
 * @param key 32 bytes
 * @param content read only, and before the call returns
 */
export function tagOf(key: KeyObject, content: Buffer): Buffer {
  const cipher = createCipheriv('chacha20-poly1305', key, NONCE, { authTagLength: TAG_BYTES });
  cipher.setAAD(content, { plaintextLength: 0 });
  cipher.final();
  return cipher.getAuthTag();
}

export function encodeHeader({ key, salt, subject }: TagHeader): Buffer {
  const head = Buffer.concat([MAGIC, key, salt, digestOf(subject)]);
  return Buffer.concat([head, sumOf(head)]);
}

/** Null: damaged, of an unknown kind, or of something else than `subject`. */
export function parseHeader(bytes: Buffer, subject: TagSubject): { key: Buffer; salt: Buffer } | null {
  if (bytes.length !== HEADER_BYTES) return null;
  const head = bytes.subarray(0, HEADER_BYTES - SUM_BYTES);
  if (!sumOf(head).equals(bytes.subarray(head.length))) return null;
  if (!head.subarray(0, MAGIC.length).equals(MAGIC)) return null;
  if (!head.subarray(head.length - SUM_BYTES).equals(digestOf(subject))) return null;
  const saltAt = MAGIC.length + KEY_BYTES;
  return {
    key: Buffer.from(head.subarray(MAGIC.length, saltAt)),
    salt: Buffer.from(head.subarray(saltAt, saltAt + SALT_BYTES)),
  };
}

export function recordOffset(record: number): number {
  return HEADER_BYTES + record * RECORD_BYTES;
}

/** @param tags of 256 chunks, one after the other; zeros where there is none */
export function encodeRecord(salt: Buffer, record: number, tags: Buffer): Buffer {
  return Buffer.concat([tags, recordSum(salt, record, tags)]);
}

/** Null: not as it was written, or not of this place of this file. */
export function parseRecord(salt: Buffer, record: number, bytes: Buffer): Buffer | null {
  if (bytes.length !== RECORD_BYTES) return null;
  const tags = bytes.subarray(0, RECORD_BYTES - SUM_BYTES);
  return recordSum(salt, record, tags).equals(bytes.subarray(tags.length)) ? tags : null;
}

function recordSum(salt: Buffer, record: number, tags: Buffer): Buffer {
  const number = Buffer.alloc(8);
  number.writeBigUInt64LE(BigInt(record));
  return sumOf(Buffer.concat([salt, number, tags]));
}

function digestOf(subject: TagSubject): Buffer {
  const { repositoryId, machineId, diskKey, pointId, rootHash, sizeBytes, chunkSizeBytes } = subject;
  const facts = [repositoryId, machineId, diskKey, pointId, rootHash, sizeBytes, chunkSizeBytes];
  return sumOf(Buffer.from(JSON.stringify(facts)));
}

function sumOf(bytes: Buffer): Buffer {
  return hash('sha256', bytes, 'buffer');
}

import { createHmac, createSecretKey, hash, hkdfSync, type KeyObject } from 'node:crypto';

/** How a chunk gets its identity. Both give 32 bytes. */
export type IdentityAlgorithm = 'sha256' | 'sha512-256';

/** All that an encrypted repository's content is read and written with. Section "Encryption". */
export interface RepositoryKeys {
  masterKey: Buffer;
  /** First 16 bytes derived from the master key: tells a wrong key from damage. */
  keyId: Buffer;
  identityKey: KeyObject;
}

export function deriveKeys(masterKey: Buffer, repositoryId: string): RepositoryKeys {
  const salt = Buffer.from(repositoryId, 'hex');
  return {
    masterKey,
    keyId: Buffer.from(hkdfSync('sha256', masterKey, salt, 'dozo key id 1', 16)),
    identityKey: derivedKey(masterKey, salt, 'dozo identity 1'),
  };
}

/**
 * The key of one pack. A pack's identifier is random and used once, a row number is used once in its
 * pack, so the nonce (the row number) never repeats under a key, however many writers there are.
 */
export function derivePackKey(keys: RepositoryKeys, packId: Buffer): KeyObject {
  return derivedKey(keys.masterKey, packId, 'dozo pack 1');
}

/** Not as bytes: Node takes 14 µs longer to begin an HMAC or a cipher with those, and one is begun for every chunk. */
function derivedKey(masterKey: Buffer, salt: Buffer, info: string): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync('sha256', masterKey, salt, info, 32)));
}

/** @param identityKey null in a plain repository */
export function identify(content: Buffer, algorithm: IdentityAlgorithm, identityKey: KeyObject | null): Buffer {
  if (identityKey === null) return hash(algorithm, content, 'buffer');
  return createHmac(algorithm, identityKey).update(content).digest();
}

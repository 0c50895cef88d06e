import { createHmac, hash, hkdfSync } from 'node:crypto';

/** How a chunk gets its identity. Both give 32 bytes. */
export type IdentityAlgorithm = 'sha256' | 'sha512-256';

/** All that an encrypted repository's content is read and written with. Section "Encryption". */
export interface RepositoryKeys {
  masterKey: Buffer;
  /** First 16 bytes derived from the master key: tells a wrong key from damage. */
  keyId: Buffer;
  identityKey: Buffer;
}

export function deriveKeys(masterKey: Buffer, repositoryId: string): RepositoryKeys {
  const salt = Buffer.from(repositoryId, 'hex');
  return {
    masterKey,
    keyId: Buffer.from(hkdfSync('sha256', masterKey, salt, 'dozo key id 1', 16)),
    identityKey: Buffer.from(hkdfSync('sha256', masterKey, salt, 'dozo identity 1', 32)),
  };
}

/**
 * The key of one pack. A pack's identifier is random and used once, a row number is used once in its
 * pack, so the nonce (the row number) never repeats under a key, however many writers there are.
 */
export function derivePackKey(keys: RepositoryKeys, packId: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', keys.masterKey, packId, 'dozo pack 1', 32));
}

/** @param identityKey null in a plain repository */
export function identify(content: Buffer, algorithm: IdentityAlgorithm, identityKey: Buffer | null): Buffer {
  if (identityKey === null) return hash(algorithm, content, 'buffer');
  return createHmac(algorithm, identityKey).update(content).digest();
}

import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import * as z from 'zod';
import { AppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import { timeMsSchema } from './json-file.ts';
import { KEYS_FOLDER } from './layout.ts';
import { parseRecoveryKey } from './recovery-key.ts';
import { measuredScryptCost, SCRYPT_N_MAX } from './scrypt-cost.ts';
import { decodeSealed, encodeSealed, type SealedSource } from './sealed-file.ts';

/**
 * Key slots, section 11 of the format: each holds the master key locked with one secret, so that secrets
 * come and go without a byte of data being written again. A slot is a file of its own that never changes.
 */

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

const hexOf = (bytes: number): z.ZodString => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));

const schema = z.object({
  slotId: hexOf(8),
  kind: z.enum(['passphrase', 'recovery', 'machine']),
  label: z.string(),
  createdAtMs: timeMsSchema,
  kdf: z.discriminatedUnion('name', [
    z.object({
      name: z.literal('scrypt'),
      // What a file may make us spend: it may have been written by somebody else.
      n: z.number().int().min(2).max(SCRYPT_N_MAX),
      r: z.number().int().min(1).max(16),
      p: z.number().int().min(1).max(16),
      salt: hexOf(16),
    }),
    z.object({ name: z.literal('none') }),
  ]),
  wrapped: hexOf(NONCE_BYTES + KEY_BYTES + TAG_BYTES),
});

export type KeySlot = z.infer<typeof schema>;

/** What opens a repository: one of them. */
export interface KeySecret {
  passphrase?: string;
  /** 24 words, as `encodeRecoveryKey` gives them and as people type them. */
  recoveryKey?: string;
  /** 32 bytes that a machine keeps for itself, for runs without anybody at the keyboard. */
  machineKey?: Buffer;
}

/** Publishes a slot that opens with the secret. */
export async function publishSlot(
  storage: Storage,
  slot: { secret: KeySecret; label: string; createdAtMs: number; masterKey: Buffer; repositoryId: string },
): Promise<KeySlot> {
  const { kind, kdf, slotKey } = await lockFor(slot.secret);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', slotKey, nonce);
  cipher.setAAD(additionalData(slot.repositoryId));
  const wrapped = Buffer.concat([nonce, cipher.update(slot.masterKey), cipher.final(), cipher.getAuthTag()]);
  const body: KeySlot = {
    slotId: randomBytes(8).toString('hex'),
    kind,
    label: slot.label,
    createdAtMs: slot.createdAtMs,
    kdf,
    wrapped: wrapped.toString('hex'),
  };
  const bytes = encodeSealed('DOZOKEYS', Buffer.from(JSON.stringify(body)), { compress: false, keys: null });
  await storage.publish(slotName(body.slotId), bytes);
  return body;
}

async function lockFor(secret: KeySecret): Promise<{ kind: KeySlot['kind']; kdf: KeySlot['kdf']; slotKey: Buffer }> {
  if (secret.passphrase !== undefined) {
    const kdf = { name: 'scrypt' as const, ...(await measuredScryptCost()), salt: randomBytes(16).toString('hex') };
    return { kind: 'passphrase', kdf, slotKey: await derivePassphraseKey(secret.passphrase, kdf) };
  }
  const kind = secret.recoveryKey === undefined ? 'machine' : 'recovery';
  return { kind, kdf: { name: 'none' }, slotKey: randomSecretOf(secret) };
}

function randomSecretOf({ recoveryKey, machineKey }: KeySecret): Buffer {
  if (recoveryKey !== undefined) return parseRecoveryKey(recoveryKey);
  if (machineKey?.length === KEY_BYTES) return machineKey;
  throw new AppError('REPOSITORY_KEY_WRONG', `A machine key has ${KEY_BYTES} bytes.`, {
    hint: 'Unlock the repository with its passphrase or its recovery key.',
  });
}

/** The master key if the secret is this slot's; null if it is another's. */
export async function openSlot(slot: KeySlot, secret: KeySecret, repositoryId: string): Promise<Buffer | null> {
  if (secret.passphrase === undefined) {
    return slot.kdf.name === 'none' ? unwrap(slot, randomSecretOf(secret), repositoryId) : null;
  }
  if (slot.kdf.name !== 'scrypt') return null;
  return unwrap(slot, await derivePassphraseKey(secret.passphrase, slot.kdf), repositoryId);
}

/** @throws REPOSITORY_KEY_WRONG for a damaged slot */
export function parseSlot(bytes: Buffer, name: string): KeySlot {
  const hint = 'Put the folder keys back from a copy of the repository, or use another passphrase.';
  const source: SealedSource = { name, code: 'REPOSITORY_KEY_WRONG', hint };
  const body = decodeSealed('DOZOKEYS', bytes, source, null);
  try {
    return schema.parse(JSON.parse(body.toString('utf8')));
  } catch (error) {
    throw new AppError(source.code, `${name} is damaged: a field is missing or of another kind.`, {
      hint,
      details: { name },
      cause: error,
    });
  }
}

export function slotName(slotId: string): string {
  return `${KEYS_FOLDER}/${slotId}.key`;
}

function unwrap(slot: KeySlot, slotKey: Buffer, repositoryId: string): Buffer | null {
  const wrapped = Buffer.from(slot.wrapped, 'hex');
  const decipher = createDecipheriv('aes-256-gcm', slotKey, wrapped.subarray(0, NONCE_BYTES));
  decipher.setAAD(additionalData(repositoryId));
  decipher.setAuthTag(wrapped.subarray(wrapped.length - TAG_BYTES));
  try {
    return Buffer.concat([
      decipher.update(wrapped.subarray(NONCE_BYTES, wrapped.length - TAG_BYTES)),
      decipher.final(),
    ]);
  } catch {
    // Another secret's slot: GCM does not let a wrong key pass.
    return null;
  }
}

async function derivePassphraseKey(
  passphrase: string,
  kdf: { n: number; r: number; p: number; salt: string },
): Promise<Buffer> {
  const { n, r, p } = kdf;
  return new Promise((resolve, reject) => {
    const options = { N: n, r, p, maxmem: 256 * n * r };
    scrypt(passphrase.normalize('NFC'), Buffer.from(kdf.salt, 'hex'), KEY_BYTES, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}

function additionalData(repositoryId: string): Buffer {
  return Buffer.concat([Buffer.from('dozo key 1'), Buffer.from(repositoryId, 'hex')]);
}

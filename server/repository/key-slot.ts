import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { z } from 'zod';
import { AppError, isAppError } from '../errors/index.ts';
import type { Storage } from '../storage/index.ts';
import { KEYS_FOLDER } from './layout.ts';
import { decodeSealed, encodeSealed, type SealedSource } from './sealed-file.ts';

/**
 * Key slots, section 11 of the format: each holds the master key locked with one secret, so that secrets
 * come and go without a byte of data being written again.
 */

/** 64 MiB of memory and some 0.2 s a guess on one core. */
const SCRYPT = { n: 65_536, r: 8, p: 1 };
/** What a file may make us spend: it may have been written by somebody else. */
const SCRYPT_N_MAX = 1_048_576;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

const hexOf = (bytes: number): z.ZodString => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));

const schema = z.object({
  slotId: hexOf(8),
  kind: z.enum(['passphrase', 'recovery', 'machine']),
  label: z.string(),
  createdAtMs: z.number(),
  kdf: z.discriminatedUnion('name', [
    z.object({
      name: z.literal('scrypt'),
      n: z.number().int().min(2).max(SCRYPT_N_MAX),
      r: z.number().int().min(1).max(16),
      p: z.number().int().min(1).max(16),
      salt: hexOf(16),
    }),
    z.object({ name: z.literal('none') }),
  ]),
  wrapped: hexOf(NONCE_BYTES + 32 + TAG_BYTES),
});

type KeySlot = z.infer<typeof schema>;

/** Publishes a slot that opens with the passphrase. */
export async function addPassphraseSlot(
  storage: Storage,
  slot: { passphrase: string; label: string; createdAtMs: number; masterKey: Buffer; repositoryId: string },
): Promise<void> {
  const kdf = { name: 'scrypt' as const, ...SCRYPT, salt: randomBytes(16).toString('hex') };
  const slotKey = await deriveSlotKey(slot.passphrase, kdf);
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', slotKey, nonce);
  cipher.setAAD(additionalData(slot.repositoryId));
  const wrapped = Buffer.concat([nonce, cipher.update(slot.masterKey), cipher.final(), cipher.getAuthTag()]);
  const body: KeySlot = {
    slotId: randomBytes(8).toString('hex'),
    kind: 'passphrase',
    label: slot.label,
    createdAtMs: slot.createdAtMs,
    kdf,
    wrapped: wrapped.toString('hex'),
  };
  const bytes = encodeSealed('DOZOKEYS', Buffer.from(JSON.stringify(body)), { compress: false, keys: null });
  await storage.publish(`${KEYS_FOLDER}/${body.slotId}.key`, bytes);
}

/**
 * The master key, from whichever slot the passphrase opens. A damaged slot does not hide the others.
 * @throws REPOSITORY_KEY_WRONG
 */
export async function unlockWithPassphrase(
  storage: Storage,
  passphrase: string,
  repositoryId: string,
): Promise<Buffer> {
  let damaged: AppError | null = null;
  for await (const name of storage.listNames(KEYS_FOLDER)) {
    let slot: KeySlot;
    try {
      slot = parseSlot(await storage.read(name), name);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'REPOSITORY_KEY_WRONG') throw error;
      damaged = error;
      continue;
    }
    if (slot.kdf.name !== 'scrypt') continue;
    const masterKey = unwrap(slot, await deriveSlotKey(passphrase, slot.kdf), repositoryId);
    if (masterKey !== null) return masterKey;
  }
  throw new AppError('REPOSITORY_KEY_WRONG', `The passphrase does not open the repository in ${storage.location}.`, {
    hint:
      damaged === null
        ? 'Check the passphrase (upper and lower case, keyboard layout), or use the recovery key.'
        : 'One of the key files is damaged. Put the folder keys back from a copy of the repository.',
    details: { location: storage.location },
    cause: damaged ?? undefined,
  });
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

async function deriveSlotKey(
  passphrase: string,
  kdf: { n: number; r: number; p: number; salt: string },
): Promise<Buffer> {
  const { n, r, p } = kdf;
  return new Promise((resolve, reject) => {
    const options = { N: n, r, p, maxmem: 256 * n * r };
    scrypt(passphrase.normalize('NFC'), Buffer.from(kdf.salt, 'hex'), 32, options, (error, key) => {
      if (error === null) resolve(key);
      else reject(error);
    });
  });
}

function additionalData(repositoryId: string): Buffer {
  return Buffer.concat([Buffer.from('dozo key 1'), Buffer.from(repositoryId, 'hex')]);
}

import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { chmod, link, open, readFile, rm } from 'node:fs/promises';
import type { Sealed } from '../contract/task.ts';
import { AppError } from '../errors/index.ts';
import { randomHex } from '../runtime/index.ts';

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const VERSION = 1;

/**
 * Seals JSON with AES-256-GCM under the key that the server and its workers share. The purpose is
 * bound to the text: what was sealed for one cannot be opened as another.
 *
 * Text: base64 of version (1 byte), nonce (12), tag (16), cipher text.
 */
export interface Sealer {
  seal(purpose: string, value: unknown): Sealed;
  /** @throws SECRET_UNREADABLE when key or purpose differ, or the text was changed */
  open(purpose: string, sealed: Sealed): unknown;
}

export function createSealer(key: Buffer): Sealer {
  return {
    seal: (purpose, value) => {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', key, nonce);
      cipher.setAAD(associated(purpose));
      const body = Buffer.concat([cipher.update(JSON.stringify(value), 'utf8'), cipher.final()]);
      return Buffer.concat([Buffer.of(VERSION), nonce, cipher.getAuthTag(), body]).toString('base64');
    },
    open: (purpose, sealed) => {
      try {
        const bytes = Buffer.from(sealed, 'base64');
        const bodyOffset = 1 + NONCE_BYTES + TAG_BYTES;
        if (bytes[0] !== VERSION || bytes.length < bodyOffset) throw new Error('not sealed by this version');
        const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(1, 1 + NONCE_BYTES), {
          authTagLength: TAG_BYTES,
        });
        decipher.setAAD(associated(purpose));
        decipher.setAuthTag(bytes.subarray(1 + NONCE_BYTES, bodyOffset));
        const text = Buffer.concat([decipher.update(bytes.subarray(bodyOffset)), decipher.final()]).toString('utf8');
        return JSON.parse(text) as unknown;
      } catch (cause) {
        throw new AppError('SECRET_UNREADABLE', `A stored secret (${purpose}) cannot be opened with this key.`, {
          hint: 'Enter the password of the host again, or put back the key file that belongs to the catalogue.',
          details: { purpose },
          cause,
        });
      }
    },
  };
}

function associated(purpose: string): Buffer {
  return Buffer.from(`dozo sealed ${VERSION} ${purpose}`);
}

/**
 * Reads the key file, making it at the first start: 32 random bytes as hex, readable by its owner
 * alone. Two processes that come at the same time get the same key.
 * @throws SECRET_UNREADABLE when the file is there and is no key
 */
export async function loadKeyFile(path: string): Promise<Buffer> {
  const known = await readKey(path);
  if (known !== null) return known;
  const temporary = `${path}.${randomHex(4)}`;
  const file = await open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(`${randomBytes(KEY_BYTES).toString('hex')}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  try {
    // A link never replaces: whoever comes second uses the key of the first.
    await link(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  const made = await readKey(path);
  if (made === null) throw unreadableKey(path);
  return made;
}

async function readKey(path: string): Promise<Buffer | null> {
  let text: string;
  try {
    text = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  if (!/^[0-9a-f]{64}$/.test(text)) throw unreadableKey(path);
  await chmod(path, 0o600);
  return Buffer.from(text, 'hex');
}

function unreadableKey(path: string): AppError {
  return new AppError('SECRET_UNREADABLE', `The key file ${path} holds no key.`, {
    hint: 'Put it back from a copy. Without it the passwords of all hosts must be entered again.',
    details: { path },
  });
}

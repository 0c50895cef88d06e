import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import pLimit from 'p-limit';
import { AppError } from '../errors/index.ts';

/** 32 MiB and about a tenth of a second each: dear for a guesser, bearable for the smallest NAS. */
const COST = 2 ** 15;
const BLOCK_SIZE = 8;
const PARALLEL = 1;
const HASH_BYTES = 32;
const SALT_BYTES = 16;
const MEMORY_BYTES_MAX = 256 * COST * BLOCK_SIZE;

/** Memory is bounded however many try to log in at once; so is the time that anybody waits. */
const limit = pLimit(2);
const WAITING_MAX = 100;

/** `scrypt$N$r$p$salt$hash`, salt and hash in base64. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES);
  const hash = await derive(password, { salt, cost: COST, blockSize: BLOCK_SIZE, parallel: PARALLEL });
  return ['scrypt', COST, BLOCK_SIZE, PARALLEL, salt.toString('base64'), hash.toString('base64')].join('$');
}

/**
 * Compares in the same time whether or not the account exists.
 * @param encoded of the account; null when there is no such account
 * @throws LOGIN_RATE_LIMITED when too many wait for it
 */
export async function verifyPassword(password: string, encoded: string | null): Promise<boolean> {
  if (limit.pendingCount > WAITING_MAX) {
    throw new AppError('LOGIN_RATE_LIMITED', 'Too many log in at once.', {
      hint: 'Wait 10 seconds, then try again.',
      details: { retryAfterSeconds: 10 },
    });
  }
  const [name, cost, blockSize, parallel, salt, hash] = (encoded ?? NOBODY).split('$');
  if (name !== 'scrypt' || salt === undefined || hash === undefined) return false;
  const expected = Buffer.from(hash, 'base64');
  const actual = await derive(password, {
    salt: Buffer.from(salt, 'base64'),
    cost: Number(cost),
    blockSize: Number(blockSize),
    parallel: Number(parallel),
  });
  return expected.length === actual.length && timingSafeEqual(expected, actual) && encoded !== null;
}

const NOBODY = ['scrypt', COST, BLOCK_SIZE, PARALLEL, 'AAAAAAAAAAAAAAAAAAAAAA==', 'AAAA'].join('$');

function derive(
  password: string,
  options: { salt: Buffer; cost: number; blockSize: number; parallel: number },
): Promise<Buffer> {
  const { salt, cost, blockSize, parallel } = options;
  return limit(
    () =>
      new Promise<Buffer>((resolve, reject) => {
        const settings = { N: cost, r: blockSize, p: parallel, maxmem: MEMORY_BYTES_MAX };
        scrypt(password.normalize('NFC'), salt, HASH_BYTES, settings, (error, key) => {
          if (error === null) resolve(key);
          else reject(error);
        });
      }),
  );
}

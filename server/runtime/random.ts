import { randomBytes } from 'node:crypto';

/** `bytes` random bytes as lower-case hex, for identifiers. */
export function randomHex(bytes: number): string {
  return randomBytes(bytes).toString('hex');
}

/** Stands in for `node:crypto` in the bundle of the restore tool: `hash` came with Node 20.12. */
import * as crypto from 'node:crypto';

export * from 'node:crypto';

export function hash(algorithm: string, data: Buffer): Buffer {
  return crypto.createHash(algorithm).update(data).digest();
}

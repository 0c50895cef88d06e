import { assert } from '../errors/index.ts';

/**
 * Of a file or a folder. eCryptfs, which DSM encrypts shared folders with, takes no longer ones: it makes 255 of them.
 */
const NAME_BYTES_MAX = 143;

const NAME = /^[a-z0-9_-][a-z0-9._-]*(?:\/[a-z0-9_-][a-z0-9._-]*)*$/;

export function isStorageName(name: string): boolean {
  return NAME.test(name) && name.length <= 512 && name.split('/').every((part) => part.length <= NAME_BYTES_MAX);
}

/** Refuses a name that some store could not hold, or that leads out of the store. */
export function assertStorageName(name: string): void {
  assert(isStorageName(name), `storage name ${JSON.stringify(name)}`);
}

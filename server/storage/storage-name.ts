import { assert } from '../errors/index.ts';

const NAME = /^[a-z0-9_-][a-z0-9._-]*(?:\/[a-z0-9_-][a-z0-9._-]*)*$/;

export function isStorageName(name: string): boolean {
  return NAME.test(name) && name.length <= 512;
}

/** Refuses a name that some store could not hold, or that leads out of the store. */
export function assertStorageName(name: string): void {
  assert(isStorageName(name), `storage name ${JSON.stringify(name)}`);
}

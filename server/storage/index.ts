export { openLocalStorage } from './local-storage.ts';
export { storageError, storageMissing } from './storage-error.ts';
export { assertStorageName } from './storage-name.ts';
export type { Storage, StorageWriter } from './storage.ts';

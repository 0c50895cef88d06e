export type { Storage, StorageWriter } from './storage.ts';

export type { GuestEntry, GuestFile, GuestFileSystem } from './filesystem.ts';
export { findVolumes, recogniseForeign, type DiskVolume } from './volumes.ts';

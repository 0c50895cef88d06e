export { pathNotFound, type GuestEntry, type GuestFile, type GuestFileSystem } from './filesystem.ts';
export { findVolumes, recogniseForeign, type DiskVolume } from './volumes.ts';

export type { GuestFileSystem } from './filesystem.ts';
export { findVolumes, type DiskVolume } from './volumes.ts';

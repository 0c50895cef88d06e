export type { FileSystemKind, GuestEntry, GuestFile, GuestFileSystem, Volume } from './filesystem.ts';
export { findVolumes, type DiskVolume } from './volumes.ts';

export type { FileSystemKind, GuestEntry, GuestFile, GuestFileSystem, Volume } from './filesystem.ts';

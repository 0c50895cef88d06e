import type { DiskReader, Extent } from '../disk/index.ts';
import { AppError } from '../errors/index.ts';

/**
 * A volume of a guest's disk (a partition, a logical volume, a whole disk without partitions): offsets
 * count from its own start. Every byte of it was written by a stranger.
 */
export type Volume = DiskReader;

export type FileSystemKind = 'ext4' | 'xfs' | 'ntfs';

/**
 * Opens one kind of file system. Null: the volume holds something else. Rejects with FILESYSTEM_DAMAGED or
 * FILESYSTEM_UNSUPPORTED where it is this kind, but cannot be read; and with whatever reading the volume throws.
 */
export type OpenFileSystem = (volume: Volume, signal?: AbortSignal) => Promise<GuestFileSystem | null>;

/**
 * A file system of a guest, read as its own system would find it after a power cut at the instant of the freeze, but
 * where `isUnsettled` says otherwise.
 * Nothing is ever written. Memory is bounded whatever the volume holds; every call ends for any content.
 * All methods reject with FILESYSTEM_DAMAGED for content that contradicts itself, FILESYSTEM_UNSUPPORTED for
 * what is known by name but not read.
 */
export interface GuestFileSystem {
  readonly kind: FileSystemKind;
  /** As the guest wrote it, control characters removed; empty where there is none. */
  readonly label: string;
  /** What the file system covers of the volume, from its start. Behind it nothing is said to be free. */
  readonly sizeBytes: number;
  /**
   * Null: what is free can be told for sure. Else why not, as an English clause for a log
   * ("its journal is damaged"): then `freeExtents` gives nothing.
   */
  readonly freeUnknown: string | null;
  /**
   * Changes that its own system would take from a log at the next mount are not in what is read here: files that were
   * being changed at the freeze may be old, cut short or missing.
   */
  readonly isUnsettled: boolean;
  /**
   * Runs of bytes that hold nothing once the file system is mounted again, ascending and disjoint.
   * An error on the way makes what was given before worthless: a caller uses all of it or none.
   */
  freeExtents(signal?: AbortSignal): AsyncIterable<Extent>;
  /** The entries of a folder in the order of the disk, without `.` and `..`. @throws FILESYSTEM_PATH_NOT_FOUND */
  list(path: string, signal?: AbortSignal): AsyncIterable<GuestEntry>;
  /** A regular file; links are not followed. @throws FILESYSTEM_PATH_NOT_FOUND */
  open(path: string, signal?: AbortSignal): Promise<GuestFile>;
}

/**
 * One name in a folder. Names are a stranger's: they may hold control characters, `..`, letters that differ
 * in case alone; whoever makes files of them checks them.
 */
export interface GuestEntry {
  /** Decoded; what is no valid text is shown as U+FFFD. A part of a path that `list` and `open` take. */
  name: string;
  type: 'file' | 'folder' | 'link' | 'other';
  /** Of a file; 0 of everything else. */
  sizeBytes: number;
  /** Milliseconds since 1970; null where the disk does not say. */
  modifiedAtMs: number | null;
  /** Where a link points to, as written; null for everything else and where it cannot be read. */
  linkTarget: string | null;
}

export interface GuestFile {
  readonly sizeBytes: number;
  readonly modifiedAtMs: number | null;
  /** Exactly `lengthBytes` bytes, within the file; holes are zeros. */
  read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Buffer>;
  /**
   * Where its bytes lie on the volume, for a page or swap file that is left out of a backup. Absent where
   * the bytes do not lie there as they are (compressed, within a record).
   */
  extents?(signal?: AbortSignal): AsyncIterable<Extent>;
}

/** Longer paths are no path of a guest. */
const PATH_LENGTH_MAX = 65_536;

/**
 * The names of a path: parted by `/`, empty ones left out; `[]` is the root.
 * @throws INPUT_INVALID for `.`, `..` and NUL, which no guest's folder lists
 */
export function pathNames(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  if (path.length > PATH_LENGTH_MAX || names.some((name) => name === '.' || name === '..' || name.includes('\0'))) {
    throw new AppError('INPUT_INVALID', 'This is no path within a volume.', {
      hint: 'Give the path from the root of the volume, without “..”.',
    });
  }
  return names;
}

/** Text of a label or a message without what could act on a terminal. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Cs}]/gu, '').trim();
}

export function damaged(kind: FileSystemKind, fact: string, cause?: unknown): AppError {
  return new AppError('FILESYSTEM_DAMAGED', `The ${kind} file system contradicts itself: ${fact}.`, {
    hint: 'The disk as a whole is backed up and restored regardless. Have the guest check this file system.',
    details: { kind, fact },
    cause,
  });
}

export function unsupported(kind: FileSystemKind, fact: string): AppError {
  return new AppError('FILESYSTEM_UNSUPPORTED', `Dozo does not read this of an ${kind} file system: ${fact}.`, {
    hint: 'The disk as a whole is backed up and restored regardless. Restore the disk to get at the file.',
    details: { kind, fact },
  });
}

export function pathNotFound(path: string): AppError {
  return new AppError('FILESYSTEM_PATH_NOT_FOUND', `The volume holds no such file or folder: ${printable(path)}`, {
    hint: 'List the folder above it; large and small letters differ on most systems.',
    details: { path },
  });
}

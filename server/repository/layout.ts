/**
 * Names of a repository's files, and the numbers of format 1. `docs/repository-format.md`, sections
 * "Folder tree" and "Limits", says the same for readers of other make.
 */
export const FORMAT_VERSION = 1;

export const HEADER_NAME = 'repository.dozo';
export const README_NAME = 'readme.txt';
export const PACKS_FOLDER = 'packs';
export const INDEX_FOLDER = 'index';
export const POINTS_FOLDER = 'points';
export const SESSIONS_FOLDER = 'sessions';
export const KEYS_FOLDER = 'keys';
/** Lists of packs that the collector is about to remove: writers must not build on them. */
export const CONDEMNED_FOLDER = 'condemned';
/** What was decided about points: deleted, brought back, locked, gone for good. */
export const MARKS_FOLDER = 'marks';
/** Which points there were at the last collection. */
export const EVIDENCE_FOLDER = 'evidence';
/** Copies of chunks that a check found damaged: nothing builds on them. */
export const DAMAGED_FOLDER = 'damaged';

export const ID_BYTES = 32;
export const PACK_ID_BYTES = 16;
/** Identifiers in a page: 8 KiB, the least that a changed chunk costs beside itself. */
export const PAGE_IDS = 256;
export const PAGE_BYTES = PAGE_IDS * ID_BYTES;

export const CHUNK_SIZE_BYTES_DEFAULT = 256 * 1024;
export const CHUNK_SIZE_BYTES_MIN = 64 * 1024;
export const CHUNK_SIZE_BYTES_MAX = 4 * 1024 * 1024;

/**
 * A pack is closed at the first of these. 32 MiB: a spinning disk reads it in 0.2 s, so seeking to it
 * (10 ms) costs 5 %, 10 TiB make some 160 000 files of at most 1 300 a folder, and the collector
 * rewrites little at a time. The index keeps a row's number in 16 bits.
 */
export const PACK_TARGET_BYTES = 32 * 1024 * 1024;
export const PACK_ROWS_MAX = 65_535;

/** A machine's file beside its disks: read into memory as a whole. Hosts give at most 16 MiB. */
export const FILE_BYTES_MAX = 64 * 1024 * 1024;

/** The identity of all content that is zero throughout: never stored. */
export const ZERO_ID: Buffer = Buffer.alloc(ID_BYTES);

export function isZeroId(id: Buffer): boolean {
  return id.equals(ZERO_ID);
}

export function packName(packId: string): string {
  return `${PACKS_FOLDER}/${packId.slice(0, 2)}/${packId}.pack`;
}

/** The pack's identifier, or null for a name that is not a pack's. */
export function packIdOfName(name: string): string | null {
  const match = /^packs\/([0-9a-f]{2})\/(\1[0-9a-f]{30})\.pack$/.exec(name);
  return match?.[2] ?? null;
}

export function indexName(segmentId: string): string {
  return `${INDEX_FOLDER}/${segmentId}.index`;
}

export function pointName(pointId: string): string {
  return `${POINTS_FOLDER}/${pointId}.point`;
}

export function pointIdOfName(name: string): string | null {
  const match = /^points\/(\d{8}t\d{6}z-[0-9a-f]{16})\.point$/.exec(name);
  return match?.[1] ?? null;
}

/** `20260131t235959z-` and 16 random hex digits: sorts by time, is read by people. */
export function makePointId(atMs: number, random: string): string {
  const stamp = new Date(atMs)
    .toISOString()
    .replaceAll(/[-:]|\.\d+/g, '')
    .toLowerCase();
  return `${stamp}-${random}`;
}

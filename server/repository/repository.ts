import type { DiskReader, DiskSink, Extent } from '../disk/index.ts';

/**
 * The chunk store of format 1 (`docs/repository-format.md`): what was committed stays, whatever is
 * interrupted. Knows disks and points, nothing of hosts: the machine's own facts are opaque to it.
 */
export interface Repository {
  readonly id: string;
  readonly location: string;
  readonly chunkSizeBytes: number;
  /**
   * All committed points, oldest first. A damaged manifest is listed with its damage, not left out; so is a point whose
   * marks cannot be read, which may have been in the trash.
   */
  listPoints(): Promise<PointListing[]>;
  /** @throws POINT_NOT_FOUND, REPOSITORY_MANIFEST_DAMAGED */
  openPoint(pointId: string): Promise<Point>;
  /**
   * Begins a point, or takes up an interrupted one: with the `sessionId` of a write that ended
   * without commit, every disk starts with what its last checkpoint held.
   */
  startWrite(options: { sessionId: string }): Promise<WriteSession>;
  check(options: CheckOptions): Promise<CheckReport>;
  stats(): Promise<RepositoryStats>;
  close(): Promise<void>;
}

/** A repository as it is opened: with what only its keeper does. */
export interface KeptRepository extends Repository {
  /** Whether equal root hashes of disks here and there mean equal content: same chunk size, same hash, no keys. */
  namesChunksAs(other: KeptRepository): boolean;
  /**
   * Which of these points lack something: a page that cannot be read, or a chunk of which no copy is there that stays
   * and is not known to be damaged. Reads the pages, each once, and no chunk. One that is gone lacks nothing.
   * @throws REPOSITORY_MANIFEST_DAMAGED, storage errors, the signal's reason
   */
  findBroken(pointIds: readonly string[], signal?: AbortSignal): Promise<Set<string>>;
  /**
   * Moves a point to the trash: hidden from `listPoints` and `openPoint` at once, its data stays until a
   * collection after `keepUntilMs`.
   * @throws POINT_NOT_FOUND, POINT_LOCKED
   */
  deletePoint(pointId: string, request: DeleteRequest): Promise<PointFate>;
  /** Takes a deletion back. @throws POINT_NOT_FOUND when the collector had it already */
  restorePoint(pointId: string): Promise<PointFate>;
  /**
   * No path deletes the point before `untilMs`. A lock is only ever lengthened.
   * @throws POINT_NOT_FOUND, CONFLICT while it is in the trash
   */
  lockPoint(pointId: string, untilMs: number): Promise<PointFate>;
  /** Points in the trash, oldest first. */
  listTrash(): Promise<TrashedPoint[]>;
  /** Points that something was decided about, by id: locks and deletions; without those whose marks cannot be read. */
  listFates(): Promise<Map<string, PointFate>>;
  /**
   * Ends deletions whose time is over and removes what no point needs any more. Safe beside writers,
   * readers and other collections, and after a cut anywhere; the next one goes on.
   * @throws REPOSITORY_EVIDENCE_MISSING, REPOSITORY_CLOCK_BACK, REPOSITORY_FORMAT_UNKNOWN and what a point
   *   that cannot be read throws, all before anything is removed; CANCELLED
   */
  collect(options: CollectOptions): Promise<CollectReport>;
}

export interface DeleteRequest {
  /** Until then it can be brought back. */
  keepUntilMs: number;
  /** One sentence for people: who or what wanted it. */
  reason: string;
}

/** What was decided about a point. */
export interface PointFate {
  /** In the trash. */
  deleted: { atMs: number; keepUntilMs: number; reason: string } | null;
  /** Gone for good. */
  purged: boolean;
  /** May be over. */
  lockedUntilMs: number | null;
}

export interface TrashedPoint extends PointListing {
  deletedAtMs: number;
  keepUntilMs: number;
  reason: string;
}

export interface CollectOptions {
  /** How long to wait for sessions at work, in all; after it the report says `waiting`. 0: not at all. */
  patienceMs: number;
  /** A session that published nothing for so long is dead and is kept from committing. */
  sessionSilenceMs?: number;
  /** So much of what the clock shows may not have passed: nothing counts as over by that. 0: the clock is believed. */
  clockAheadMs?: number;
  /** Points that somebody reads: their deletion does not become final this time, whatever its time. */
  readPoints?: readonly string[];
  /** Packs of which at least this share of the chunks is needed stay as they are; 0 to 1. */
  liveShareMin?: number;
  signal?: AbortSignal;
  progress?(done: { stage: CollectStage; done: number; total: number }): void;
}

export type CollectStage = 'marking' | 'rewriting' | 'waiting' | 'removing';

export interface CollectReport {
  /** `waiting`: sessions that began before the announcement are at work; the next collection goes on. */
  state: 'done' | 'waiting';
  waitingFor: string[];
  /** Deletions whose time was over. */
  purgedPoints: string[];
  /** Points in the trash whose time is over and that stay, since they are being read. */
  spared: string[];
  /** Points that stay, those in the trash included. */
  keptPoints: number;
  /** Sessions that were taken for dead. */
  fencedSessions: string[];
  packs: number;
  removedPacks: number;
  /** Bytes of the files removed, and of those written in their place. */
  removedBytes: number;
  writtenBytes: number;
  /** Chunks that points need and that are in no pack. */
  missingChunks: number;
}

export interface PointListing {
  pointId: string;
  sizeBytes: number;
  manifest: PointManifest | null;
  /** Why it cannot be read, when `manifest` is null; else that what was decided about it cannot be. */
  damage: string | null;
}

/** Metadata of a point. `machine` and `evidence` are opaque JSON to the repository. */
export interface PointManifest {
  pointId: string;
  kind: 'disk-image';
  createdAtMs: number;
  machineId: string;
  machineName: string;
  state: 'complete' | 'incomplete';
  /** One sentence a cause, when incomplete. */
  stateReasons: string[];
  disks: PointDiskManifest[];
  machine: unknown;
  evidence: unknown;
  /** Hash over all of the above and the previous point's; chains the points of a machine. */
  rootHash: string;
  previousPointId: string | null;
  previousRootHash: string | null;
}

export interface PointDiskManifest {
  key: string;
  sizeBytes: number;
  /** Root of the disk's Merkle pages, hex. */
  rootHash: string;
  /** For the source's next question; opaque here. */
  changeToken: string | null;
  /** Opaque facts of the disk (label, path, uuid, adapter). */
  facts: unknown;
  stats: WriteStats;
}

export interface Point {
  readonly manifest: PointManifest;
  /** Bytes of a configuration file stored with the point. */
  readFile(name: string): Promise<Buffer>;
  listFiles(): { name: string; kind: string; sizeBytes: number }[];
  openDisk(key: string): Promise<PointDisk>;
}

export interface PointDisk extends DiskReader {
  readonly key: string;
  /** Areas that are not all zero, in order, whole chunks (the last may be shorter). */
  dataExtents(): AsyncIterable<Extent>;
  /** Areas whose chunks differ from the other disk's; sizes may differ. */
  differentExtents(other: PointDisk): AsyncIterable<Extent>;
  /**
   * All non-zero chunks in the order in which they are cheapest to read (by pack), decoded and
   * verified on all cores. For restores: several times faster than `read` in a loop. `sha256` is that of
   * `data`, null where the repository names its chunks in another way.
   */
  stream(options: {
    extents?: readonly Extent[];
    signal?: AbortSignal;
  }): AsyncIterable<{ offsetBytes: number; data: Buffer; sha256: Buffer | null }>;
}

export interface WriteSession {
  readonly sessionId: string;
  /**
   * @param base disk of an earlier point whose chunks stand wherever nothing is written; null: zeros.
   *   The base is checked to be readable as far as pages go.
   * @param recall spares hashing what stands where it stood in a former version; nobody else uses it meanwhile
   */
  openDisk(options: {
    key: string;
    sizeBytes: number;
    base: PointDisk | null;
    recall?: ChunkRecall | null;
  }): Promise<DiskWriter>;
  /**
   * Durably publishes everything that arrived so far, and a record of it, so that a later session of
   * the same id goes on from here. Called by the engine every few hundred MiB. `facts` (what was
   * delivered of each disk, under which VM snapshot) is opaque and comes back in `checkpointFacts`.
   */
  checkpoint(facts: unknown): Promise<void>;
  /** Facts of the checkpoint that this session started from; null for a fresh one. */
  readonly checkpointFacts: unknown;
  /**
   * Publishes the point: atomic, once. All disks that it names must be finished; one that was opened and
   * is not named stays out. Removes the checkpoint.
   */
  commit(point: CommitRequest): Promise<PointManifest>;
  /** Gives up; what was stored stays for the next run to find by hash. Idempotent. */
  abort(): Promise<void>;
}

/**
 * Tells by a tag, which costs a fraction of a chunk's identity, whether a content stood at the same place in a former
 * version. Nothing here throws: what is not known is no match.
 */
export interface ChunkRecall {
  /** The version's disk that `matches` speaks of; null: it knows of none. */
  readonly former: PointDisk | null;
  /** @param content read only, and before the call returns */
  tagOf(content: Buffer): Buffer;
  /** Whether the whole chunk had this tag in the former version. */
  matches(chunk: number, tag: Buffer): boolean;
  /** What stands there in the new version from now on; null: zeros. */
  keep(chunk: number, tag: Buffer | null): void;
  /** Zeros from chunk `from` up to, not including, chunk `to`. */
  forget(from: number, to: number): void;
}

export interface DiskWriter extends DiskSink {
  /**
   * As in `DiskSink`; besides, the bytes are copied by the time the promise resolves, so a reader may fill
   * the same buffer again. Fresh buffers for every piece cost as much processor time as hashing.
   */
  write(offsetBytes: number, data: Buffer): Promise<void>;
  /** Whether the checkpoint that this session started from held this disk, and what was delivered. */
  readonly resumed: boolean;
  stats(): WriteStats;
  /**
   * What the disk holds now: what was written, else the base. For the odd read of who writes: reading what was
   * written in this session ends the pack that it lies in.
   */
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
  /**
   * To be said before all is delivered once more because a chunk of the base could not be read to complete what was
   * delivered of it: until then everything rejects with that, since those parts are lost.
   */
  beginAnew(): void;
  /** Completes partly delivered chunks from the base, stores the pages. */
  finish(): Promise<{ rootHash: string; stats: WriteStats }>;
}

/** Bytes of a disk by what became of them. */
export interface WriteStats {
  /** Size of the disk. */
  nominalBytes: number;
  /** Delivered to the writer, zeros included. */
  deliveredBytes: number;
  zeroBytes: number;
  /** Chunks the repository had already. */
  duplicateBytes: number;
  /** New chunks, before compression. */
  newBytes: number;
  /** New chunks as they lie in packs. */
  storedBytes: number;
}

export interface CommitRequest {
  machineId: string;
  machineName: string;
  createdAtMs: number;
  state: 'complete' | 'incomplete';
  stateReasons: string[];
  previousPointId: string | null;
  disks: { key: string; changeToken: string | null; facts: unknown }[];
  files: { name: string; kind: string; content: Buffer }[];
  machine: unknown;
  evidence: unknown;
}

export interface CheckOptions {
  /**
   * `structure`: everything is where it must be; `checksums`: every stored byte is as it was written, too; `hashes`:
   * every content is what its identity names, too.
   */
  depth: 'structure' | 'checksums' | 'hashes';
  /** Only some packs are looked at, in the order of their names: a rotating check in portions. */
  part?: { after: string | null; bytesMax: number; timeMs: number };
  /** Copies that are found damaged are noted in the repository: nothing builds on them any more. */
  noteDamage?: boolean;
  signal?: AbortSignal;
  progress?(done: { bytes: number; totalBytes: number }): void;
}

export interface CheckReport {
  depth: CheckOptions['depth'];
  points: number;
  packs: number;
  chunks: number;
  readBytes: number;
  /** Of a check in portions: bytes of packs, and where the next portion begins; null: the store is through. */
  part: { verifiedBytes: number; totalBytes: number; nextAfter: string | null } | null;
  /** Empty: all is well. */
  damages: Damage[];
}

export interface Damage {
  code: string;
  /** One sentence: what is damaged. */
  text: string;
  /** File of the repository. */
  name: string;
  /** Versions that need it, with the disk and the range. */
  affects: { pointId: string; machineName: string; diskKey: string; extents: Extent[] }[];
}

export interface RepositoryStats {
  points: number;
  packs: number;
  chunks: number;
  storedBytes: number;
  /** Sum of all disks of all points. */
  nominalBytes: number;
}

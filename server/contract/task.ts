import type { CheckDepth, LogLine, MachineProgress } from './run.ts';

/**
 * What a worker is told. A task carries everything that is needed, since workers hold no catalogue;
 * the host's address is sealed (`queue/sealed.ts`) and opened in the worker only.
 */
export type WorkerTask =
  | { kind: 'probe'; address: Sealed }
  | { kind: 'inventory'; address: Sealed; facts?: unknown }
  | {
      kind: 'backup';
      runId: string;
      /** Unique to this run of this machine; names the snapshot and whatever else is left on the host. */
      hold: string;
      address: Sealed;
      /** `HostFacts` of `source` from an earlier connection. */
      facts?: unknown;
      machineId: string;
      /** `MachineIdentity` of `source`. */
      identity: unknown;
      repository: RepositoryAddress;
      options: BackupOptions;
    }
  | {
      kind: 'restore';
      runId: string;
      hold: string;
      address: Sealed;
      facts?: unknown;
      repository: RepositoryAddress;
      pointId: string;
      target: RestoreTargetOptions;
    }
  | {
      kind: 'export';
      runId: string;
      repository: RepositoryAddress;
      pointId: string;
      diskKey: string;
      format: 'raw' | 'vmdk';
      /** Absolute path of the file to make, on the worker's file system. */
      path: string;
    }
  | {
      kind: 'copy';
      runId: string;
      /** The source. */
      repository: RepositoryAddress;
      target: RepositoryAddress;
      /** Null: all versions. */
      pointIds: string[] | null;
    }
  | { kind: 'sweep'; address: Sealed; facts?: unknown; holds: string[] }
  | { kind: 'check'; runId: string; repository: RepositoryAddress; depth: CheckDepth }
  | {
      kind: 'maintenance';
      runId: string;
      repository: RepositoryAddress;
      /** How long to wait for runs that may need what is to go. */
      patienceMs: number;
      /** Which part of the store is read again; null: none. */
      verify: { after: string | null; bytesMax: number; timeMs: number } | null;
      /** The clock was set forward by so much, and would be believed after so long; absent or null: it is believed. */
      clockDoubt?: { aheadMs: number; settlesInMs: number } | null;
      /** Versions that runs at work read: they stay although their time in the trash is over. */
      readPoints?: string[];
    }
  | { kind: 'change-points'; repository: RepositoryAddress; pointIds: string[]; change: PointChange }
  | { kind: 'points'; repository: RepositoryAddress }
  | {
      kind: 'create-repository';
      repository: RepositoryAddress;
      chunkSizeBytes: number;
      /** Makes it encrypted: `{ passphrase }`. */
      secret?: Sealed;
    }
  | { kind: 'keys'; repository: RepositoryAddress; action: KeyAction };

/** What to do with the keys of an encrypted repository. A secret is `{ text }`. */
export type KeyAction =
  | { kind: 'list' }
  | { kind: 'add'; what: 'passphrase' | 'recovery' | 'machine'; label: string; secret?: Sealed; replaces?: string }
  | { kind: 'remove'; slotId: string }
  | { kind: 'drill'; secret: Sealed }
  /** Opens with somebody's passphrase or recovery key, and adds a key for this installation. */
  | { kind: 'take-up'; secret: Sealed };

export type PointChange =
  { verb: 'delete'; keepUntilMs: number; reason: string } | { verb: 'restore' } | { verb: 'lock'; untilMs: number };

/** AES-256-GCM over JSON with the key that server and workers share; base64. */
export type Sealed = string;

export interface RepositoryAddress {
  /** Absolute path of the repository's folder. */
  path: string;
  /** The id written in the repository; where another one lies at the path, nothing is done. Absent: any. */
  formatId?: string;
  /** The installation's own key of an encrypted repository: `{ machineKey }`. */
  key?: Sealed;
}

export interface BackupOptions {
  quiesce: 'require' | 'try' | 'off';
  /** Read everything although a change map is there. */
  fullRead: boolean;
  /** Share of the areas said to be unchanged that is read and compared with the store, 0 to 1. */
  verifySample: number;
  nfsStaging: { server: string; share: string; localPath: string } | null;
  excludedDisks: string[];
  /** Leaves out what the guests' file systems call free. */
  skipFreeSpace?: boolean;
  /** Leaves out the content of swap areas and page files. */
  skipSwap?: boolean;
}

export interface RestoreTargetOptions {
  mode: { kind: 'new'; name: string } | { kind: 'replace'; identity: unknown };
  datastore: string | null;
  provisioning: 'thin' | 'thick' | 'eager' | 'as-source';
  networks: Record<string, string>;
  identity: 'keep' | 'new';
  powerOn: boolean;
  /** Restore the disks that an incomplete version holds; without it such a version is refused. */
  acceptIncomplete?: boolean;
}

/** What a worker says while it works (BullMQ progress). */
export type WorkerEvent = { kind: 'progress'; progress: MachineProgress } | { kind: 'log'; line: LogLine };

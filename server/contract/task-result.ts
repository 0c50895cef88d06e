import type { z } from 'zod';
import type { copyResultSchema, maintenanceResultSchema } from './api/run.schema.ts';
import type { ErrorBody } from './error-codes.ts';
import type { BackupResult, CheckDepth, RestoreResult } from './run.ts';
import type { Sealed } from './task.ts';
import type { HostFactsView } from './api/host.schema.ts';
import type { MachineIdentityView, MachineSummaryView } from './api/machine.schema.ts';
import type { PointView } from './api/point.schema.ts';
import type { RepositoryStatsView } from './api/repository.schema.ts';

/** What a worker answers, by kind of task. Errors are thrown and cross the queue as error bodies. */
export interface WorkerResults {
  probe: HostFactsView;
  inventory: InventoryResult;
  /** `facts`: what the host turned out to be in the end, to be remembered. */
  backup: BackupResult & { facts: HostFactsView };
  restore: RestoreResult & { facts: HostFactsView };
  /** `machine` is null. */
  export: RestoreResult;
  sweep: SweepResult;
  check: CheckResult;
  maintenance: MaintenanceResult;
  copy: CopyResult;
  'change-points': { failed: { pointId: string; error: ErrorBody }[] };
  points: PointsResult;
  'create-repository': { formatId: string; chunkSizeBytes: number; keys: NewRepositoryKeys | null };
  keys: KeysResult;
}

/** Keys of a new encrypted repository, sealed: nothing of them is readable in the queue. */
export interface NewRepositoryKeys {
  ownSlotId: string;
  /** `{ machineKey }` */
  machineKey: Sealed;
  /** `{ text }`: 24 words. */
  recoveryKey: Sealed;
}

export interface KeysResult {
  slots: { slotId: string; kind: 'passphrase' | 'recovery' | 'machine'; label: string; createdAtMs: number }[];
  /** The slot that was added, or that a drill opened. */
  slotId: string | null;
  machineKey: Sealed | null;
  recoveryKey: Sealed | null;
  readPointId: string | null;
}

export interface InventoryResult {
  facts: HostFactsView;
  machines: MachineSummaryView[];
  datastores: { name: string; type: string; capacityBytes: number; freeBytes: number; accessible: boolean }[];
  networks: string[];
}

export interface SweepResult {
  removed: { hold: string; what: string }[];
  failed: { hold: string; what: string; message: string }[];
  /** Datastores that do not answer. */
  unseen: string[];
}

export interface CheckResult {
  depth: CheckDepth;
  points: number;
  packs: number;
  chunks: number;
  readBytes: number;
  /** Empty: all is well. */
  damages: { code: string; text: string; name: string; affects: unknown[] }[];
}

export type CopyResult = z.infer<typeof copyResultSchema>;

export type MaintenanceResult = z.infer<typeof maintenanceResultSchema>;

/** A repository as it is now; what the catalogue remembers of it is replaced by this. */
export interface PointsResult {
  formatId: string;
  chunkSizeBytes: number;
  stats: RepositoryStatsView;
  points: (Omit<PointView, 'repositoryId'> & {
    /** Of the machine at the time; null when the version does not say. */
    identity: MachineIdentityView | null;
  })[];
}

import type { NoticeResult } from '../contract/api/notification.schema.ts';
import type { RunKind, RunStarter } from '../contract/api/run.schema.ts';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { LogLine, RunState } from '../contract/run.ts';

/** What happened, as plain data in no language: kept until it is delivered. */
export type Notice = RunNotice | MissedNotice | OverdueNotice | CatalogueNotice | DigestNotice;

/** A run has ended. */
export interface RunNotice {
  kind: 'run';
  results: NoticeResult[];
  runId: string;
  runKind: RunKind;
  title: string;
  state: RunState;
  startedBy: RunStarter;
  startedAtMs: number | null;
  finishedAtMs: number;
  error: ErrorBody | null;
  repository: string | null;
  /** When it is tried again by itself; null: not. */
  retryAtMs: number | null;
  /** Worst first; perhaps not all. */
  machines: MachineNotice[];
  machineCount: number;
  /** Lines of the log that concern no machine alone. */
  warnings: MachineNotice['warnings'];
}

export interface MachineNotice {
  name: string;
  state: RunState;
  error: ErrorBody | null;
  startedAtMs: number | null;
  finishedAtMs: number | null;
  /** Size of its disks, read from them, added to the repository; null when nothing was transferred. */
  bytes: { nominal: number; read: number; stored: number } | null;
  rootHash: string | null;
  consistency: string | null;
  /** Lines of the log that a person should read. */
  warnings: Pick<LogLine, 'code' | 'text' | 'details'>[];
}

/** A run did not begin when it was due. */
export interface MissedNotice {
  kind: 'missed';
  title: string;
  dueAtMs: number;
  /** Whether one run stands for all that were missed. */
  isCaughtUp: boolean;
}

/** A task ought to have succeeded, and has not for too long. */
export interface OverdueNotice {
  kind: 'overdue';
  title: string;
  /** Null: never. */
  lastSuccessAtMs: number | null;
  dueSinceMs: number;
  /** Whole days since then. */
  days: number;
  lastState: RunState | null;
  lastError: ErrorBody | null;
}

/** The catalogue fails, so that nothing can begin and no other message can be kept. */
export interface CatalogueNotice {
  kind: 'catalogue';
  sinceMs: number;
  error: ErrorBody;
}

/** What happened in a day, a week or a month. */
export interface DigestNotice {
  kind: 'digest';
  period: 'daily' | 'weekly' | 'monthly';
  fromMs: number;
  toMs: number;
  runs: { success: number; warning: number; failure: number; cancelled: number };
  jobs: DigestJob[];
  /** Machines that no task protects. */
  unprotected: string[];
  repositories: { name: string; storedBytes: number | null; growthBytes: number | null; error: ErrorBody | null }[];
  /** Messages that could not be delivered. */
  undelivered: number;
}

export interface DigestJob {
  title: string;
  runs: number;
  failures: number;
  lastState: RunState | null;
  lastSuccessAtMs: number | null;
  nextRunAtMs: number | null;
  lastError: ErrorBody | null;
}

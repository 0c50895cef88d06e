/** Sentences of messages and reports; the type makes every language complete. */
export interface Texts {
  storage(name: string): string;
  list(names: readonly string[]): string;
  runKinds: Record<'backup' | 'restore' | 'export' | 'check' | 'maintenance' | 'copy', string>;
  states: Record<'waiting' | 'running' | 'success' | 'warning' | 'incomplete' | 'failed' | 'cancelled', string>;
  consistency: Record<'application' | 'filesystem' | 'crash' | 'off', string>;
  /** `Backup “nightly” failed` */
  runHeading(kind: string, title: string, state: 'success' | 'warning' | 'incomplete' | 'failed' | 'cancelled'): string;
  recoveredHeading(kind: string, title: string): string;
  machineCount(succeeded: number, all: number): string;
  /** By what started a run. */
  startedBy: Readonly<Record<string, string>>;
  retryAt(time: string): string;
  noRetry: string;
  recovered: string;
  labels: Record<
    | 'task'
    | 'result'
    | 'begin'
    | 'end'
    | 'duration'
    | 'startedBy'
    | 'storage'
    | 'size'
    | 'read'
    | 'stored'
    | 'consistency'
    | 'rootHash'
    | 'reason'
    | 'details'
    | 'remedy'
    | 'warning'
    | 'dueAt'
    | 'lastSuccess'
    | 'lastResult'
    | 'nextRun'
    | 'runs'
    | 'failures'
    | 'growth'
    | 'inUse'
    | 'period'
    | 'unprotected',
    string
  >;
  never: string;
  moreMachines(count: number): string;
  missedHeading(title: string): string;
  missedLead(time: string): string;
  missedCaughtUp: string;
  missedLeftOut: string;
  overdueHeading(title: string, days: number): string;
  overdueLead(time: string): string;
  overdueRemedy: string;
  catalogueHeading: string;
  catalogueLead(time: string): string;
  digestHeading: Record<'daily' | 'weekly' | 'monthly', string>;
  digestLead(counts: { success: number; warning: number; failure: number; cancelled: number }): string;
  /** Of a digest, for its subject. */
  digestShort(counts: { warning: number; failure: number }): string;
  digestNothing: string;
  unprotectedBlock(count: number): string;
  unprotectedRemedy: string;
  undelivered(count: number): string;
  testHeading: string;
  testLead: string;
  openWindow: string;
  footer(host: string): string;
  report: Record<
    | 'title'
    | 'protected'
    | 'unprotected'
    | 'tested'
    | 'failed'
    | 'storageTrend'
    | 'machine'
    | 'tasks'
    | 'versions'
    | 'newestVersion'
    | 'host'
    | 'what'
    | 'when'
    | 'result'
    | 'run'
    | 'reason'
    | 'repository'
    | 'atBegin'
    | 'atEnd'
    | 'growth'
    | 'day'
    | 'none'
    | 'noData'
    | 'print'
    | 'made'
    | 'restoreTest'
    | 'check'
    | 'unseen',
    string
  >;
  reportSummary(counts: { protected: number; unprotected: number; runs: number; failed: number }): string;
}

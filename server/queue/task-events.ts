import type { ErrorBody } from '../contract/error-codes.ts';
import type { LogLine, MachineProgress } from '../contract/run.ts';

/** A line with its place in the log of one execution of a task. */
export interface NumberedLine {
  sequence: number;
  line: LogLine;
}

export type TaskEvent =
  | { kind: 'started'; source: string }
  | { kind: 'progress'; progress: MachineProgress }
  | { kind: 'log'; source: string; entries: NumberedLine[] };

export interface TaskOutcome {
  ok: boolean;
  /** What the processor returned; null when `ok` is false. */
  value: unknown;
  error: ErrorBody | null;
  /** Names this execution of the task, for its log lines. */
  source: string;
  log: NumberedLine[];
}

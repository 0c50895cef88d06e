import type { LogLine } from '../contract/run.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import type { Note } from '../source/index.ts';

import type { StepOutcome } from './run-state.ts';

/** Collects what a run says about itself, and what that means for its state. */
export class RunLog {
  readonly outcomes = new Set<StepOutcome>();
  /** Codes of all that was said so far. */
  readonly codes = new Set<string>();
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #emit: (line: LogLine) => void;

  constructor(options: { clock: Clock; logger: Logger; emit(line: LogLine): void }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#emit = (line) => {
      options.emit(line);
    };
  }

  /** Stamps and passes on a note. A warning makes the run's state at least `warning`. */
  add(note: Note): LogLine {
    if (note.level !== 'info') this.outcomes.add('warning-noted');
    this.codes.add(note.code);
    const line: LogLine = { atMs: this.#clock.nowMs(), ...note };
    this.#logger[note.level === 'warning' ? 'warn' : note.level]({ code: note.code, details: note.details }, note.text);
    this.#emit(line);
    return line;
  }

  info(code: string, text: string, details?: Note['details']): LogLine {
    return this.add({ level: 'info', code, text, ...(details === undefined ? {} : { details }) });
  }

  warning(code: string, text: string, details?: Note['details']): LogLine {
    return this.add({ level: 'warning', code, text, ...(details === undefined ? {} : { details }) });
  }

  error(code: string, text: string, details?: Note['details']): LogLine {
    return this.add({ level: 'error', code, text, ...(details === undefined ? {} : { details }) });
  }
}

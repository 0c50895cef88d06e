import type { LogLine } from '../contract/run.ts';
import { encodeJson, integer, jsonOrNull, text, textOrNull } from './row.ts';
import type { SqlExecutor, SqlValue } from './sqlite.ts';

export interface StoredLogLine extends LogLine {
  number: number;
  partId: string | null;
}

export class LogLines {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  /**
   * Adds a line; the same line again (same run, source and sequence) is no second line.
   * @returns whether it was new
   */
  async add(entry: {
    runId: string;
    partId: string | null;
    source: string;
    sequence: number;
    line: LogLine;
  }): Promise<boolean> {
    const { runId, partId, source, sequence, line } = entry;
    const changed = await this.#sql.run(
      `INSERT INTO log_lines (run_id, part_id, source, sequence, at_ms, level, code, text, details)
       SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?)
       ON CONFLICT (run_id, source, sequence) DO NOTHING`,
      [runId, partId, source, sequence, line.atMs, line.level, line.code, line.text, encodeJson(line.details), runId],
    );
    return changed > 0;
  }

  /** Of the server itself: its next sequence number in a run. */
  async nextSequence(runId: string, source: string): Promise<number> {
    const row = await this.#sql.get(
      'SELECT coalesce(max(sequence), -1) + 1 AS next FROM log_lines WHERE run_id = ? AND source = ?',
      [runId, source],
    );
    return integer(row ?? {}, 'next');
  }

  async list(
    runId: string,
    options: { afterNumber: number; limit: number; level?: LogLine['level'] | undefined },
  ): Promise<StoredLogLine[]> {
    const params: SqlValue[] = [runId, options.afterNumber];
    if (options.level !== undefined) params.push(options.level);
    const rows = await this.#sql.all(
      `SELECT * FROM log_lines WHERE run_id = ? AND number > ?
       ${options.level === undefined ? '' : 'AND level = ?'} ORDER BY number LIMIT ?`,
      [...params, options.limit],
    );
    return rows.map((row) => {
      const details = jsonOrNull<NonNullable<LogLine['details']>>(row, 'details');
      return {
        number: integer(row, 'number'),
        partId: textOrNull(row, 'part_id'),
        atMs: integer(row, 'at_ms'),
        level: text(row, 'level') as LogLine['level'],
        code: text(row, 'code'),
        text: text(row, 'text'),
        ...(details === null ? {} : { details }),
      };
    });
  }
}

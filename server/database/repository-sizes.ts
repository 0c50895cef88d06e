import { integer, text } from './row.ts';
import type { SqlExecutor } from './sqlite.ts';

/** How large a repository was on a day. */
export interface RepositorySize {
  repositoryId: string;
  /** Beginning of the day, UTC. */
  dayMs: number;
  storedBytes: number;
  /** Sum of the disks of all versions. */
  nominalBytes: number;
  points: number;
}

/** Table `repository_sizes`: one row a repository and day, the day's last figures. */
export class RepositorySizes {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async save(size: RepositorySize): Promise<void> {
    await this.#sql.run(
      `INSERT INTO repository_sizes (repository_id, day_ms, stored_bytes, nominal_bytes, points) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (repository_id, day_ms) DO UPDATE SET stored_bytes = excluded.stored_bytes,
         nominal_bytes = excluded.nominal_bytes, points = excluded.points`,
      [size.repositoryId, size.dayMs, size.storedBytes, size.nominalBytes, size.points],
    );
  }

  /** From the newest one before the span on, oldest first. */
  async list(span: { fromMs: number; toMs: number }): Promise<RepositorySize[]> {
    const rows = await this.#sql.all(
      `SELECT * FROM repository_sizes AS sizes WHERE day_ms < ? AND day_ms >= coalesce(
         (SELECT max(day_ms) FROM repository_sizes WHERE repository_id = sizes.repository_id AND day_ms <= ?), ?)
       ORDER BY day_ms`,
      [span.toMs, span.fromMs, span.fromMs],
    );
    return rows.map((row) => ({
      repositoryId: text(row, 'repository_id'),
      dayMs: integer(row, 'day_ms'),
      storedBytes: integer(row, 'stored_bytes'),
      nominalBytes: integer(row, 'nominal_bytes'),
      points: integer(row, 'points'),
    }));
  }

  async removeBefore(atMs: number): Promise<void> {
    await this.#sql.run('DELETE FROM repository_sizes WHERE day_ms < ?', [atMs]);
  }
}

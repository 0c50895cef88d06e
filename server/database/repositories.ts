import type { ErrorBody } from '../contract/error-codes.ts';
import type { RepositoryStatsView } from '../contract/api/repository.schema.ts';
import type { Retention } from '../contract/api/retention.schema.ts';
import { encodeJson, integer, integerOrNull, jsonOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface RepositoryRecord {
  id: string;
  name: string;
  path: string;
  /** Id written in the repository itself; two folders with the same one are the same repository. */
  formatId: string | null;
  chunkSizeBytes: number | null;
  stats: RepositoryStatsView | null;
  error: ErrorBody | null;
  seenAtMs: number | null;
  createdAtMs: number;
  /** Of machines that no job backs up into it; null: all their versions stay. */
  retention: Retention | null;
}

/** Table of the repositories that are known: where they are, not what they hold. */
export class Repositories {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async list(): Promise<RepositoryRecord[]> {
    return (await this.#sql.all('SELECT * FROM repositories ORDER BY name, id')).map(toRepository);
  }

  async load(id: string): Promise<RepositoryRecord | null> {
    const row = await this.#sql.get('SELECT * FROM repositories WHERE id = ?', [id]);
    return row === null ? null : toRepository(row);
  }

  /** Adds or replaces all but the retention. @throws CONFLICT when name, path or format id belong to another */
  async save(repository: Omit<RepositoryRecord, 'retention'>): Promise<void> {
    await this.#sql.run(
      `INSERT INTO repositories (id, name, path, format_id, chunk_size_bytes, stats, error, seen_at_ms, created_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET name = excluded.name, path = excluded.path, format_id = excluded.format_id,
         chunk_size_bytes = excluded.chunk_size_bytes, stats = excluded.stats, error = excluded.error,
         seen_at_ms = excluded.seen_at_ms`,
      [
        repository.id,
        repository.name,
        repository.path,
        repository.formatId,
        repository.chunkSizeBytes,
        encodeJson(repository.stats),
        encodeJson(repository.error),
        repository.seenAtMs,
        repository.createdAtMs,
      ],
    );
  }

  async setRetention(id: string, retention: Retention | null): Promise<void> {
    await this.#sql.run('UPDATE repositories SET retention = ? WHERE id = ?', [encodeJson(retention), id]);
  }

  async remove(id: string): Promise<boolean> {
    return (await this.#sql.run('DELETE FROM repositories WHERE id = ?', [id])) > 0;
  }
}

function toRepository(row: Row): RepositoryRecord {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    path: text(row, 'path'),
    formatId: textOrNull(row, 'format_id'),
    chunkSizeBytes: integerOrNull(row, 'chunk_size_bytes'),
    stats: jsonOrNull(row, 'stats'),
    error: jsonOrNull(row, 'error'),
    seenAtMs: integerOrNull(row, 'seen_at_ms'),
    createdAtMs: integer(row, 'created_at_ms'),
    retention: jsonOrNull(row, 'retention'),
  };
}

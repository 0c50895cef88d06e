import type { PointView } from '../contract/api/point.schema.ts';
import type { RepositoryUsage } from '../contract/api/repository.schema.ts';
import { Filter } from './filter.ts';
import { encodeJson, integer, integerOrNull, json, jsonOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export type PointRecord = PointView;

/** What the repositories held when they were last looked at. `replaceAll` in a transaction. */
export class Points {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  /** Takes over what a repository holds now. */
  async replaceAll(repositoryId: string, points: readonly PointRecord[]): Promise<void> {
    await this.#sql.run('DELETE FROM points WHERE repository_id = ?', [repositoryId]);
    for (const point of points) {
      await this.#sql.run(
        `INSERT INTO points (id, repository_id, machine_id, machine_name, created_at_ms, state, state_reasons,
                             consistency, size_bytes, root_hash, previous_point_id, disks, locked_until_ms, trash)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        [
          point.id,
          repositoryId,
          point.machineId,
          point.machineName,
          point.createdAtMs,
          point.state,
          JSON.stringify(point.stateReasons),
          point.consistency,
          point.sizeBytes,
          point.rootHash,
          point.previousPointId,
          JSON.stringify(point.disks),
          point.lockedUntilMs,
          encodeJson(point.trash),
        ],
      );
    }
  }

  /** Newest first. `before` is the position of the last point of the page before. */
  async list(filter: {
    machineId?: string | undefined;
    repositoryId?: string | undefined;
    /** Those in the trash instead of the others. */
    trash?: boolean | undefined;
    before?: { createdAtMs: number; id: string } | undefined;
    limit: number;
  }): Promise<PointRecord[]> {
    const { before } = filter;
    const where = new Filter()
      .addAll(filter.trash === true ? 'trash IS NOT NULL' : 'trash IS NULL')
      .add('machine_id = ?', filter.machineId)
      .add('repository_id = ?', filter.repositoryId);
    if (before !== undefined) where.addAll('(created_at_ms, id) < (?, ?)', [before.createdAtMs, before.id]);
    const rows = await this.#sql.all(
      `SELECT * FROM points WHERE ${where.sql} ORDER BY created_at_ms DESC, id DESC LIMIT ?`,
      [...where.params, filter.limit],
    );
    return rows.map(toPoint);
  }

  async load(id: string): Promise<PointRecord | null> {
    const row = await this.#sql.get('SELECT * FROM points WHERE id = ?', [id]);
    return row === null ? null : toPoint(row);
  }

  /** As they lie in every repository that has them. */
  async listByIds(ids: readonly string[]): Promise<PointRecord[]> {
    const rows = await this.#sql.all(
      'SELECT * FROM points WHERE id IN (SELECT value FROM json_each(?)) ORDER BY created_at_ms DESC, id DESC',
      [JSON.stringify(ids)],
    );
    return rows.map(toPoint);
  }

  /** What the versions of each machine added to a repository, most first; those that cannot be read are of nobody. */
  async useByMachine(repositoryId: string, limit: number): Promise<RepositoryUsage> {
    const rows = await this.#sql.all(
      // SQLite takes the bare columns from the row of the only max(): name and size are those of the newest version.
      `SELECT machine_id, machine_name, size_bytes, max(created_at_ms) AS last, sum(trash IS NULL) AS versions,
              sum(trash IS NOT NULL) AS trashed,
              sum((SELECT coalesce(sum(value ->> '$.storedBytes'), 0) FROM json_each(points.disks))) AS added,
              count() OVER () AS total
       FROM points WHERE repository_id = ? AND machine_id != '' GROUP BY machine_id
       ORDER BY added DESC, machine_name, machine_id LIMIT ?`,
      [repositoryId, limit],
    );
    return {
      machines: rows.map((row) => ({
        machineId: text(row, 'machine_id'),
        name: text(row, 'machine_name'),
        versions: integer(row, 'versions'),
        trashed: integer(row, 'trashed'),
        sizeBytes: integer(row, 'size_bytes'),
        addedBytes: integer(row, 'added'),
        lastAtMs: integer(row, 'last'),
      })),
      total: rows[0] === undefined ? 0 : integer(rows[0], 'total'),
    };
  }

  async countByMachine(): Promise<Map<string, { count: number; lastAtMs: number }>> {
    const rows = await this.#sql.all(
      'SELECT machine_id, count(*) AS count, max(created_at_ms) AS last FROM points WHERE trash IS NULL GROUP BY machine_id',
    );
    return new Map(
      rows.map((row) => [text(row, 'machine_id'), { count: integer(row, 'count'), lastAtMs: integer(row, 'last') }]),
    );
  }
}

function toPoint(row: Row): PointRecord {
  return {
    id: text(row, 'id'),
    repositoryId: text(row, 'repository_id'),
    machineId: text(row, 'machine_id'),
    machineName: text(row, 'machine_name'),
    createdAtMs: integer(row, 'created_at_ms'),
    state: text(row, 'state') as PointRecord['state'],
    stateReasons: json(row, 'state_reasons'),
    consistency: textOrNull(row, 'consistency'),
    sizeBytes: integer(row, 'size_bytes'),
    rootHash: textOrNull(row, 'root_hash'),
    previousPointId: textOrNull(row, 'previous_point_id'),
    disks: json(row, 'disks'),
    lockedUntilMs: integerOrNull(row, 'locked_until_ms'),
    trash: jsonOrNull(row, 'trash'),
  };
}

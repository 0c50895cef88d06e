import type { JobListQuery, MachineListQuery, Protection } from '../contract/api/list.schema.ts';
import type { RunKind } from '../contract/api/run.schema.ts';
import type { RunState } from '../contract/run.ts';
import { contains, Filter, ID_IS_AMONG } from './filter.ts';
import { integer, integerOrNull, json, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface ListedMachine {
  id: string;
  name: string;
  hostId: string | null;
  hostName: string | null;
  present: boolean;
  protection: Protection;
  jobIds: string[];
  pointCount: number;
  lastPointAtMs: number | null;
  /** It has versions, and all of them are in the trash. */
  isAllTrashed: boolean;
  lastRun: { runId: string; state: string; finishedAtMs: number | null } | null;
  sizeBytes: number;
}

interface LeastProvenMachine {
  machineId: string;
  name: string;
  provenAtMs: number | null;
  firstVersionAtMs: number;
  neverCount: number;
}

/** Quarters of an hour: every time zone's days begin on one. */
export const HISTORY_SLOT_MS = 15 * 60_000;

const SIZE = "(SELECT coalesce(sum(value ->> '$.sizeBytes'), 0) FROM json_each(coalesce(summary, '{}'), '$.disks'))";

/** Machines with what their versions and their last run say of them. */
const JUDGED = `
  WITH versions AS (
    SELECT machine_id, count(*) AS count, max(created_at_ms) AS last FROM points WHERE trash IS NULL GROUP BY machine_id
  ), ends AS (
    SELECT run_parts.machine_id, run_parts.run_id, run_parts.state, run_parts.finished_at_ms, max(runs.number)
    FROM run_parts JOIN runs ON runs.id = run_parts.run_id
    WHERE run_parts.machine_id IS NOT NULL AND runs.kind = 'backup'
      -- What is at work, or was cancelled, says nothing of how well a machine is off.
      AND run_parts.state IN ('success', 'warning', 'failed', 'incomplete')
    GROUP BY run_parts.machine_id
  ), judged AS (
    SELECT machines.id, machines.name, machines.host_id, hosts.name AS host_name, machines.present, machines.summary,
      coalesce(versions.count, 0) AS point_count, versions.last AS last_point_at_ms,
      ends.run_id, ends.state, ends.finished_at_ms,
      CASE
        WHEN NOT EXISTS (SELECT 1 FROM job_machines WHERE machine_id = machines.id) THEN 'unprotected'
        WHEN ends.state IN ('failed', 'incomplete') THEN 'failing'
        WHEN versions.last IS NULL THEN 'pending'
        ELSE 'protected'
      END AS protection
    FROM machines LEFT JOIN hosts ON hosts.id = machines.host_id
      LEFT JOIN versions ON versions.machine_id = machines.id LEFT JOIN ends ON ends.machine_id = machines.id
  )`;

const MACHINE_ORDER: Record<MachineListQuery['sort'], string> = {
  name: 'name COLLATE NOCASE',
  host: 'host_name COLLATE NOCASE',
  protection: "CASE protection WHEN 'failing' THEN 0 WHEN 'pending' THEN 1 WHEN 'unprotected' THEN 2 ELSE 3 END",
  last: 'last_point_at_ms',
  points: 'point_count',
  size: SIZE,
};

/** Pages and sums over large tables, counted by the database: nothing is loaded that is not shown. */
export class Listings {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  /** @param ids only of these machines; null: of all */
  async pageMachines(
    query: MachineListQuery,
    ids: readonly string[] | null = null,
  ): Promise<{ rows: ListedMachine[]; total: number }> {
    const where = new Filter()
      .add('host_id = ?', query.hostId)
      .add('protection = ?', query.protection)
      .add('present = ?', query.present === undefined ? undefined : Number(query.present))
      .add("name LIKE ? ESCAPE '\\'", query.search === undefined ? undefined : contains(query.search))
      .add(ID_IS_AMONG, ids === null ? undefined : JSON.stringify(ids));
    if (query.restorable !== undefined) where.addAll(query.restorable ? 'point_count > 0' : 'point_count = 0');
    const rows = await this.#sql.all(
      `${JUDGED}
       SELECT judged.*, ${SIZE} AS size_bytes, count(*) OVER () AS total,
         point_count = 0 AND EXISTS (SELECT 1 FROM points WHERE machine_id = judged.id) AS is_all_trashed,
         (SELECT json_group_array(job_id) FROM job_machines WHERE machine_id = judged.id) AS job_ids
       FROM judged WHERE ${where.sql}
       ORDER BY ${MACHINE_ORDER[query.sort]} ${query.descending ? 'DESC' : 'ASC'}, name, id LIMIT ? OFFSET ?`,
      [...where.params, query.limit, query.offset],
    );
    return { rows: rows.map(toListedMachine), total: totalOf(rows) };
  }

  /** Machines that their hosts list, by how well they are off. */
  async countMachines(ids: readonly string[] | null = null): Promise<Record<Protection, number>> {
    const rows = await this.#sql.all(
      `${JUDGED} SELECT protection, count(*) AS count FROM judged
       WHERE present = 1 AND (? IS NULL OR id IN (SELECT value FROM json_each(?))) GROUP BY protection`,
      ids === null ? [null, null] : [JSON.stringify(ids), JSON.stringify(ids)],
    );
    const counts: Record<Protection, number> = { protected: 0, failing: 0, pending: 0, unprotected: 0 };
    for (const row of rows) counts[text(row, 'protection') as Protection] = integer(row, 'count');
    return counts;
  }

  /** The machine with versions that was restored the longest time ago: one that never was comes first. */
  async leastProvenMachine(ids: readonly string[] | null = null): Promise<LeastProvenMachine | null> {
    const among = ids === null ? null : JSON.stringify(ids);
    const row = await this.#sql.get(
      `WITH kept AS (
         SELECT machine_id, min(created_at_ms) AS first_ms FROM points WHERE trash IS NULL GROUP BY machine_id
       ), proofs AS (
         SELECT points.machine_id, max(run_parts.finished_at_ms) AS at_ms
         FROM runs JOIN run_parts ON run_parts.run_id = runs.id
           JOIN points ON points.id = run_parts.task ->> '$.pointId'
         WHERE runs.kind = 'restore' AND run_parts.state IN ('success', 'warning') GROUP BY points.machine_id
       )
       SELECT machines.id, machines.name, kept.first_ms, proofs.at_ms,
         sum(proofs.at_ms IS NULL) OVER () AS never_count
       FROM kept JOIN machines ON machines.id = kept.machine_id LEFT JOIN proofs ON proofs.machine_id = kept.machine_id
       WHERE ? IS NULL OR machines.id IN (SELECT value FROM json_each(?))
       ORDER BY proofs.at_ms IS NOT NULL, coalesce(proofs.at_ms, kept.first_ms), machines.name, machines.id LIMIT 1`,
      [among, among],
    );
    if (row === null) return null;
    return {
      machineId: text(row, 'id'),
      name: text(row, 'name'),
      provenAtMs: integerOrNull(row, 'at_ms'),
      firstVersionAtMs: integer(row, 'first_ms'),
      neverCount: integer(row, 'never_count'),
    };
  }

  /** Jobs whose name or one of whose machines' names holds the search. */
  async pageJobIds(
    query: JobListQuery,
    ids: readonly string[] | null = null,
  ): Promise<{ ids: string[]; total: number }> {
    const where = new Filter().add(ID_IS_AMONG, ids === null ? undefined : JSON.stringify(ids));
    if (query.search !== undefined && query.search !== '') {
      where.addAll(
        `name LIKE ? ESCAPE '\\' OR EXISTS (SELECT 1 FROM job_machines JOIN machines ON machines.id = machine_id
           WHERE job_id = jobs.id AND machines.name LIKE ? ESCAPE '\\')`,
        [contains(query.search), contains(query.search)],
      );
    }
    const order = {
      name: 'name COLLATE NOCASE',
      last: '(SELECT max(number) FROM runs WHERE job_id = jobs.id)',
    }[query.sort];
    const rows = await this.#sql.all(
      `SELECT id, count(*) OVER () AS total FROM jobs WHERE ${where.sql}
       ORDER BY ${order} ${query.descending ? 'DESC' : 'ASC'}, name, id LIMIT ? OFFSET ?`,
      [...where.params, query.limit, query.offset],
    );
    return { ids: rows.map((row) => text(row, 'id')), total: totalOf(rows) };
  }

  /** Names of the first machines of a job, in its order. */
  async machineNamesOf(jobId: string, limit: number): Promise<string[]> {
    const rows = await this.#sql.all(
      `SELECT machines.name FROM job_machines JOIN machines ON machines.id = machine_id
       WHERE job_id = ? ORDER BY position LIMIT ?`,
      [jobId, limit],
    );
    return rows.map((row) => text(row, 'name'));
  }

  /** Runs by slot of an hour (`HISTORY_SLOT_MS`), kind and state. */
  async countRuns(fromMs: number): Promise<{ slot: number; kind: RunKind; state: RunState; count: number }[]> {
    const rows = await this.#sql.all(
      `SELECT created_at_ms / ${HISTORY_SLOT_MS} AS slot, kind, state, count(*) AS count FROM runs
       WHERE created_at_ms >= ? GROUP BY slot, kind, state ORDER BY slot`,
      [fromMs],
    );
    return rows.map((row) => ({
      slot: integer(row, 'slot'),
      kind: text(row, 'kind') as RunKind,
      state: text(row, 'state') as RunState,
      count: integer(row, 'count'),
    }));
  }

  /** What backups read and stored, by slot of an hour (`HISTORY_SLOT_MS`) of their end. */
  async sumTransfers(fromMs: number): Promise<{ slot: number; readBytes: number; storedBytes: number }[]> {
    const rows = await this.#sql.all(
      `SELECT finished_at_ms / ${HISTORY_SLOT_MS} AS slot,
         coalesce(sum(result ->> '$.stats.readBytes'), 0) AS read_bytes,
         coalesce(sum(result ->> '$.stats.storedBytes'), 0) AS stored_bytes
       FROM run_parts WHERE finished_at_ms >= ? AND result ->> '$.stats' IS NOT NULL GROUP BY slot ORDER BY slot`,
      [fromMs],
    );
    return rows.map((row) => ({
      slot: integer(row, 'slot'),
      readBytes: integer(row, 'read_bytes'),
      storedBytes: integer(row, 'stored_bytes'),
    }));
  }

  async countJobs(): Promise<number> {
    return integer((await this.#sql.get('SELECT count(*) AS count FROM jobs')) ?? { count: 0 }, 'count');
  }

  async jobNames(ids: readonly string[]): Promise<Map<string, string>> {
    const rows = await this.#sql.all('SELECT id, name FROM jobs WHERE id IN (SELECT value FROM json_each(?))', [
      JSON.stringify(ids),
    ]);
    return new Map(rows.map((row) => [text(row, 'id'), text(row, 'name')]));
  }
}

function totalOf(rows: readonly Row[]): number {
  return rows[0] === undefined ? 0 : integer(rows[0], 'total');
}

function toListedMachine(row: Row): ListedMachine {
  const runId = textOrNull(row, 'run_id');
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    hostId: textOrNull(row, 'host_id'),
    hostName: textOrNull(row, 'host_name'),
    present: integer(row, 'present') === 1,
    protection: text(row, 'protection') as Protection,
    jobIds: json(row, 'job_ids'),
    pointCount: integer(row, 'point_count'),
    lastPointAtMs: integerOrNull(row, 'last_point_at_ms'),
    isAllTrashed: integer(row, 'is_all_trashed') === 1,
    lastRun:
      runId === null ? null : { runId, state: text(row, 'state'), finishedAtMs: integerOrNull(row, 'finished_at_ms') },
    sizeBytes: integer(row, 'size_bytes'),
  };
}

import type { ErrorBody } from '../contract/error-codes.ts';
import type { RunState } from '../contract/run.ts';
import type { RunKind, RunStarter, RunStopper } from '../contract/api/run.schema.ts';
import { contains, Filter } from './filter.ts';
import { encodeJson, integer, integerOrNull, jsonOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface RunRecord {
  id: string;
  /** Position in time; given by the table. */
  number: number;
  kind: RunKind;
  jobId: string | null;
  repositoryId: string | null;
  title: string;
  state: RunState;
  cancelRequested: boolean;
  /** Who wanted it to end before it was done; null: nobody. */
  stoppedBy: RunStopper | null;
  createdAtMs: number;
  startedAtMs: number | null;
  finishedAtMs: number | null;
  error: ErrorBody | null;
  startedBy: RunStarter;
  /** When the schedule wanted it; null for a request. */
  dueAtMs: number | null;
  /** 0 for the first try, then the number of the repetition. */
  attempt: number;
}

/** A run to be; one that says nothing else was requested. */
export type NewRunRecord = Omit<RunRecord, 'number' | 'stoppedBy' | 'startedBy' | 'dueAtMs' | 'attempt'> &
  Partial<Pick<RunRecord, 'startedBy' | 'dueAtMs' | 'attempt'>>;

export interface RunFilter {
  jobId?: string | undefined;
  machineId?: string | undefined;
  kind?: RunKind | undefined;
  state?: RunState | undefined;
  active?: boolean | undefined;
  /** Part of the title, or of the name of a machine in it. */
  search?: string | undefined;
  /** Made in this span. */
  fromMs?: number | undefined;
  toMs?: number | undefined;
  /** Only runs with a smaller number. */
  beforeNumber?: number | undefined;
  limit: number;
}

export class Runs {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  /** @throws CONFLICT when the job has a run that has not ended */
  async add(run: NewRunRecord): Promise<void> {
    await this.#sql.run(
      `INSERT INTO runs (id, kind, job_id, repository_id, title, state, cancel_requested, created_at_ms,
                         started_by, due_at_ms, attempt)
       VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)`,
      [
        run.id,
        run.kind,
        run.jobId,
        run.repositoryId,
        run.title,
        run.state,
        run.createdAtMs,
        run.startedBy ?? 'request',
        run.dueAtMs ?? null,
        run.attempt ?? 0,
      ],
    );
  }

  async load(id: string): Promise<RunRecord | null> {
    const row = await this.#sql.get('SELECT * FROM runs WHERE id = ?', [id]);
    return row === null ? null : toRun(row);
  }

  /** Newest first. */
  async list(filter: RunFilter): Promise<RunRecord[]> {
    const where = new Filter();
    where.add('job_id = ?', filter.jobId);
    where.add('kind = ?', filter.kind);
    where.add('state = ?', filter.state);
    where.add('number < ?', filter.beforeNumber);
    where.add('created_at_ms >= ?', filter.fromMs);
    where.add('created_at_ms < ?', filter.toMs);
    if (filter.search !== undefined && filter.search !== '') {
      const text = contains(filter.search);
      where.addAll(
        `title LIKE ? ESCAPE '\\'
           OR EXISTS (SELECT 1 FROM run_parts WHERE run_id = runs.id AND name LIKE ? ESCAPE '\\')`,
        [text, text],
      );
    }
    where.add('EXISTS (SELECT 1 FROM run_parts WHERE run_id = runs.id AND machine_id = ?)', filter.machineId);
    if (filter.active === true) where.addAll("state IN ('waiting', 'running')");
    if (filter.active === false) where.addAll("state NOT IN ('waiting', 'running')");
    const rows = await this.#sql.all(`SELECT * FROM runs WHERE ${where.sql} ORDER BY number DESC LIMIT ?`, [
      ...where.params,
      filter.limit,
    ]);
    return rows.map(toRun);
  }

  /** Newest run of each job. */
  async listLastOfJobs(): Promise<RunRecord[]> {
    const rows = await this.#sql.all(
      'SELECT * FROM runs WHERE number IN (SELECT max(number) FROM runs WHERE job_id IS NOT NULL GROUP BY job_id)',
    );
    return rows.map(toRun);
  }

  /** Newest check of each repository. */
  async listLastChecks(): Promise<RunRecord[]> {
    const rows = await this.#sql.all(
      "SELECT * FROM runs WHERE number IN (SELECT max(number) FROM runs WHERE kind = 'check' GROUP BY repository_id)",
    );
    return rows.map(toRun);
  }

  /** Newest maintenance of each repository. */
  async listLastMaintenances(): Promise<RunRecord[]> {
    const rows = await this.#sql.all(
      `SELECT * FROM runs WHERE number IN
         (SELECT max(number) FROM runs WHERE kind = 'maintenance' GROUP BY repository_id)`,
    );
    return rows.map(toRun);
  }

  async start(id: string, atMs: number): Promise<boolean> {
    const changed = await this.#sql.run(
      "UPDATE runs SET state = 'running', started_at_ms = ? WHERE id = ? AND state = 'waiting'",
      [atMs, id],
    );
    return changed > 0;
  }

  async finish(id: string, end: { state: RunState; error: ErrorBody | null; atMs: number }): Promise<boolean> {
    const changed = await this.#sql.run(
      `UPDATE runs SET state = ?, error = ?, finished_at_ms = ? WHERE id = ? AND state IN ('waiting', 'running')`,
      [end.state, encodeJson(end.error), end.atMs, id],
    );
    return changed > 0;
  }

  /** What a person wants counts more than the window. */
  async requestCancel(id: string, by: RunStopper): Promise<boolean> {
    const changed = await this.#sql.run(
      `UPDATE runs SET cancel_requested = 1,
                       stopped_by = CASE WHEN stopped_by = 'request' THEN stopped_by ELSE ? END
       WHERE id = ? AND state IN ('waiting', 'running')`,
      [by, id],
    );
    return changed > 0;
  }

  /** Those that ended in a span of time, newest first. */
  async listFinished(span: { fromMs: number; toMs: number; limit: number }): Promise<RunRecord[]> {
    const rows = await this.#sql.all(
      'SELECT * FROM runs WHERE finished_at_ms >= ? AND finished_at_ms < ? ORDER BY number DESC LIMIT ?',
      [span.fromMs, span.toMs, span.limit],
    );
    return rows.map(toRun);
  }

  /** Ended runs whose end was not told yet, oldest first. */
  async listUnnoticed(limit: number): Promise<RunRecord[]> {
    const rows = await this.#sql.all(
      'SELECT * FROM runs WHERE noticed = 0 AND finished_at_ms IS NOT NULL ORDER BY number LIMIT ?',
      [limit],
    );
    return rows.map(toRun);
  }

  /** False when it was told already. */
  async markNoticed(id: string): Promise<boolean> {
    return (await this.#sql.run('UPDATE runs SET noticed = 1 WHERE id = ? AND noticed = 0', [id])) > 0;
  }

  /**
   * Removes ended runs from before `atMs`, but for the newest of each job, the newest backup of each machine into each
   * repository, and those with open holds. That a machine was backed up, and how that ended, decides what retention
   * may let go of.
   */
  async removeBefore(atMs: number): Promise<number> {
    return this.#sql.run(
      `DELETE FROM runs WHERE finished_at_ms < ?
         AND number NOT IN (SELECT max(number) FROM runs GROUP BY job_id, kind)
         AND number NOT IN (
           SELECT max(runs.number) FROM run_parts JOIN runs ON runs.id = run_parts.run_id
           WHERE run_parts.machine_id IS NOT NULL AND runs.kind = 'backup'
           GROUP BY run_parts.machine_id, runs.repository_id)
         AND NOT EXISTS (SELECT 1 FROM holds WHERE run_id = runs.id AND released_at_ms IS NULL)`,
      [atMs],
    );
  }
}

function toRun(row: Row): RunRecord {
  return {
    id: text(row, 'id'),
    number: integer(row, 'number'),
    kind: text(row, 'kind') as RunKind,
    jobId: textOrNull(row, 'job_id'),
    repositoryId: textOrNull(row, 'repository_id'),
    title: text(row, 'title'),
    state: text(row, 'state') as RunState,
    cancelRequested: integer(row, 'cancel_requested') === 1,
    stoppedBy: textOrNull(row, 'stopped_by') as RunStopper | null,
    createdAtMs: integer(row, 'created_at_ms'),
    startedAtMs: integerOrNull(row, 'started_at_ms'),
    finishedAtMs: integerOrNull(row, 'finished_at_ms'),
    error: jsonOrNull(row, 'error'),
    startedBy: text(row, 'started_by') as RunStarter,
    dueAtMs: integerOrNull(row, 'due_at_ms'),
    attempt: integer(row, 'attempt'),
  };
}

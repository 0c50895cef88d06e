import type { ErrorBody } from '../contract/error-codes.ts';
import type { MachineProgress, RunState } from '../contract/run.ts';
import type { WorkerTask } from '../contract/task.ts';
import type { RunPartView } from '../contract/api/run.schema.ts';
import { Filter } from './filter.ts';
import { encodeJson, integer, integerOrNull, json, jsonOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

/** One machine's part of a run: one task of the queue, whose id is the part's. */
export interface RunPartRecord {
  id: string;
  runId: string;
  machineId: string | null;
  hostId: string | null;
  name: string;
  state: RunState;
  task: WorkerTask;
  attempts: number;
  /** When it was handed to the queue; null while it waits for its turn. */
  enqueuedAtMs: number | null;
  startedAtMs: number | null;
  finishedAtMs: number | null;
  progress: MachineProgress | null;
  result: RunPartView['result'];
  error: ErrorBody | null;
}

export interface PartEnd {
  state: RunState;
  result: unknown;
  error: ErrorBody | null;
  atMs: number;
}

export class RunParts {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async add(
    part: Pick<RunPartRecord, 'id' | 'runId' | 'machineId' | 'hostId' | 'name' | 'task'>,
    position: number,
  ): Promise<void> {
    await this.#sql.run(
      `INSERT INTO run_parts (id, run_id, position, machine_id, host_id, name, state, task)
       VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?)`,
      [part.id, part.runId, position, part.machineId, part.hostId, part.name, JSON.stringify(part.task)],
    );
  }

  async load(id: string): Promise<RunPartRecord | null> {
    const row = await this.#sql.get('SELECT * FROM run_parts WHERE id = ?', [id]);
    return row === null ? null : toPart(row);
  }

  async listByRun(runId: string): Promise<RunPartRecord[]> {
    return (await this.#sql.all('SELECT * FROM run_parts WHERE run_id = ? ORDER BY position', [runId])).map(toPart);
  }

  /** All that have not ended, oldest run first. */
  async listActive(): Promise<RunPartRecord[]> {
    const rows = await this.#sql.all(
      `SELECT run_parts.* FROM run_parts JOIN runs ON runs.id = run_parts.run_id
       WHERE run_parts.state IN ('waiting', 'running') ORDER BY runs.number, run_parts.position`,
    );
    return rows.map(toPart);
  }

  /** Newest part of each machine in a backup, wherever to or into one repository. */
  async listLastOfMachines(
    filter: { repositoryId?: string } = {},
  ): Promise<{ machineId: string; runId: string; state: RunState; finishedAtMs: number | null }[]> {
    const where = new Filter()
      .addAll(`run_parts.machine_id IS NOT NULL AND runs.kind = 'backup'`)
      .add('runs.repository_id = ?', filter.repositoryId);
    const rows = await this.#sql.all(
      `SELECT run_parts.machine_id, run_parts.run_id, run_parts.state, run_parts.finished_at_ms, max(runs.number)
       FROM run_parts JOIN runs ON runs.id = run_parts.run_id
       WHERE ${where.sql} GROUP BY run_parts.machine_id`,
      where.params,
    );
    return rows.map((row) => ({
      machineId: text(row, 'machine_id'),
      runId: text(row, 'run_id'),
      state: text(row, 'state') as RunState,
      finishedAtMs: integerOrNull(row, 'finished_at_ms'),
    }));
  }

  /** What became of a machine in the backups of a job, newest first. */
  async listOfMachine(of: { jobId: string; machineId: string; limit: number }): Promise<RunPartRecord[]> {
    const rows = await this.#sql.all(
      `SELECT run_parts.* FROM run_parts JOIN runs ON runs.id = run_parts.run_id
       WHERE runs.job_id = ? AND runs.kind = 'backup' AND run_parts.machine_id = ?
       ORDER BY runs.number DESC LIMIT ?`,
      [of.jobId, of.machineId, of.limit],
    );
    return rows.map(toPart);
  }

  /** The task as it is handed to the queue: kept, so that it can be handed over again unchanged. */
  async saveEnqueued(id: string, task: WorkerTask, atMs: number): Promise<void> {
    await this.#sql.run('UPDATE run_parts SET task = ?, enqueued_at_ms = ? WHERE id = ?', [
      JSON.stringify(task),
      atMs,
      id,
    ]);
  }

  /**
   * A worker has it. `isReported`: the worker said so itself, once an execution; else it was seen.
   * Returns whether it was the first time.
   */
  async start(id: string, atMs: number, options: { isReported: boolean }): Promise<boolean> {
    await this.#sql.run(
      "UPDATE run_parts SET attempts = attempts + ? WHERE id = ? AND state IN ('waiting', 'running')",
      [options.isReported ? 1 : 0, id],
    );
    const changed = await this.#sql.run(
      "UPDATE run_parts SET state = 'running', started_at_ms = ? WHERE id = ? AND state = 'waiting'",
      [atMs, id],
    );
    return changed > 0;
  }

  async saveProgress(id: string, progress: MachineProgress): Promise<void> {
    await this.#sql.run("UPDATE run_parts SET progress = ? WHERE id = ? AND state IN ('waiting', 'running')", [
      JSON.stringify(progress),
      id,
    ]);
  }

  /** False when it had ended already: results may arrive twice, the first one counts. */
  async finish(id: string, end: PartEnd): Promise<boolean> {
    const changed = await this.#sql.run(
      `UPDATE run_parts SET state = ?, result = ?, error = ?, finished_at_ms = ?
       WHERE id = ? AND state IN ('waiting', 'running')`,
      [end.state, encodeJson(end.result), encodeJson(end.error), end.atMs, id],
    );
    return changed > 0;
  }
}

function toPart(row: Row): RunPartRecord {
  return {
    id: text(row, 'id'),
    runId: text(row, 'run_id'),
    machineId: textOrNull(row, 'machine_id'),
    hostId: textOrNull(row, 'host_id'),
    name: text(row, 'name'),
    state: text(row, 'state') as RunState,
    task: json(row, 'task'),
    attempts: integer(row, 'attempts'),
    enqueuedAtMs: integerOrNull(row, 'enqueued_at_ms'),
    startedAtMs: integerOrNull(row, 'started_at_ms'),
    finishedAtMs: integerOrNull(row, 'finished_at_ms'),
    progress: jsonOrNull(row, 'progress'),
    result: jsonOrNull(row, 'result'),
    error: jsonOrNull(row, 'error'),
  };
}

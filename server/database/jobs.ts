import type { JobOptions } from '../contract/api/job.schema.ts';
import type { Selection } from '../contract/api/selection.schema.ts';
import { encodeJson, integer, json, jsonOrNull, text } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface JobRecord {
  id: string;
  name: string;
  /** With a selection: those that it gave the last time. */
  machineIds: string[];
  selection: Selection | null;
  repositoryId: string;
  options: JobOptions;
  /** Counts the changes, so that an edit of an old state is noticed. */
  revision: number;
  createdAtMs: number;
  updatedAtMs: number;
}

/** Tables `jobs` and `job_machines`. What changes them is to be called in a transaction. */
export class Jobs {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async list(): Promise<JobRecord[]> {
    const machines = new Map<string, string[]>();
    for (const row of await this.#sql.all('SELECT * FROM job_machines ORDER BY position')) {
      const jobId = text(row, 'job_id');
      machines.set(jobId, [...(machines.get(jobId) ?? []), text(row, 'machine_id')]);
    }
    const rows = await this.#sql.all('SELECT * FROM jobs ORDER BY name, id');
    return rows.map((row) => toJob(row, machines.get(text(row, 'id')) ?? []));
  }

  async load(id: string): Promise<JobRecord | null> {
    const row = await this.#sql.get('SELECT * FROM jobs WHERE id = ?', [id]);
    if (row === null) return null;
    const machines = await this.#sql.all('SELECT machine_id FROM job_machines WHERE job_id = ? ORDER BY position', [
      id,
    ]);
    return toJob(
      row,
      machines.map((machine) => text(machine, 'machine_id')),
    );
  }

  async add(job: JobRecord): Promise<void> {
    await this.#sql.run(
      `INSERT INTO jobs (id, name, repository_id, options, selection, revision, created_at_ms, updated_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      [
        job.id,
        job.name,
        job.repositoryId,
        JSON.stringify(job.options),
        encodeJson(job.selection),
        job.revision,
        job.createdAtMs,
        job.updatedAtMs,
      ],
    );
    await this.saveMachines(job);
  }

  /** False when the job's revision is not `job.revision` any more, or the job is gone. */
  async change(job: JobRecord): Promise<boolean> {
    const changed = await this.#sql.run(
      `UPDATE jobs SET name = ?, repository_id = ?, options = ?, selection = ?, revision = revision + 1,
                       updated_at_ms = ?
       WHERE id = ? AND revision = ?`,
      [
        job.name,
        job.repositoryId,
        JSON.stringify(job.options),
        encodeJson(job.selection),
        job.updatedAtMs,
        job.id,
        job.revision,
      ],
    );
    if (changed === 0) return false;
    await this.saveMachines(job);
    return true;
  }

  async remove(id: string): Promise<boolean> {
    return (await this.#sql.run('DELETE FROM jobs WHERE id = ?', [id])) > 0;
  }

  /** Machines that a selection gives now: no change of the job, so its revision stays. */
  async saveMachines(job: Pick<JobRecord, 'id' | 'machineIds'>): Promise<void> {
    await this.#sql.run('DELETE FROM job_machines WHERE job_id = ?', [job.id]);
    for (const [position, machineId] of job.machineIds.entries()) {
      await this.#sql.run('INSERT INTO job_machines (job_id, machine_id, position) VALUES (?, ?, ?)', [
        job.id,
        machineId,
        position,
      ]);
    }
  }
}

/** What jobs that were saved by an older Dozo do not say. */
const ADDED_LATER = { priority: 'normal', throttle: null, retention: null } satisfies Partial<JobOptions>;

function toJob(row: Row, machineIds: string[]): JobRecord {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    machineIds,
    selection: jsonOrNull(row, 'selection'),
    repositoryId: text(row, 'repository_id'),
    options: { ...ADDED_LATER, ...json<JobOptions>(row, 'options') },
    revision: integer(row, 'revision'),
    createdAtMs: integer(row, 'created_at_ms'),
    updatedAtMs: integer(row, 'updated_at_ms'),
  };
}

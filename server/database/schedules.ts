import type { Schedule } from '../contract/api/schedule.schema.ts';
import { integer, integerOrNull, json, text } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface ScheduleRecord {
  jobId: string;
  schedule: Schedule;
  /** Everything due up to here was dealt with: started, skipped or given up. */
  doneUntilMs: number;
  /** When the newest run was due that was missed; null: none since the schedule was set. */
  missedAtMs: number | null;
}

/** Table `job_schedules`: at most one a job; a job without one runs on request only. */
export class Schedules {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async list(): Promise<ScheduleRecord[]> {
    return (await this.#sql.all('SELECT * FROM job_schedules ORDER BY job_id')).map(toSchedule);
  }

  async load(jobId: string): Promise<ScheduleRecord | null> {
    const row = await this.#sql.get('SELECT * FROM job_schedules WHERE job_id = ?', [jobId]);
    return row === null ? null : toSchedule(row);
  }

  async save(record: ScheduleRecord): Promise<void> {
    await this.#sql.run(
      `INSERT INTO job_schedules (job_id, schedule, done_until_ms, missed_at_ms) VALUES (?, ?, ?, ?)
       ON CONFLICT (job_id) DO UPDATE SET schedule = excluded.schedule, done_until_ms = excluded.done_until_ms,
                                          missed_at_ms = excluded.missed_at_ms`,
      [record.jobId, JSON.stringify(record.schedule), record.doneUntilMs, record.missedAtMs],
    );
  }

  /**
   * Deals with what is due up to `doneUntilMs`.
   * @param done `before`: what the caller knew; `missedAtMs`: null leaves it as it is
   * @returns false when another has dealt with it or changed the schedule meanwhile
   */
  async markDone(
    jobId: string,
    done: { before: number; doneUntilMs: number; missedAtMs: number | null },
  ): Promise<boolean> {
    const changed = await this.#sql.run(
      `UPDATE job_schedules SET done_until_ms = ?, missed_at_ms = coalesce(?, missed_at_ms)
       WHERE job_id = ? AND done_until_ms = ?`,
      [done.doneUntilMs, done.missedAtMs, jobId, done.before],
    );
    return changed > 0;
  }

  async remove(jobId: string): Promise<boolean> {
    return (await this.#sql.run('DELETE FROM job_schedules WHERE job_id = ?', [jobId])) > 0;
  }
}

function toSchedule(row: Row): ScheduleRecord {
  return {
    jobId: text(row, 'job_id'),
    schedule: json(row, 'schedule'),
    doneUntilMs: integer(row, 'done_until_ms'),
    missedAtMs: integerOrNull(row, 'missed_at_ms'),
  };
}

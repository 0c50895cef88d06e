import type { Schedule } from '../contract/api/schedule.schema.ts';
import { integer, integerOrNull, json, text } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface ScheduleRecord {
  jobId: string;
  schedule: Schedule;
  /** Everything due up to here was dealt with: started, skipped or given up. */
  doneUntilMs: number;
  /** Likewise for ends of the followed job: number of its newest run that was dealt with. */
  doneUntilRun: number;
  /** When the newest run was due that was missed; null: none since the schedule was set. */
  missedAtMs: number | null;
}

/** What is dealt with, and what was before, so that nothing is dealt with twice. */
export interface ScheduleProgress {
  before: Pick<ScheduleRecord, 'doneUntilMs' | 'doneUntilRun'>;
  doneUntilMs: number;
  doneUntilRun: number;
  /** Null leaves it as it is. */
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
      `INSERT INTO job_schedules (job_id, schedule, done_until_ms, done_until_run, missed_at_ms) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (job_id) DO UPDATE SET schedule = excluded.schedule, done_until_ms = excluded.done_until_ms,
                                          done_until_run = excluded.done_until_run,
                                          missed_at_ms = excluded.missed_at_ms`,
      [record.jobId, JSON.stringify(record.schedule), record.doneUntilMs, record.doneUntilRun, record.missedAtMs],
    );
  }

  /**
   * Deals with what is due up to then.
   * @returns false when another has dealt with it or changed the schedule meanwhile
   */
  async markDone(jobId: string, progress: ScheduleProgress): Promise<boolean> {
    const { before, doneUntilMs, doneUntilRun, missedAtMs } = progress;
    const changed = await this.#sql.run(
      `UPDATE job_schedules SET done_until_ms = ?, done_until_run = ?, missed_at_ms = coalesce(?, missed_at_ms)
       WHERE job_id = ? AND done_until_ms = ? AND done_until_run = ?`,
      [doneUntilMs, doneUntilRun, missedAtMs, jobId, before.doneUntilMs, before.doneUntilRun],
    );
    return changed > 0;
  }

  async remove(jobId: string): Promise<boolean> {
    return (await this.#sql.run('DELETE FROM job_schedules WHERE job_id = ?', [jobId])) > 0;
  }
}

/** What schedules that were saved by an older Dozo do not say. */
const ADDED_LATER = { after: null } satisfies Partial<Schedule>;

function toSchedule(row: Row): ScheduleRecord {
  return {
    jobId: text(row, 'job_id'),
    schedule: { ...ADDED_LATER, ...json<Schedule>(row, 'schedule') },
    doneUntilMs: integer(row, 'done_until_ms'),
    doneUntilRun: integer(row, 'done_until_run'),
    missedAtMs: integerOrNull(row, 'missed_at_ms'),
  };
}

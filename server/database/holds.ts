import type { ErrorBody } from '../contract/error-codes.ts';
import { encodeJson, integer, integerOrNull, jsonOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

/** Something of ours that may be on a host: journaled before a worker can touch the host. */
export interface HoldRecord {
  /** Names the snapshot and whatever else is left on the host. */
  name: string;
  hostId: string;
  partId: string;
  runId: string;
  machineId: string | null;
  createdAtMs: number;
  /** When it was proven that nothing of it is left; null: it may still be there. */
  releasedAtMs: number | null;
  /** Why the last attempt to remove it failed. */
  error: ErrorBody | null;
}

export class Holds {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async add(hold: Omit<HoldRecord, 'releasedAtMs' | 'error'>): Promise<void> {
    await this.#sql.run(
      'INSERT INTO holds (name, host_id, part_id, run_id, machine_id, created_at_ms) VALUES (?, ?, ?, ?, ?, ?)',
      [hold.name, hold.hostId, hold.partId, hold.runId, hold.machineId, hold.createdAtMs],
    );
  }

  async listByRun(runId: string): Promise<HoldRecord[]> {
    return (await this.#sql.all('SELECT * FROM holds WHERE run_id = ?', [runId])).map(toHold);
  }

  async listOpen(): Promise<HoldRecord[]> {
    return (await this.#sql.all('SELECT * FROM holds WHERE released_at_ms IS NULL ORDER BY created_at_ms')).map(toHold);
  }

  /** Open holds whose part has ended (or is gone): nobody but a sweep will remove them. */
  async listAbandoned(): Promise<HoldRecord[]> {
    const rows = await this.#sql.all(
      `SELECT * FROM holds WHERE released_at_ms IS NULL AND NOT EXISTS
         (SELECT 1 FROM run_parts WHERE run_parts.id = holds.part_id AND run_parts.state IN ('waiting', 'running'))
       ORDER BY created_at_ms`,
    );
    return rows.map(toHold);
  }

  async release(name: string, atMs: number): Promise<void> {
    await this.#sql.run('UPDATE holds SET released_at_ms = ?, error = NULL WHERE name = ? AND released_at_ms IS NULL', [
      atMs,
      name,
    ]);
  }

  async releaseOfPart(partId: string, atMs: number): Promise<void> {
    await this.#sql.run('UPDATE holds SET released_at_ms = ? WHERE part_id = ? AND released_at_ms IS NULL', [
      atMs,
      partId,
    ]);
  }

  async saveError(name: string, error: ErrorBody): Promise<void> {
    await this.#sql.run('UPDATE holds SET error = ? WHERE name = ?', [encodeJson(error), name]);
  }

  /** Struck out holds of a host: when the host itself is to be forgotten. */
  async removeReleased(hostId: string): Promise<void> {
    await this.#sql.run('DELETE FROM holds WHERE host_id = ? AND released_at_ms IS NOT NULL', [hostId]);
  }
}

function toHold(row: Row): HoldRecord {
  return {
    name: text(row, 'name'),
    hostId: text(row, 'host_id'),
    partId: text(row, 'part_id'),
    runId: text(row, 'run_id'),
    machineId: textOrNull(row, 'machine_id'),
    createdAtMs: integer(row, 'created_at_ms'),
    releasedAtMs: integerOrNull(row, 'released_at_ms'),
    error: jsonOrNull(row, 'error'),
  };
}

import { json } from './row.ts';
import type { SqlExecutor } from './sqlite.ts';

/** Values under keys, as JSON. What they mean is their owners' business. */
export class SettingsTable {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async load(key: string): Promise<unknown> {
    const row = await this.#sql.get('SELECT value FROM settings WHERE key = ?', [key]);
    return row === null ? null : json<unknown>(row, 'value');
  }

  async save(key: string, value: unknown): Promise<void> {
    await this.#sql.run(
      'INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
      [key, JSON.stringify(value)],
    );
  }
}

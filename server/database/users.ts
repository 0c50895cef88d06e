import { integer, text } from './row.ts';
import type { SqlExecutor } from './sqlite.ts';

export interface UserRecord {
  name: string;
  role: 'administrator';
  /** As `http/password.ts` encodes it: algorithm, cost, salt, hash. */
  passwordHash: string;
  createdAtMs: number;
}

export class Users {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async load(name: string): Promise<UserRecord | null> {
    const row = await this.#sql.get('SELECT * FROM users WHERE name = ?', [name]);
    if (row === null) return null;
    return {
      name: text(row, 'name'),
      role: 'administrator',
      passwordHash: text(row, 'password_hash'),
      createdAtMs: integer(row, 'created_at_ms'),
    };
  }

  async count(): Promise<number> {
    return integer((await this.#sql.get('SELECT count(*) AS count FROM users')) ?? {}, 'count');
  }

  /** @throws CONFLICT when the name is taken */
  async add(user: UserRecord): Promise<void> {
    await this.#sql.run(
      'INSERT INTO users (name, role, password_hash, created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, ?)',
      [user.name, user.role, user.passwordHash, user.createdAtMs, user.createdAtMs],
    );
  }

  async savePassword(name: string, passwordHash: string, atMs: number): Promise<void> {
    await this.#sql.run('UPDATE users SET password_hash = ?, updated_at_ms = ? WHERE name = ?', [
      passwordHash,
      atMs,
      name,
    ]);
  }
}

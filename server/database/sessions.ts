import type { TokenScope } from '../contract/api/session.schema.ts';
import { integer, integerOrNull, text } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface SessionRecord {
  id: string;
  /** SHA-256 of the secret, hex. */
  secretHash: string;
  userName: string;
  kind: 'cookie' | 'token';
  /** Of a token: what its owner called it. */
  name: string;
  createdAtMs: number;
  usedAtMs: number | null;
  expiresAtMs: number | null;
  /** `monitor`: may look at the state of things, and nothing else. */
  scope: TokenScope;
}

export class Sessions {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async add(session: SessionRecord): Promise<void> {
    await this.#sql.run(
      `INSERT INTO sessions (id, secret_hash, user_name, kind, name, created_at_ms, used_at_ms, expires_at_ms,
                             scope)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      [
        session.id,
        session.secretHash,
        session.userName,
        session.kind,
        session.name,
        session.createdAtMs,
        session.usedAtMs,
        session.expiresAtMs,
        session.scope,
      ],
    );
  }

  /** The living session with this secret, or null. */
  async find(secretHash: string, nowMs: number): Promise<SessionRecord | null> {
    const row = await this.#sql.get(
      'SELECT * FROM sessions WHERE secret_hash = ? AND (expires_at_ms IS NULL OR expires_at_ms > ?)',
      [secretHash, nowMs],
    );
    return row === null ? null : toSession(row);
  }

  async touch(id: string, usedAtMs: number, expiresAtMs: number | null): Promise<void> {
    await this.#sql.run('UPDATE sessions SET used_at_ms = ?, expires_at_ms = ? WHERE id = ?', [
      usedAtMs,
      expiresAtMs,
      id,
    ]);
  }

  async listTokens(userName: string): Promise<SessionRecord[]> {
    const rows = await this.#sql.all(
      "SELECT * FROM sessions WHERE user_name = ? AND kind = 'token' ORDER BY created_at_ms, id",
      [userName],
    );
    return rows.map(toSession);
  }

  /** Returns whether there was one. */
  async remove(id: string, userName: string): Promise<boolean> {
    return (await this.#sql.run('DELETE FROM sessions WHERE id = ? AND user_name = ?', [id, userName])) > 0;
  }

  /** Ends all of a user's, but for one: after a change of password. */
  async removeOthers(userName: string, exceptId: string | null): Promise<void> {
    await this.#sql.run('DELETE FROM sessions WHERE user_name = ? AND id IS NOT ?', [userName, exceptId]);
  }

  async removeExpired(nowMs: number): Promise<void> {
    await this.#sql.run('DELETE FROM sessions WHERE expires_at_ms <= ?', [nowMs]);
  }
}

function toSession(row: Row): SessionRecord {
  return {
    id: text(row, 'id'),
    secretHash: text(row, 'secret_hash'),
    userName: text(row, 'user_name'),
    kind: text(row, 'kind') as SessionRecord['kind'],
    name: text(row, 'name'),
    createdAtMs: integer(row, 'created_at_ms'),
    usedAtMs: integerOrNull(row, 'used_at_ms'),
    expiresAtMs: integerOrNull(row, 'expires_at_ms'),
    scope: text(row, 'scope') as TokenScope,
  };
}

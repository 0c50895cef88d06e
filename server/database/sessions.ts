import type { TokenScope } from '../contract/api/permission.schema.ts';
import { integer, integerOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface SessionRecord {
  id: string;
  /** SHA-256 of the secret, hex. */
  secretHash: string;
  userName: string;
  kind: 'cookie' | 'token';
  /** Of a token: what its owner called it; of a browser: what it says it is. */
  name: string;
  scope: TokenScope;
  /** Where it was made from. */
  address: string | null;
  createdAtMs: number;
  usedAtMs: number | null;
  /** Of a browser: moves on while it is used. Null: never. */
  expiresAtMs: number | null;
  /** The end however often it is used; null: none. */
  endsAtMs: number | null;
}

const IS_ALIVE = '(expires_at_ms IS NULL OR expires_at_ms > ?) AND (ends_at_ms IS NULL OR ends_at_ms > ?)';

export class Sessions {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async add(session: SessionRecord): Promise<void> {
    await this.#sql.run(
      `INSERT INTO sessions (id, secret_hash, user_name, kind, name, scope, address, created_at_ms, used_at_ms,
                             expires_at_ms, ends_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      [
        session.id,
        session.secretHash,
        session.userName,
        session.kind,
        session.name,
        session.scope,
        session.address,
        session.createdAtMs,
        session.usedAtMs,
        session.expiresAtMs,
        session.endsAtMs,
      ],
    );
  }

  /** The living session with this secret, or null. */
  async find(secretHash: string, nowMs: number): Promise<SessionRecord | null> {
    const row = await this.#sql.get(`SELECT * FROM sessions WHERE secret_hash = ? AND ${IS_ALIVE}`, [
      secretHash,
      nowMs,
      nowMs,
    ]);
    return row === null ? null : toSession(row);
  }

  async touch(id: string, usedAtMs: number, expiresAtMs: number | null): Promise<void> {
    await this.#sql.run('UPDATE sessions SET used_at_ms = ?, expires_at_ms = ? WHERE id = ?', [
      usedAtMs,
      expiresAtMs,
      id,
    ]);
  }

  /** Living ones of a user, oldest first. */
  async list(userName: string, kind: SessionRecord['kind'], nowMs: number): Promise<SessionRecord[]> {
    const rows = await this.#sql.all(
      `SELECT * FROM sessions WHERE user_name = ? AND kind = ? AND ${IS_ALIVE} ORDER BY created_at_ms, id`,
      [userName, kind, nowMs, nowMs],
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
    await this.#sql.run('DELETE FROM sessions WHERE expires_at_ms <= ? OR ends_at_ms <= ?', [nowMs, nowMs]);
  }
}

function toSession(row: Row): SessionRecord {
  return {
    id: text(row, 'id'),
    secretHash: text(row, 'secret_hash'),
    userName: text(row, 'user_name'),
    kind: text(row, 'kind') as SessionRecord['kind'],
    name: text(row, 'name'),
    scope: text(row, 'scope') as TokenScope,
    address: textOrNull(row, 'address'),
    createdAtMs: integer(row, 'created_at_ms'),
    usedAtMs: integerOrNull(row, 'used_at_ms'),
    expiresAtMs: integerOrNull(row, 'expires_at_ms'),
    endsAtMs: integerOrNull(row, 'ends_at_ms'),
  };
}

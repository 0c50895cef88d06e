import type { Role } from '../contract/api/permission.schema.ts';
import { integer, integerOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface UserRecord {
  name: string;
  role: Role;
  /** `nas`: signs in with a session of the NAS and has no password here. */
  source: 'local' | 'nas';
  disabled: boolean;
  /** As `http/password.ts` encodes it: algorithm, cost, salt, hash. Empty: no password is right. */
  passwordHash: string;
  /** Secret of the one-time codes, sealed; null: none are asked for. */
  totpSecret: string | null;
  /** The same, until the first code was entered. */
  totpPending: string | null;
  /** Time step of the newest code that was used. */
  totpStep: number | null;
  createdAtMs: number;
}

/** Tables `users`, `recovery_codes` and `delegations`. */
export class Users {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async load(name: string): Promise<UserRecord | null> {
    const row = await this.#sql.get('SELECT * FROM users WHERE name = ?', [name]);
    return row === null ? null : toUser(row);
  }

  async list(): Promise<UserRecord[]> {
    return (await this.#sql.all('SELECT * FROM users ORDER BY name')).map(toUser);
  }

  async count(): Promise<number> {
    return integer((await this.#sql.get('SELECT count(*) AS count FROM users')) ?? {}, 'count');
  }

  /** @throws CONFLICT when the name is taken */
  async add(user: Pick<UserRecord, 'name' | 'role' | 'source' | 'passwordHash' | 'createdAtMs'>): Promise<void> {
    await this.#sql.run(
      'INSERT INTO users (name, role, source, password_hash, created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, ?, ?)',
      [user.name, user.role, user.source, user.passwordHash, user.createdAtMs, user.createdAtMs],
    );
  }

  async saveRights(name: string, rights: Pick<UserRecord, 'role' | 'disabled'>, atMs: number): Promise<void> {
    await this.#sql.run('UPDATE users SET role = ?, disabled = ?, updated_at_ms = ? WHERE name = ?', [
      rights.role,
      rights.disabled ? 1 : 0,
      atMs,
      name,
    ]);
  }

  async savePassword(name: string, passwordHash: string, atMs: number): Promise<void> {
    await this.#sql.run('UPDATE users SET password_hash = ?, updated_at_ms = ? WHERE name = ?', [
      passwordHash,
      atMs,
      name,
    ]);
  }

  async remove(name: string): Promise<boolean> {
    return (await this.#sql.run('DELETE FROM users WHERE name = ?', [name])) > 0;
  }

  async saveTotp(name: string, totp: Pick<UserRecord, 'totpSecret' | 'totpPending'>): Promise<void> {
    await this.#sql.run('UPDATE users SET totp_secret = ?, totp_pending = ?, totp_step = NULL WHERE name = ?', [
      totp.totpSecret,
      totp.totpPending,
      name,
    ]);
  }

  /** Uses up the code of a time step. False when it, or a later one, was used before. */
  async takeTotpStep(name: string, step: number): Promise<boolean> {
    const changed = await this.#sql.run(
      'UPDATE users SET totp_step = ? WHERE name = ? AND (totp_step IS NULL OR totp_step < ?)',
      [step, name, step],
    );
    return changed > 0;
  }

  /** Replaces all recovery codes. To be called in a transaction. */
  async saveRecoveryCodes(name: string, codeHashes: readonly string[]): Promise<void> {
    await this.#sql.run('DELETE FROM recovery_codes WHERE user_name = ?', [name]);
    for (const hash of codeHashes) {
      await this.#sql.run('INSERT INTO recovery_codes (user_name, code_hash) VALUES (?, ?)', [name, hash]);
    }
  }

  /** Uses up a recovery code. False when there is none such. */
  async takeRecoveryCode(name: string, codeHash: string): Promise<boolean> {
    const changed = await this.#sql.run('DELETE FROM recovery_codes WHERE user_name = ? AND code_hash = ?', [
      name,
      codeHash,
    ]);
    return changed > 0;
  }

  async countRecoveryCodes(name: string): Promise<number> {
    const row = await this.#sql.get('SELECT count(*) AS count FROM recovery_codes WHERE user_name = ?', [name]);
    return integer(row ?? {}, 'count');
  }

  /** Jobs whose versions the user may restore, by user. */
  async listDelegations(): Promise<Map<string, string[]>> {
    const delegations = new Map<string, string[]>();
    for (const row of await this.#sql.all('SELECT user_name, job_id FROM delegations ORDER BY user_name, job_id')) {
      const name = text(row, 'user_name');
      delegations.set(name, [...(delegations.get(name) ?? []), text(row, 'job_id')]);
    }
    return delegations;
  }

  /** Replaces what is delegated to a user. To be called in a transaction. @throws CONFLICT for an unknown job */
  async saveDelegations(name: string, jobIds: readonly string[]): Promise<void> {
    await this.#sql.run('DELETE FROM delegations WHERE user_name = ?', [name]);
    for (const jobId of jobIds) {
      await this.#sql.run('INSERT INTO delegations (user_name, job_id) VALUES (?, ?)', [name, jobId]);
    }
  }

  /**
   * What a user's delegated jobs protect or have protected, with the repository that they write to: a job that
   * changes its machines does not take old versions from those who may restore them.
   */
  async listReach(name: string): Promise<{ jobId: string; repositoryId: string; machineId: string | null }[]> {
    const rows = await this.#sql.all(
      `SELECT jobs.id AS job_id, jobs.repository_id, protected.machine_id
         FROM delegations JOIN jobs ON jobs.id = delegations.job_id
         LEFT JOIN (SELECT job_id, machine_id FROM job_machines
                    UNION SELECT runs.job_id, run_parts.machine_id FROM runs JOIN run_parts ON run_parts.run_id = runs.id
                    WHERE runs.kind = 'backup' AND run_parts.machine_id IS NOT NULL) AS protected
           ON protected.job_id = jobs.id
        WHERE delegations.user_name = ?`,
      [name],
    );
    return rows.map((row) => ({
      jobId: text(row, 'job_id'),
      repositoryId: text(row, 'repository_id'),
      machineId: textOrNull(row, 'machine_id'),
    }));
  }
}

function toUser(row: Row): UserRecord {
  return {
    name: text(row, 'name'),
    role: text(row, 'role') as Role,
    source: text(row, 'source') as UserRecord['source'],
    disabled: integer(row, 'disabled') === 1,
    passwordHash: text(row, 'password_hash'),
    totpSecret: textOrNull(row, 'totp_secret'),
    totpPending: textOrNull(row, 'totp_pending'),
    totpStep: integerOrNull(row, 'totp_step'),
    createdAtMs: integer(row, 'created_at_ms'),
  };
}

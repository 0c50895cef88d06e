import type { ErrorBody } from '../contract/error-codes.ts';
import type { HostFactsView } from '../contract/api/host.schema.ts';
import { encodeJson, integer, integerOrNull, jsonOrNull, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface HostRecord {
  id: string;
  name: string;
  host: string;
  sshPort: number;
  httpsPort: number;
  user: string;
  auth: 'password' | 'key';
  /** Password or key, sealed. */
  secret: string;
  sshHostKey: string | null;
  tlsCertificate: string | null;
  facts: HostFactsView | null;
  error: ErrorBody | null;
  checkedAtMs: number | null;
  createdAtMs: number;
}

export class Hosts {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async list(): Promise<HostRecord[]> {
    return (await this.#sql.all('SELECT * FROM hosts ORDER BY name, id')).map(toHost);
  }

  async load(id: string): Promise<HostRecord | null> {
    const row = await this.#sql.get('SELECT * FROM hosts WHERE id = ?', [id]);
    return row === null ? null : toHost(row);
  }

  /** Adds or replaces. @throws CONFLICT when another host has the name */
  async save(host: HostRecord): Promise<void> {
    await this.#sql.run(
      `INSERT INTO hosts (id, name, host, ssh_port, https_port, user, auth, secret, ssh_host_key, tls_certificate,
                          facts, error, checked_at_ms, created_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET name = excluded.name, host = excluded.host, ssh_port = excluded.ssh_port,
         https_port = excluded.https_port, user = excluded.user, auth = excluded.auth, secret = excluded.secret,
         ssh_host_key = excluded.ssh_host_key, tls_certificate = excluded.tls_certificate, facts = excluded.facts,
         error = excluded.error, checked_at_ms = excluded.checked_at_ms`,
      [
        host.id,
        host.name,
        host.host,
        host.sshPort,
        host.httpsPort,
        host.user,
        host.auth,
        host.secret,
        host.sshHostKey,
        host.tlsCertificate,
        encodeJson(host.facts),
        encodeJson(host.error),
        host.checkedAtMs,
        host.createdAtMs,
      ],
    );
  }

  /** Outcome of a contact: facts stay when it failed. */
  async saveContact(
    id: string,
    contact: { facts: HostFactsView | null; error: ErrorBody | null; atMs: number },
  ): Promise<void> {
    await this.#sql.run('UPDATE hosts SET facts = coalesce(?, facts), error = ?, checked_at_ms = ? WHERE id = ?', [
      encodeJson(contact.facts),
      encodeJson(contact.error),
      contact.atMs,
      id,
    ]);
  }

  async remove(id: string): Promise<boolean> {
    return (await this.#sql.run('DELETE FROM hosts WHERE id = ?', [id])) > 0;
  }
}

function toHost(row: Row): HostRecord {
  return {
    id: text(row, 'id'),
    name: text(row, 'name'),
    host: text(row, 'host'),
    sshPort: integer(row, 'ssh_port'),
    httpsPort: integer(row, 'https_port'),
    user: text(row, 'user'),
    auth: text(row, 'auth') as HostRecord['auth'],
    secret: text(row, 'secret'),
    sshHostKey: textOrNull(row, 'ssh_host_key'),
    tlsCertificate: textOrNull(row, 'tls_certificate'),
    facts: jsonOrNull(row, 'facts'),
    error: jsonOrNull(row, 'error'),
    checkedAtMs: integerOrNull(row, 'checked_at_ms'),
    createdAtMs: integer(row, 'created_at_ms'),
  };
}

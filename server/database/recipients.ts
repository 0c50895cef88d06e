import type { ChannelView, RecipientView } from '../contract/api/notification.schema.ts';
import { integer, json, text } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export interface RecipientRecord extends Omit<RecipientView, 'lastDelivery'> {
  channel: ChannelView;
  /** Address and key of a webhook, sealed. */
  secrets: string;
}

/** Table `recipients`: who is told what, and how. */
export class Recipients {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async list(): Promise<RecipientRecord[]> {
    return (await this.#sql.all('SELECT * FROM recipients ORDER BY name, id')).map(toRecipient);
  }

  async load(id: string): Promise<RecipientRecord | null> {
    const row = await this.#sql.get('SELECT * FROM recipients WHERE id = ?', [id]);
    return row === null ? null : toRecipient(row);
  }

  /** Adds or replaces. @throws CONFLICT when another one has the name */
  async save(recipient: RecipientRecord): Promise<void> {
    const { id, name, secrets, createdAtMs, ...definition } = recipient;
    await this.#sql.run(
      `INSERT INTO recipients (id, name, definition, secrets, created_at_ms) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET name = excluded.name, definition = excluded.definition,
                                      secrets = excluded.secrets`,
      [id, name, JSON.stringify(definition), secrets, createdAtMs],
    );
  }

  /** With everything that was still to be sent to them. */
  async remove(id: string): Promise<boolean> {
    return (await this.#sql.run('DELETE FROM recipients WHERE id = ?', [id])) > 0;
  }
}

function toRecipient(row: Row): RecipientRecord {
  return {
    ...json<Omit<RecipientRecord, 'id' | 'name' | 'secrets' | 'createdAtMs'>>(row, 'definition'),
    id: text(row, 'id'),
    name: text(row, 'name'),
    secrets: text(row, 'secrets'),
    createdAtMs: integer(row, 'created_at_ms'),
  };
}

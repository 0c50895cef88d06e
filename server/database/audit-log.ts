import { createHash } from 'node:crypto';
import { encodeAuditEntry, type AuditEntry } from '../contract/audit-chain.ts';
import { Filter } from './filter.ts';
import { integer, json, text, textOrNull } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export type NewAuditEntry = Omit<AuditEntry, 'number' | 'previousHash' | 'hash'>;

/** What the first entry has for a hash before it. */
const NO_HASH = '0'.repeat(64);

/** Only ever appended to. `append` is to be called in a transaction. */
export class AuditLog {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  async append(entry: NewAuditEntry): Promise<AuditEntry> {
    const last = await this.last();
    const open = { ...entry, number: (last?.number ?? 0) + 1, previousHash: last?.hash ?? NO_HASH };
    const hash = createHash('sha256').update(encodeAuditEntry(open)).digest('hex');
    await this.#sql.run(
      `INSERT INTO audit_log (number, at_ms, actor, by, address, action, target, outcome, details, previous_hash, hash)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      [
        open.number,
        open.atMs,
        open.actor,
        open.by,
        open.address,
        open.action,
        open.target,
        open.outcome,
        JSON.stringify(open.details),
        open.previousHash,
        hash,
      ],
    );
    return { ...open, hash };
  }

  async last(): Promise<AuditEntry | null> {
    const row = await this.#sql.get('SELECT * FROM audit_log ORDER BY number DESC LIMIT 1');
    return row === null ? null : toEntry(row);
  }

  /** Oldest first, after a number. */
  async listAfter(number: number, limit: number): Promise<AuditEntry[]> {
    const rows = await this.#sql.all('SELECT * FROM audit_log WHERE number > ? ORDER BY number LIMIT ?', [
      number,
      limit,
    ]);
    return rows.map(toEntry);
  }

  /** Newest first, before a number. */
  async list(filter: {
    actor?: string | undefined;
    action?: string | undefined;
    beforeNumber?: number | undefined;
    limit: number;
  }): Promise<AuditEntry[]> {
    const where = new Filter()
      .add('actor = ?', filter.actor)
      .add('action = ?', filter.action)
      .add('number < ?', filter.beforeNumber);
    const rows = await this.#sql.all(`SELECT * FROM audit_log WHERE ${where.sql} ORDER BY number DESC LIMIT ?`, [
      ...where.params,
      filter.limit,
    ]);
    return rows.map(toEntry);
  }
}

function toEntry(row: Row): AuditEntry {
  return {
    number: integer(row, 'number'),
    atMs: integer(row, 'at_ms'),
    actor: textOrNull(row, 'actor'),
    by: textOrNull(row, 'by') as AuditEntry['by'],
    address: textOrNull(row, 'address'),
    action: text(row, 'action'),
    target: textOrNull(row, 'target'),
    outcome: text(row, 'outcome') as AuditEntry['outcome'],
    details: json(row, 'details'),
    previousHash: text(row, 'previous_hash'),
    hash: text(row, 'hash'),
  };
}

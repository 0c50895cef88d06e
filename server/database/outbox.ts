import type { ErrorBody } from '../contract/error-codes.ts';
import { Filter } from './filter.ts';
import { encodeJson, integer, integerOrNull, json, jsonOrNull, text } from './row.ts';
import type { Row, SqlExecutor } from './sqlite.ts';

export type DeliveryState = 'waiting' | 'sent' | 'failed';

/** One notice on its way to one address of a recipient. */
export interface DeliveryRecord {
  id: string;
  /** Position in time; given by the table. */
  number: number;
  recipientId: string;
  /** Empty where a recipient has but one. */
  address: string;
  /** As `server/notification` made it. */
  notice: unknown;
  state: DeliveryState;
  attempts: number;
  createdAtMs: number;
  nextAttemptAtMs: number | null;
  triedAtMs: number | null;
  sentAtMs: number | null;
  error: ErrorBody | null;
}

const DELIVERY = `SELECT deliveries.*, notices.notice FROM deliveries
                  JOIN notices ON notices.number = deliveries.notice_number`;

/**
 * Tables `notices`, `deliveries` and `notice_marks`: what is to be told, and how far that has come. A notice has a key
 * of what it is about, so that the same is not told twice.
 */
export class Outbox {
  readonly #sql: SqlExecutor;

  constructor(sql: SqlExecutor) {
    this.#sql = sql;
  }

  /**
   * Puts a notice in for these addresses. In a transaction with what it is about.
   * @returns false when it was told before
   */
  async add(entry: {
    key: string;
    notice: unknown;
    atMs: number;
    to: readonly { deliveryId: string; recipientId: string; address: string }[];
  }): Promise<boolean> {
    const { key, notice, atMs, to } = entry;
    const added = await this.#sql.run(
      'INSERT INTO notices (key, notice, created_at_ms) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING',
      [key, JSON.stringify(notice), atMs],
    );
    if (added === 0) return false;
    for (const { deliveryId, recipientId, address } of to) {
      await this.#sql.run(
        `INSERT INTO deliveries (id, notice_number, recipient_id, address, state, attempts, created_at_ms,
                                 next_attempt_at_ms)
         SELECT ?, number, ?, ?, 'waiting', 0, ?, ? FROM notices WHERE key = ?`,
        [deliveryId, recipientId, address, atMs, atMs, key],
      );
    }
    return true;
  }

  /** What is to be tried now, oldest first. */
  async listDue(nowMs: number, limit: number): Promise<DeliveryRecord[]> {
    const rows = await this.#sql.all(
      `${DELIVERY} WHERE state = 'waiting' AND next_attempt_at_ms <= ? ORDER BY next_attempt_at_ms, deliveries.number
       LIMIT ?`,
      [nowMs, limit],
    );
    return rows.map(toDelivery);
  }

  /** Newest first. */
  async list(filter: {
    state?: DeliveryState | undefined;
    recipientId?: string | undefined;
    beforeNumber?: number | undefined;
    limit: number;
  }): Promise<DeliveryRecord[]> {
    const where = new Filter()
      .add('state = ?', filter.state)
      .add('recipient_id = ?', filter.recipientId)
      .add('deliveries.number < ?', filter.beforeNumber);
    const rows = await this.#sql.all(`${DELIVERY} WHERE ${where.sql} ORDER BY deliveries.number DESC LIMIT ?`, [
      ...where.params,
      filter.limit,
    ]);
    return rows.map(toDelivery);
  }

  async load(id: string): Promise<DeliveryRecord | null> {
    const row = await this.#sql.get(`${DELIVERY} WHERE deliveries.id = ?`, [id]);
    return row === null ? null : toDelivery(row);
  }

  /** Newest one of each recipient that was tried. */
  async listLastTried(): Promise<DeliveryRecord[]> {
    const rows = await this.#sql.all(
      `${DELIVERY} WHERE deliveries.number IN
         (SELECT max(number) FROM deliveries WHERE tried_at_ms IS NOT NULL GROUP BY recipient_id)`,
    );
    return rows.map(toDelivery);
  }

  /** Tried in vain and still waiting; given up since `sinceMs`. */
  async countTroubled(sinceMs: number): Promise<{ waiting: number; failed: number }> {
    const row = await this.#sql.get(
      `SELECT count(*) FILTER (WHERE state = 'waiting' AND attempts > 0) AS waiting,
              count(*) FILTER (WHERE state = 'failed' AND created_at_ms >= ?) AS failed
       FROM deliveries WHERE state <> 'sent'`,
      [sinceMs],
    );
    return { waiting: integer(row ?? {}, 'waiting'), failed: integer(row ?? {}, 'failed') };
  }

  async markSent(id: string, atMs: number): Promise<void> {
    await this.#sql.run(
      `UPDATE deliveries SET state = 'sent', attempts = attempts + 1, tried_at_ms = ?, sent_at_ms = ?,
                             next_attempt_at_ms = NULL, error = NULL
       WHERE id = ? AND state = 'waiting'`,
      [atMs, atMs, id],
    );
  }

  /** @param nextAttemptAtMs null: given up */
  async markTried(
    id: string,
    tried: { atMs: number; nextAttemptAtMs: number | null; error: ErrorBody },
  ): Promise<void> {
    await this.#sql.run(
      `UPDATE deliveries SET state = ?, attempts = attempts + 1, tried_at_ms = ?, next_attempt_at_ms = ?, error = ?
       WHERE id = ? AND state = 'waiting'`,
      [
        tried.nextAttemptAtMs === null ? 'failed' : 'waiting',
        tried.atMs,
        tried.nextAttemptAtMs,
        encodeJson(tried.error),
        id,
      ],
    );
  }

  /** To be tried again now, from the start. False when it was sent, or is gone. */
  async retry(id: string, atMs: number): Promise<boolean> {
    const changed = await this.#sql.run(
      `UPDATE deliveries SET state = 'waiting', attempts = 0, next_attempt_at_ms = ?, created_at_ms = ?
       WHERE id = ? AND state <> 'sent'`,
      [atMs, atMs, id],
    );
    return changed > 0;
  }

  /** What waits is tried now: the settings that were in the way have changed, or the clock has. */
  async hurry(nowMs: number, filter: { recipientId?: string; notBeforeMs?: number } = {}): Promise<number> {
    return this.#sql.run(
      `UPDATE deliveries SET next_attempt_at_ms = ? WHERE state = 'waiting' AND next_attempt_at_ms > ?
         AND (? IS NULL OR recipient_id = ?)`,
      [nowMs, filter.notBeforeMs ?? nowMs, filter.recipientId ?? null, filter.recipientId ?? null],
    );
  }

  /** Forgets what is settled and from before `atMs`. */
  async removeBefore(atMs: number): Promise<void> {
    await this.#sql.run("DELETE FROM deliveries WHERE state <> 'waiting' AND created_at_ms < ?", [atMs]);
    await this.#sql.run(
      `DELETE FROM notices WHERE created_at_ms < ?
         AND NOT EXISTS (SELECT 1 FROM deliveries WHERE notice_number = notices.number)`,
      [atMs],
    );
  }

  /** How far something was told: null when never. */
  async loadMark(key: string): Promise<number | null> {
    return integerOrNull(
      (await this.#sql.get('SELECT at_ms FROM notice_marks WHERE key = ?', [key])) ?? { at_ms: null },
      'at_ms',
    );
  }

  async saveMark(key: string, atMs: number): Promise<void> {
    await this.#sql.run(
      'INSERT INTO notice_marks (key, at_ms) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET at_ms = excluded.at_ms',
      [key, atMs],
    );
  }

  async removeMark(key: string): Promise<void> {
    await this.#sql.run('DELETE FROM notice_marks WHERE key = ?', [key]);
  }
}

function toDelivery(row: Row): DeliveryRecord {
  return {
    id: text(row, 'id'),
    number: integer(row, 'number'),
    recipientId: text(row, 'recipient_id'),
    address: text(row, 'address'),
    notice: json(row, 'notice'),
    state: text(row, 'state') as DeliveryState,
    attempts: integer(row, 'attempts'),
    createdAtMs: integer(row, 'created_at_ms'),
    nextAttemptAtMs: integerOrNull(row, 'next_attempt_at_ms'),
    triedAtMs: integerOrNull(row, 'tried_at_ms'),
    sentAtMs: integerOrNull(row, 'sent_at_ms'),
    error: jsonOrNull(row, 'error'),
  };
}

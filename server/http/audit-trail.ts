import { createHash } from 'node:crypto';
import type { Request } from 'express';
import type { AuditVerdict } from '../contract/api/audit.schema.ts';
import { encodeAuditEntry, type AuditEntry } from '../contract/audit-chain.ts';
import type { Catalogue, NewAuditEntry, SessionRecord } from '../database/index.ts';
import { toAppError } from '../errors/index.ts';
import type { Sealer } from '../queue/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import type { RouteAction } from './route-action.ts';

/**
 * Number and hash of the newest entry, sealed with the installation's key: whoever cuts the end off cannot forge it.
 */
const HEAD = 'audit-head';
const PURPOSE = 'head of the audit log';
const BATCH = 1_000;
/**
 * Refused logins of all strangers together, and what one account is refused or fails at, are told one by one only so
 * far; the rest is counted.
 */
const STRANGERS_REFUSALS_MAX = 30;
const ACCOUNT_REFUSALS_MAX = 100;
const REFUSALS_WINDOW_MS = 10 * 60_000;
/** Who comes back to the files of a version after so long without looking visits them anew. */
const VISIT_PAUSE_MS = 60 * 60_000;
const VISITS_MAX = 10_000;
/** Messages may hold names of strangers. */
const MESSAGE_LENGTH_MAX = 300;

type Head = Pick<AuditEntry, 'number' | 'hash'>;

/** What is told that is no request as such. */
export const NAMED_ACTIONS = ['login', 'token made', 'files opened', 'download begun'] as const;

export interface Deed {
  session: SessionRecord | null;
  request: Request;
  action: RouteAction | (typeof NAMED_ACTIONS)[number];
  target?: string | null;
  outcome: AuditEntry['outcome'];
  details?: AuditEntry['details'];
}

/** Who did what: a chain of entries that shows every later edit. */
export class AuditTrail {
  readonly #catalogue: Catalogue;
  readonly #sealer: Sealer;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** When a session last looked into a version; the one that was longest ago first. */
  readonly #visits = new Map<string, number>();
  /** By account; null: strangers. */
  readonly #refusals = new Map<string | null, { sinceMs: number; told: number; untold: number }>();

  constructor(parts: { catalogue: Catalogue; sealer: Sealer; clock: Clock; logger: Logger }) {
    this.#catalogue = parts.catalogue;
    this.#sealer = parts.sealer;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
  }

  /**
   * Each that was done. However many are not, they do not fill the volume.
   * Never rejects: what was done stays done; a catalogue that cannot be written fails elsewhere too.
   */
  async record(deed: Deed): Promise<void> {
    if (deed.outcome === 'done') await this.#write(deed);
    else await this.#writeRefusal(deed, deed.session?.userName ?? null);
  }

  async #write(deed: Deed): Promise<boolean> {
    const { session, request, action, target, outcome, details } = deed;
    const entry: NewAuditEntry = {
      atMs: this.#clock.nowMs(),
      actor: session?.userName ?? null,
      by: session?.kind ?? null,
      address: request.ip ?? null,
      action,
      target: target ?? null,
      outcome,
      details: details ?? {},
    };
    try {
      await this.#catalogue.transaction(async (tables) => {
        const { number, hash } = await tables.audit.append(entry);
        await tables.settings.save(HEAD, this.#sealer.seal(PURPOSE, { number, hash } satisfies Head));
      });
      return true;
    } catch (error) {
      this.#logger.error({ err: error, action, outcome }, 'the audit log could not be written');
      return false;
    }
  }

  /** Looking through the files of a version, however many folders that takes: one entry a session and version. */
  async recordVisit(deed: Deed, pointId: string): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const visit = `${deed.session?.id ?? ''} ${pointId}`;
    const lastMs = this.#visits.get(visit);
    this.#visits.delete(visit);
    this.#visits.set(visit, nowMs);
    const [oldest] = this.#visits.keys();
    if (this.#visits.size > VISITS_MAX && oldest !== undefined) this.#visits.delete(oldest);
    if (lastMs !== undefined && nowMs - lastMs <= VISIT_PAUSE_MS) return;
    const isWritten = await this.#write({ ...deed, action: 'files opened', target: pointId });
    // The next look tells what this one could not.
    if (!isWritten) this.#visits.delete(visit);
  }

  /** A login that was refused. */
  async recordRefusal(request: Request, details: AuditEntry['details']): Promise<void> {
    await this.record({ session: null, request, action: 'login', outcome: 'refused', details });
  }

  async #writeRefusal(deed: Deed, account: string | null): Promise<void> {
    const nowMs = this.#clock.monotonicMs();
    const before = this.#refusals.get(account);
    const isOver = before === undefined || nowMs - before.sinceMs > REFUSALS_WINDOW_MS;
    const refusals = isOver ? { sinceMs: nowMs, told: 0, untold: before?.untold ?? 0 } : before;
    this.#refusals.set(account, refusals);
    if (refusals.told >= (account === null ? STRANGERS_REFUSALS_MAX : ACCOUNT_REFUSALS_MAX)) {
      refusals.untold += 1;
      return;
    }
    const { untold } = refusals;
    refusals.told += 1;
    refusals.untold = 0;
    await this.#write({
      ...deed,
      details: { ...deed.details, ...(untold === 0 ? {} : { notRecordedBefore: untold }) },
    });
  }

  /**
   * Looks through the whole chain.
   * @param noted an entry that was noted down outside
   */
  async verify(noted?: Partial<Head>): Promise<AuditVerdict> {
    const head = await this.#openHead();
    if (head === 'broken') return this.#verdict(0, null, { number: 0, what: 'seal-broken' });
    let number = 0;
    let hash = '0'.repeat(64);
    for (;;) {
      const entries = await this.#catalogue.audit.listAfter(number, BATCH);
      for (const entry of entries) {
        number += 1;
        if (entry.number !== number) return this.#verdict(number - 1, head, { number, what: 'missing' });
        const expected = createHash('sha256').update(encodeAuditEntry(entry)).digest('hex');
        if (entry.previousHash !== hash || entry.hash !== expected) {
          return this.#verdict(number - 1, head, { number, what: 'changed' });
        }
        // A chain that was computed anew from an edit on does not end where the seal says.
        const isHead = head?.number === number && head.hash !== entry.hash;
        if (isHead) return this.#verdict(number - 1, head, { number, what: 'changed' });
        const isOther = noted?.number === number && noted.hash !== undefined && noted.hash !== entry.hash;
        if (isOther) return this.#verdict(number - 1, head, { number, what: 'other-than-noted' });
        hash = entry.hash;
      }
      if (entries.length < BATCH) break;
    }
    const wanted = Math.max(head?.number ?? 0, noted?.number ?? 0);
    if (number < wanted) return this.#verdict(number, head, { number: number + 1, what: 'cut-off' });
    // Entries without any seal: it was taken away.
    if (head === null && number > 0) return this.#verdict(number, head, { number, what: 'seal-broken' });
    return this.#verdict(number, number === 0 ? null : { number, hash }, null);
  }

  #verdict(entries: number, head: Head | null, problem: AuditVerdict['problem']): AuditVerdict {
    return { isIntact: problem === null, entries, problem, head };
  }

  async #openHead(): Promise<Head | null | 'broken'> {
    const sealed = await this.#catalogue.settings.load(HEAD);
    if (sealed === null) return null;
    try {
      return this.#sealer.open(PURPOSE, String(sealed)) as Head;
    } catch {
      return 'broken';
    }
  }
}

/** How an error ends up in the log: by its code, and what it said to whom it happened. */
export function outcomeOf(error: unknown): Pick<Deed, 'outcome' | 'details'> {
  if (error instanceof Error && error.name === 'ZodError') {
    return { outcome: 'failed', details: { code: 'INPUT_INVALID' } };
  }
  const { code, message } = toAppError(error);
  return {
    outcome: code === 'FORBIDDEN' ? 'refused' : 'failed',
    // What is not known is told by the server's own log alone.
    details: code === 'INTERNAL' ? { code } : { code, message: message.slice(0, MESSAGE_LENGTH_MAX) },
  };
}

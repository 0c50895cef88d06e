/**
 * The audit log's chain, as server and command line compute it. `hash` is the SHA-256 of `encodeAuditEntry`, hex;
 * `previousHash` is the hash of the entry before, 64 zeros for the first; numbers go up by one from 1.
 */
export interface AuditEntry {
  number: number;
  atMs: number;
  /** Name of the account; null: nobody was logged in. */
  actor: string | null;
  by: 'cookie' | 'token' | null;
  /** Where it came from, as far as known. */
  address: string | null;
  /** `POST /jobs/:id/run`, `login`, … */
  action: string;
  /** Ids and names of what it was done to. */
  target: string | null;
  outcome: 'done' | 'refused' | 'failed';
  /** Never a secret. */
  details: Record<string, string | number | boolean | null>;
  previousHash: string;
  hash: string;
}

/** The bytes that are hashed: a JSON array, so that no field can flow into the next one. */
export function encodeAuditEntry(entry: Omit<AuditEntry, 'hash'>): string {
  const details = Object.entries(entry.details).sort(([left], [right]) => (left < right ? -1 : 1));
  const { number, atMs, actor, by, address, action, target, outcome, previousHash } = entry;
  return JSON.stringify([number, atMs, actor, by, address, action, target, outcome, details, previousHash]);
}

/** What a task may need at its worst, and what a worker needs without any: the budgets of docs/architecture.md. */
export const TASK_BYTES = 250_000_000;
const WORKER_BYTES = 120_000_000;
/** Left to the rest of the NAS. */
const RESERVE_BYTES = 150_000_000;

export interface CapacityQuestion {
  /** As the worker was started. */
  configured: number;
  /** As the server wants it; null: no wish. */
  setting: number | null;
  /** Tasks at work, restores aside. */
  running: number;
  /** Restores and exports at work. */
  restoring: number;
  /** What this machine can still give without hurting, in bytes. */
  availableBytes: number;
  /** What this worker holds by now, in bytes. */
  residentBytes: number;
  /** Workers of this machine that all see the same free memory. */
  siblings: number;
}

export interface Capacity {
  /** Of tasks other than restores. */
  concurrency: number;
  /** Of restores and exports, beside those. */
  restores: number;
  limitedBy: 'configuration' | 'setting' | 'memory';
}

/**
 * How many tasks a worker may have at a time: as many as it was told, but no more than measured memory has
 * room for. One is always allowed: a small NAS is slow, not useless. Restores have places of their own, as many if
 * memory has room and one in any case, so that no backup ever keeps one waiting. They need their memory like
 * others: while it is short, no further backup begins beside them.
 */
export function decideCapacity(question: CapacityQuestion): Capacity {
  const { configured, setting, running, restoring, availableBytes, residentBytes, siblings } = question;
  const wanted = setting ?? configured;
  // What is at work may still grow to its budget.
  const toComeBytes = Math.max(0, WORKER_BYTES + (running + restoring) * TASK_BYTES - residentBytes);
  const freeBytes = (availableBytes - RESERVE_BYTES) / Math.max(1, siblings) - toComeBytes;
  const room = Math.max(0, Math.floor(freeBytes / TASK_BYTES));
  const concurrency = Math.max(1, Math.min(wanted, running + room));
  const restores = Math.max(1, Math.min(wanted, restoring + room));
  const limitedBy = concurrency < wanted ? 'memory' : setting === null ? 'configuration' : 'setting';
  return { concurrency, restores, limitedBy };
}

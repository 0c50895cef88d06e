import type { WorkerTask } from '../contract/task.ts';

/**
 * Long work of runs; that of it which a person waits for, so that it never stands behind backups; and short
 * questions that must wait behind neither.
 */
export const QUEUE_NAMES = ['runs', 'restores', 'requests'] as const;
export type QueueName = (typeof QUEUE_NAMES)[number];
/** Where the tasks of runs lie. A restore that an older Dozo handed over lies among the first. */
export const RUN_QUEUES = ['runs', 'restores'] as const satisfies readonly QueueName[];

export function queueOf(task: WorkerTask): QueueName {
  switch (task.kind) {
    case 'backup':
    case 'check':
    case 'copy':
    case 'maintenance':
      return 'runs';
    case 'restore':
    case 'export':
      return 'restores';
    case 'probe':
    case 'inventory':
    case 'sweep':
    case 'points':
    case 'change-points':
    case 'create-repository':
    case 'keys':
      return 'requests';
  }
}

/** BullMQ takes no id that is a number, which sixteen hex digits may be. */
export function jobIdOf(taskId: string): string {
  return `task-${taskId}`;
}

export function taskIdOf(jobId: string): string {
  return jobId.replace(/^task-/, '');
}

/** Keys of our own beside BullMQ's, under the same prefix. All of them may vanish at any time. */
export function createKeys(prefix: string): {
  budget(of: string): string;
  cancelChannel: string;
  cancel(taskId: string): string;
  claim(taskId: string): string;
  limits: string;
  outcome(taskId: string): string;
  settled(taskId: string): string;
  worker(workerId: string): string;
  workers: string;
} {
  return {
    /** Up to when the speed of everything, or of a run, was given out. */
    budget: (of) => `${prefix}:budget:${of}`,
    /** Published with the id of the task to stop. */
    cancelChannel: `${prefix}:cancel`,
    /** Set while a task is to be stopped: for workers that missed the message. */
    cancel: (taskId) => `${prefix}:cancel:${taskId}`,
    /** Id of the worker that has the task in work; renewed by it. */
    claim: (taskId) => `${prefix}:claim:${taskId}`,
    /** What the server wants of all workers. */
    limits: `${prefix}:limits`,
    /** How the task ended, until the server has it. */
    outcome: (taskId) => `${prefix}:outcome:${taskId}`,
    /** Set by the server when it has the outcome: the worker may forget. */
    settled: (taskId) => `${prefix}:settled:${taskId}`,
    worker: (workerId) => `${prefix}:worker:${workerId}`,
    workers: `${prefix}:workers`,
  };
}

/** How often a worker says that it lives, and how long that holds. */
export const HEARTBEAT_MS = 3_000;
export const CLAIM_MS = 12_000;
/** How long a worker's hold on a task lasts without renewal, and how often abandoned ones are sought. */
export const LOCK_MS = 15_000;
export const STALLED_CHECK_MS = 2_000;
/** A task that takes its worker down with it is not tried for ever. */
export const STALLED_COUNT_MAX = 3;
/** Claim of a task whose worker is known to have ended: whoever gets it begins at once. */
export const RELEASED = 'released';
/** Events kept for readers that lag: hints only, so few are enough. */
export const EVENTS_KEPT = 1_000;
/** Outcomes and marks live this long when nobody fetches them. */
export const OUTCOME_SECONDS = 24 * 3600;

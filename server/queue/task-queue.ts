import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { Queue, QueueEvents, type Job } from 'bullmq';
import { Redis } from 'ioredis';
import type { WorkerTask } from '../contract/task.ts';
import { AppError } from '../errors/index.ts';
import { randomHex, type Clock, type Logger } from '../runtime/index.ts';
import {
  createKeys,
  EVENTS_KEPT,
  jobIdOf,
  OUTCOME_SECONDS,
  QUEUE_NAMES,
  queueOf,
  RELEASED,
  RUN_QUEUES,
  taskIdOf,
  type QueueName,
} from './keys.ts';
import type { WorkerLimits } from './limits.ts';
import { createProblemLog } from './problem-log.ts';
import { toRedisOptions, type RedisAddress } from './redis-address.ts';
import type { TaskEvent, TaskOutcome } from './task-events.ts';
import { taskEventSchema, taskOutcomeSchema, workerTaskSchema } from './task.schema.ts';
import type { Capacity } from './worker-capacity.ts';

export interface TaskQueueOptions {
  redis: RedisAddress;
  /** Sets several Dozos in one Redis apart. */
  prefix: string;
  clock: Clock;
  logger: Logger;
  /** Something happened in a task of a run. Hints only: what matters is also found by `look`. */
  onEvent(taskId: string, event: TaskEvent): void;
  /** A task of a run may have ended: time to `look`. */
  onEnd(taskId: string): void;
}

/** What can be seen of a task. */
export type TaskSight =
  /** In the queue, nobody has it. `touched`: somebody had it before. */
  | { state: 'queued'; touched: boolean }
  | { state: 'active' }
  | { state: 'ended'; outcome: TaskOutcome }
  /** Not in the queue, but a worker says that it works on it: it lost Redis, not the task. */
  | { state: 'claimed' }
  | { state: 'missing' };

export interface WorkerSight {
  id: string;
  host: string;
  pid: number;
  concurrency: number;
  /** Missing in what an older worker says. */
  restores?: number;
  limitedBy: Capacity['limitedBy'];
  running: string[];
  seenAtMs: number;
}

/** How long Redis may be away before an answer is owed to the caller. */
const ANSWER_MS = 10_000;
const POLL_MS = 1_000;
const RELEASED_MS = 60_000;
const CLOSE_MS = 2_000;
const CUT_MS = 500;

/** The server's end of the queue. */
export class TaskQueue {
  readonly #options: TaskQueueOptions;
  readonly #logError: (error: unknown) => void;
  readonly #queues: Record<QueueName, Queue>;
  readonly #events: Record<QueueName, QueueEvents>;
  readonly #redis: Redis;
  readonly #keys: ReturnType<typeof createKeys>;
  readonly #requests = new Map<string, { wake: () => void; onEvent: (event: TaskEvent) => void }>();
  #isClosed = false;

  constructor(options: TaskQueueOptions) {
    this.#options = options;
    const logProblem = createProblemLog(options);
    this.#logError = (error) => {
      if (!this.#isClosed) logProblem(error);
    };
    this.#keys = createKeys(options.prefix);
    const connection = toRedisOptions(options.redis);
    this.#redis = new Redis(connection);
    this.#redis.on('error', this.#logError);
    const makeQueue = (name: QueueName): Queue =>
      new Queue(name, {
        connection,
        prefix: options.prefix,
        skipVersionCheck: true,
        streams: { events: { maxLen: EVENTS_KEPT } },
      }).on('error', this.#logError);
    const makeEvents = (name: QueueName): QueueEvents => {
      const events = new QueueEvents(name, { connection, prefix: options.prefix, skipVersionCheck: true });
      events.on('error', this.#logError);
      events.on('progress', ({ jobId, data }) => this.#dispatchEvent(name, taskIdOf(jobId), data));
      events.on('completed', ({ jobId }) => this.#dispatchEnd(name, taskIdOf(jobId)));
      events.on('failed', ({ jobId }) => this.#dispatchEnd(name, taskIdOf(jobId)));
      return events;
    };
    this.#queues = { runs: makeQueue('runs'), restores: makeQueue('restores'), requests: makeQueue('requests') };
    this.#events = { runs: makeEvents('runs'), restores: makeEvents('restores'), requests: makeEvents('requests') };
  }

  /**
   * Hands a task over. Doing so again with the same id changes nothing while the first one is there.
   * @param priority from 1 (first) on; what has none comes before
   * @throws QUEUE_UNAVAILABLE, INPUT_INVALID for a task that workers of this version do not know
   */
  async enqueue(taskId: string, task: WorkerTask, priority = 0): Promise<void> {
    const parsed = workerTaskSchema.safeParse(task);
    if (!parsed.success) {
      throw new AppError('INPUT_INVALID', 'The task has a form that workers of this version do not know.', {
        hint: 'It was made by another version of Dozo. Start the run again.',
        details: { kind: String(task.kind) },
        cause: parsed.error,
      });
    }
    const payload = parsed.data;
    await this.#answer(
      this.#queues[queueOf(task)].add(payload.kind, payload, {
        jobId: jobIdOf(taskId),
        // Retries are BullMQ's own for workers that vanished; errors come back as values.
        attempts: 1,
        priority,
        removeOnComplete: { age: OUTCOME_SECONDS },
        removeOnFail: { age: OUTCOME_SECONDS },
      }),
    );
  }

  /**
   * Asks a worker and waits for its answer.
   * @throws what the worker threw; QUEUE_UNAVAILABLE, WORKER_LOST, CANCELLED
   */
  async request(
    task: WorkerTask,
    options: { timeoutMs: number; signal?: AbortSignal; onEvent?: (event: TaskEvent) => void },
  ): Promise<unknown> {
    const taskId = randomHex(8);
    const { clock } = this.#options;
    const deadlineMs = clock.monotonicMs() + options.timeoutMs;
    let wake: () => void = () => undefined;
    this.#requests.set(taskId, { wake: () => wake(), onEvent: options.onEvent ?? (() => undefined) });
    try {
      await this.enqueue(taskId, task);
      for (;;) {
        const sight = await this.look(taskId, [queueOf(task)]);
        if (sight.state === 'ended') {
          if (sight.outcome.ok) return sight.outcome.value;
          if (sight.outcome.error === null) throw new AppError('INTERNAL', 'A task failed without an error.');
          throw AppError.fromBody(sight.outcome.error);
        }
        if (sight.state === 'missing') await this.enqueue(taskId, task);
        options.signal?.throwIfAborted();
        if (clock.monotonicMs() > deadlineMs) {
          throw sight.state === 'queued'
            ? new AppError('QUEUE_UNAVAILABLE', 'No worker took up the task in time.', {
                hint: 'Look whether a worker runs; it is started again by itself.',
              })
            : new AppError('WORKER_LOST', 'The worker did not answer in time.', { hint: 'Try again.' });
        }
        const woken = new Promise<void>((resolve) => (wake = resolve));
        await Promise.race([woken, clock.sleep(POLL_MS)]);
      }
    } catch (error) {
      // In the background: whoever asked is not to wait for a Redis that is away.
      void this.#cancel(taskId).catch(() => undefined);
      throw error;
    } finally {
      this.#requests.delete(taskId);
      void this.#forgetIn(taskId, [queueOf(task)]).catch(() => undefined);
    }
  }

  /** @throws QUEUE_UNAVAILABLE */
  async look(taskId: string, queueNames: readonly QueueName[] = RUN_QUEUES): Promise<TaskSight> {
    return this.#answer(this.#look(taskId, queueNames));
  }

  async #look(taskId: string, queueNames: readonly QueueName[]): Promise<TaskSight> {
    const [outcomeText, claim] = await this.#redis.mget(this.#keys.outcome(taskId), this.#keys.claim(taskId));
    if (typeof outcomeText === 'string') return { state: 'ended', outcome: readOutcome(JSON.parse(outcomeText)) };
    const isClaimed = typeof claim === 'string' && claim !== RELEASED;
    for (const queueName of queueNames) {
      // The state first: an item read before it ended has no result yet.
      const state = await this.#queues[queueName].getJobState(jobIdOf(taskId));
      if (state === 'active') return { state: 'active' };
      const job: Job | undefined = await this.#queues[queueName].getJob(jobIdOf(taskId));
      if (job === undefined || state === 'unknown') continue;
      if (state === 'completed') return { state: 'ended', outcome: readOutcome(job.returnvalue) };
      // Given up by the queue, but a worker that had lost Redis for long still has it: its word counts.
      if (state === 'failed' && isClaimed) return { state: 'claimed' };
      if (state === 'failed') return { state: 'ended', outcome: lostOutcome(job.failedReason) };
      return { state: 'queued', touched: job.attemptsStarted > 0 };
    }
    return isClaimed ? { state: 'claimed' } : { state: 'missing' };
  }

  /** The outcome of a task is stored: queue and worker may forget it. */
  async forget(taskId: string): Promise<void> {
    await this.#answer(this.#forgetIn(taskId, RUN_QUEUES));
  }

  async #forgetIn(taskId: string, queueNames: readonly QueueName[]): Promise<void> {
    await this.#redis
      .multi()
      .set(this.#keys.settled(taskId), '1', 'EX', OUTCOME_SECONDS)
      .del(this.#keys.outcome(taskId))
      .exec();
    // Refused while a worker has it: then it is removed with its age.
    for (const name of queueNames) await this.#queues[name].remove(jobIdOf(taskId)).catch(() => 0);
  }

  /**
   * Asks for a task to be stopped. One that no worker ever had is taken out of the queue.
   * @returns `removed`: it will not run, and never did; `asked`: its outcome will come
   */
  async cancel(taskId: string): Promise<'removed' | 'asked'> {
    return this.#answer(this.#cancel(taskId));
  }

  async #cancel(taskId: string): Promise<'removed' | 'asked'> {
    await this.#redis.set(this.#keys.cancel(taskId), '1', 'EX', OUTCOME_SECONDS);
    await this.#redis.publish(this.#keys.cancelChannel, taskId);
    for (const name of QUEUE_NAMES) {
      const job: Job | undefined = await this.#queues[name].getJob(jobIdOf(taskId));
      if (job === undefined || job.attemptsStarted > 0) continue;
      const removed = await this.#queues[name].remove(job.id ?? '').catch(() => 0);
      if (removed === 1) return 'removed';
    }
    return 'asked';
  }

  /** Tells all workers what they are held to; to be told again and again. @throws QUEUE_UNAVAILABLE */
  async publishLimits(limits: WorkerLimits): Promise<void> {
    await this.#answer(this.#redis.set(this.#keys.limits, JSON.stringify(limits)));
  }

  /** Workers that gave a sign of life within the last seconds. */
  async listWorkers(): Promise<WorkerSight[]> {
    return this.#answer(
      (async () => {
        const ids = await this.#redis.smembers(this.#keys.workers);
        if (ids.length === 0) return [];
        const texts = await this.#redis.mget(ids.map((id) => this.#keys.worker(id)));
        const gone = ids.filter((_id, index) => texts[index] === null);
        if (gone.length > 0) await this.#redis.srem(this.#keys.workers, ...gone);
        return texts.flatMap((text) => (typeof text === 'string' ? [JSON.parse(text) as WorkerSight] : []));
      })(),
    );
  }

  /**
   * Frees the tasks of workers on this machine that have ended, so that the next worker takes them up
   * at once. Those that this does not find are free when their locks run out.
   */
  async releaseDeadWorkers(): Promise<void> {
    for (const { id, running, host, pid } of await this.listWorkers()) {
      if (host !== hostname() || (await isWorking(pid))) continue;
      const commands = this.#redis.multi().del(this.#keys.worker(id)).srem(this.#keys.workers, id);
      for (const taskId of running) {
        commands.set(this.#keys.claim(taskId), RELEASED, 'PX', RELEASED_MS);
        for (const name of QUEUE_NAMES) commands.del(this.#queues[name].toKey(`${jobIdOf(taskId)}:lock`));
      }
      await this.#answer(commands.exec());
      this.#options.logger.info({ worker: id, tasks: running.length }, 'a worker has ended; its tasks come free');
    }
  }

  isUp(): boolean {
    return this.#redis.status === 'ready';
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const parts = [...QUEUE_NAMES.map((name) => this.#events[name]), ...QUEUE_NAMES.map((name) => this.#queues[name])];
    const { clock } = this.#options;
    // A connection that is away never ends in order: it is cut, and does not tell the end of that either.
    await Promise.race([Promise.allSettled(parts.map((part) => part.close())), clock.sleep(CLOSE_MS)]);
    await Promise.race([Promise.allSettled(parts.map((part) => part.disconnect())), clock.sleep(CUT_MS)]);
    this.#redis.disconnect();
  }

  /** Redis may be away for long; a caller is told so instead of waiting with it. */
  async #answer<T>(work: Promise<T>): Promise<T> {
    const timeout = new AbortController();
    const late = this.#options.clock.sleep(ANSWER_MS, timeout.signal).then((): never => {
      throw new AppError('QUEUE_UNAVAILABLE', 'The queue (Redis) does not answer.', {
        hint: 'It is started again by itself; try again in a moment. Runs go on meanwhile.',
      });
    });
    late.catch(() => undefined);
    try {
      return await Promise.race([work, late]);
    } finally {
      timeout.abort();
      work.catch(() => undefined);
    }
  }

  #dispatchEvent(queueName: QueueName, taskId: string, data: unknown): void {
    const event = taskEventSchema.safeParse(data);
    if (!event.success) {
      this.#options.logger.warn({ taskId }, 'an event of a worker has an unknown form');
      return;
    }
    if (queueName === 'requests') this.#requests.get(taskId)?.onEvent(event.data as TaskEvent);
    else this.#options.onEvent(taskId, event.data as TaskEvent);
  }

  #dispatchEnd(queueName: QueueName, taskId: string): void {
    if (queueName === 'requests') this.#requests.get(taskId)?.wake();
    else this.#options.onEnd(taskId);
  }
}

/** Whether a process works; one that ended and was not fetched by its parent yet does not. */
async function isWorking(pid: number): Promise<boolean> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // The state follows the name, which is in brackets and may hold anything.
    const state = stat.slice(stat.lastIndexOf(')') + 2).charAt(0);
    return state !== 'Z' && state !== 'X';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

function readOutcome(value: unknown): TaskOutcome {
  const outcome = taskOutcomeSchema.safeParse(value);
  return outcome.success ? (outcome.data as TaskOutcome) : lostOutcome('its answer has an unknown form');
}

function lostOutcome(reason: string | undefined): TaskOutcome {
  const error = new AppError(
    'WORKER_LOST',
    `The worker was lost several times during this task (${reason ?? 'no reason'}).`,
    {
      hint: "Look into the worker's log: too little memory is the usual cause. The next run goes on from here.",
    },
  );
  return { ok: false, value: null, error: error.toBody(), source: 'queue', log: [] };
}

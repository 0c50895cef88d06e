import { hostname } from 'node:os';
import { DelayedError, WaitingError, Worker, type Job } from 'bullmq';
import { Redis } from 'ioredis';
import type { LogLine, MachineProgress } from '../contract/run.ts';
import type { WorkerEvent, WorkerTask } from '../contract/task.ts';
import { AppError, cancelled, isAbort, toAppError } from '../errors/index.ts';
import { randomHex, type Clock, type Logger } from '../runtime/index.ts';
import {
  CLAIM_MS,
  createKeys,
  HEARTBEAT_MS,
  LOCK_MS,
  OUTCOME_SECONDS,
  RELEASED,
  STALLED_CHECK_MS,
  STALLED_COUNT_MAX,
  taskIdOf,
  type QueueName,
} from './keys.ts';
import { NO_LIMITS, workerLimitsSchema, type WorkerLimits } from './limits.ts';
import { createProblemLog } from './problem-log.ts';
import { toRedisOptions, type RedisAddress } from './redis-address.ts';
import { SharedBudget } from './shared-budget.ts';
import type { NumberedLine, TaskOutcome } from './task-events.ts';
import { workerTaskSchema } from './task.schema.ts';
import { decideCapacity, type Capacity } from './worker-capacity.ts';

export interface TaskContext {
  taskId: string;
  /** Fires when the run is cancelled or the worker is to end. */
  signal: AbortSignal;
  report(event: WorkerEvent): void;
  /**
   * To be called before so many bytes are read from a host or written to one, and waited for: holds all backups
   * and restores together, and those of one run, to their speed. Null: nothing to wait for.
   */
  budget(bytes: number): Promise<void> | null;
}

export type Processor<Kind extends WorkerTask['kind']> = (
  task: Extract<WorkerTask, { kind: Kind }>,
  context: TaskContext,
) => Promise<unknown>;

/** What this worker can do: one function a kind of task. */
export type Processors = { [Kind in WorkerTask['kind']]: Processor<Kind> };

export interface WorkerOptions {
  redis: RedisAddress;
  prefix: string;
  processors: Processors;
  /** Tasks of runs at the same time. Restores and short requests have places of their own. */
  concurrency: number;
  clock: Clock;
  logger: Logger;
}

export interface RunningWorker {
  readonly id: string;
  /** Ids of the tasks in work. */
  running(): string[];
  /**
   * For a worker whose server is gone: takes nothing new; resolves when nothing is in work and the next server has
   * the outcome of every task of a run, or in time. Answers to short questions are nobody's any more.
   */
  drain(timeoutMs: number): Promise<void>;
  /**
   * Ends: tasks in work are stopped and go back into the queue, to be taken up again by the next
   * worker; those that do not stop within `timeoutMs` are left to it as well. A Redis that is away is
   * waited for some seconds only: it frees the tasks by itself when their locks run out.
   */
  close(timeoutMs: number): Promise<void>;
}

const REQUEST_CONCURRENCY = 4;
const PROGRESS_EVERY_MS = 500;
const LAST_WORDS_MS = 1_000;
const LOG_LINES_MAX = 5_000;
const LIMITS_MS = 1_000;
/** How long a worker that ends waits for a Redis that is away: to give tasks back, or for nothing but good order. */
const GIVE_BACK_MS = 10_000;
const GOOD_ORDER_MS = 2_000;
/** A task that another worker had before: time for that one to say that it still has it. */
const CLAIM_GRACE_MS = HEARTBEAT_MS + 1_500;

export function startWorker(options: WorkerOptions): RunningWorker {
  return new QueueWorker(options);
}

class QueueWorker implements RunningWorker {
  readonly id = randomHex(8);
  readonly #options: WorkerOptions;
  readonly #logError: (error: unknown) => void;
  readonly #keys: ReturnType<typeof createKeys>;
  readonly #redis: Redis;
  readonly #subscriber: Redis;
  readonly #workers: Record<QueueName, Worker>;
  readonly #budget: SharedBudget;
  #limits = NO_LIMITS;
  #capacity: Capacity;
  /** Workers of this machine. */
  #siblings = 1;
  /** Executions by task: one that comes twice, since Redis forgot it, is joined and not repeated. */
  readonly #executions = new Map<string, Execution>();
  readonly #heartbeat: NodeJS.Timeout;
  #isBeating = false;
  /** Something changed while a beat was under way. */
  #isBeatWanted = false;
  /** Queues with more places than their workers may have heard of. */
  readonly #unheard = new Set<QueueName>();
  #isStopping = false;
  #isDraining = false;

  constructor(options: WorkerOptions) {
    this.#options = options;
    const logProblem = createProblemLog(options);
    this.#logError = (error) => {
      if (!this.#isStopping) logProblem(error);
    };
    this.#keys = createKeys(options.prefix);
    const connection = toRedisOptions(options.redis);
    this.#redis = new Redis(connection);
    this.#redis.on('error', this.#logError);
    this.#subscriber = new Redis(connection);
    this.#subscriber.on('error', this.#logError);
    this.#subscriber.on('message', (_channel, taskId) => this.#executions.get(taskId)?.cancel());
    // ioredis subscribes again by itself after every reconnect.
    this.#subscriber.subscribe(this.#keys.cancelChannel).catch(this.#logError);
    this.#budget = new SharedBudget(this.#redis, this.#keys, options.clock);
    this.#capacity = this.#measure();
    const makeWorker = (name: QueueName, concurrency: number): Worker =>
      new Worker(name, (job, token) => this.#process(job, token ?? ''), {
        connection,
        prefix: options.prefix,
        concurrency,
        lockDuration: LOCK_MS,
        stalledInterval: STALLED_CHECK_MS,
        maxStalledCount: STALLED_COUNT_MAX,
        skipVersionCheck: true,
      }).on('error', this.#logError);
    this.#workers = {
      runs: makeWorker('runs', this.#capacity.concurrency),
      restores: makeWorker('restores', this.#capacity.restores),
      requests: makeWorker('requests', REQUEST_CONCURRENCY),
    };
    this.#heartbeat = setInterval(() => void this.#beat(), HEARTBEAT_MS);
    void this.#beat();
  }

  running(): string[] {
    return [...this.#executions].filter(([, execution]) => execution.outcome === null).map(([taskId]) => taskId);
  }

  #countRunning(queueName: QueueName): number {
    const executions = [...this.#executions.values()];
    return executions.filter(({ job, outcome }) => outcome === null && job.queueName === queueName).length;
  }

  async drain(timeoutMs: number): Promise<void> {
    const { clock } = this.#options;
    const deadlineMs = clock.monotonicMs() + timeoutMs;
    this.#isDraining = true;
    for (const worker of Object.values(this.#workers)) void worker.pause(true).catch(this.#logError);
    while (this.running().length > 0) await clock.sleep(200);
    const isOwed = ({ job }: Execution): boolean => job.queueName !== ('requests' satisfies QueueName);
    while ([...this.#executions.values()].some(isOwed) && clock.monotonicMs() < deadlineMs) {
      await this.#beat();
      await clock.sleep(500);
    }
  }

  async close(timeoutMs: number): Promise<void> {
    this.#isStopping = true;
    clearInterval(this.#heartbeat);
    const { clock } = this.#options;
    const executions = [...this.#executions.values()];
    for (const execution of executions) execution.stop();
    const ended = Promise.all(executions.map((execution) => execution.finished));
    const isClosed = new AbortController();
    const patience = (ms: number): Promise<void> => clock.sleep(ms, isClosed.signal).catch(() => undefined);
    await Promise.race([
      Promise.allSettled(Object.values(this.#workers).map((worker) => worker.close())),
      // BullMQ waits for ever for a connection that is away.
      ended.then(() => patience(executions.length > 0 ? GIVE_BACK_MS : GOOD_ORDER_MS)),
      patience(timeoutMs),
    ]);
    isClosed.abort();
    await Promise.race([this.#redis.del(this.#keys.worker(this.id)), clock.sleep(500)]).catch(this.#logError);
    for (const worker of Object.values(this.#workers)) void worker.close(true).catch(this.#logError);
    this.#redis.disconnect();
    this.#subscriber.disconnect();
  }

  async #process(job: Job, token: string): Promise<TaskOutcome> {
    const taskId = taskIdOf(job.id ?? '');
    if (job.attemptsStarted > 1 && !this.#executions.has(taskId)) await this.#yieldToOthers(job, token, taskId);
    // A task does not begin without knowing how fast it may be.
    await Promise.race([this.#readLimits(), this.#options.clock.sleep(LIMITS_MS)]).catch(this.#logError);
    const execution = this.#executions.get(taskId) ?? this.#execute(taskId, job);
    execution.job = job;
    const outcome = await execution.finished;
    if (execution.isInterrupted()) {
      this.#executions.delete(taskId);
      await this.#redis.set(this.#keys.claim(taskId), RELEASED, 'EX', OUTCOME_SECONDS);
      await job.moveToWait(token);
      throw new WaitingError();
    }
    return outcome;
  }

  /** Another worker may have lost Redis only, not the task: as long as it says so, the task is its. */
  async #yieldToOthers(job: Job, token: string, taskId: string): Promise<void> {
    const { clock } = this.#options;
    const claim = this.#keys.claim(taskId);
    if ((await this.#redis.get(claim)) === RELEASED) return;
    await clock.sleep(CLAIM_GRACE_MS);
    const holder = await this.#redis.get(claim);
    if (holder === null || holder === RELEASED || holder === this.id) return;
    await job.moveToDelayed(clock.nowMs() + HEARTBEAT_MS, token);
    throw new DelayedError();
  }

  #execute(taskId: string, job: Job): Execution {
    const execution = new Execution(job, this.#options, this.#budget);
    this.#executions.set(taskId, execution);
    void this.#redis.set(this.#keys.claim(taskId), this.id, 'PX', CLAIM_MS).catch(this.#logError);
    void execution.run(taskId).then(() => this.#beat());
    void this.#beat();
    return execution;
  }

  /** Takes over what the server wants, as far as memory allows. What it does not say any more stays. */
  async #readLimits(): Promise<void> {
    const ids = (await this.#redis.smembers(this.#keys.workers)).filter((id) => id !== this.id);
    const [limits, ...others] = await this.#redis.mget(this.#keys.limits, ...ids.map((id) => this.#keys.worker(id)));
    const lives = others.flatMap((text) => (typeof text === 'string' ? [JSON.parse(text) as { host: string }] : []));
    if (typeof limits === 'string') this.#limits = parseLimits(limits);
    this.#siblings = lives.filter(({ host }) => host === hostname()).length + 1;
    this.#budget.update(this.#limits, lives.length + 1);
    this.#capacity = this.#measure();
    this.#setPlaces('runs', this.#capacity.concurrency);
    this.#setPlaces('restores', this.#capacity.restores);
  }

  /** A worker of BullMQ whose places are all taken hears of further ones when a task ends, or when it is woken. */
  #setPlaces(name: QueueName, places: number): void {
    const worker = this.#workers[name];
    if (places > worker.concurrency) this.#unheard.add(name);
    worker.concurrency = places;
    // One without a task fetches by itself; and only one with a task is sure not to end by being paused.
    if (!this.#unheard.has(name) || this.#countRunning(name) === 0 || this.#isStopping || this.#isDraining) return;
    this.#unheard.delete(name);
    void worker
      .pause(true)
      .then(() => (this.#isStopping || this.#isDraining ? undefined : worker.resume()))
      .catch(this.#logError);
  }

  #measure(): Capacity {
    return decideCapacity({
      configured: this.#options.concurrency,
      setting: this.#limits.tasksPerWorker,
      running: this.#countRunning('runs'),
      restoring: this.#countRunning('restores'),
      availableBytes: process.availableMemory(),
      residentBytes: process.memoryUsage.rss(),
      siblings: this.#siblings,
    });
  }

  /**
   * Says what this worker has in work and what came of the rest, until the server has it; asks what is
   * to be stopped. Everything is said again each time, so it does not matter what Redis forgot.
   */
  async #beat(): Promise<void> {
    this.#isBeatWanted = this.#isBeating;
    if (this.#isBeating || this.#redis.status !== 'ready') return;
    this.#isBeating = true;
    try {
      const { clock } = this.#options;
      await this.#readLimits();
      const life = {
        id: this.id,
        host: hostname(),
        pid: process.pid,
        ...this.#capacity,
        running: this.running(),
        seenAtMs: clock.nowMs(),
      };
      const commands = this.#redis.pipeline();
      commands.sadd(this.#keys.workers, this.id);
      commands.set(this.#keys.worker(this.id), JSON.stringify(life), 'PX', CLAIM_MS);
      const entries = [...this.#executions];
      for (const [taskId, execution] of entries) {
        const { outcome } = execution;
        if (execution.isInterrupted()) continue;
        if (outcome === null) commands.set(this.#keys.claim(taskId), this.id, 'PX', CLAIM_MS);
        else commands.set(this.#keys.outcome(taskId), JSON.stringify(outcome), 'EX', OUTCOME_SECONDS);
      }
      await commands.exec();
      for (const [taskId, execution] of entries) {
        const [cancel, settled] = await this.#redis.mget(this.#keys.cancel(taskId), this.#keys.settled(taskId));
        if (cancel !== null) execution.cancel();
        if (execution.isForgotten(clock.monotonicMs())) this.#executions.delete(taskId);
        if (settled !== null && execution.outcome !== null) {
          await this.#redis.del(this.#keys.outcome(taskId), this.#keys.claim(taskId));
          this.#executions.delete(taskId);
        }
      }
    } catch (error) {
      this.#logError(error);
    } finally {
      this.#isBeating = false;
    }
    if (this.#isBeatWanted) await this.#beat();
  }
}

/** Limits that cannot be read are none: whoever wrote them is to be seen in the log of the server. */
function parseLimits(text: string): WorkerLimits {
  const limits = workerLimitsSchema.safeParse(JSON.parse(text));
  return limits.success ? limits.data : NO_LIMITS;
}

/** One execution of a task: outlives the queue's item that began it. */
class Execution {
  /** Item of the queue that events go to: the newest, when Redis had forgotten the first. */
  job: Job;
  readonly finished: Promise<TaskOutcome>;
  outcome: TaskOutcome | null = null;
  #wasCancelled = false;
  #wasStopped = false;
  readonly #options: WorkerOptions;
  readonly #source = randomHex(4);
  readonly #abort = new AbortController();
  readonly #log: NumberedLine[] = [];
  #sentLines = 0;
  #progress: MachineProgress | null = null;
  #isSending = false;
  #endedMs: number | null = null;
  #resolve: (outcome: TaskOutcome) => void = () => undefined;

  readonly #budget: SharedBudget;
  /** Pieces of the budget are taken in turn: a task with many readers gets no more than one with few. */
  #turn: Promise<void> = Promise.resolve();
  #isHeldBack = false;

  constructor(job: Job, options: WorkerOptions, budget: SharedBudget) {
    this.job = job;
    this.#options = options;
    this.#budget = budget;
    this.finished = new Promise((resolve) => (this.#resolve = resolve));
  }

  cancel(): void {
    if (this.outcome !== null) return;
    this.#wasCancelled = true;
    this.#abort.abort(cancelled());
  }

  /** The worker ends: like a cancel, but the task is to be taken up again. */
  stop(): void {
    if (this.outcome !== null) return;
    this.#wasStopped = true;
    this.#abort.abort(cancelled());
  }

  /** It ended without a result only because the worker ends: somebody else is to take it up. */
  isInterrupted(): boolean {
    if (!this.#wasStopped || this.#wasCancelled || this.outcome === null) return false;
    return this.outcome.error?.code === 'CANCELLED' || isCancelledResult(this.outcome.value);
  }

  /** Nobody fetched its outcome for so long that nobody will. */
  isForgotten(nowMs: number): boolean {
    return this.#endedMs !== null && nowMs - this.#endedMs > OUTCOME_SECONDS * 1000;
  }

  async run(taskId: string): Promise<void> {
    this.#send({ kind: 'started', source: this.#source });
    const timer = setInterval(() => void this.#flush(), PROGRESS_EVERY_MS);
    try {
      const value = await this.#process(taskId);
      this.outcome = { ok: true, value: value ?? null, error: null, source: this.#source, log: this.#log };
    } catch (error) {
      const known = isAbort(error) ? cancelled(error) : toAppError(error);
      if (known.code === 'INTERNAL') this.#options.logger.error({ taskId, err: error }, 'a task failed unexpectedly');
      this.outcome = { ok: false, value: null, error: known.toBody(), source: this.#source, log: this.#log };
    } finally {
      clearInterval(timer);
    }
    // The last of it is told too, unless Redis is away: the outcome does not wait for that.
    await Promise.race([this.#flush(), this.#options.clock.sleep(LAST_WORDS_MS)]);
    this.#endedMs = this.#options.clock.monotonicMs();
    this.#resolve(this.outcome);
  }

  async #process(taskId: string): Promise<unknown> {
    const task = workerTaskSchema.safeParse(this.job.data);
    if (!task.success) {
      throw new AppError('INPUT_INVALID', 'The queue holds a task of an unknown form.', {
        hint: 'Server and workers must have the same version.',
        details: { kind: String(this.job.name) },
      });
    }
    const processor = this.#options.processors[task.data.kind] as Processor<WorkerTask['kind']>;
    return processor(task.data, {
      taskId,
      signal: this.#abort.signal,
      report: (event) => {
        if (event.kind === 'progress') this.#progress = event.progress;
        else this.#say(event.line);
      },
      budget: (bytes) => this.#wait('runId' in task.data ? task.data.runId : '', bytes),
    });
  }

  #say(line: LogLine): void {
    if (this.#log.length < LOG_LINES_MAX) this.#log.push({ sequence: this.#log.length, line });
  }

  #wait(runId: string, bytes: number): Promise<void> | null {
    const allowed = this.#budget.allowedBytesPerSecond(runId);
    if (allowed === null) return null;
    if (!this.#isHeldBack) {
      this.#isHeldBack = true;
      const megabytesPerSecond = allowed / 1e6;
      this.#say({
        atMs: this.#options.clock.nowMs(),
        level: 'info',
        code: 'SPEED_LIMITED',
        text: `The speed is held to ${megabytesPerSecond} MB/s for now, together with what else is limited.`,
        details: { megabytesPerSecond },
      });
    }
    const take = (): Promise<void> => this.#budget.take(runId, bytes, this.#abort.signal);
    const turn = this.#turn.then(take, take);
    // Whoever asked hears of a failure; the next one takes its turn all the same.
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** At most one message is on its way: while Redis is away, the newest progress waits and lines gather. */
  async #flush(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    try {
      const entries = this.#log.slice(this.#sentLines);
      if (entries.length > 0) {
        await this.job.updateProgress({ kind: 'log', source: this.#source, entries });
        this.#sentLines += entries.length;
      }
      const progress = this.#progress;
      if (progress !== null) {
        await this.job.updateProgress({ kind: 'progress', progress });
        if (this.#progress === progress) this.#progress = null;
      }
    } catch {
      // Redis has forgotten the item: what was to be said comes again with the outcome.
    } finally {
      this.#isSending = false;
    }
  }

  #send(event: object): void {
    this.job.updateProgress(event).catch(() => undefined);
  }
}

function isCancelledResult(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'state' in value && value.state === 'cancelled';
}

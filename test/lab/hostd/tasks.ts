import { HostFault } from './fault.ts';
import type { LabTask } from './protocol.ts';

const ENDED_KEPT = 100;

export interface RunningTask {
  task: LabTask;
  done: Promise<number | null>;
}

/** Tasks of the host: each outlives the call that made it. */
export class TaskList {
  #tasks: LabTask[] = [];
  #next = 1000;
  readonly #running = new Set<Promise<number | null>>();
  readonly #changed: () => void;

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  list(): LabTask[] {
    return this.#tasks;
  }

  /** @param work gives the result; reports progress in percent */
  start(
    descriptionId: string,
    entity: LabTask['entity'],
    work: (progress: (percent: number) => void) => Promise<number | null>,
  ): RunningTask {
    const nowMs = Date.now();
    const task: LabTask = {
      id: `haTask-${entity.value}-vim.${descriptionId}-${this.#next++}`,
      descriptionId,
      entity,
      state: 'running',
      progress: 0,
      queuedAtMs: nowMs,
      startedAtMs: nowMs,
      endedAtMs: null,
      result: null,
      fault: null,
    };
    this.#tasks.push(task);
    this.#trim();
    this.#changed();
    const done = work((percent) => {
      if (task.progress !== percent) {
        task.progress = percent;
        this.#changed();
      }
    }).then(
      (result) => {
        task.state = 'success';
        task.result = result;
        task.progress = 100;
        this.#end(task);
        return result;
      },
      (error: unknown) => {
        task.state = 'error';
        task.fault =
          error instanceof HostFault
            ? error.detail
            : {
                type: 'SystemError',
                message: `A general system error occurred: ${String(error)}`,
                fields: {},
                messages: [],
              };
        this.#end(task);
        throw error;
      },
    );
    // Whoever is interested waits on the promise; a task nobody waits for must not end the daemon.
    done.catch(() => undefined).finally(() => this.#running.delete(done));
    this.#running.add(done);
    return { task, done };
  }

  isBusy(entityValue: string): boolean {
    return this.#tasks.some((task) => task.entity.value === entityValue && task.state === 'running');
  }

  /** Resolves when none of the tasks runs any more that run now. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  /** As after a restart of hostd: ids are forgotten, the work goes on. */
  forget(): void {
    this.#tasks = [];
    this.#changed();
  }

  #end(task: LabTask): void {
    task.endedAtMs = Date.now();
    this.#changed();
  }

  #trim(): void {
    const ended = this.#tasks.filter((task) => task.state !== 'running');
    if (ended.length <= ENDED_KEPT) return;
    const drop = new Set(ended.slice(0, ended.length - ENDED_KEPT));
    this.#tasks = this.#tasks.filter((task) => !drop.has(task));
  }
}

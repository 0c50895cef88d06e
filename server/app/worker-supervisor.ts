import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Clock, Logger } from '../runtime/index.ts';
import { SMALL_PROCESS } from './small-process.ts';

export interface WorkerSupervisorOptions {
  /** Module that a worker process runs. */
  module: URL;
  environment: Record<string, string>;
  /** A worker has ended without being told to. */
  onDeath(): void;
  clock: Clock;
  logger: Logger;
}

/** One worker process, started again whenever it ends. */
export interface SupervisedWorker {
  pid(): number | null;
  stop(): Promise<void>;
}

const RESTART_FIRST_MS = 300;
const RESTART_MAX_MS = 30_000;
const SETTLED_MS = 60_000;
/** A worker gives its tasks back within this; what it cannot finish is taken up after the restart. */
const STOP_TIMEOUT_MS = 60_000;

export function superviseWorker(options: WorkerSupervisorOptions): SupervisedWorker {
  const { module, environment, clock, logger } = options;
  const stopping = new AbortController();
  let child: ChildProcess | null = null;

  async function supervise(): Promise<void> {
    let deaths = 0;
    while (!stopping.signal.aborted) {
      const startedMs = clock.monotonicMs();
      child = fork(module, [], {
        execArgv: [...process.execArgv, ...SMALL_PROCESS.execArgv],
        env: { ...process.env, ...SMALL_PROCESS.environment, ...environment },
        // No pipes of ours: a worker that outlives a killed server must not write into a closed one.
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      });
      const reason = await once(child, 'exit').then(
        ([code, signal]: unknown[]) => String(signal ?? `exit status ${String(code)}`),
        (error: unknown) => String(error),
      );
      child = null;
      if (stopping.signal.aborted) return;
      deaths = clock.monotonicMs() - startedMs > SETTLED_MS ? 1 : deaths + 1;
      options.onDeath();
      logger.error({ reason, deaths }, 'a worker ended; starting it again');
      const pauseMs = Math.min(RESTART_FIRST_MS * 2 ** (deaths - 1), RESTART_MAX_MS);
      await clock.sleep(pauseMs, stopping.signal).catch(() => undefined);
    }
  }

  const supervision = supervise();
  return {
    pid: () => child?.pid ?? null,
    stop: async () => {
      stopping.abort();
      const running = child;
      running?.kill('SIGTERM');
      const timer = setTimeout(() => running?.kill('SIGKILL'), STOP_TIMEOUT_MS);
      await supervision;
      clearTimeout(timer);
    },
  };
}

import { setPriority } from 'node:os';
import { lockFolder } from '../database/index.ts';
import { toAppError } from '../errors/index.ts';
import { shutDownRedis, startWorker, type Processors } from '../queue/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import type { WorkerConfiguration } from './configuration.ts';

/** The NAS has other things to do as well. */
const NICENESS = 10;
/** Time for the tasks in work to put everything in order. */
const CLOSE_TIMEOUT_MS = 45_000;
/** How long results are offered when the server that started this worker is gone. */
const ORPHAN_MS = 10 * 60_000;

/**
 * Runs a worker until this process is told to end. SIGTERM: tasks in work are stopped and go back to the
 * queue. The server is gone (killed): tasks in work are brought to their end, their results offered for a
 * while, and the embedded Redis is ended too, unless a new server has taken over meanwhile.
 */
export function runWorkerProcess(
  configuration: WorkerConfiguration,
  parts: { clock: Clock; logger: Logger; processors: Processors },
): void {
  const { clock, logger, processors } = parts;
  try {
    setPriority(NICENESS);
  } catch {
    // Some systems do not allow it; then we are as important as the rest.
  }
  const worker = startWorker({
    redis: configuration.redis,
    prefix: configuration.redisPrefix,
    processors,
    concurrency: configuration.concurrency,
    clock,
    logger,
  });
  let isEnding = false;
  const end = (work: () => Promise<void>): void => {
    if (isEnding) return;
    isEnding = true;
    work().then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, 'the worker did not end in order');
        process.exit(1);
      },
    );
  };
  const close = (): void => end(() => worker.close(CLOSE_TIMEOUT_MS));
  process.on('SIGTERM', close);
  process.on('SIGINT', close);
  const outlive = (): void => {
    logger.warn({ running: worker.running().length }, 'the server is gone');
    end(async () => {
      await worker.drain(ORPHAN_MS);
      await worker.close(1_000);
      if (configuration.redis.kind === 'socket') await endRedis(configuration.redis.path);
    });
  };
  process.on('disconnect', outlive);
  // The server may have been killed while this process was still loading its modules.
  if (process.connected === false) outlive();
}

/** The last one out turns off the light: only while no server holds the data folder. */
async function endRedis(socketPath: string): Promise<void> {
  const lock = process.env['DOZO_SERVER_LOCK'];
  if (lock === undefined) return;
  let release: () => Promise<void>;
  try {
    release = await lockFolder(lock);
  } catch (error) {
    if (toAppError(error).code === 'SERVER_ALREADY_RUNNING') return;
    // The folder was removed: nobody will want this Redis.
    release = () => Promise.resolve();
  }
  await shutDownRedis(socketPath);
  await release();
}

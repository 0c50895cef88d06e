import { readFile } from 'node:fs/promises';
import { findLockOwner, lockFolder } from '../database/index.ts';
import { AppError, isAppError } from '../errors/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';

/** A server that is stopping gives its workers a minute and its Redis some seconds. */
const FORMER_ENDS_WITHIN_MS = 75_000;
/** The last worker of a killed server holds the lock while it ends that server's Redis: a second or two. */
const ORPHAN_ENDS_WITHIN_MS = 10_000;
const ATTEMPT_MS = 1_000;

export interface TakeOptions {
  clock: Clock;
  logger: Logger;
  formerEndsWithinMs?: number;
  orphanEndsWithinMs?: number;
}

/**
 * Makes this process the only owner of a data folder. Waits for a former server that is stopping, or that was killed
 * and is not gone yet, and says so; a worker of a killed server that holds on for too long is ended.
 * @param lock path of the lock file
 * @returns releases the folder
 * @throws SERVER_ALREADY_RUNNING
 */
export async function takeDataFolder(lock: string, options: TakeOptions): Promise<() => Promise<void>> {
  const { clock, logger } = options;
  const { formerEndsWithinMs = FORMER_ENDS_WITHIN_MS, orphanEndsWithinMs = ORPHAN_ENDS_WITHIN_MS } = options;
  const startedMs = clock.monotonicMs();
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await lockFolder(lock, ATTEMPT_MS);
    } catch (error) {
      if (!isAppError(error) || error.code !== 'SERVER_ALREADY_RUNNING') throw error;
      const waitedMs = clock.monotonicMs() - startedMs;
      const pid = await findLockOwner(lock);
      if (waitedMs >= formerEndsWithinMs) throw stillThere(pid, error);
      if (attempt === 0) {
        logger.warn({ pid, waitMs: formerEndsWithinMs }, 'another process uses the data folder; waiting for its end');
      }
      if (pid !== null && waitedMs >= orphanEndsWithinMs && (await isWorkerOf(lock, pid))) {
        logger.warn({ pid }, 'a worker of a killed server holds the data folder; ending it');
        endNow(pid);
      }
    }
  }
}

/** While its server lives, that has the lock; so a worker that has it is an orphan, with nothing at work any more. */
async function isWorkerOf(lock: string, pid: number): Promise<boolean> {
  const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
  return environment.split('\0').includes(`DOZO_SERVER_LOCK=${lock}`);
}

function endNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone by itself.
  }
}

function stillThere(pid: number | null, cause: AppError): AppError {
  const who = pid === null ? '' : ` (process ${pid})`;
  return new AppError('SERVER_ALREADY_RUNNING', `Another Dozo server${who} uses this data folder.`, {
    ...(cause.hint === undefined ? {} : { hint: cause.hint }),
    details: { ...cause.details, pid },
    cause,
  });
}

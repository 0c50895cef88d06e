import { toAppError } from '../errors/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';

const EVERY_MS = 30_000;

/** Logs trouble with Redis now and then: while it is away every connection complains many times a second. */
export function createProblemLog(parts: { clock: Clock; logger: Logger }): (error: unknown) => void {
  const { clock, logger } = parts;
  let notBeforeMs = 0;
  let hidden = 0;
  return (error) => {
    if (clock.monotonicMs() < notBeforeMs) {
      hidden += 1;
      return;
    }
    logger.warn({ reason: toAppError(error).message, hidden }, 'the queue has a problem');
    notBeforeMs = clock.monotonicMs() + EVERY_MS;
    hidden = 0;
  };
}

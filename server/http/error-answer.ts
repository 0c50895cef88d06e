import type { Response } from 'express';
import { ZodError } from 'zod';
import { ERROR_CODES } from '../contract/error-codes.ts';
import { AppError, toAppError } from '../errors/index.ts';
import type { Logger } from '../runtime/index.ts';

/** Writes an error as the API shows it: the body of the error, the status of its code. */
export function answerError(response: Response, error: unknown, logger: Logger): void {
  const known = toKnownError(error);
  if (known.code === 'INTERNAL' || known.code === 'INVARIANT_BROKEN') {
    logger.error({ err: error, method: response.req.method, path: response.req.path }, 'a request failed');
  }
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const retryAfter = known.details['retryAfterSeconds'];
  if (typeof retryAfter === 'number') response.setHeader('Retry-After', String(retryAfter));
  // What went wrong inside is in the log; the answer does not tell strangers about it.
  const body =
    known.code === 'INTERNAL'
      ? new AppError('INTERNAL', 'Something unexpected went wrong.', { hint: "Look into the server's log." }).toBody()
      : known.toBody();
  response.status(ERROR_CODES[known.code].http).json(body);
}

function toKnownError(error: unknown): AppError {
  if (error instanceof ZodError) return invalidInput(error);
  // Express's own: a body that is no JSON, too long, in an unknown encoding; a path that does not decode.
  if (error instanceof Error && 'status' in error && typeof error.status === 'number' && error.status < 500) {
    return new AppError('INPUT_INVALID', `The request cannot be read: ${error.message}`, {
      hint: 'Send JSON in UTF-8, at most 1 MiB; 32 KiB where no login is needed.',
      cause: error,
    });
  }
  return toAppError(error);
}

/** Details name each field with what is wrong with it, for the form that it came from. */
function invalidInput(error: ZodError): AppError {
  const details: Record<string, string> = {};
  for (const issue of error.issues.slice(0, 50)) {
    const field = issue.path.map(String).join('.') || '(all)';
    details[field.slice(0, 200)] ??= issue.message.slice(0, 500);
  }
  const [field, message] = Object.entries(details)[0] ?? ['(all)', 'is not valid'];
  return new AppError('INPUT_INVALID', `The input is not valid: ${field}: ${message}`, {
    hint: 'Correct the fields named and send it again.',
    details,
  });
}

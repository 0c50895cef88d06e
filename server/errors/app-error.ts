import { ERROR_CODES, type ErrorBody, type ErrorCode, type Retry } from '../contract/error-codes.ts';

const BRAND = Symbol.for('dozo.app-error');

interface AppErrorOptions {
  /** What to do next, for the person at the screen. */
  hint?: string;
  /** Names and numbers of the message. Never a secret: they reach logs and the API. */
  details?: ErrorBody['details'];
  cause?: unknown;
}

/**
 * An error that Dozo understands: a stable code, what happened (`message`), what to do (`hint`).
 * Foreign errors (ssh2, SOAP faults, SQLite, errno) are wrapped once, where they enter a room; from
 * there they pass unchanged. Survives process borders through `toBody` and `AppError.fromBody`.
 */
export class AppError extends Error {
  readonly [BRAND] = true;
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly details: ErrorBody['details'];

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.hint = options.hint;
    this.details = options.details ?? {};
  }

  get retry(): Retry {
    return ERROR_CODES[this.code].retry;
  }

  toBody(): ErrorBody {
    const { code, message, hint, details } = this;
    return hint === undefined ? { code, message, details } : { code, message, hint, details };
  }

  static fromBody(body: ErrorBody): AppError {
    const code = body.code in ERROR_CODES ? body.code : 'INTERNAL';
    return new AppError(code, body.message, {
      ...(body.hint === undefined ? {} : { hint: body.hint }),
      details: body.details,
    });
  }
}

/** True for an AppError of this or another copy of the module (bundles and threads have their own). */
export function isAppError(error: unknown): error is AppError {
  return typeof error === 'object' && error !== null && BRAND in error;
}

/** The error as an AppError; what nobody foresaw becomes INTERNAL with the original as its cause. */
export function toAppError(error: unknown): AppError {
  if (isAppError(error)) return error;
  if (isAbort(error)) return cancelled(error);
  const message = error instanceof Error ? error.message : String(error);
  return new AppError('INTERNAL', `Unexpected: ${message}`, {
    hint: 'Please report this with the log of the run.',
    cause: error,
  });
}

export function cancelled(cause?: unknown): AppError {
  return new AppError('CANCELLED', 'Cancelled on request.', { cause });
}

/** True for what an AbortSignal throws. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || (isAppError(error) && error.code === 'CANCELLED'));
}

/**
 * Stops the run when something that cannot happen has happened. Never for input from outside: that
 * is refused with a code of its own.
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AppError('INVARIANT_BROKEN', `Broken invariant: ${message}`);
}

export { AppError, assert, cancelled, isAbort, isAppError, toAppError } from './app-error.ts';
export { errnoOf } from './errno.ts';

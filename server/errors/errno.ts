import { constants } from 'node:os';

/**
 * Those that a file system answers with and libuv has no name for: Node gives `Unknown system error -122` as their
 * code.
 */
const UNNAMED = new Map(Object.entries(constants.errno).map(([name, number]) => [-number, name]));

/** The name of the errno(3) that a call of the system failed with: `ENOSPC`, `EDQUOT`, …; empty: it did not. */
export function errnoOf(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('code' in error) || typeof error.code !== 'string') return '';
  if (!error.code.startsWith('Unknown system error')) return error.code;
  return 'errno' in error && typeof error.errno === 'number' ? (UNNAMED.get(error.errno) ?? error.code) : error.code;
}

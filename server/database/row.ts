import { assert } from '../errors/index.ts';
import type { Row } from './sqlite.ts';

/** Readers of one column. What the schema promises and is not there is a broken invariant. */
export function text(row: Row, column: string): string {
  const value = row[column];
  assert(typeof value === 'string', `column ${column} holds text`);
  return value;
}

export function textOrNull(row: Row, column: string): string | null {
  return row[column] === null ? null : text(row, column);
}

export function integer(row: Row, column: string): number {
  const value = row[column];
  assert(typeof value === 'number', `column ${column} holds a number`);
  return value;
}

export function integerOrNull(row: Row, column: string): number | null {
  return row[column] === null ? null : integer(row, column);
}

/** JSON that this program wrote: the caller names the type it was written with. */
export function json<T>(row: Row, column: string): T {
  return JSON.parse(text(row, column)) as T;
}

export function jsonOrNull<T>(row: Row, column: string): T | null {
  return row[column] === null ? null : json<T>(row, column);
}

export function encodeJson(value: unknown): string | null {
  return value === null || value === undefined ? null : JSON.stringify(value);
}

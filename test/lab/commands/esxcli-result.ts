import type { Host } from '../hostd/host.ts';
import type { Invocation } from './command.ts';

export type Row = Record<string, string>;

export type Result =
  { table: Row[]; columns: string[]; right?: string[] } | { blocks: Row[]; title?: string } | { text: string };

/** Fails with a text, status 1. */
export class EsxcliError extends Error {}

export type Handler = (
  host: Host,
  flags: Map<string, string>,
  call: Invocation,
) => Result | null | Promise<Result | null>;

/** The value of an option by any of its names. @throws EsxcliError where it is missing */
export function required(flags: Map<string, string>, letter: string, name: string): string {
  const value = flags.get(letter) ?? flags.get(name);
  if (value === undefined || value === '')
    throw new EsxcliError(`Error: Missing required parameter -${letter}|--${name}`);
  return value;
}

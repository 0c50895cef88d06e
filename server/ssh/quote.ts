import { assert, AppError } from '../errors/index.ts';
import type { ShellCommand } from './ssh.ts';

class RawCommand {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What `shell` accepts between `${` and `}`. A list becomes one word for each of its members. */
export type ShellValue = string | number | RawCommand | readonly (string | number)[];

/**
 * One word of a command line, in single quotes, whatever the value holds: spaces, quotes, `$`,
 * newlines. Bytes that no argument can carry (NUL, half of a surrogate pair) are refused.
 *
 * @throws INPUT_INVALID
 */
export function quote(value: string): string {
  if (value.includes('\0') || !value.isWellFormed()) {
    throw new AppError('INPUT_INVALID', `${JSON.stringify(value)} cannot be an argument of a command.`, {
      hint: 'Rename the file or machine on the host so that its name is plain text.',
    });
  }
  return `'${value.replaceAll("'", `'\\''`)}'`;
}

/** A command made by `shell`, to be put into another one as it is; unmarked it would become one quoted word. */
export function raw(command: ShellCommand): RawCommand {
  return new RawCommand(command);
}

/**
 * Template tag that makes a command line: ``shell`ls -l ${path}` ``. Strings are quoted, numbers pass
 * as digits, `raw(command)` composes. A value must not stand inside quotes of the template, where
 * quoting would turn into its opposite: INVARIANT_BROKEN.
 */
export function shell(parts: TemplateStringsArray, ...values: readonly ShellValue[]): ShellCommand {
  let line = '';
  let quotes: QuoteState = 'none';
  parts.forEach((part, index) => {
    line += part;
    quotes = scanQuotes(part, quotes);
    if (index >= values.length) return;
    assert(quotes === 'none', `value ${index + 1} of a command stands inside quotes: ${line}`);
    line += word(values[index] as ShellValue);
  });
  assert(quotes === 'none', `quotes of a command are left open: ${line}`);
  return line as ShellCommand;
}

function word(value: ShellValue): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number') {
    assert(Number.isSafeInteger(value), `${value} in a command is not a whole number`);
    return String(value);
  }
  if (value instanceof RawCommand) return value.text;
  return value.map(word).join(' ');
}

type QuoteState = 'none' | 'single' | 'double';

function scanQuotes(text: string, before: QuoteState): QuoteState {
  let state = before;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index];
    if (character === '\\' && state !== 'single') index += 1;
    else if (character === "'" && state !== 'double') state = state === 'single' ? 'none' : 'single';
    else if (character === '"' && state !== 'single') state = state === 'double' ? 'none' : 'double';
  }
  return state;
}

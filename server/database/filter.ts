import type { SqlValue } from './sqlite.ts';

/** The conditions of a WHERE, as far as somebody asked for them. */
export class Filter {
  readonly #conditions: string[] = [];
  readonly params: SqlValue[] = [];

  /** Adds a condition with its one placeholder; undefined: not asked for. */
  add(condition: string, value: SqlValue | undefined): this {
    return value === undefined ? this : this.addAll(condition, [value]);
  }

  /** Adds a condition with as many placeholders as values. */
  addAll(condition: string, values: readonly SqlValue[] = []): this {
    this.#conditions.push(`(${condition})`);
    this.params.push(...values);
    return this;
  }

  /** To stand behind WHERE. */
  get sql(): string {
    return this.#conditions.length === 0 ? '1 = 1' : this.#conditions.join(' AND ');
  }
}

/** Whether the id of a row is one of many. */
export const ID_IS_AMONG = 'id IN (SELECT value FROM json_each(?))';

/** For `LIKE ? ESCAPE '\'`: a text that holds this one, whatever is in it. */
export function contains(text: string): string {
  return `%${text.replaceAll(/[\\%_]/g, '\\$&')}%`;
}

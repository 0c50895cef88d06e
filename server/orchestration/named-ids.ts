import type { Tables } from '../database/index.ts';

const PREFIX = /^@(host|repository|job|machine):(.*)$/s;

/**
 * Ids of this installation as names, and back: ids mean nothing elsewhere. A machine is a place in a list, since its
 * name need not be its own.
 */
export class NamedIds {
  /** In the order of their places. */
  readonly machineIds: readonly string[];
  readonly #toName: ReadonlyMap<string, string>;
  readonly #toId: ReadonlyMap<string, string>;

  private constructor(names: ReadonlyMap<string, string>, machineIds: readonly string[]) {
    this.machineIds = machineIds;
    this.#toName = new Map([...names, ...machineIds.map((id, index) => [id, `@machine:${index}`] as const)]);
    this.#toId = new Map([...names].map(([id, name]) => [name, id]));
  }

  static async of(tables: Tables): Promise<NamedIds> {
    const names = new Map<string, string>();
    for (const { id, name } of await tables.hosts.list()) names.set(id, `@host:${name}`);
    for (const { id, name } of await tables.repositories.list()) names.set(id, `@repository:${name}`);
    const jobs = await tables.jobs.list();
    for (const { id, name } of jobs) names.set(id, `@job:${name}`);
    const ofJobs = jobs.flatMap(({ machineIds, options, selection }) => [
      ...machineIds,
      ...Object.keys(options.excludedDisks),
      ...(selection?.excludeMachineIds ?? []),
    ]);
    return new NamedIds(names, [...new Set(ofJobs)]);
  }

  /** A copy with names in the place of ids, in keys too. */
  encode<T>(value: T): T {
    return replaceStrings(value, (text) => this.#toName.get(text) ?? text) as T;
  }

  /**
   * @param machines ids by place; null: not here
   * @throws Error when something named is not here
   */
  decode(value: unknown, machines: readonly (string | null)[]): unknown {
    return replaceStrings(value, (text) => {
      const [, kind, name = ''] = PREFIX.exec(text) ?? [];
      if (kind === undefined) return text;
      const id = kind === 'machine' ? machines[Number(name)] : this.#toId.get(text);
      if (id === undefined || id === null) throw new Error(`There is no ${kind} "${name}" here.`);
      return id;
    });
  }
}

function replaceStrings(value: unknown, replace: (text: string) => string): unknown {
  if (typeof value === 'string') return replace(value);
  if (Array.isArray(value)) return value.map((one) => replaceStrings(one, replace));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [replace(key), replaceStrings(inner, replace)]),
  );
}

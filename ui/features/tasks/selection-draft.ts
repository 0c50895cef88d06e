import type { Selection } from '../../api/types.ts';

/** What a new selection begins with: one line to fill in. */
export function newSelection(): Selection {
  return { include: [{}], exclude: [], excludeMachineIds: [], excludeDisks: [] };
}

export function isEmptyRule(rule: object): boolean {
  return Object.values(rule).every((value) => value === undefined || String(value).trim() === '');
}

/** As the server takes it: lines that nobody filled in say nothing, and fields without a value are not there. */
export function withoutEmptyRules(selection: Selection): Selection {
  const filled = <T extends object>(rules: readonly T[]): T[] =>
    rules.filter((rule) => !isEmptyRule(rule)).map((rule) => JSON.parse(JSON.stringify(rule)) as T);
  return {
    ...selection,
    include: filled(selection.include),
    exclude: filled(selection.exclude),
    excludeDisks: filled(selection.excludeDisks),
  };
}

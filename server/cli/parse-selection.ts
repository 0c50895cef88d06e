import { InvalidArgumentError } from 'commander';
import type { MachineRule, Selection } from '../contract/api/selection.schema.ts';

/** Fields as typed; hosts are still names. */
export type RuleText = Record<string, string>;

const SEPARATOR = ' & ';

/** `name=web-*`, `note=backup: daily & host=esx1`: fields that must all hold. */
export function parseFields(text: string, fields: readonly string[]): RuleText {
  const rule: RuleText = {};
  for (const piece of text.split(SEPARATOR)) {
    const at = piece.indexOf('=');
    const field = piece.slice(0, Math.max(0, at)).trim();
    const value = piece.slice(at + 1).trim();
    if (!fields.includes(field) || value === '' || field in rule) {
      throw new InvalidArgumentError(`A rule looks like "${fields[0] ?? ''}=web-*"; it may name ${fields.join(', ')}.`);
    }
    rule[field] = value;
  }
  return rule;
}

export function collectMachineRules(text: string, before: RuleText[]): RuleText[] {
  return [...before, parseFields(text, ['name', 'path', 'note', 'host'])];
}

export function collectDiskRules(text: string, before: RuleText[]): RuleText[] {
  return [...before, parseFields(text, ['key', 'label', 'datastore', 'machine'])];
}

/** @param findHost id of a host by id or name */
export async function toMachineRule(
  { host, ...fields }: RuleText,
  findHost: (text: string) => Promise<string>,
): Promise<MachineRule> {
  return host === undefined ? fields : { ...fields, hostId: await findHost(host) };
}

export function describeSelection({ include, exclude, excludeMachineIds, excludeDisks }: Selection): string {
  const join = (rules: readonly object[]): string =>
    rules
      .map((rule) =>
        Object.entries(rule)
          .map(([field, value]) => `${field}=${String(value)}`)
          .join(SEPARATOR),
      )
      .join(' or ');
  return [
    join(include),
    ...(exclude.length === 0 ? [] : [`but not ${join(exclude)}`]),
    ...(excludeMachineIds.length === 0 ? [] : [`but not ${excludeMachineIds.join(', ')}`]),
    ...(excludeDisks.length === 0 ? [] : [`without disks ${join(excludeDisks)}`]),
  ].join('; ');
}

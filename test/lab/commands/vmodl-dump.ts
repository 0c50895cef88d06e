/** vim-cmd's way of printing data objects. */
export type DumpValue =
  | string
  | number
  | boolean
  | typeof UNSET
  | { reference: string }
  | { null: string }
  | { bare: string }
  | DumpObject
  | DumpArray;

export const UNSET = Symbol('<unset>');

export interface DumpObject {
  type: string;
  fields: [string, DumpValue][];
}

export interface DumpArray {
  type: string;
  items: DumpValue[];
}

export function object(type: string, fields: Record<string, DumpValue>): DumpObject {
  return { type, fields: Object.entries(fields) };
}

/** An empty array is printed as the type and the word null. */
export function array(type: string, items: DumpValue[]): DumpArray | { null: string } {
  return items.length === 0 ? { null: type } : { type, items };
}

export function reference(type: string, value: string | number): { reference: string } {
  return { reference: `'${type}:${value}'` };
}

export function dump(value: DumpValue, indent = ''): string {
  if (value === UNSET) return '<unset>';
  if (typeof value === 'string') return `"${value.replaceAll('"', '\\"')}"`;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if ('reference' in value) return value.reference;
  if ('null' in value) return `(${value.null}) null`;
  if ('bare' in value) return value.bare;
  const inner = indent + '   ';
  if ('items' in value) {
    const items = value.items.map((item) => inner + dump(item, inner));
    return `(${value.type}) [\n${items.join(', \n')}\n${indent}]`;
  }
  const fields = value.fields.map(([name, field]) => `${inner}${name} = ${dump(field, inner)}`);
  return fields.length === 0 ? `(${value.type}) {}` : `(${value.type}) {\n${fields.join(', \n')}\n${indent}}`;
}

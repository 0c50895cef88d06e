/**
 * Texts of `vim-cmd`, as captured from ESXi 6.5 to 8.0 (see docs/vmware.md). It prints for people:
 * names and notes of users stand unquoted among its own words, so from a table only ids are taken,
 * and facts come from SOAP wherever SOAP has them.
 */

export interface MachineRow {
  id: string;
  name: string;
  datastore: string;
  file: string;
}

const ROW = /^(\d+)\s+(\S.*?)\s+\[(.+?)\] (.+?\.vmx)\s+(\S+)\s+(vmx-\d+)/;
const SKIPPED = /^Skipping invalid VM '(\d+)'/;

/**
 * `vim-cmd vmsvc/getallvms`. Notes run over lines and may imitate a row; the caller compares ids
 * with the inventory and believes nothing else.
 */
export function parseMachineList(text: string): { rows: MachineRow[]; invalidIds: string[] } {
  const rows = new Map<string, MachineRow>();
  const invalidIds: string[] = [];
  for (const line of text.split('\n')) {
    const skipped = SKIPPED.exec(line)?.[1];
    if (skipped !== undefined) invalidIds.push(skipped);
    const match = ROW.exec(line);
    if (match === null) continue;
    const [, id = '', name = '', datastore = '', file = ''] = match;
    // The first row of an id stays: rows are made by the host before the note of the same machine.
    if (!rows.has(id)) rows.set(id, { id, name: name.trimEnd(), datastore, file });
  }
  return { rows: [...rows.values()], invalidIds };
}

export interface SnapshotNode {
  id: string;
  name: string;
  description: string;
  /** 0 for the root. */
  depth: number;
}

const SNAPSHOT_NAME = /^(-*)Snapshot Name {0,8}: ?(.*)$/;
const SNAPSHOT_ID = /^(-*)Snapshot Id {0,8}: ?(\d+)\s*$/;
const SNAPSHOT_DESCRIPTION = /^(-*)Snapshot Desc\w* {0,8}: ?(.*)$/;
const SNAPSHOT_FIELD = /^-*(?:\|-(?:ROOT|CHILD)|Snapshot (?:Created On|State) {0,8}:)/;

/**
 * `vim-cmd vmsvc/snapshot.get`. A name or description with line breaks can imitate fields, so a
 * snapshot counts only where its id follows its name directly, at the same depth.
 */
export function parseSnapshotTree(text: string): SnapshotNode[] {
  const nodes: SnapshotNode[] = [];
  let pending: { name: string; dashes: number } | null = null;
  let isInDescription = false;
  for (const line of text.split('\n')) {
    const name = SNAPSHOT_NAME.exec(line);
    const id = SNAPSHOT_ID.exec(line);
    const description = SNAPSHOT_DESCRIPTION.exec(line);
    const last = nodes.at(-1);
    if (name !== null) {
      pending = { name: name[2] ?? '', dashes: (name[1] ?? '').length };
      isInDescription = false;
    } else if (id !== null && pending?.dashes === (id[1] ?? '').length) {
      nodes.push({ id: id[2] ?? '', name: pending.name, description: '', depth: Math.max(0, pending.dashes / 2 - 1) });
      pending = null;
    } else if (description !== null && last !== undefined && pending === null) {
      last.description = description[2] ?? '';
      isInDescription = true;
    } else if (SNAPSHOT_FIELD.test(line)) {
      isInDescription = false;
    } else if (isInDescription && last !== undefined) {
      last.description += `\n${line}`;
    } else if (pending !== null) {
      pending.name += `\n${line}`;
    }
  }
  return nodes;
}

export function parsePowerState(text: string): 'on' | 'off' | 'suspended' | null {
  const last = text.trim().split('\n').at(-1)?.trim() ?? '';
  if (last === 'Powered on') return 'on';
  if (last === 'Powered off') return 'off';
  return last === 'Suspended' ? 'suspended' : null;
}

/** Ids of `vim-cmd vmsvc/get.tasklist`, for `vimsvc/task_info`. */
export function parseTaskIds(text: string): string[] {
  return [...text.matchAll(/'vim\.Task:([A-Za-z0-9_.:-]+)'/g)].map((match) => match[1] ?? '');
}

/** The new id that `vim-cmd solo/registervm` prints on its last line. */
export function parseRegisteredId(text: string): string | null {
  return /(?:^|\n)(\d+)\s*$/.exec(text)?.[1] ?? null;
}

export interface MachineQuestion {
  id: string;
  /** `msg.uuid.altered`, or empty where the text names none. */
  key: string;
  text: string;
  choices: { index: string; label: string; isDefault: boolean }[];
}

/** `vim-cmd vmsvc/message ID`; null where no question is open. */
export function parseQuestion(text: string): MachineQuestion | null {
  const head = /^Virtual machine message ([A-Za-z0-9_.-]+):\s*$/m.exec(text);
  if (head === null) return null;
  const body = text.slice(head.index + head[0].length).split('\n');
  const choices: MachineQuestion['choices'] = [];
  const words: string[] = [];
  for (const line of body) {
    const choice = /^ {0,3}(\d+)\. (.*?)(\s*\[default\])?\s*$/.exec(line);
    if (choice === null) words.push(line);
    else choices.push({ index: choice[1] ?? '', label: choice[2] ?? '', isDefault: choice[3] !== undefined });
  }
  const message = words.join('\n').trim();
  const key = /^(msg\.[A-Za-z0-9_.-]+):/.exec(message)?.[1] ?? '';
  return { id: head[1] ?? '', key, text: key === '' ? message : message.slice(key.length + 1).trim(), choices };
}

/** The choice that says moved or copied, in whatever order the host lists them. */
export function chooseMovedOrCopied(question: MachineQuestion, wanted: 'moved' | 'copied'): string | null {
  const plain = (label: string): string => label.replaceAll('_', '').toLowerCase();
  return question.choices.find(({ label }) => plain(label).includes(wanted))?.index ?? null;
}

/** A value of a `vim-cmd` dump: objects carry their type under `_type`. */
export type DumpValue = string | number | boolean | null | DumpValue[] | { [key: string]: DumpValue };

const DUMP_DEPTH_MAX = 64;

/**
 * `vim-cmd hostsvc/autostartmanager/get_autostartseq`: the machines that start with the host.
 * @returns the place of the machine, -1 for any; null where it does not start with the host, or that is not told
 */
export function parseAutostartOrder(text: string, hostId: string): number | null {
  const entries = parseDump(text);
  if (!Array.isArray(entries)) return null;
  const entry = entries.find((one) => fieldOf(one, 'key') === `vim.VirtualMachine:${hostId}`);
  const order = fieldOf(entry, 'startOrder');
  const isOff = /^none$/i.test(String(fieldOf(entry, 'startAction')));
  return typeof order === 'number' && !isOff ? order : null;
}

function fieldOf(value: DumpValue | undefined, name: string): DumpValue | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value[name] : undefined;
}

/**
 * `(vim.vm.Summary) { key = value, … }` as `vim-cmd` prints objects. Null where the text holds no
 * dump or a damaged one: the caller treats both as "not told".
 */
export function parseDump(text: string): DumpValue {
  const start = /^\s*\([A-Za-z][\w.]*\)\s*[{[]/m.exec(text);
  if (start === null) return null;
  try {
    return new DumpReader(text, start.index).value(0);
  } catch (error) {
    if (error instanceof DumpDamaged) return null;
    throw error;
  }
}

class DumpDamaged extends Error {}

class DumpReader {
  readonly #text: string;
  #at: number;

  constructor(text: string, start: number) {
    this.#text = text;
    this.#at = start;
  }

  value(depth: number): DumpValue {
    if (depth > DUMP_DEPTH_MAX) throw new DumpDamaged();
    this.#skipBlanks();
    let type = '';
    if (this.#peek() === '(') {
      type = this.#match(/\(([^)\n]{1,200})\)/y)?.[1] ?? this.#fail();
      this.#skipBlanks();
    }
    const next = this.#peek();
    if (next === '{') return this.#object(type, depth);
    if (next === '[') return this.#list(depth);
    if (next === '"') return this.#string();
    if (next === "'") return this.#match(/'([^'\n]*)'/y)?.[1] ?? this.#fail();
    return toScalar(this.#match(/[^\s,{}[\]]+/y)?.[0] ?? this.#fail());
  }

  #object(type: string, depth: number): DumpValue {
    this.#at += 1;
    const result: Record<string, DumpValue> = Object.create(null) as Record<string, DumpValue>;
    result['_type'] = type;
    for (;;) {
      this.#skipBlanks();
      if (this.#take('}')) return result;
      const key = this.#match(/([A-Za-z_]\w*)\s*=/y)?.[1] ?? this.#fail();
      result[key] = this.value(depth + 1);
      this.#skipBlanks();
      this.#take(',');
    }
  }

  #list(depth: number): DumpValue {
    this.#at += 1;
    const result: DumpValue[] = [];
    for (;;) {
      this.#skipBlanks();
      if (this.#take(']')) return result;
      result.push(this.value(depth + 1));
      this.#skipBlanks();
      this.#take(',');
    }
  }

  /** Quotes inside are not escaped: the string ends at the first quote that ends its line. */
  #string(): string {
    const match = this.#match(/"([^]*?)"(?=[ \t]*,?[ \t]*(?:\r?\n|$)|[ \t]*[}\]])/y);
    return match?.[1] ?? this.#fail();
  }

  #peek(): string {
    return this.#text[this.#at] ?? this.#fail();
  }

  #take(character: string): boolean {
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #skipBlanks(): void {
    this.#match(/\s*/y);
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match !== null) this.#at = pattern.lastIndex;
    return match;
  }

  #fail(): never {
    throw new DumpDamaged();
  }
}

function toScalar(word: string): DumpValue {
  if (word === '<unset>' || word === 'null') return null;
  if (word === 'true' || word === 'false') return word === 'true';
  return /^-?\d+(?:\.\d+)?$/.test(word) ? Number(word) : word;
}

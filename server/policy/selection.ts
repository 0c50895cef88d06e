import type { MachineRule, Selection } from '../contract/api/selection.schema.ts';

/** What rules look at. */
export interface SelectableMachine {
  id: string;
  name: string;
  hostId: string | null;
  /** `[datastore] folder/name.vmx` */
  path: string;
  /** Lines of notes. */
  notes: string;
  disks: readonly { key: string; label: string; datastore: string }[];
}

export interface SelectedMachine {
  id: string;
  /** False: an `include` rule fits, but it is excluded. */
  selected: boolean;
  /** Keys of disks that are left out. */
  excludedDisks: string[];
}

/** Machines that an `include` rule fits, in the order given. */
export function selectMachines(selection: Selection, machines: readonly SelectableMachine[]): SelectedMachine[] {
  return machines
    .filter((machine) => selection.include.some((rule) => fits(rule, machine)))
    .map((machine) => ({
      id: machine.id,
      selected:
        !selection.excludeMachineIds.includes(machine.id) && !selection.exclude.some((rule) => fits(rule, machine)),
      excludedDisks: machine.disks
        .filter((disk) =>
          selection.excludeDisks.some(
            (rule) =>
              isLike(rule.machine, machine.name) &&
              isLike(rule.key, disk.key) &&
              isLike(rule.label, disk.label) &&
              isLike(rule.datastore, disk.datastore),
          ),
        )
        .map(({ key }) => key),
    }));
}

function fits(rule: MachineRule, machine: SelectableMachine): boolean {
  const { note } = rule;
  return (
    isLike(rule.name, machine.name) &&
    isLike(rule.path, machine.path) &&
    (rule.hostId === undefined || rule.hostId === machine.hostId) &&
    (note === undefined || machine.notes.split(/\r\n|\r|\n/).some((line) => isLike(note, line.trim())))
  );
}

function isLike(pattern: string | undefined, text: string): boolean {
  return pattern === undefined || matchesPattern(fold(pattern), fold(text));
}

function fold(text: string): string[] {
  return [...text.normalize('NFC').toLowerCase()];
}

/** `*` and `?`; at most pattern × text steps, whatever the pattern, since people type it. */
function matchesPattern(pattern: readonly string[], text: readonly string[]): boolean {
  let p = 0;
  let t = 0;
  /** Where to go on when what follows the last star does not fit here. */
  let star = -1;
  let starText = 0;
  while (t < text.length) {
    if (pattern[p] === '*') {
      star = p;
      starText = t;
      p += 1;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === text[t])) {
      p += 1;
      t += 1;
    } else if (star >= 0) {
      starText += 1;
      t = starText;
      p = star + 1;
    } else {
      return false;
    }
  }
  while (pattern[p] === '*') p += 1;
  return p === pattern.length;
}

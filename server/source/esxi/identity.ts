import type { MachineIdentity } from '../source.ts';

/**
 * Finds a machine again, whatever its id today: by instance UUID; else by BIOS UUID and a disk; else by
 * path and a disk. Of several with the same UUID (a copy that kept it) the one with the same path wins,
 * then the one with most of the disks.
 */
export function matchMachine<T extends { identity: MachineIdentity }>(
  wanted: MachineIdentity,
  machines: readonly T[],
): T | null {
  const rules: ((candidate: MachineIdentity) => boolean)[] = [
    (candidate) => isSameUuid(candidate.instanceUuid, wanted.instanceUuid),
    (candidate) => isSameUuid(candidate.biosUuid, wanted.biosUuid) && commonDisks(candidate, wanted) > 0,
    (candidate) => candidate.path === wanted.path && commonDisks(candidate, wanted) > 0,
  ];
  for (const rule of rules) {
    const found = machines.filter((machine) => rule(machine.identity));
    const best = found.sort((a, b) => likeness(b.identity, wanted) - likeness(a.identity, wanted))[0];
    if (best !== undefined) return best;
  }
  return null;
}

/** Outweighs any number of disks. */
const SAME_PATH = 1_000_000;

function likeness(candidate: MachineIdentity, wanted: MachineIdentity): number {
  return (candidate.path === wanted.path ? SAME_PATH : 0) + commonDisks(candidate, wanted);
}

function commonDisks(a: MachineIdentity, b: MachineIdentity): number {
  const known = new Set(a.diskUuids.map(plainUuid));
  return b.diskUuids.filter((uuid) => known.has(plainUuid(uuid))).length;
}

function isSameUuid(a: string | null, b: string | null): boolean {
  return a !== null && b !== null && plainUuid(a) !== '' && plainUuid(a) === plainUuid(b);
}

/** SOAP, descriptors and `.vmx` files write the same UUID with other dashes, blanks and cases. */
export function plainUuid(uuid: string): string {
  return uuid.toLowerCase().replace(/[^0-9a-f]/g, '');
}

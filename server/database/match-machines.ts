import type { MachineIdentityView } from '../contract/api/machine.schema.ts';

/**
 * Which of the known machines are among the found ones, whatever the host calls them today. Pure.
 * A known machine is matched once and a found one is matched once, the surest pairs first:
 *
 * 1. instance UUID and path, 2. instance UUID and a disk, 3. instance UUID,
 * 4. BIOS UUID and a disk, 5. path and a disk, 6. path where neither side has UUIDs to compare.
 *
 * The order matters where a copy kept the UUIDs of its original: the one that stayed in its place
 * stays itself. Different instance UUIDs are no proof of a different machine, since the host gives a
 * new one when it is told that a VM was copied; a shared disk and BIOS UUID outweigh them.
 *
 * @returns index of the found machine for each known one, null where it is gone
 */
export function matchMachines(
  known: readonly MachineIdentityView[],
  found: readonly MachineIdentityView[],
): (number | null)[] {
  const result: (number | null)[] = known.map(() => null);
  const taken = new Set<number>();
  for (let rank = 0; rank < RANKS.length; rank += 1) {
    for (const [knownIndex, before] of known.entries()) {
      if (result[knownIndex] !== null) continue;
      for (const [foundIndex, now] of found.entries()) {
        if (taken.has(foundIndex) || !(RANKS[rank]?.(before, now) ?? false)) continue;
        result[knownIndex] = foundIndex;
        taken.add(foundIndex);
        break;
      }
    }
  }
  return result;
}

type Rank = (before: MachineIdentityView, now: MachineIdentityView) => boolean;

const RANKS: readonly Rank[] = [
  (before, now) => sameInstance(before, now) && before.path === now.path,
  (before, now) => sameInstance(before, now) && shareDisk(before, now),
  sameInstance,
  (before, now) => isSameUuid(before.biosUuid, now.biosUuid) && shareDisk(before, now),
  (before, now) => before.path === now.path && shareDisk(before, now),
  (before, now) => before.path === now.path && (!hasUuids(before) || !hasUuids(now)),
];

function sameInstance(before: MachineIdentityView, now: MachineIdentityView): boolean {
  return isSameUuid(before.instanceUuid, now.instanceUuid);
}

function hasUuids(identity: MachineIdentityView): boolean {
  return identity.instanceUuid !== null || identity.biosUuid !== null || identity.diskUuids.length > 0;
}

function shareDisk(before: MachineIdentityView, now: MachineIdentityView): boolean {
  const disks = new Set(before.diskUuids.map(normalize));
  return now.diskUuids.some((uuid) => disks.has(normalize(uuid)));
}

function isSameUuid(left: string | null, right: string | null): boolean {
  return left !== null && right !== null && normalize(left) === normalize(right);
}

/** Hosts print UUIDs with spaces in a .vmx, with hyphens by SOAP, in either case. */
function normalize(uuid: string): string {
  return uuid.toLowerCase().replaceAll(/[^0-9a-f]/g, '');
}

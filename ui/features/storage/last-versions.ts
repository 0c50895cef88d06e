import type { PointView } from '../../api/types.ts';

type Version = Pick<PointView, 'id' | 'machineId' | 'machineName'>;

/** More machines than this are not asked for before a deletion. */
const MACHINES_MAX = 20;

/**
 * Names of the machines that have no version in any storage once the chosen ones are in the trash.
 * @param versionsOf the newest versions of a machine outside of the trash, in all storages; at most `limit`.
 */
export async function leftWithout(
  chosen: readonly Version[],
  versionsOf: (machineId: string, limit: number) => Promise<readonly Pick<Version, 'id'>[]>,
): Promise<string[]> {
  const going = new Set(chosen.map(({ id }) => id));
  const names = new Map(chosen.map(({ machineId, machineName }) => [machineId, machineName]));
  const bare = await Promise.all(
    [...names].slice(0, MACHINES_MAX).map(async ([machineId, name]) => {
      const ofMachine = chosen.filter((version) => version.machineId === machineId).length;
      const there = await versionsOf(machineId, ofMachine + 1);
      return there.every(({ id }) => going.has(id)) ? [name] : [];
    }),
  );
  return bare.flat();
}

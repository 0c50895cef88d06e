import { Dictionary } from './dictionary.ts';

/** One snapshot of a machine, as its `.vmsd` tells. */
export interface VmsdSnapshot {
  uid: string;
  parentUid: string | null;
  name: string;
  createdAtMs: number | null;
  /** The file that the snapshot froze, by where the disk is plugged in (`scsi0:0`). */
  disks: { node: string; fileName: string }[];
}

export interface Vmsd {
  currentUid: string | null;
  lastUid: string | null;
  snapshots: VmsdSnapshot[];
}

/** More than ESXi allows (32 a chain); a longer index is damage, not a snapshot. */
const SNAPSHOT_INDEX_MAX = 4096;

/**
 * Reads a `.vmsd`. Indices have gaps after deletions and any number of digits, so the entries are
 * taken from the keys that are there, never counted up.
 */
export function parseVmsd(content: Buffer): Vmsd {
  const dictionary = Dictionary.parse(content);
  const indices = new Set<number>();
  const disks = new Map<number, Set<number>>();
  for (const key of dictionary.keys()) {
    const match = /^snapshot(\d{1,4})\.(?:uid$|disk(\d{1,4})\.filename$)/.exec(key);
    if (match === null) continue;
    const index = Number(match[1]);
    if (index > SNAPSHOT_INDEX_MAX) continue;
    if (match[2] === undefined) indices.add(index);
    else disks.set(index, (disks.get(index) ?? new Set()).add(Number(match[2])));
  }
  const snapshots = [...indices]
    .sort((a, b) => a - b)
    .map((index): VmsdSnapshot => {
      const prefix = `snapshot${String(index)}`;
      return {
        uid: dictionary.get(`${prefix}.uid`) ?? '',
        parentUid: dictionary.get(`${prefix}.parent`) ?? null,
        name: dictionary.get(`${prefix}.displayName`) ?? '',
        createdAtMs: createdAtMs(dictionary.get(`${prefix}.createTimeHigh`), dictionary.get(`${prefix}.createTimeLow`)),
        disks: [...(disks.get(index) ?? [])]
          .sort((a, b) => a - b)
          .map((disk) => ({
            node: (dictionary.get(`${prefix}.disk${String(disk)}.node`) ?? '').toLowerCase(),
            fileName: dictionary.get(`${prefix}.disk${String(disk)}.fileName`) ?? '',
          })),
      };
    });
  return {
    currentUid: dictionary.get('snapshot.current') ?? null,
    lastUid: dictionary.get('snapshot.lastUID') ?? null,
    snapshots,
  };
}

/** Microseconds since 1970 in two halves; the low one is written as a signed number by some versions. */
function createdAtMs(high: string | undefined, low: string | undefined): number | null {
  if (high === undefined || low === undefined || !/^-?\d{1,10}$/.test(high) || !/^-?\d{1,10}$/.test(low)) return null;
  const micros = (BigInt(high) << 32n) | BigInt.asUintN(32, BigInt(low));
  const millis = Number(micros / 1000n);
  return Number.isSafeInteger(millis) && millis >= 0 ? millis : null;
}

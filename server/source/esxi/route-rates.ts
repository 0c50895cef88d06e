import { GIB, MIB } from '../../runtime/index.ts';
import type { RouteName, RouteRates } from '../source.ts';

/**
 * Which of the open routes to read a disk by, from what former transfers on this host told: seconds per byte of disk
 * content, by type of datastore, since that decides what locks and copies cost. Forgotten when the host's build or
 * edition changes (see `probe.ts`).
 */

/** Best first, as long as nothing was measured: what leaves the host alone, then what takes no room on it. */
const PREFERENCE: readonly RouteName[] = ['ssh-raw', 'https-folder', 'iscsi-clone', 'nfs-clone', 'host-clone'];
/** Below this, setting up costs more than reading, and the rate says little about larger disks. */
export const MEASURED_BYTES_MIN = 256 * MIB;
/** A preferred route is left only for one that is faster by more than chance. */
const FASTER_BY = 1.2;
/** Networks and datastores change; what is older counts as not tried. */
const VALID_MS = 30 * 24 * 3_600_000;
/** How much is risked on a route that nobody knows here: this much of a disk, and this long by the best known route. */
const TRIAL_BYTES_MAX = 256 * GIB;
const TRIAL_SECONDS_MAX = 1_800;
/** Copies on the host take room on its datastore: never only to see how fast they are. */
const NEVER_TRIED: readonly RouteName[] = ['host-clone'];

export interface RouteQuestion {
  /** The routes that are open. */
  routes: readonly RouteName[];
  rates: RouteRates | undefined;
  /** `VMFS-6`, `NFS`, …; '' where the host does not tell. */
  datastoreType: string;
  /** What a reader of ranges has to read. */
  wantedBytes: number;
  /** What a route that copies has to. */
  sizeBytes: number;
  nowMs: number;
  measuredBytesMin: number;
}

export interface RouteChoice {
  /** Best first; those after the first are tried when one is refused. */
  routes: RouteName[];
  /** `preferred`: nothing measured speaks against the usual order. `measured`: it does. `trial`: to be measured. */
  reason: 'preferred' | 'measured' | 'trial';
  /** Of the first and of the one that would have been it otherwise; null where not known. */
  bytesPerSecond: number | null;
  otherRoute: RouteName | null;
  otherBytesPerSecond: number | null;
}

/**
 * Orders the open routes. Deterministic: a route without a (fresh) rate is given one chance, by the next transfer that
 * is large enough to tell and small enough to bear, once the usual one was measured; else the one that is expected to
 * end first is taken.
 */
export function chooseRoute(question: RouteQuestion): RouteChoice {
  const { rates, datastoreType, nowMs } = question;
  const usual = question.routes.toSorted((a, b) => PREFERENCE.indexOf(a) - PREFERENCE.indexOf(b));
  const known = new Map<RouteName, number>();
  for (const route of usual) {
    const rate = rates?.[datastoreType]?.[route];
    if (rate !== undefined && nowMs - rate.atMs < VALID_MS) known.set(route, rate.bytesPerSecond);
  }
  const secondsBy = (route: RouteName): number => {
    const bytesPerSecond = known.get(route) ?? 0;
    return bytesPerSecond === 0 ? Infinity : contentBytes(route, question) / bytesPerSecond;
  };

  const [first] = usual;
  const measured = usual.filter((route) => known.has(route));
  const fastest = measured.toSorted((a, b) => secondsBy(a) - secondsBy(b))[0];
  let best = first;
  // As long as the usual one has no rate, it is the one to be measured.
  if (first !== undefined && fastest !== undefined && known.has(first)) {
    best = measured.find((route) => secondsBy(route) <= secondsBy(fastest) * FASTER_BY) ?? fastest;
    const trial = usual.find((route) => !known.has(route) && isTriable(route, question));
    if (trial !== undefined && secondsBy(best) <= TRIAL_SECONDS_MAX) return choice(trial, best, 'trial');
  }
  return choice(best, best === first ? null : (first ?? null), best === first ? 'preferred' : 'measured');

  function choice(
    chosen: RouteName | undefined,
    otherRoute: RouteName | null,
    reason: RouteChoice['reason'],
  ): RouteChoice {
    // After the chosen one the faster before the slower, and what nobody knows in its usual place behind them.
    const rest = usual.filter((route) => route !== chosen);
    const order = rest.toSorted((a, b) => Number(known.has(b)) - Number(known.has(a)) || compareKnown(a, b));
    return {
      routes: chosen === undefined ? [] : [chosen, ...(reason === 'preferred' ? rest : order)],
      reason,
      bytesPerSecond: chosen === undefined ? null : (known.get(chosen) ?? null),
      otherRoute,
      otherBytesPerSecond: otherRoute === null ? null : (known.get(otherRoute) ?? null),
    };
  }

  function compareKnown(a: RouteName, b: RouteName): number {
    return known.has(a) && known.has(b) ? secondsBy(a) - secondsBy(b) : 0;
  }
}

/** What a route has to go through for a disk: the host copies disks as a whole only. */
export function contentBytes(route: RouteName, { wantedBytes, sizeBytes }: { wantedBytes: number; sizeBytes: number }) {
  return route.endsWith('-clone') ? sizeBytes : wantedBytes;
}

function isTriable(route: RouteName, { wantedBytes, sizeBytes, measuredBytesMin }: RouteQuestion): boolean {
  if (NEVER_TRIED.includes(route)) return false;
  const bytes = contentBytes(route, { wantedBytes, sizeBytes });
  return bytes >= measuredBytesMin && bytes <= TRIAL_BYTES_MAX && bytes <= 2 * wantedBytes;
}

/**
 * The rates with one more transfer in them: half of it, half of what was known, so that one bad hour does not decide.
 * `bytesPerSecond` 0 keeps a route that was refused out of trials, and last.
 */
export function addRate(
  rates: RouteRates | undefined,
  transfer: { datastoreType: string; route: RouteName; bytesPerSecond: number; atMs: number },
): RouteRates {
  const { datastoreType, route, bytesPerSecond, atMs } = transfer;
  const before = rates?.[datastoreType]?.[route];
  const isJoined = before !== undefined && bytesPerSecond > 0 && before.bytesPerSecond > 0;
  const isFresh = before !== undefined && atMs - before.atMs < VALID_MS;
  const mean = isJoined && isFresh ? (before.bytesPerSecond + bytesPerSecond) / 2 : bytesPerSecond;
  const rate = { bytesPerSecond: Math.round(mean), atMs };
  return { ...rates, [datastoreType]: { ...rates?.[datastoreType], [route]: rate } };
}

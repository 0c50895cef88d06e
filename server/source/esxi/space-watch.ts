import { setTimeout as delay } from 'node:timers/promises';
import type { EsxiContext } from './context.ts';
import { readFilesystems } from './filesystems.ts';

/** Free space of one volume, when it was looked at. */
export interface SpaceSight {
  freeBytes: number;
  /** On the monotonic clock. */
  atMs: number;
}

/** A look costs the host a start of `esxcli`, most of a second. */
const PAUSE_MIN_MS = 2_000;
/** The second look tells how fast room goes, so it comes soon. */
const PAUSE_FIRST_MS = 5_000;
/** Of the time that is left at the speed of last. */
const SHARE_OF_REST = 0.25;

/**
 * How long free space may be left alone: a guest that writes 200 MB/s fills six gigabytes in half a minute, and a full
 * datastore stops every machine on it.
 *
 * @param now by volume
 * @param before of the look before; empty at the first
 * @param limits `watchIntervalMs` is the longest pause; room down to `freeFloorBytes` is what may still go
 */
export function pauseUntilNextLook(
  now: ReadonlyMap<string, SpaceSight>,
  before: ReadonlyMap<string, SpaceSight>,
  limits: { freeFloorBytes: number; watchIntervalMs: number },
): number {
  let pauseMs = before.size === 0 ? PAUSE_FIRST_MS : limits.watchIntervalMs;
  for (const [volume, { freeBytes, atMs }] of now) {
    const earlier = before.get(volume);
    if (earlier === undefined || atMs <= earlier.atMs) continue;
    const bytesPerMs = (earlier.freeBytes - freeBytes) / (atMs - earlier.atMs);
    if (bytesPerMs <= 0) continue;
    const restMs = Math.max(0, freeBytes - limits.freeFloorBytes) / bytesPerMs;
    pauseMs = Math.min(pauseMs, Math.max(PAUSE_MIN_MS, restMs * SHARE_OF_REST));
  }
  return Math.min(pauseMs, limits.watchIntervalMs);
}

/**
 * Looks at the free space of volumes until `signal` fires, and tells of each that has less than the floor, whoever
 * filled it. Never rejects.
 *
 * @param volumes `root` is the volume's folder on the host
 */
export async function watchSpace(
  context: EsxiContext,
  volumes: readonly { datastore: string; root: string }[],
  signal: AbortSignal,
  onLow: (low: { datastore: string; freeBytes: number }) => Promise<void> | void,
): Promise<void> {
  const { clock, limits, logger, shell: host } = context;
  let before = new Map<string, SpaceSight>();
  while (!signal.aborted) {
    let pauseMs = limits.watchIntervalMs;
    try {
      const filesystems = await readFilesystems(host, signal);
      const now = new Map<string, SpaceSight>();
      for (const { datastore, root } of volumes) {
        const volume = filesystems.find((fs) => fs.root === root || fs.name === datastore);
        if (volume === undefined) continue;
        const { freeBytes } = volume;
        now.set(datastore, { freeBytes, atMs: clock.monotonicMs() });
        if (freeBytes < limits.freeFloorBytes) await onLow({ datastore, freeBytes });
      }
      pauseMs = pauseUntilNextLook(now, before, limits);
      before = now;
    } catch (error) {
      if (signal.aborted) return;
      logger.warn({ error: String(error) }, 'free space could not be read; it is tried again');
    }
    // Where nothing else is left to do, it keeps no process alive.
    await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

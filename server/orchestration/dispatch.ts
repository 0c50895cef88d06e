import type { JobOptions } from '../contract/api/job.schema.ts';
import type { RunKind } from '../contract/api/run.schema.ts';
import type { Settings } from '../contract/api/settings.schema.ts';

/** A part that has not ended, with all that limits look at. */
export interface DispatchPart {
  id: string;
  /** That is backed up, or replaced by a restore; null for work on none that is there. */
  machineId: string | null;
  /** Null for work that needs no host. */
  hostId: string | null;
  /** Datastores of the host that the machine lies on. */
  datastores: readonly string[];
  repositoryId: string | null;
  /** As of `priorityOf`. */
  priority: number;
  /** A person waits for it: a restore or an export. */
  isAwaited: boolean;
  /** Handed to the queue already. */
  isEnqueued: boolean;
}

export type DispatchLimits = Pick<
  Settings,
  'tasksPerHost' | 'tasksPerDatastore' | 'tasksPerRepository' | 'tasksInTotal'
>;

/**
 * Which waiting parts may be handed to the queue now, in their order: by priority, then as given. One that has
 * to wait keeps back no other one that meets no limit. A machine is in one of them at a time, whatever the limits.
 * Restores keep to each limit among themselves, and one of them may go beyond it: backups that take hours never fill
 * the place of one.
 */
export function chooseParts(parts: readonly DispatchPart[], limits: DispatchLimits): string[] {
  const busy = new Map<string, Busy>();
  const chosen: string[] = [];
  for (const part of parts) if (part.isEnqueued) count(busy, part, limits);
  const waiting = parts.filter((part) => !part.isEnqueued).sort((a, b) => a.priority - b.priority);
  for (const part of waiting) {
    if (placesOf(part, limits).some(({ key, max }) => isFull(busy.get(key), max, part))) continue;
    count(busy, part, limits);
    chosen.push(part.id);
  }
  return chosen;
}

/** What a person sits before and waits for, unlike care for machines and repositories. */
export function isAwaited(kind: RunKind): boolean {
  return kind === 'restore' || kind === 'export';
}

/** Small numbers come first: what a person waits for, then backups, then care for repositories. */
export function priorityOf(kind: RunKind, options: Pick<JobOptions, 'priority'> | null): number {
  if (isAwaited(kind)) return 1;
  return kind === 'backup' ? { high: 2, normal: 3, low: 4 }[options?.priority ?? 'normal'] : 5;
}

/** What is at work where a limit holds. */
interface Busy {
  all: number;
  awaited: number;
}

function isFull(busy: Busy | undefined, max: number, part: DispatchPart): boolean {
  const { all, awaited } = busy ?? { all: 0, awaited: 0 };
  if (!part.isAwaited) return all >= max;
  // One goes in any case: the limit may have been a higher one when the backups began.
  return awaited > 0 && (awaited >= max || all > max);
}

function count(busy: Map<string, Busy>, part: DispatchPart, limits: DispatchLimits): void {
  for (const { key } of placesOf(part, limits)) {
    const { all, awaited } = busy.get(key) ?? { all: 0, awaited: 0 };
    busy.set(key, { all: all + 1, awaited: awaited + Number(part.isAwaited) });
  }
}

function placesOf(part: DispatchPart, limits: DispatchLimits): { key: string; max: number }[] {
  const { machineId, hostId, repositoryId, datastores } = part;
  const places = [{ key: 'all', max: limits.tasksInTotal }];
  if (machineId !== null) places.push({ key: `machine ${machineId}`, max: 1 });
  if (repositoryId !== null) places.push({ key: `repository ${repositoryId}`, max: limits.tasksPerRepository });
  if (hostId === null) return places;
  places.push({ key: `host ${hostId}`, max: limits.tasksPerHost });
  // Two hosts may each have a "datastore1" of their own.
  for (const name of new Set(datastores)) {
    places.push({ key: `datastore ${hostId} ${name}`, max: limits.tasksPerDatastore });
  }
  return places;
}

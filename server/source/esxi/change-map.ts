import { totalBytes, type Extent } from '../../disk/index.ts';
import { AppError, isAppError } from '../../errors/index.ts';
import type { Reference, VsphereClient } from '../../vsphere/index.ts';
import type { Note } from '../source.ts';
import { plainUuid } from './identity.ts';

/**
 * A point in time of a disk, with what is needed to distrust it later. Written into each version as
 * text: `cbt1 <changeId> <disk uuid> <tip> <switched on>`, blanks in the parts percent-encoded.
 */
export interface ChangeToken {
  /** As ESXi gives it: `52 2d … 7b/1`, epoch and sequence. */
  changeId: string;
  diskUuid: string;
  /** The file that the disk wrote to before our snapshot: `[ds1] a/a.vmdk`. */
  tip: string;
  /** When the machine was switched on, milliseconds since 1970; null: it was off, or nobody knows. */
  bootedAtMs: number | null;
}

export function encodeChangeToken({ changeId, diskUuid, tip, bootedAtMs }: ChangeToken): string {
  return `cbt1 ${[changeId, diskUuid, tip, bootedAtMs ?? '-'].map(encodeURIComponent).join(' ')}`;
}

export function parseChangeToken(text: string): ChangeToken | null {
  const [kind, ...parts] = text.split(' ');
  if (kind !== 'cbt1' || parts.length < 3 || parts.length > 4) return null;
  try {
    const [changeId = '', diskUuid = '', tip = '', booted = '-'] = parts.map(decodeURIComponent);
    const bootedAtMs = /^\d{1,15}$/.test(booted) ? Number(booted) : null;
    return parseChangeId(changeId) === null ? null : { changeId, diskUuid, tip, bootedAtMs };
  } catch {
    return null;
  }
}

/** Epoch (UUID without blanks and dashes) and sequence number of a change id. */
export function parseChangeId(changeId: string): { epoch: string; sequence: number } | null {
  const match = /^([0-9a-f][0-9a-f -]{30,60})\/(\d{1,15})$/i.exec(changeId.trim());
  const epoch = plainUuid(match?.[1] ?? '');
  return epoch.length === 32 ? { epoch, sequence: Number(match?.[2]) } : null;
}

/** What is known about the disk now, to compare a token with. */
export interface FrozenState {
  changeId: string;
  diskUuid: string;
  sizeBytes: number;
  /** Every file of the frozen chain, tip first. */
  chain: string[];
  /** As in the token. */
  bootedAtMs: number | null;
}

/** Why changes since the token must not be asked for; null when they may. */
export function distrust(since: { changeToken: string; sizeBytes: number }, now: FrozenState): Note | null {
  const token = parseChangeToken(since.changeToken);
  const before = token === null ? null : parseChangeId(token.changeId);
  const present = parseChangeId(now.changeId);
  if (token === null || before === null || present === null) {
    return full('CHANGES_TOKEN_UNREADABLE', 'The point in time stored with the last version is not readable.');
  }
  if (since.sizeBytes !== now.sizeBytes) {
    const details = { beforeBytes: since.sizeBytes, nowBytes: now.sizeBytes };
    // Somebody wanted it so: nothing to warn of.
    return {
      ...full('CHANGES_DISK_RESIZED', 'The disk has another size than in the last version.', details),
      level: 'info',
    };
  }
  if (plainUuid(token.diskUuid) !== plainUuid(now.diskUuid)) {
    return full('CHANGES_DISK_REPLACED', 'The disk is another one than in the last version.');
  }
  if (before.epoch !== present.epoch) {
    return full('CHANGES_TRACKING_RESET', 'Change tracking was reset on the host since the last version.');
  }
  if (present.sequence < before.sequence) {
    return full('CHANGES_REVERTED', 'The machine went back to an earlier state since the last version.');
  }
  if (!now.chain.includes(token.tip)) {
    return full(
      'CHANGES_CHAIN_CHANGED',
      'The snapshots of the machine were merged or reverted since the last version.',
    );
  }
  // What is written into the layer of a snapshot is gone when the machine goes back to it. The next layer may have the
  // same name, and whether the epoch stays is published nowhere. Nobody goes back without stopping the machine.
  const isLayer = now.chain.at(-1) !== token.tip;
  if (isLayer && (token.bootedAtMs === null || token.bootedAtMs !== now.bootedAtMs)) {
    const text =
      'The machine has snapshots of its own and was switched off since the last version: it may have gone back.';
    // Mostly it did not.
    return { ...full('CHANGES_MAYBE_REVERTED', text), level: 'info' };
  }
  return null;
}

function full(code: string, text: string, details?: Note['details']): Note {
  return { level: 'warning', code, text: `${text} Everything is read.`, ...(details && { details }) };
}

/** More windows than any disk needs: 62 TB in steps of 4 MiB. A host that needs more is stuck. */
const WINDOWS_MAX = 16_000_000;

/**
 * All areas that changed since `changeId` (`*`: that are allocated). One reply covers as much as the
 * host likes, so the window is moved on until the whole disk was answered for.
 *
 * @throws CHANGE_MAP_INVALID when replies overlap, leave the window or do not move on; what the
 *   client throws (SOAP_FAULT, HOST_LICENSE_REFUSES)
 */
export async function queryChanges(
  vsphere: Pick<VsphereClient, 'queryChangedDiskAreas'>,
  request: {
    machine: Reference;
    snapshot: Reference | null;
    deviceKey: number;
    sizeBytes: number;
    changeId: string;
    signal: AbortSignal;
  },
): Promise<Extent[]> {
  const { machine, snapshot, deviceKey, sizeBytes, changeId, signal } = request;
  const areas: Extent[] = [];
  let lastEnd = 0;
  let startOffsetBytes = 0;
  for (let window = 0; startOffsetBytes < sizeBytes; window += 1) {
    signal.throwIfAborted();
    if (window > WINDOWS_MAX) throw invalid('it does not come to an end');
    const reply = await vsphere.queryChangedDiskAreas({ machine, snapshot, deviceKey, startOffsetBytes, changeId });
    const end = reply.startOffsetBytes + reply.lengthBytes;
    if (reply.startOffsetBytes !== startOffsetBytes) throw invalid('a window begins elsewhere than asked');
    if (!(reply.lengthBytes > 0) || !Number.isSafeInteger(end)) throw invalid('a window does not move on');
    // The last window may be rounded up to a whole unit of the host.
    for (const area of reply.areas) {
      const areaEnd = area.offsetBytes + area.lengthBytes;
      if (!(area.lengthBytes > 0) || !Number.isSafeInteger(areaEnd)) throw invalid('an area has no length');
      if (area.offsetBytes < lastEnd) throw invalid('areas overlap or are out of order');
      if (area.offsetBytes < startOffsetBytes || areaEnd > end) throw invalid('an area leaves its window');
      lastEnd = areaEnd;
      if (area.offsetBytes >= sizeBytes) continue;
      const lengthBytes = Math.min(areaEnd, sizeBytes) - area.offsetBytes;
      const previous = areas.at(-1);
      if (previous !== undefined && previous.offsetBytes + previous.lengthBytes === area.offsetBytes) {
        previous.lengthBytes += lengthBytes;
      } else {
        areas.push({ offsetBytes: area.offsetBytes, lengthBytes });
      }
    }
    startOffsetBytes = end;
  }
  if (totalBytes(areas) > sizeBytes) throw invalid('it is larger than the disk');
  return areas;
}

function invalid(reason: string): AppError {
  return new AppError('CHANGE_MAP_INVALID', `The change map of the host cannot be used: ${reason}.`, {
    hint: 'The run reads everything instead. If it happens again, reset change tracking of the machine.',
    details: { reason },
  });
}

/**
 * What a failed query means: the note that explains the fallback, or null where the error is none of
 * change tracking and must be reported.
 */
export function explainQueryFailure(error: unknown): Note | null {
  if (!isAppError(error)) return null;
  if (error.code === 'CHANGE_MAP_INVALID') {
    return warn('CHANGES_MAP_INVALID', `${error.message} Everything is read.`);
  }
  if (error.code === 'HOST_LICENSE_REFUSES') {
    return warn('CHANGES_LICENSE', 'The licence of the host does not answer for changed areas. Everything is read.');
  }
  if (error.code !== 'SOAP_FAULT') return null;
  const fault = String(error.details['fault'] ?? '');
  const key = String(error.details['key'] ?? '');
  if (fault === 'FileFault' || key.includes('cbt.')) {
    if (key.endsWith('noTrack')) {
      return warn('CHANGES_NOT_TRACKED', 'Changes of this disk are not tracked by the host. Everything is read.');
    }
    if (key.endsWith('noEpoch')) {
      return warn('CHANGES_NO_MAP', 'The host has no map of allocated areas for this disk. Everything is read.');
    }
    return warn('CHANGES_UNKNOWN', 'The host cannot tell what changed on this disk. Everything is read.', { key });
  }
  if (fault === 'InvalidArgument' || fault === 'NotSupported' || fault === 'InvalidRequest') {
    return warn(
      'CHANGES_POINT_UNKNOWN',
      'The host does not know the point in time of the last version. Everything is read.',
    );
  }
  return null;
}

function warn(code: string, text: string, details?: Note['details']): Note {
  return { level: 'warning', code, text, ...(details && { details }) };
}

import { session } from '../api/session.ts';
import { readersTimeZone, zoneForNew } from './time-zone.ts';

/** Whose clock a time of day is meant by that is set now. */
export function newTimeZone(): string {
  return zoneForNew(session.value?.timeZone ?? 'UTC', readersTimeZone());
}

/**
 * Instants are shown by the reader's clock. A time of day that comes again is meant by the clock of the zone that it
 * was set in: there that zone is named, always where it can be changed, else where it is not the reader's.
 */
export function readersTimeZone(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/**
 * What a new time of day is meant by: the clock of the NAS that keeps it, whoever sets it from wherever. UTC is what a
 * server says that was not told its zone; there the reader's is more likely meant.
 */
export function zoneForNew(ofServer: string, ofReader: string): string {
  return /^(Etc\/)?(UTC|UCT|GMT|Universal|Zulu|Unknown)$/.test(ofServer) ? ofReader : ofServer;
}

/**
 * What a clock in one zone shows when one in another shows `time`, both `HH:MM`, with the offsets of that moment.
 * @throws RangeError for a zone that the browser does not know.
 */
export function timeInZone(time: string, from: string, to: string, nowMs = Date.now()): string {
  const [hour = 0, minute = 0] = time.split(':').map(Number);
  const moved = hour * 60 + minute + offsetMinutes(to, nowMs) - offsetMinutes(from, nowMs);
  const inDay = ((moved % 1440) + 1440) % 1440;
  return `${String(Math.floor(inDay / 60)).padStart(2, '0')}:${String(inDay % 60).padStart(2, '0')}`;
}

/** How far a zone's clock is before UTC. */
function offsetMinutes(timeZone: string, atMs: number): number {
  const clock = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
  });
  const parts = Object.fromEntries(clock.formatToParts(atMs).map(({ type, value }) => [type, Number(value)]));
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0 } = parts;
  return Math.round((Date.UTC(year, month - 1, day, hour, minute) - Math.floor(atMs / 60_000) * 60_000) / 60_000);
}

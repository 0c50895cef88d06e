/**
 * A change of the settings that puts daily maintenance as far from now as it can be: a test that crosses the hour of
 * the default would have a run that it did not start.
 */
export function quietDay(nowMs: number = Date.now()): { maintenance: { time: string } } {
  return { maintenance: { time: new Date(nowMs + 12 * 3_600_000).toISOString().slice(11, 16) } };
}

/** A time zone in which it is between ten and eleven in the morning. */
export function zoneAtTen(nowMs: number = Date.now()): string {
  const ahead = 10 - new Date(nowMs).getUTCHours();
  const hours = ahead < -12 ? ahead + 24 : ahead;
  // Their signs are those of POSIX: minus is east of Greenwich.
  return `Etc/GMT${hours > 0 ? '-' : '+'}${Math.abs(hours)}`;
}

/**
 * A change of the settings that puts daily maintenance as far from now as it can be: a test that crosses the hour of
 * the default would have a run that it did not start.
 */
export function quietDay(nowMs: number = Date.now()): { maintenance: { time: string } } {
  return { maintenance: { time: new Date(nowMs + 12 * 3_600_000).toISOString().slice(11, 16) } };
}

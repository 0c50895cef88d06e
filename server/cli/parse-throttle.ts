import { InvalidArgumentError } from 'commander';
import type { Throttle } from '../contract/api/throttle.schema.ts';
import { parseDays } from './parse-schedule.ts';

/** What `--throttle` said so far. No limit is not null, which commander takes for an option without a value. */
export type ThrottleInput = Pick<Throttle, 'limits' | 'otherwise'> | 'off';

const TIME = '(?:[01]\\d|2[0-3]):[0-5]\\d';
const LIMIT = new RegExp(`^(?:([a-z,-]+) )?(${TIME})-(${TIME}) (\\d+(?:\\.\\d+)?)$`, 'i');

/** `mon-fri 08:00-18:00 10`, `22:00-06:00 80`, `10` for all other times, `off`; MB/s, several times. */
export function collectThrottle(value: string, before: ThrottleInput | undefined): ThrottleInput {
  const text = value.trim().replaceAll(/\s+/g, ' ');
  if (text === 'off') return text;
  const { limits, otherwise } = before === undefined || before === 'off' ? { limits: [], otherwise: null } : before;
  if (/^\d+(\.\d+)?$/.test(text)) return { limits, otherwise: Number(text) };
  const [, days, from, until, megabytes] = LIMIT.exec(text) ?? [];
  if (from === undefined || until === undefined) {
    throw new InvalidArgumentError('A limit looks like "mon-fri 08:00-18:00 10", "10" or "off".');
  }
  const limit = { from, until, megabytesPerSecond: Number(megabytes) };
  return { limits: [...limits, days === undefined ? limit : { days: parseDays(days), ...limit }], otherwise };
}

/** @returns undefined when nothing was said: it stays as it is */
export function toThrottle(input: ThrottleInput | undefined, zone: string | undefined): Throttle | null | undefined {
  if (input === undefined) return undefined;
  if (input === 'off') return null;
  return { timeZone: zone ?? Intl.DateTimeFormat().resolvedOptions().timeZone, ...input };
}

export function describeThrottle(throttle: Throttle | null): string {
  if (throttle === null) return 'none';
  const { limits, otherwise, timeZone } = throttle;
  const pieces = limits.map(({ days, from, until, megabytesPerSecond }) => {
    const when = days === undefined ? '' : `${days.map((day) => day.slice(0, 3)).join(',')} `;
    return `${when}${from}-${until} ${megabytesPerSecond} MB/s`;
  });
  return `${[...pieces, otherwise === null ? 'else none' : `else ${otherwise} MB/s`].join('; ')} (${timeZone})`;
}

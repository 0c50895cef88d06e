import { InvalidArgumentError } from 'commander';

/** Parsers of option values; what they refuse is a usage error. */
export function parseInteger(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

export function parseShare(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && value >= 0 && value <= 1) return value;
  throw new InvalidArgumentError('It must be a number from 0 to 1.');
}

/** `1`, `512K`, `4M`: bytes, in powers of two. */
export function parseSize(text: string): number {
  const [, digits, unit] = /^(\d+)([KMGkmg]?)(?:iB)?$/.exec(text) ?? [];
  if (digits === undefined) throw new InvalidArgumentError('It must look like 262144, 256K or 1M.');
  const power = { K: 1, M: 2, G: 3 }[(unit ?? '').toUpperCase()] ?? 0;
  return Number(digits) * 1024 ** power;
}

/** A date or an instant of ISO 8601; a date alone begins at midnight UTC. */
export function parseTime(text: string): number {
  const atMs = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(atMs)) return atMs;
  throw new InvalidArgumentError('It must look like 2027-01-31 or 2027-01-31T12:00Z.');
}

/** Values of an option that may stand several times. */
export function collect(value: string, before: string[]): string[] {
  return [...before, value];
}

/** `OLD=NEW`, several times. */
export function collectPairs(value: string, before: Record<string, string>): Record<string, string> {
  const at = value.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('It must look like OLD=NEW.');
  return { ...before, [value.slice(0, at)]: value.slice(at + 1) };
}

export function oneOf<T extends string>(values: readonly T[]): (text: string) => T {
  return (text) => {
    const value = values.find((candidate) => candidate === text);
    if (value !== undefined) return value;
    throw new InvalidArgumentError(`It must be one of: ${values.join(', ')}.`);
  };
}

import type { ErrorBody, LogLine } from '../api/types.ts';
import { sentenceOf } from '../i18n/index.ts';
import { diskLabel } from './disk-label.ts';
import { formatBytes, formatNumber, formatTime } from './format.ts';

type Details = Record<string, string | number | boolean | null>;

/** What an error says to the reader, in their language; the server's own sentence where that has no other. */
export function tellError(error: ErrorBody): { text: string; hint: string | null; original: string | null } {
  const detail = reader(error.details);
  // Where the same may befall a mail server and a webhook, it is said which it was.
  const own =
    sentenceOf(`${error.code}.${String(error.details['way'] ?? '')}`, detail) ?? sentenceOf(error.code, detail);
  if (own === null) return { text: error.message, hint: error.hint ?? null, original: null };
  return { text: own, hint: null, original: error.message };
}

export function tellLine(line: LogLine): string {
  return (
    sentenceOf(`log.${line.code}`, reader(line.details ?? {})) ??
    sentenceOf(line.code, reader(line.details ?? {})) ??
    line.text
  );
}

/** Numbers that are names: nothing stands between their digits. */
const PORTS = new Set(['port', 'wanted', 'actual']);

function reader(details: Details): (name: string) => string | null {
  return (name) => {
    const value = Object.hasOwn(details, name) ? details[name] : undefined;
    if (value === undefined || value === null) return null;
    if (name === 'label') return diskLabel(String(value));
    if (typeof value !== 'number' || PORTS.has(name)) return String(value);
    if (name.endsWith('AtMs')) return formatTime(value);
    return name.endsWith('Bytes') || name.includes('BytesBefore') ? formatBytes(value) : formatNumber(value, 1);
  };
}

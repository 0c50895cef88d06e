import { ProtocolError } from './pdu.ts';

/** `key=value` pairs of logins and text requests: RFC 7143 section 6.1. */

const KEY_PATTERN = /^[A-Za-z0-9.\-+@_#]{1,63}$/;
const VALUE_BYTES_MAX = 8192;

/** @throws ProtocolError for text that is not pairs, or names a key twice */
export function parseTextKeys(text: Buffer): Map<string, string> {
  const keys = new Map<string, string>();
  for (const pair of text.toString('utf8').split('\0')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const key = equals < 0 ? pair : pair.slice(0, equals);
    if (equals < 0 || !KEY_PATTERN.test(key) || pair.length - equals > VALUE_BYTES_MAX)
      throw new ProtocolError('text is not a list of key=value');
    if (keys.has(key)) throw new ProtocolError(`${key} came twice`);
    keys.set(key, pair.slice(equals + 1));
  }
  return keys;
}

export function encodeTextKeys(keys: Iterable<readonly [string, string]>): Buffer {
  let text = '';
  for (const [key, value] of keys) text += `${key}=${value}\0`;
  return Buffer.from(text, 'utf8');
}

/** A numerical value in decimal or hexadecimal; null for anything else. */
export function parseNumber(value: string): number | null {
  if (!/^(0[xX][0-9a-fA-F]{1,12}|[0-9]{1,15})$/.test(value)) return null;
  return Number(value);
}

/** A binary value, `0x` and hexadecimal or `0b` and base64; null for anything else. */
export function parseBinary(value: string): Buffer | null {
  if (/^0[xX]([0-9a-fA-F]{2})+$/.test(value)) return Buffer.from(value.slice(2), 'hex');
  if (/^0[bB][A-Za-z0-9+/]+={0,2}$/.test(value)) return Buffer.from(value.slice(2), 'base64');
  return null;
}

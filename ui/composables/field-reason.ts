/**
 * What the server's schemas say of a field, and the key under `error.why` where the window says it in its own words.
 */
export const REASONS: Readonly<Record<string, string>> = {
  'must be an absolute path': 'absolutePath',
  'must not contain ".."': 'pathUpwards',
  'must be one line without control characters': 'oneLine',
  'must be one line': 'oneLine',
  'must be a host name or an IP address': 'hostName',
  'must be a mail address': 'mailAddress',
  'must be an http or https address without user and password': 'webAddress',
  'must have at least 12 characters': 'twelveCharacters',
  'must have at least 10 characters': 'tenCharacters',
  'has letters, digits, dot, hyphen and underscore, 64 at most': 'userName',
  'must be printable characters without spaces': 'printable',
  'has six digits': 'sixDigits',
};

/** What zod says of bounds, as of version 4; the first group is the bound. */
const BOUNDS: readonly (readonly [pattern: RegExp, key: string])[] = [
  [/^Too big: expected (?:int|number) to be <=(\d+(?:\.\d+)?)$/, 'atMost'],
  [/^Too small: expected (?:int|number) to be >=(\d+(?:\.\d+)?)$/, 'atLeast'],
  [/^Too big: expected string to have <=(\d+) characters$/, 'longest'],
  [/^Invalid input: expected int, received number$/, 'wholeNumber'],
];
export const REASON_KEYS: readonly string[] = [...Object.values(REASONS), ...BOUNDS.map(([, key]) => key)];

/** The key under `error.why` for it, with the bound where there is one; null where the window has no words for it. */
export function reasonOf(why: string): { key: string; bound: number | null } | null {
  if (Object.hasOwn(REASONS, why)) return { key: String(REASONS[why]), bound: null };
  for (const [pattern, key] of BOUNDS) {
    const found = pattern.exec(why);
    if (found !== null) return { key, bound: found[1] === undefined ? null : Number(found[1]) };
  }
  return null;
}

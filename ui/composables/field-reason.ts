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

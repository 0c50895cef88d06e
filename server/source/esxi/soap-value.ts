/** Reads values of SOAP replies (`ObjectContent`), in which anything may be missing or of another form. */

export type SoapObject = Record<string, unknown>;

export function asObject(value: unknown): SoapObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as SoapObject) : {};
}

/** A list of objects; a single object counts as a list of one. */
export function asObjects(value: unknown): SoapObject[] {
  if (value === undefined || value === null) return [];
  return (Array.isArray(value) ? value : [value]).map(asObject);
}

export function asText(value: unknown): string | null {
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : null;
}

export function asNumber(value: unknown): number | null {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number : null;
}

export function asBoolean(value: unknown): boolean {
  return value === true || value === 'true' || value === 1 || value === '1';
}

export function asReference(value: unknown): { type: string; value: string } | null {
  const { type, value: id } = asObject(value);
  return typeof type === 'string' && typeof id === 'string' ? { type, value: id } : null;
}

/** The name of the data object's class, without namespace. */
export function typeOf(value: unknown): string {
  return (asText(asObject(value)['_type']) ?? '').replace(/^.*:/, '');
}

/** Names of inventory objects come with `/`, `\` and `%` escaped, and with nothing else. */
export function unescapeName(name: string): string {
  return name.replace(/%(2f|5c|25)/gi, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

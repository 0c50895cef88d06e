/** A .vmx or .vmsd: `key = "value"` lines in order; keys without regard to case, the last one wins. */
export class VmxFile {
  readonly #entries = new Map<string, { key: string; value: string }>();

  static parse(text: string): VmxFile {
    const file = new VmxFile();
    for (const line of text.split('\n')) {
      const pair = /^\s*([^\s=#]+)\s*=\s*"(.*)"\s*$/.exec(line);
      if (pair !== null) file.set(pair[1] ?? '', unescapeValue(pair[2] ?? ''));
    }
    return file;
  }

  encode(): string {
    let text = '';
    for (const { key, value } of this.#entries.values()) text += `${key} = "${escapeValue(value)}"\n`;
    return text;
  }

  get(key: string): string | undefined {
    return this.#entries.get(key.toLowerCase())?.value;
  }

  isTrue(key: string): boolean {
    return this.get(key)?.toLowerCase() === 'true';
  }

  set(key: string, value: string): void {
    const known = this.#entries.get(key.toLowerCase());
    if (known === undefined) this.#entries.set(key.toLowerCase(), { key, value });
    else known.value = value;
  }

  remove(key: string): void {
    this.#entries.delete(key.toLowerCase());
  }

  keys(): string[] {
    return [...this.#entries.values()].map(({ key }) => key);
  }

  toRecord(): Record<string, string> {
    const record: Record<string, string> = {};
    for (const { key, value } of this.#entries.values()) record[key] = value;
    return record;
  }
}

/** `"`, `|`, line feeds and other control characters are written as `|XX`. */
function escapeValue(value: string): string {
  return value.replace(/[\u0000-\u001f"|]/g, (character) => {
    return '|' + character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0');
  });
}

function unescapeValue(value: string): string {
  return value.replace(/\|([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
}

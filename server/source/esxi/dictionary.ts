import { AppError } from '../../errors/index.ts';

/**
 * VMware's `key = "value"` files: `.vmx`, `.vmsd`. Keys are matched without regard to case, the last
 * of two equal keys wins, what is no entry (comments, damaged lines) is kept as it is. Bytes that
 * would break a line stand as `|XX` (hexadecimal) in values. Encoding written: UTF-8.
 */
export class Dictionary {
  /** In the file's order. `key` null: a line that is no entry. */
  #lines: { key: string | null; name: string; value: string }[] = [];

  /** @throws HOST_ANSWER_UNREADABLE for what is too long to be such a file */
  static parse(content: Buffer): Dictionary {
    if (content.length > CONTENT_BYTES_MAX) {
      throw new AppError('HOST_ANSWER_UNREADABLE', 'A configuration file on the host is too long to be one.', {
        hint: 'Open the machine settings in the Host Client and save them again.',
        details: { bytes: content.length },
      });
    }
    const dictionary = new Dictionary();
    const binary = content.toString('latin1');
    const charset = charsetOf(content, binary);
    for (const rawLine of binary.split('\n')) {
      const line = rawLine.replace(/\r$/, '');
      const match = ENTRY.exec(line);
      if (match === null) {
        if (line.trim() !== '') dictionary.#lines.push({ key: null, name: decode(line, charset), value: '' });
        continue;
      }
      const name = decode(match[1] ?? '', charset);
      dictionary.#lines.push({ key: name.toLowerCase(), name, value: decode(unescape(match[2] ?? ''), charset) });
    }
    return dictionary;
  }

  get(key: string): string | undefined {
    const wanted = key.toLowerCase();
    return this.#lines.findLast((line) => line.key === wanted)?.value;
  }

  /** `TRUE` in any case, as VMware compares. */
  isTrue(key: string): boolean {
    return this.get(key)?.trim().toLowerCase() === 'true';
  }

  /** Lower-case keys, each once. */
  keys(): string[] {
    return [...new Set(this.#lines.flatMap((line) => (line.key === null ? [] : [line.key])))];
  }

  /** Writes the value at the key's first place, or at the end; other entries of the key go. */
  set(key: string, value: string): void {
    const wanted = key.toLowerCase();
    const index = this.#lines.findIndex((line) => line.key === wanted);
    const first = this.#lines[index];
    if (first === undefined) {
      this.#lines.push({ key: wanted, name: key, value });
      return;
    }
    this.#lines[index] = { ...first, value };
    this.#lines = this.#lines.filter((line, at) => at === index || line.key !== wanted);
  }

  delete(key: string): void {
    this.deleteWhere((candidate) => candidate === key.toLowerCase());
  }

  /** @param matches is given lower-case keys */
  deleteWhere(matches: (key: string) => boolean): void {
    this.#lines = this.#lines.filter((line) => line.key === null || !matches(line.key));
  }

  encode(): Buffer {
    const isKept = (line: { key: string | null }): boolean => line.key !== '.encoding';
    const text = this.#lines
      .filter(isKept)
      .map((line) => (line.key === null ? line.name : `${line.name} = "${escape(line.value)}"`));
    return Buffer.from([`.encoding = "UTF-8"`, ...text, ''].join('\n'));
  }
}

const CONTENT_BYTES_MAX = 4 * 1024 * 1024;
const ENTRY = /^\s*([^\s#=][^\s=]*)\s*=\s*"(.*)"\s*$/;

function unescape(binary: string): string {
  return binary.replace(/\|([0-9A-Fa-f]{2})/g, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function escape(value: string): string {
  return value.replace(/["|\u0000-\u001f\u007f]/g, (character) => {
    return `|${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  });
}

function charsetOf(content: Buffer, binary: string): string {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(content);
    return 'utf-8';
  } catch {
    const label = /^\s*\.encoding\s*=\s*"([^"]*)"/im.exec(binary)?.[1] ?? 'windows-1252';
    try {
      return new TextDecoder(label).encoding;
    } catch {
      return 'windows-1252';
    }
  }
}

function decode(binary: string, charset: string): string {
  return new TextDecoder(charset, { ignoreBOM: true }).decode(Buffer.from(binary, 'latin1'));
}

import { AppError } from '../errors/index.ts';

/** A part of LVM's text in braces: what it sets, and the parts within. Names are a stranger's. */
export interface LvmSection {
  values: Map<string, LvmValue>;
  sections: Map<string, LvmSection>;
}

type LvmScalar = string | number;
export type LvmValue = LvmScalar | LvmScalar[];

/** Groups, volumes, one volume, one segment: four, and one to spare. */
const DEPTH_MAX = 8;

/**
 * Reads the text form of LVM's metadata: `name { … }`, `name = value`, lists in brackets, comments after `#`
 * (lvm2, `libdm/libdm-config.c`). In time that is proportional to its length.
 * @throws FILESYSTEM_DAMAGED
 */
export function parseLvmText(text: string): LvmSection {
  return parseSection(new Tokens(text), 0);
}

/** What a description of a volume group says that cannot be so. */
export function lvmDamaged(fact: string): AppError {
  return new AppError('FILESYSTEM_DAMAGED', `The LVM volume group contradicts itself: ${fact}.`, {
    hint: 'The disk as a whole is backed up and restored regardless. Have the guest check it: vgck.',
    details: { kind: 'lvm', fact },
  });
}

function parseSection(tokens: Tokens, depth: number): LvmSection {
  const section: LvmSection = { values: new Map(), sections: new Map() };
  for (;;) {
    const name = tokens.next();
    if (name === null || isSign(name, '}')) {
      if ((name === null) !== (depth === 0)) throw lvmDamaged('its braces do not match');
      return section;
    }
    const sign = tokens.next();
    if (name.kind !== 'word') throw lvmDamaged('a name is missing in its description');
    if (isSign(sign, '{') && depth < DEPTH_MAX) section.sections.set(name.text, parseSection(tokens, depth + 1));
    else if (isSign(sign, '=')) section.values.set(name.text, parseValue(tokens));
    else throw lvmDamaged('its description has another form');
  }
}

function parseValue(tokens: Tokens): LvmValue {
  const first = tokens.next();
  if (!isSign(first, '[')) return scalar(first);
  const list: LvmScalar[] = [];
  for (let token = tokens.next(); !isSign(token, ']'); token = tokens.next()) {
    list.push(scalar(token));
    const after = tokens.next();
    if (isSign(after, ']')) return list;
    if (!isSign(after, ',')) throw lvmDamaged('a list in its description does not end');
  }
  return list;
}

function isSign(token: Token | null, sign: string): boolean {
  return token?.kind === 'sign' && token.text === sign;
}

function scalar(token: Token | null): LvmScalar {
  if (token?.kind === 'string') return token.text;
  if (token?.kind === 'word' && /^-?\d+(?:\.\d+)?$/.test(token.text)) return Number(token.text);
  throw lvmDamaged('a value in its description is none');
}

interface Token {
  kind: 'word' | 'string' | 'sign';
  text: string;
}

class Tokens {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  next(): Token | null {
    const text = this.#text;
    for (;;) {
      const character = text[this.#at];
      if (character === undefined) return null;
      if (character === '#') {
        const end = text.indexOf('\n', this.#at);
        this.#at = end < 0 ? text.length : end;
      } else if (/\s/.test(character)) this.#at += 1;
      else if (character === '"') return { kind: 'string', text: this.#string() };
      else if ('{}=[],'.includes(character)) {
        this.#at += 1;
        return { kind: 'sign', text: character };
      } else return { kind: 'word', text: this.#word() };
    }
  }

  /** A backslash stands before a quote or a backslash that is meant itself. */
  #string(): string {
    const parts: string[] = [];
    for (let from = this.#at + 1, at = from; ; at += 1) {
      const character = this.#text[at];
      if (character === undefined) throw lvmDamaged('a text in its description does not end');
      if (character === '\\') {
        parts.push(this.#text.slice(from, at));
        from = at + 1;
        at += 1;
      } else if (character === '"') {
        this.#at = at + 1;
        return parts.join('') + this.#text.slice(from, at);
      }
    }
  }

  #word(): string {
    const from = this.#at;
    while (this.#at < this.#text.length && /[^\s#"{}=[\],]/.test(this.#text[this.#at] as string)) this.#at += 1;
    return this.#text.slice(from, this.#at);
  }
}

import { globSync, readFileSync } from 'node:fs';
import { parse } from 'vue/compiler-sfc';

type Template = NonNullable<ReturnType<typeof parse>['descriptor']['template']>;
type TemplateChildNode = NonNullable<Template['ast']>['children'][number];

const LANGUAGES = ['en', 'de', 'ja'];
/**
 * Languages in which the window tells errors and log lines itself; English is the server's own, and
 * what it falls back to for a code that has no sentence yet.
 */
const TELLING = ['de', 'ja'];
/** Attributes that people read or hear. */
const READ = new Set(['label', 'title', 'alt', 'hint', 'placeholder', 'aria-label', 'error-message', 'caption']);
/** Where people read German and Japanese. A file of all languages says before each line which one it is in. */
const READ_IN = {
  de: {
    files: ['ui/i18n/*de.json', 'server/notification/texts/de.ts', 'spk/**/*_ger', 'spk/desktop/texts/ger/*'],
    mark: 'ger',
  },
  ja: {
    files: ['ui/i18n/*ja.json', 'server/notification/texts/ja.ts', 'spk/**/*_jpn', 'spk/desktop/texts/jpn/*'],
    mark: 'jpn',
  },
};
const OF_ALL_LANGUAGES = ['spk/INFO', 'qpkg/words.sh', 'scripts/package/payload/words.sh'];
/** The product's name and examples that are the same in every language. */
const NEUTRAL = new Set(['Dozo', '/volume1/Dozo/main']);

/**
 * Texts of the window: none outside of the catalogues, every key that is used is there and
 * all languages have the same keys with the same places to fill in. And of all that people read:
 * the words of the glossary.
 */
export function checkTexts(): string[] {
  const catalogues = new Map(LANGUAGES.map((id) => [id, flatten(readJson(`ui/i18n/${id}.json`))]));
  const codes = new Map(TELLING.map((id) => [id, flatten(readJson(`ui/i18n/codes.${id}.json`))]));
  return [
    ...compare(catalogues, 'ui/i18n/'),
    ...compare(codes, 'ui/i18n/codes.'),
    ...checkSources(catalogues.get('en') ?? new Map<string, string>()),
    ...Object.entries(READ_IN).flatMap(([language, { files, mark }]) => [
      ...globSync(files).flatMap((name) => strayWords(name, language, () => true)),
      ...OF_ALL_LANGUAGES.flatMap((name) => strayWords(name, language, (line) => isMarked(line, mark))),
    ]),
  ];
}

function isMarked(line: string, mark: string): boolean {
  return line.trimStart().startsWith(`${mark}:`) || line.startsWith(`description_${mark}=`);
}

/** Words for which the glossary has another one. */
function strayWords(name: string, language: string, isRead: (line: string) => boolean): string[] {
  const problems: string[] = [];
  const words = glossary().filter((row) => row.language === language);
  for (const [at, line] of readFileSync(name, 'utf8').split('\n').entries()) {
    if (!isRead(line)) continue;
    const text = line.toLocaleLowerCase();
    for (const { word, not } of words) {
      // A German word is not part of another one: Maschine stands in Maschinenraum.
      const isThere =
        language === 'ja' ? text.includes(not) : new RegExp(`(?<!\\p{L})${not}(?!\\p{L})`, 'u').test(text);
      if (isThere) problems.push(`${name}:${at + 1}: "${not}" is "${word}" in docs/glossary.md`);
    }
  }
  return problems;
}

function glossary(): { language: string; word: string; not: string }[] {
  const rows = readFileSync('docs/glossary.md', 'utf8').matchAll(/^\| (de|ja) \| (.+?) \| (.+?) \|$/gm);
  return [...rows].flatMap(([, language = '', word = '', nots = '']) =>
    nots.split(', ').map((not) => ({ language, word, not: not.toLocaleLowerCase() })),
  );
}

function readJson(name: string): unknown {
  return JSON.parse(readFileSync(name, 'utf8'));
}

function flatten(value: unknown, prefix = ''): Map<string, string> {
  const all = new Map<string, string>();
  for (const [key, inner] of Object.entries(value as Record<string, unknown>)) {
    if (typeof inner === 'string') all.set(prefix + key, inner);
    else for (const [deep, text] of flatten(inner, `${prefix}${key}.`)) all.set(deep, text);
  }
  return all;
}

function compare(catalogues: Map<string, Map<string, string>>, where: string): string[] {
  const problems: string[] = [];
  const [first, ...others] = [...catalogues];
  if (first === undefined) return problems;
  for (const [id, catalogue] of others) {
    for (const key of new Set([...first[1].keys(), ...catalogue.keys()])) {
      const ours = first[1].get(key);
      const theirs = catalogue.get(key);
      if (ours === undefined) problems.push(`${where}${first[0]}.json: ${key} is missing`);
      else if (theirs === undefined) problems.push(`${where}${id}.json: ${key} is missing`);
      else if (theirs.trim() === '') problems.push(`${where}${id}.json: ${key} is empty`);
      else if (places(ours) !== places(theirs)) problems.push(`${where}${id}.json: ${key} has other {places}`);
    }
  }
  return problems;
}

/** The set of names in braces; plural forms repeat them. */
function places(text: string): string {
  return [...new Set(text.match(/\{\w+\}/g) ?? [])].sort().join();
}

function checkSources(english: Map<string, string>): string[] {
  const problems: string[] = [];
  let sources = '';
  for (const name of globSync('ui/**/*.{ts,vue}').sort()) {
    const text = readFileSync(name, 'utf8');
    sources += text;
    for (const [, key = ''] of text.matchAll(/\bt\(\s*'([^']+)'/g)) {
      if (!english.has(key)) problems.push(`${name}: ${key} is not in the catalogue`);
    }
    for (const [, prefix = ''] of text.matchAll(/\bt\(\s*`([^`$]*)\$\{/g)) {
      const isKnown = prefix === '' || [...english.keys()].some((key) => key.startsWith(prefix));
      if (!isKnown) problems.push(`${name}: nothing in the catalogue begins with ${prefix}`);
    }
    if (!name.endsWith('.vue')) continue;
    const template = parse(text).descriptor.template?.ast;
    for (const node of template?.children ?? []) problems.push(...strayTexts(node, name));
  }
  for (const key of english.keys()) {
    const family = key.slice(0, key.lastIndexOf('.') + 1);
    const isUsed = sources.includes(`'${key}'`) || sources.includes(`\`${family}\${`) || isComputed(key);
    if (!isUsed) problems.push(`ui/i18n/en.json: ${key} is used nowhere`);
  }
  return problems;
}

/** Keys whose family is put together from two values or handed over in a variable. */
function isComputed(key: string): boolean {
  return /^(state|protection|consistency|route|bottleneck|explain|help)\./.test(key);
}

function strayTexts(node: TemplateChildNode, name: string): string[] {
  // Node types of the compiler: 1 element, 2 text.
  if (node.type === 2)
    return isWords(node.content) ? [`${name}: "${node.content.trim()}" is outside the catalogues`] : [];
  if (node.type !== 1) return [];
  const problems: string[] = [];
  for (const property of node.props) {
    // 6: an attribute that is no directive.
    if (property.type !== 6 || !READ.has(property.name) || !isWords(property.value?.content ?? '')) continue;
    problems.push(`${name}: ${property.name}="${property.value?.content ?? ''}" is outside the catalogues`);
  }
  return [...problems, ...node.children.flatMap((child) => strayTexts(child, name))];
}

function isWords(text: string): boolean {
  return /\p{L}/u.test(text) && !NEUTRAL.has(text.trim());
}

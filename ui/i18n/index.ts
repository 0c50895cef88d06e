import { Lang } from 'quasar';
import { createI18n } from 'vue-i18n';
import type { Language } from './languages.ts';
import { unbroken } from './unbroken.ts';

export const i18n = createI18n({
  legacy: false,
  locale: 'en',
  fallbackLocale: 'en',
  messages: {} as Record<string, Record<string, never>>,
});

/** Words of errors and log lines by code; English has none, since the server itself speaks it. */
let codes: Record<string, string> = {};

const LOADERS = {
  en: () => Promise.all([import('./en.json'), import('quasar/lang/en-US.js'), { default: {} }]),
  de: () => Promise.all([import('./de.json'), import('quasar/lang/de.js'), import('./codes.de.json')]),
  ja: () => Promise.all([import('./ja.json'), import('quasar/lang/ja.js'), import('./codes.ja.json')]),
};

export async function switchLanguage(language: Language): Promise<void> {
  const [messages, quasar, words] = await LOADERS[language]();
  i18n.global.setLocaleMessage(language, typeset(messages.default, language) as never);
  codes = words.default;
  i18n.global.locale.value = language;
  // Quasar's own packs and its own type differ in one optional parameter.
  Lang.set(quasar.default as Parameters<typeof Lang.set>[0]);
  // After Quasar, which writes a name of its own there.
  document.documentElement.lang = language;
}

/** Marks for what runs in a direction of its own: it cannot turn the sentence around it. */
const FIRST_STRONG_ISOLATE = '\u2068';
const POP_ISOLATE = '\u2069';

/** A name among others, or inside a sentence. */
export function isolate(text: string): string {
  return `${FIRST_STRONG_ISOLATE}${text}${POP_ISOLATE}`;
}

/** Without the marks of the catalogue, which belong to the window: for what is kept, or goes into a file or onto paper. */
export function withoutMarks(text: string): string {
  return text.replaceAll(/[\u2060\u2068\u2069]/g, '');
}

/**
 * Puts the marks around each place of the catalogue that takes a name, since names come from strangers,
 * ties numbers to what they count (in Japanese and German neither ends or begins a line alone), and keeps words whole.
 */
function typeset(messages: unknown, language: Language): unknown {
  if (typeof messages !== 'string') {
    return Object.fromEntries(
      Object.entries(messages as object).map(([key, inner]) => [key, typeset(inner, language)]),
    );
  }
  const named = messages.replaceAll(/\{(?:name|machine|host|storage|disk)\}/g, isolate);
  if (language === 'en') return named;
  const tied = named.replaceAll(/(\{n\}|\d) (?=\p{L})/gu, '$1\u00a0');
  return language === 'ja' ? unbroken(tied) : tied;
}

export function currentLanguage(): Language {
  return i18n.global.locale.value as Language;
}

/** The sentence of a code with its `{details}` in place; null when there is none or a detail is missing. */
export function sentenceOf(code: string, detail: (name: string) => string | null): string | null {
  // Read the locale, so that what shows the sentence is drawn anew when it changes.
  if (currentLanguage() === 'en') return null;
  const pattern = Object.hasOwn(codes, code) ? codes[code] : undefined;
  if (pattern === undefined) return null;
  let isWhole = true;
  const typed = currentLanguage() === 'ja' ? unbroken(pattern) : pattern;
  const sentence = typed.replaceAll(/\{(\w+)\}/g, (_whole, name: string) => {
    const value = detail(name);
    if (value === null) isWhole = false;
    return isolate(value ?? '');
  });
  return isWhole ? sentence : null;
}

import { LANGUAGES, type Language } from '../i18n/languages.ts';

/** What this browser remembers; the account has no such settings. */
export interface Preferences {
  language: Language;
  theme: boolean | 'auto';
  guideDone: boolean;
}

const KEY = 'dozo-preferences';

export function readPreferences(): Preferences {
  let stored: Partial<Preferences> = {};
  try {
    stored = JSON.parse(localStorage.getItem(KEY) ?? '{}') as Partial<Preferences>;
  } catch {
    // Another program's text, or a browser that keeps nothing.
  }
  return {
    language: LANGUAGES.find(({ id }) => id === stored.language)?.id ?? browserLanguage(),
    theme: typeof stored.theme === 'boolean' ? stored.theme : 'auto',
    guideDone: stored.guideDone === true,
  };
}

export function writePreferences(change: Partial<Preferences>): void {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...readPreferences(), ...change }));
  } catch {
    // Private windows may refuse; the choice then lasts as long as the window.
  }
}

function browserLanguage(): Language {
  for (const wanted of navigator.languages) {
    const known = LANGUAGES.find(({ id }) => wanted.toLowerCase().startsWith(id));
    if (known !== undefined) return known.id;
  }
  return 'en';
}

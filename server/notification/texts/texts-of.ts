import type { Language } from '../../contract/api/notification.schema.ts';
import { de } from './de.ts';
import { en } from './en.ts';
import { ja } from './ja.ts';
import type { Texts } from './texts.ts';

const TEXTS: Record<Language, Texts> = { en, de, ja };

export function textsOf(language: Language): Texts {
  return TEXTS[language];
}

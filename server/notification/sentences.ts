import type { Language } from '../contract/api/notification.schema.ts';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { LogLine } from '../contract/run.ts';
import { formatBytes } from '../runtime/index.ts';
import de from '../../ui/i18n/codes.de.json' with { type: 'json' };
import ja from '../../ui/i18n/codes.ja.json' with { type: 'json' };
import type { Formats } from './formats.ts';
import { plain } from './plain.ts';
import { textsOf } from './texts/texts-of.ts';

/** Sentences by code, as the window shows them; English is what errors and log lines say themselves. */
const SENTENCES: Record<Exclude<Language, 'en'>, Record<string, string>> = { de, ja };

/** What happened and what to do, as far as there are words for it in the language. */
export function describeError(error: ErrorBody, language: Language): string[] {
  const original = plain(error.message, 500);
  const sentence = sentenceOf(error.code, error.details, language);
  if (sentence === null) return error.hint === undefined ? [original] : [original, plain(error.hint, 500)];
  return [sentence, `${textsOf(language).labels.details}: ${original}`];
}

export function describeLine(
  line: Pick<LogLine, 'code' | 'text' | 'details'>,
  language: Language,
  formats: Formats,
): string {
  const details = line.details ?? {};
  const sentence = sentenceOf(`log.${line.code}`, withTimes(details, formats), language);
  return sentence ?? plain(tellTimes(line.text, details, formats), 500);
}

/** The line's own words name instants by the clock of UTC: readers have another one. */
function tellTimes(text: string, details: ErrorBody['details'], formats: Formats): string {
  let told = text;
  for (const [name, value] of Object.entries(details)) {
    if (!name.endsWith('AtMs') || !isInstant(value)) continue;
    told = told.replaceAll(new Date(value).toISOString(), formats.time(value));
  }
  return told;
}

function isInstant(value: unknown): value is number {
  return typeof value === 'number' && !Number.isNaN(new Date(value).getTime());
}

/** Instants among the details, as people write them. */
function withTimes(details: ErrorBody['details'], formats: Formats): ErrorBody['details'] {
  return Object.fromEntries(
    Object.entries(details).map(([name, value]) => [
      name,
      name.endsWith('AtMs') && isInstant(value) ? formats.time(value) : value,
    ]),
  );
}

/** Null: there is none, or it lacks a detail. */
function sentenceOf(code: string, details: ErrorBody['details'], language: Language): string | null {
  if (language === 'en') return null;
  const sentences = SENTENCES[language];
  const pattern = Object.hasOwn(sentences, code) ? sentences[code] : undefined;
  if (pattern === undefined) return null;
  let isWhole = true;
  const sentence = pattern.replaceAll(/\{(\w+)\}/g, (_place, name: string) => {
    const value = details[name];
    if (value === undefined || value === null) {
      isWhole = false;
      return '';
    }
    return /bytes/i.test(name) && typeof value === 'number' ? formatBytes(value) : plain(String(value));
  });
  return isWhole ? sentence : null;
}

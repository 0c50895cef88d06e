import type { Language } from '../contract/api/notification.schema.ts';
import { formatBytes } from '../runtime/index.ts';

/** Times, durations and sizes as people of a language write them. */
export class Formats {
  readonly #time: Intl.DateTimeFormat;
  readonly #day: Intl.DateTimeFormat;
  readonly #language: Language;

  constructor(language: Language, timeZone: string) {
    const locale = { en: 'en-GB', de: 'de-DE', ja: 'ja-JP' }[language];
    this.#language = language;
    const isEnglish = language === 'en';
    const day = {
      year: 'numeric',
      month: isEnglish ? 'short' : '2-digit',
      day: isEnglish ? 'numeric' : '2-digit',
    } as const;
    this.#time = new Intl.DateTimeFormat(locale, { ...day, hour: '2-digit', minute: '2-digit', timeZone });
    this.#day = new Intl.DateTimeFormat(locale, { ...day, timeZone });
  }

  time(atMs: number): string {
    return this.#time.format(atMs);
  }

  day(atMs: number): string {
    return this.#day.format(atMs);
  }

  /** Two units at most: `1 h 23 min`. */
  duration(ms: number): string {
    const [h, min, s] = { en: ['h', 'min', 's'], de: ['Std.', 'Min.', 'Sek.'], ja: ['時間', '分', '秒'] }[
      this.#language
    ] as [string, string, string];
    const seconds = Math.max(0, Math.round(ms / 1000));
    if (seconds === 0) return { en: 'under 1 s', de: 'unter 1 Sek.', ja: '1 秒未満' }[this.#language];
    const parts: [number, string][] =
      seconds >= 3600
        ? [
            [Math.floor(seconds / 3600), h],
            [Math.floor((seconds % 3600) / 60), min],
          ]
        : seconds >= 60
          ? [
              [Math.floor(seconds / 60), min],
              [seconds % 60, s],
            ]
          : [[seconds, s]];
    return parts
      .filter(([count], place) => place === 0 || count > 0)
      .map(([count, unit]) => `${count}\u00a0${unit}`)
      .join(' ');
  }

  bytes(bytes: number): string {
    const text = formatBytes(Math.abs(bytes)).replace(' ', '\u00a0');
    return `${bytes < 0 ? '−' : ''}${this.#language === 'de' ? text.replace('.', ',') : text}`;
  }

  /** With its sign, for changes. */
  growth(bytes: number): string {
    return `${bytes > 0 ? '+' : bytes === 0 ? '±' : ''}${this.bytes(bytes)}`;
  }
}

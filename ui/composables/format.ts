import { currentLanguage } from '../i18n/index.ts';

/** The reader's own kind of the language where the browser names one: British dates are not American. */
function locale(): string {
  const language = currentLanguage();
  return navigator.languages.find((known) => known.split('-')[0] === language) ?? language;
}

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB', 'PB'];

/** As the NAS shows sizes: steps of 1024, up to three digits. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${formatNumber(value, digits)} ${UNITS[unit] ?? ''}`;
}

export function formatNumber(value: number, digits = 0): string {
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: digits }).format(value);
}

export function formatShare(share: number): string {
  return new Intl.NumberFormat(locale(), { style: 'percent', maximumFractionDigits: 1 }).format(share);
}

export function formatTime(atMs: number): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: 'medium', timeStyle: 'short' }).format(atMs);
}

export function formatClock(atMs: number): string {
  return new Intl.DateTimeFormat(locale(), { timeStyle: 'medium' }).format(atMs);
}

export function formatDay(atMs: number): string {
  return new Intl.DateTimeFormat(locale(), { dateStyle: 'full' }).format(atMs);
}

export function formatWeekday(atMs: number): string {
  return new Intl.DateTimeFormat(locale(), { weekday: 'short' }).format(atMs);
}

export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const parts: [number, string][] =
    whole >= 3600
      ? [
          [Math.floor(whole / 3600), 'hour'],
          [Math.floor((whole % 3600) / 60), 'minute'],
        ]
      : whole >= 60
        ? [
            [Math.floor(whole / 60), 'minute'],
            [whole % 60, 'second'],
          ]
        : [[whole, 'second']];
  return parts
    .map(([value, unit]) =>
      new Intl.NumberFormat(locale(), { style: 'unit', unit, unitDisplay: 'short' }).format(value),
    )
    .join(' ');
}

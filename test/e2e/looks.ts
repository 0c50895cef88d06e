/** Neither English nor at the size that most tests have: what whole flows are clicked through in once more. */
export interface Look {
  locale: string;
  /** CSS pixels. */
  width: number;
  height: number;
}

const DESKTOP: Look = { locale: 'de-DE', width: 1178, height: 600 };
const PHONE: Look = { locale: 'ja-JP', width: 390, height: 844 };
/** The window as DSM opens it, and a phone. */
export const LOOKS: readonly Look[] = [DESKTOP, PHONE];

/** That one for every day, both with `DOZO_LOOKS=all`: a minute or more each. */
export function looksFor(everyDay: 'desktop' | 'phone'): readonly Look[] {
  if (process.env['DOZO_LOOKS'] === 'all') return LOOKS;
  return [everyDay === 'desktop' ? DESKTOP : PHONE];
}

/** For the names of tests. */
export function told({ locale, width, height }: Look): string {
  return `in ${locale} at ${width}×${height}`;
}

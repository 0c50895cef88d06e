/** Neither English nor at the size that most tests have: what whole flows are clicked through in once more. */
export interface Look {
  locale: string;
  /** CSS pixels. */
  width: number;
  height: number;
}

/** The window as DSM opens it, and a phone. */
export const LOOKS: readonly Look[] = [
  { locale: 'de-DE', width: 1178, height: 600 },
  { locale: 'ja-JP', width: 390, height: 844 },
];

/** For the names of tests. */
export function told({ locale, width, height }: Look): string {
  return `in ${locale} at ${width}×${height}`;
}

export type Language = 'en' | 'de' | 'ja';

/** Each by its own name, so that its speakers find it. */
export const LANGUAGES: { id: Language; name: string }[] = [
  { id: 'en', name: 'English' },
  { id: 'de', name: 'Deutsch' },
  { id: 'ja', name: '日本語' },
];

/** Japanese words that Chromium's `word-break: auto-phrase` takes for two, and where it does. */
const SPLIT = /(?<=バージ)(?=ョン)|(?<=か)(?=月)/g;
const WORD_JOINER = '\u2060';

/** With a mark in such words that lets no line end there. */
export function unbroken(text: string): string {
  return text.replaceAll(SPLIT, WORD_JOINER);
}

import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import { AppError } from '../errors/index.ts';

/**
 * A recovery key as people keep it: 32 random bytes as 24 words of the list of BIP 39, whose last word holds a
 * check sum, so that a slip of the pen is told from a wrong key. The words are not case-sensitive; four letters
 * tell each apart.
 */

const WORD_COUNT = 24;
const LETTERS_TELLING = 4;

export function encodeRecoveryKey(key: Buffer): string {
  return entropyToMnemonic(key, wordlist);
}

/** Whether somebody means a recovery key: two dozen words, most of them of the list. */
export function looksLikeRecoveryKey(text: string): boolean {
  const words = wordsOf(text);
  const known = words.filter((word) => completed(word) !== null).length;
  return Math.abs(words.length - WORD_COUNT) <= 2 && known > words.length / 2;
}

/** @throws REPOSITORY_KEY_WRONG, which names the word that is wrong as far as that can be told */
export function parseRecoveryKey(text: string): Buffer {
  const words = wordsOf(text);
  if (words.length !== WORD_COUNT) throw misspelt(`it has ${words.length} words instead of ${WORD_COUNT}`);
  const complete = words.map((word, index) => {
    const known = completed(word);
    // Not the word itself: errors are logged, and this one may be right but for a letter.
    if (known === null) throw misspelt(`word ${index + 1} is not in the list`);
    return known;
  });
  try {
    return Buffer.from(mnemonicToEntropy(complete.join(' '), wordlist));
  } catch {
    throw misspelt('its check sum is wrong, so at least one word is another or in another place');
  }
}

function wordsOf(text: string): string[] {
  // Numbers before the words are how a printed sheet counts them.
  return text
    .normalize('NFKD')
    .toLowerCase()
    .split(/[^a-z]+/)
    .filter((word) => word !== '');
}

function completed(word: string): string | null {
  if (wordlist.includes(word)) return word;
  if (word.length < LETTERS_TELLING) return null;
  return wordlist.find((known) => known.startsWith(word)) ?? null;
}

function misspelt(why: string): AppError {
  return new AppError('REPOSITORY_KEY_WRONG', `This is not a recovery key: ${why}.`, {
    hint: 'Compare it with the sheet, word by word.',
  });
}

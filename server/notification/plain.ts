/** Characters that end a line, or turn the direction of what follows. */
const CONTROLS = /[\p{Cc}\p{Zl}\p{Zp}]+/gu;
const DIRECTIONS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/**
 * A stranger's text as a part of a line: names of machines, sentences of errors.
 * @param charactersMax cut there, with an ellipsis
 */
export function plain(text: string, charactersMax = 300): string {
  const line = text.toWellFormed().replace(CONTROLS, ' ').replace(DIRECTIONS, '').trim();
  const characters = Array.from(line.slice(0, charactersMax * 2));
  return characters.length > charactersMax ? `${characters.slice(0, charactersMax - 1).join('')}…` : line;
}

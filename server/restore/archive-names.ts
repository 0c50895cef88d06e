/** Longer ones no file system takes. */
const NAME_LENGTH_MAX = 255;

/**
 * A guest's name as one part of a path in an archive, wherever that is unpacked: no separator of any system, no
 * drive, nothing invisible, nothing that means a folder above.
 */
export function archiveName(name: string): string {
  const plain = name
    .toWellFormed()
    .replaceAll(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069/\\:]/g, '_');
  // Windows drops points and spaces at an end: of these nothing else would be left.
  return /^[. ]*$/.test(plain) ? '_' : cut(plain, NAME_LENGTH_MAX);
}

/**
 * Adds a number where another entry of the folder already became the same; takes the name.
 * @param taken names with the number to try next, so that thousands that become the same cost no more than others
 */
export function uniqueName(name: string, taken: Map<string, number>): string {
  let unique = name;
  let number = taken.get(name) ?? 2;
  for (; taken.has(unique); number += 1) {
    const suffix = ` (${String(number)})`;
    unique = cut(name, NAME_LENGTH_MAX - suffix.length) + suffix;
  }
  taken.set(name, number);
  if (unique !== name) taken.set(unique, 2);
  return unique;
}

function cut(text: string, length: number): string {
  // Half of a pair would be no text.
  return text.length <= length ? text : text.slice(0, length).toWellFormed();
}

/**
 * A name as it can be told from others: what would be invisible, or turns the direction of reading so that an
 * `exe` seems to be a picture, is shown as an unknown character.
 */
export function visibleName(name: string): string {
  return name.replaceAll(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');
}

/** Where somebody is within a version: from nowhere yet to a folder of a volume of a disk. */
export interface GuestPlace {
  diskKey: string | null;
  volume: number | null;
  /** Names from the root of the volume on. */
  names: readonly string[];
}

/** No guest's file system has a name with a slash in it. */
export function joinNames(names: readonly string[]): string {
  return `/${names.join('/')}`;
}

export function splitPath(path: string): string[] {
  return path.split('/').filter((name) => name !== '');
}

/**
 * A name as it can be told from others: what would be invisible, or turns the direction of reading so that an
 * `exe` seems to be a picture, is shown as an unknown character.
 */
export function visibleName(name: string): string {
  return name.replaceAll(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');
}

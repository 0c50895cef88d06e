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

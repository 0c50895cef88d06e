import type { LocationQuery } from 'vue-router';

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

/** The place that an address names; what it does not name well is not yet chosen. */
export function placeOf({ disk, volume, path }: LocationQuery): GuestPlace {
  return {
    diskKey: typeof disk === 'string' ? disk : null,
    volume: typeof volume === 'string' && /^\d+$/.test(volume) ? Number(volume) : null,
    names: typeof path === 'string' ? splitPath(path) : [],
  };
}

/** For an address: each field that the place has none for is taken off it. */
export function queryOf({
  diskKey,
  volume,
  names,
}: GuestPlace): Record<'disk' | 'volume' | 'path', string | number | undefined> {
  return {
    disk: diskKey ?? undefined,
    volume: volume ?? undefined,
    path: volume === null ? undefined : joinNames(names),
  };
}

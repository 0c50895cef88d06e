import { mkdir, readdir, realpath } from 'node:fs/promises';
import path from 'node:path';
import { AppError } from '../errors/index.ts';

/** Names that are tried when one is taken; a folder that lists one name more often is not a guest's. */
const NAMES_TRIED_MAX = 100;
/** What a file system may say of a name that it does not take. */
const NAME_REFUSED = new Set(['EINVAL', 'EILSEQ', 'ENAMETOOLONG']);
/** Control characters, and what file systems of other systems refuse. */
const NOT_PORTABLE = /[\u0000-\u001f\u007f/\\:*?"<>|]/g;
/** Names of devices in every folder of Windows, with any ending. */
const WINDOWS_DEVICE = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)/i;

/**
 * Makes the folder that something is restored into. Nothing that is there is written over, and nothing is
 * written into a repository.
 * @returns its real path
 * @throws CONFLICT
 */
export async function makeEmptyFolder(wanted: string, repositoryFolder: string): Promise<string> {
  await mkdir(wanted, { recursive: true });
  const folder = await realpath(wanted);
  const inside = path.relative(await realpath(repositoryFolder), folder);
  if (!inside.startsWith('..') && !path.isAbsolute(inside)) {
    throw new AppError('CONFLICT', `${wanted} lies in the repository.`, { hint: 'Restore into a folder elsewhere.' });
  }
  if ((await readdir(folder)).length === 0) return folder;
  throw new AppError('CONFLICT', `The folder ${wanted} is not empty.`, { hint: 'Choose an empty or a new folder.' });
}

/** A name that stays in the folder whatever the repository, which may be hostile, calls it; each once. */
export function freeName(names: Set<string>, wanted: string): string {
  const base = portableName(wanted);
  let free = base;
  for (let number = 2; names.has(free.toLowerCase()); number += 1) free = numbered(base, number);
  names.add(free.toLowerCase());
  return free;
}

/**
 * Makes something in a folder under a guest's name for it, or under one as near to it as the folder takes: which
 * names are the same, or none at all, differs from system to system, so the folder is asked.
 * @param make must fail with EEXIST for what is there, and must not follow links
 * @returns what was made, and its name
 */
export async function makeUnderName<T>(
  folder: string,
  wanted: string,
  make: (place: string) => Promise<T>,
): Promise<{ made: T; name: string }> {
  let base = safeName(wanted, process.platform);
  for (let number = 1; ; number += 1) {
    const name = number === 1 ? base : numbered(base, number);
    try {
      return { made: await make(path.join(folder, name)), name };
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException;
      const portable = portableName(wanted);
      if (NAME_REFUSED.has(code) && base !== portable) {
        base = portable;
        number = 0;
      } else if (code !== 'EEXIST' || number === NAMES_TRIED_MAX) throw error;
    }
  }
}

/** A guest's name as it is, but for what would be more than a name here. */
export function safeName(wanted: string, platform: NodeJS.Platform): string {
  if (platform === 'win32') return portableName(wanted);
  const safe = wanted.toWellFormed().replaceAll(/[\u0000-\u001f\u007f/]/g, '_');
  return safe === '' || safe === '.' || safe === '..' ? '_' : safe;
}

/** A name that every system takes, and that hides nothing and leads nowhere. */
function portableName(wanted: string): string {
  const safe = wanted
    .toWellFormed()
    .replaceAll(NOT_PORTABLE, '_')
    .replace(/^\.+/, '_')
    .replace(WINDOWS_DEVICE, '_$&')
    .slice(0, 120)
    .toWellFormed()
    .replace(/[. ]+$/, '_');
  return safe === '' ? '_' : safe;
}

function numbered(base: string, number: number): string {
  const { name, ext } = path.parse(base);
  return `${name}-${number}${ext}`;
}

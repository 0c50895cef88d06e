import { realpath } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { AppError } from '../errors/index.ts';
import type { Caller } from './authentication.ts';
import type { HttpServices } from './route.ts';

/** What a program of the NAS could take for something else than the image of a disk, is refused. */
const IMAGE_NAME = /\.(?:img|raw|dd|vmdk)$/i;
/** Of people's keys and settings, and of the system: `.ssh`, `@appstore`, `#recycle`. */
const HIDDEN = /^[.@#]/;

/**
 * Where a disk is written to. Dozo may run as root, and what stands in a disk is chosen by whoever uses the machine:
 * under the right name it would be a key or a timetable of root's. So somebody who may not configure Dozo writes images
 * into shared folders of the NAS only; nobody writes into a repository.
 * @param path of the file to make
 * @returns the same, without links, for those who are limited to shared folders
 * @throws FORBIDDEN, CONFLICT
 */
export async function placeExport(
  { nas, orchestration }: Pick<HttpServices, 'nas' | 'orchestration'>,
  { role, permissions }: Pick<Caller, 'role' | 'permissions'>,
  path: string,
): Promise<string> {
  const folder = await realpath(dirname(path)).catch(() => null);
  const place = folder === null ? path : join(folder, basename(path));
  for (const repository of await orchestration.context.catalogue.repositories.list()) {
    const root = await realpath(repository.path).catch(() => repository.path);
    if (stepsBelow(root, place) === null) continue;
    throw new AppError('CONFLICT', `${path} lies in the repository "${repository.name}".`, {
      hint: 'Choose a folder elsewhere: files that are not its own do not belong into a repository.',
      details: { path, repository: repository.name },
    });
  }
  if (permissions.includes('configure')) return path;
  const shares = await nas.listShares();
  for (const share of folder === null ? [] : shares) {
    const steps = stepsBelow(await realpath(share.path).catch(() => share.path), place);
    if (steps !== null && !steps.some((name) => HIDDEN.test(name)) && IMAGE_NAME.test(place)) return place;
  }
  const only = `An account of the role "${role}" writes disks as .img, .raw, .dd or .vmdk into shared folders of the NAS only`;
  throw new AppError('FORBIDDEN', `${only}, not to ${path}.`, {
    hint:
      shares.length === 0
        ? 'Download the disk, or ask an administrator of Dozo to write it.'
        : `Its shared folders are: ${shares.map((share) => share.path).join(', ')}.`,
    details: { path },
  });
}

/** The names that lead from a folder to what lies in it; null: it lies elsewhere. */
function stepsBelow(folder: string, path: string): string[] | null {
  const steps = relative(folder, path).split('/');
  return steps[0] === '..' || steps[0] === '' ? null : steps;
}

import type { Request } from 'express';
import type { Catalogue } from '../database/index.ts';

interface Named {
  load(id: string): Promise<{ name: string } | { title: string } | null>;
}

/** Where the thing is kept whose id stands in a path, by the beginning of the path. */
const KEPT: Record<string, (catalogue: Catalogue) => Named> = {
  hosts: ({ hosts }) => hosts,
  repositories: ({ repositories }) => repositories,
  jobs: ({ jobs }) => jobs,
  triggers: ({ jobs }) => jobs,
  runs: ({ runs }) => runs,
  recipients: ({ recipients }) => recipients,
};

/**
 * What that is called which a request is about: its id tells nobody anything once it has gone. Asked before the
 * request is answered, since that may take it away.
 * @returns null where it has no name, or is not there
 */
export async function nameOfTarget(catalogue: Catalogue, path: string, { params }: Request): Promise<string | null> {
  const [, kind = ''] = /(\w+)\/:id/.exec(path) ?? [];
  const { id } = params;
  if (!Object.hasOwn(KEPT, kind) || typeof id !== 'string') return null;
  const found = await KEPT[kind]?.(catalogue).load(id);
  if (found === null || found === undefined) return null;
  return 'name' in found ? found.name : found.title;
}

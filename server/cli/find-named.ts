import { AppError } from '../errors/index.ts';
import type { Api } from './command-context.ts';

export type NamedResource = 'hosts' | 'machines' | 'repositories' | 'jobs';

export interface Named {
  id: string;
  name: string;
}

const SINGULAR: Record<NamedResource, string> = {
  hosts: 'host',
  machines: 'VM',
  repositories: 'repository',
  jobs: 'job',
};

/**
 * What a person means: an id, or a name that only one has.
 * @throws NOT_FOUND, INPUT_INVALID when several have the name
 */
export async function findNamed<T extends Named>(api: Api, resource: NamedResource, text: string): Promise<T> {
  const items = await api.get<T[]>(`/${resource}`);
  const byId = items.find((item) => item.id === text);
  if (byId !== undefined) return byId;
  const byName = items.filter((item) => item.name === text);
  const [only] = byName;
  if (only !== undefined && byName.length === 1) return only;
  const what = SINGULAR[resource];
  if (only === undefined) {
    throw new AppError('NOT_FOUND', `There is no ${what} "${text}".`, {
      hint: `\`dozo ${resource === 'machines' ? 'vms' : resource} list\` shows them all.`,
    });
  }
  throw new AppError('INPUT_INVALID', `Several have the name "${text}".`, {
    hint: `Use an id: ${byName.map((item) => item.id).join(', ')}.`,
  });
}

import * as z from 'zod';
import { emptySchema, idSchema } from '../../contract/api/common.schema.ts';
import {
  repositoryAdoptSchema,
  repositoryChangeSchema,
  repositoryCheckSchema,
  repositoryCopySchema,
  repositoryCreatedSchema,
  repositoryCreateSchema,
  repositoryMaintenanceSchema,
  repositorySchema,
  repositorySpaceSchema,
  repositoryUsageQuerySchema,
  repositoryUsageSchema,
  type RepositoryView,
} from '../../contract/api/repository.schema.ts';
import { runSchema } from '../../contract/api/run.schema.ts';
import { measureSpace } from '../../nas/index.ts';
import { found, listRepositoryViews } from '../../orchestration/index.ts';
import { defineRoute, type HttpServices } from '../route.ts';
import { loadRun } from './runs.ts';

const tag = 'repositories';
const params = z.object({ id: idSchema });

export const repositoryRoutes = [
  defineRoute({
    method: 'get',
    path: '/repositories',
    permission: 'view',
    tag,
    summary: 'All repositories',
    answer: z.array(repositorySchema),
    handle: ({ services }) => listRepositoryViews(services.orchestration.context.catalogue),
  }),
  defineRoute({
    method: 'post',
    path: '/repositories',
    permission: 'configure',
    tag,
    summary: 'Create a repository in an empty or new folder',
    body: repositoryCreateSchema,
    status: 201,
    answer: repositoryCreatedSchema,
    handle: async ({ services, body }) => {
      const { id, recoveryKey } = await services.orchestration.repositories.create(body);
      return { ...(await loadRepository(services, id)), recoveryKey };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/repositories/adopt',
    permission: 'configure',
    tag,
    summary: 'Take up a repository that is there, with all its versions',
    body: repositoryAdoptSchema,
    status: 201,
    answer: repositorySchema,
    handle: async ({ services, body }) =>
      loadRepository(services, await services.orchestration.repositories.adopt(body)),
  }),
  defineRoute({
    method: 'get',
    path: '/repositories/:id',
    permission: 'view',
    tag,
    summary: 'One repository',
    params,
    answer: repositorySchema,
    handle: ({ services, params: { id } }) => loadRepository(services, id),
  }),
  defineRoute({
    method: 'patch',
    path: '/repositories/:id',
    permission: 'configure',
    tag,
    summary: 'Change name or path (the files must have been moved there)',
    params,
    body: repositoryChangeSchema,
    answer: repositorySchema,
    handle: async ({ services, params: { id }, body }) => {
      await services.orchestration.repositories.change(id, body);
      return loadRepository(services, id);
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/repositories/:id',
    permission: 'configure',
    tag,
    summary: 'Forget a repository; its files stay',
    params,
    handle: ({ services, params: { id } }) => services.orchestration.repositories.remove(id),
  }),
  defineRoute({
    method: 'post',
    path: '/repositories/:id/refresh',
    permission: 'operate',
    tag,
    summary: 'Look what the repository holds now',
    params,
    body: emptySchema,
    answer: repositorySchema,
    handle: async ({ services, params: { id } }) => {
      await services.orchestration.repositories.refresh(id);
      return loadRepository(services, id);
    },
  }),
  defineRoute({
    method: 'get',
    path: '/repositories/:id/space',
    permission: 'view',
    tag,
    summary: 'How much room is left where the repository lies; a quota of the shared folder may leave less',
    params,
    answer: repositorySpaceSchema,
    handle: async ({ services, params: { id } }) => {
      const { catalogue } = services.orchestration.context;
      return measureSpace(found(await catalogue.repositories.load(id), 'repository', id).path);
    },
  }),
  defineRoute({
    method: 'get',
    path: '/repositories/:id/usage',
    permission: 'view',
    tag,
    summary: 'What the versions of each machine have added to the repository',
    params,
    query: repositoryUsageQuerySchema,
    answer: repositoryUsageSchema,
    handle: async ({ services, params: { id }, query }) => {
      const { catalogue } = services.orchestration.context;
      found(await catalogue.repositories.load(id), 'repository', id);
      return catalogue.points.useByMachine(id, query.limit);
    },
  }),
  defineRoute({
    method: 'get',
    path: '/repositories/:id/maintenance',
    permission: 'view',
    tag,
    summary: 'When the repository was and will be maintained, what is in its trash, how far it was read again',
    params,
    answer: repositoryMaintenanceSchema,
    handle: ({ services, params: { id } }) => services.orchestration.maintenance.describe(id),
  }),
  defineRoute({
    method: 'post',
    path: '/repositories/:id/maintenance',
    permission: 'operate',
    tag,
    summary: 'Maintain the repository now: apply retention, empty the trash of what is over, free room',
    params,
    body: emptySchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, params: { id } }) =>
      loadRun(services, await services.orchestration.startMaintenance(id)),
  }),
  defineRoute({
    method: 'post',
    path: '/repositories/:id/copies',
    permission: 'operate',
    tag,
    summary: 'Copy versions into another repository; only what is missing there is moved',
    params,
    body: repositoryCopySchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, params: { id }, body }) =>
      loadRun(services, await services.orchestration.startCopy(id, body)),
  }),
  defineRoute({
    method: 'post',
    path: '/repositories/:id/check',
    permission: 'operate',
    tag,
    summary: 'Start a check of the repository',
    params,
    body: repositoryCheckSchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, params: { id }, body }) =>
      loadRun(services, await services.orchestration.startCheck(id, body.depth)),
  }),
];

async function loadRepository(services: HttpServices, id: string): Promise<RepositoryView> {
  const repositories = await listRepositoryViews(services.orchestration.context.catalogue);
  return found(repositories.find((repository) => repository.id === id) ?? null, 'repository', id);
}

import * as z from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import {
  repositoryKeyAddedSchema,
  repositoryKeyAddSchema,
  repositoryKeyDrillResultSchema,
  repositoryKeyDrillSchema,
  repositoryKeyParamsSchema,
  repositoryKeySchema,
} from '../../contract/api/repository-key.schema.ts';
import { defineRoute } from '../route.ts';

const tag = 'repositories';
const params = z.object({ id: idSchema });

export const repositoryKeyRoutes = [
  defineRoute({
    method: 'get',
    path: '/repositories/:id/keys',
    permission: 'view',
    tag,
    summary: 'Keys of an encrypted repository',
    params,
    answer: z.array(repositoryKeySchema),
    handle: ({ services, params: { id } }) => services.orchestration.repositoryKeys.list(id),
  }),
  defineRoute({
    method: 'post',
    path: '/repositories/:id/keys',
    permission: 'administer',
    tag,
    summary: 'Add a key, perhaps in the place of another; no data is written again',
    params,
    body: repositoryKeyAddSchema,
    status: 201,
    answer: repositoryKeyAddedSchema,
    handle: ({ services, params: { id }, body }) => services.orchestration.repositoryKeys.add(id, body),
  }),
  defineRoute({
    method: 'delete',
    path: '/repositories/:id/keys/:slotId',
    permission: 'administer',
    tag,
    summary: 'Remove a key; the last one that a person can use stays',
    params: repositoryKeyParamsSchema,
    handle: ({ services, params: { id, slotId } }) => services.orchestration.repositoryKeys.remove(id, slotId),
  }),
  defineRoute({
    method: 'post',
    path: '/repositories/:id/keys/drill',
    permission: 'administer',
    tag,
    summary: 'Prove that a passphrase or recovery key opens the repository',
    params,
    body: repositoryKeyDrillSchema,
    answer: repositoryKeyDrillResultSchema,
    handle: ({ services, params: { id }, body }) => services.orchestration.repositoryKeys.drill(id, body.key),
  }),
];

import { exportInputSchema, restoreInputSchema } from '../../contract/api/restore.schema.ts';
import { runSchema } from '../../contract/api/run.schema.ts';
import { defineRoute } from '../route.ts';
import { loadRun } from './runs.ts';

const tag = 'restores';

export const restoreRoutes = [
  defineRoute({
    method: 'post',
    path: '/restores',
    tag,
    summary: 'Restore a machine, as a new one or in the place of one',
    body: restoreInputSchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, body }) => loadRun(services, await services.orchestration.startRestore(body)),
  }),
  defineRoute({
    method: 'post',
    path: '/exports',
    tag,
    summary: 'Write a disk of a version to a file on the NAS',
    body: exportInputSchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, body }) => loadRun(services, await services.orchestration.startExport(body)),
  }),
];

import { exportInputSchema, restoreInputSchema } from '../../contract/api/restore.schema.ts';
import { runSchema } from '../../contract/api/run.schema.ts';
import { placeExport } from '../export-place.ts';
import { assertReached } from '../reach.ts';
import { defineRoute, known } from '../route.ts';
import { loadPoint, namePoint } from './points.ts';
import { loadRun } from './runs.ts';

const tag = 'restores';

export const restoreRoutes = [
  defineRoute({
    method: 'post',
    path: '/restores',
    permission: 'restore',
    tag,
    summary: 'Restore a machine, as a new one or in the place of one',
    body: restoreInputSchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, caller, body, note }) => {
      note(await namePoint(services, body.pointId));
      const { reach } = known(caller);
      if (reach !== null) {
        await loadPoint(services, known(caller), body.pointId);
        assertReached(reach.hostIds.has(body.hostId), 'host', body.hostId);
        const { mode } = body;
        if (mode.kind === 'replace') assertReached(reach.machineIds.has(mode.machineId), 'machine', mode.machineId);
      }
      return loadRun(services, await services.orchestration.startRestore(body));
    },
  }),
  defineRoute({
    method: 'post',
    path: '/exports',
    permission: 'operate',
    tag,
    summary: 'Write a disk of a version to a file on the NAS; in a shared folder, without the right to configure',
    body: exportInputSchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, caller, body, note }) => {
      note(await namePoint(services, body.pointId));
      const path = await placeExport(services, known(caller), body.path);
      return loadRun(services, await services.orchestration.startExport({ ...body, path }));
    },
  }),
];

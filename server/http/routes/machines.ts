import * as z from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import { machineQuerySchema, machineSchema } from '../../contract/api/machine.schema.ts';
import { found, listMachineViews } from '../../orchestration/index.ts';
import { assertReached } from '../reach.ts';
import { defineRoute, known } from '../route.ts';

const tag = 'machines';

export const machineRoutes = [
  defineRoute({
    method: 'get',
    path: '/machines',
    permission: 'browse',
    tag,
    summary: 'Machines of all hosts, and those that only versions are left of',
    query: machineQuerySchema,
    answer: z.array(machineSchema),
    handle: async ({ services, caller, query: { hostId, search, ids } }) => {
      const { reach } = known(caller);
      const machines = await listMachineViews(services.orchestration.context.catalogue, {
        ...(hostId === undefined ? {} : { hostId }),
        ...(search === undefined ? {} : { search }),
        ...(ids === undefined ? {} : { ids }),
      });
      return machines.filter(({ id }) => reach === null || reach.machineIds.has(id));
    },
  }),
  defineRoute({
    method: 'get',
    path: '/machines/:id',
    permission: 'browse',
    tag,
    summary: 'One machine',
    params: z.object({ id: idSchema }),
    answer: machineSchema,
    handle: async ({ services, caller, params: { id } }) => {
      const { reach } = known(caller);
      assertReached(reach === null || reach.machineIds.has(id), 'machine', id);
      const machines = await listMachineViews(services.orchestration.context.catalogue);
      return found(machines.find((machine) => machine.id === id) ?? null, 'machine', id);
    },
  }),
];

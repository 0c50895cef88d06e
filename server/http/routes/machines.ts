import { z } from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import { machineQuerySchema, machineSchema } from '../../contract/api/machine.schema.ts';
import { found, listMachineViews } from '../../orchestration/index.ts';
import { defineRoute } from '../route.ts';

const tag = 'machines';

export const machineRoutes = [
  defineRoute({
    method: 'get',
    path: '/machines',
    tag,
    summary: 'Machines of all hosts, and those that only versions are left of',
    query: machineQuerySchema,
    answer: z.array(machineSchema),
    handle: ({ services, query: { hostId, search } }) =>
      listMachineViews(services.orchestration.context.catalogue, {
        ...(hostId === undefined ? {} : { hostId }),
        ...(search === undefined ? {} : { search }),
      }),
  }),
  defineRoute({
    method: 'get',
    path: '/machines/:id',
    tag,
    summary: 'One machine',
    params: z.object({ id: idSchema }),
    answer: machineSchema,
    handle: async ({ services, params: { id } }) => {
      const machines = await listMachineViews(services.orchestration.context.catalogue);
      return found(machines.find((machine) => machine.id === id) ?? null, 'machine', id);
    },
  }),
];

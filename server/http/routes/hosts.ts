import * as z from 'zod';
import { emptySchema, idSchema } from '../../contract/api/common.schema.ts';
import {
  datastoreSchema,
  hostChangeSchema,
  hostInputSchema,
  hostProbeSchema,
  hostSchema,
  probeResultSchema,
  type HostView,
} from '../../contract/api/host.schema.ts';
import { machineSchema } from '../../contract/api/machine.schema.ts';
import { found, listHostViews, listMachineViews } from '../../orchestration/index.ts';
import type { Caller } from '../authentication.ts';
import { assertReached } from '../reach.ts';
import { defineRoute, known, type HttpServices } from '../route.ts';

const tag = 'hosts';
const params = z.object({ id: idSchema });

export const hostRoutes = [
  defineRoute({
    method: 'get',
    path: '/hosts',
    permission: 'browse',
    tag,
    summary: 'All hosts',
    answer: z.array(hostSchema),
    handle: async ({ services, caller }) => {
      const { reach } = known(caller);
      const hosts = await listHostViews(services.orchestration.context.catalogue);
      return hosts.filter(({ id }) => reach === null || reach.hostIds.has(id));
    },
  }),
  defineRoute({
    method: 'post',
    path: '/hosts/probe',
    permission: 'configure',
    tag,
    summary: 'Try a host out without adding it; its steps come as probe events too',
    body: hostProbeSchema,
    answer: probeResultSchema,
    handle: ({ services, body: { probeId, ...address } }) => services.orchestration.hosts.probe(address, probeId),
  }),
  defineRoute({
    method: 'post',
    path: '/hosts',
    permission: 'configure',
    tag,
    summary: 'Add a host that answers; pins its host key and certificate',
    body: hostInputSchema,
    status: 201,
    answer: hostSchema,
    handle: async ({ services, body }) => loadHost(services, await services.orchestration.hosts.add(body)),
  }),
  defineRoute({
    method: 'get',
    path: '/hosts/:id',
    permission: 'browse',
    tag,
    summary: 'One host',
    params,
    answer: hostSchema,
    handle: ({ services, caller, params: { id } }) => loadReachedHost(services, caller, id),
  }),
  defineRoute({
    method: 'patch',
    path: '/hosts/:id',
    permission: 'configure',
    tag,
    summary: 'Change a host; what is not named stays',
    params,
    body: hostChangeSchema,
    answer: hostSchema,
    handle: async ({ services, params: { id }, body }) => {
      await services.orchestration.hosts.change(id, body);
      return loadHost(services, id);
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/hosts/:id',
    permission: 'configure',
    tag,
    summary: 'Forget a host; versions of its machines stay',
    params,
    handle: ({ services, params: { id } }) => services.orchestration.hosts.remove(id),
  }),
  defineRoute({
    method: 'post',
    path: '/hosts/:id/test',
    permission: 'operate',
    tag,
    summary: 'Try the connection of a host',
    params,
    body: emptySchema,
    answer: probeResultSchema,
    handle: ({ services, params: { id } }) => services.orchestration.hosts.test(id),
  }),
  defineRoute({
    method: 'get',
    path: '/hosts/:id/machines',
    permission: 'browse',
    tag,
    summary: 'Machines of a host',
    params,
    query: z.strictObject({ refresh: z.stringbool().optional() }),
    answer: z.array(machineSchema),
    handle: async ({ services, caller, params: { id }, query }) => {
      await loadReachedHost(services, caller, id);
      if (query.refresh === true) await services.orchestration.hosts.refresh(id);
      const { reach } = known(caller);
      const machines = await listMachineViews(services.orchestration.context.catalogue, { hostId: id });
      return machines.filter((machine) => reach === null || reach.machineIds.has(machine.id));
    },
  }),
  defineRoute({
    method: 'get',
    path: '/hosts/:id/datastores',
    permission: 'browse',
    tag,
    summary: 'Datastores of a host, asked now',
    params,
    answer: z.array(datastoreSchema),
    handle: async ({ services, caller, params: { id } }) => {
      await loadReachedHost(services, caller, id);
      return (await services.orchestration.hosts.refresh(id)).datastores;
    },
  }),
  defineRoute({
    method: 'get',
    path: '/hosts/:id/networks',
    permission: 'browse',
    tag,
    summary: 'Networks of a host, asked now',
    params,
    answer: z.array(z.string()),
    handle: async ({ services, caller, params: { id } }) => {
      await loadReachedHost(services, caller, id);
      return (await services.orchestration.hosts.refresh(id)).networks;
    },
  }),
];

/** @throws NOT_FOUND also for a host that the caller does not reach */
async function loadReachedHost(services: HttpServices, caller: Caller | null, id: string): Promise<HostView> {
  const { reach } = known(caller);
  assertReached(reach === null || reach.hostIds.has(id), 'host', id);
  return loadHost(services, id);
}

async function loadHost(services: HttpServices, id: string): Promise<HostView> {
  const hosts = await listHostViews(services.orchestration.context.catalogue);
  return found(hosts.find((host) => host.id === id) ?? null, 'host', id);
}

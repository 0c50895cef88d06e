import {
  jobListQuerySchema,
  jobListSchema,
  machineListQuerySchema,
  machineListSchema,
} from '../../contract/api/list.schema.ts';
import { historyQuerySchema, historySchema, overviewSchema } from '../../contract/api/overview.schema.ts';
import { listJobRows, listMachineRows, loadHistory, loadOverview } from '../../orchestration/index.ts';
import { defineRoute, known } from '../route.ts';

const tag = 'overview';

/** Pages and sums for people who look: counted by the catalogue, however much there is. */
export const overviewRoutes = [
  defineRoute({
    method: 'get',
    path: '/overview',
    permission: 'browse',
    tag,
    summary: 'How well the machines are off, and what is due next',
    answer: overviewSchema,
    handle: ({ services, caller }) => {
      const { catalogue, clock } = services.orchestration.context;
      const { reach } = known(caller);
      return loadOverview(catalogue, { ids: reach === null ? null : [...reach.machineIds], nowMs: clock.nowMs() });
    },
  }),
  defineRoute({
    method: 'get',
    path: '/history',
    permission: 'view',
    tag,
    summary: 'Runs, transferred sizes and sizes of repositories, day by day',
    query: historyQuerySchema,
    answer: historySchema,
    handle: ({ services, query }) => {
      const { catalogue, clock } = services.orchestration.context;
      return loadHistory(catalogue, { ...query, nowMs: clock.nowMs() });
    },
  }),
  defineRoute({
    method: 'get',
    path: '/lists/machines',
    permission: 'browse',
    tag,
    summary: 'A page of the machines, filtered and sorted',
    query: machineListQuerySchema,
    answer: machineListSchema,
    handle: ({ services, caller, query }) => {
      const { catalogue, clock } = services.orchestration.context;
      const { reach } = known(caller);
      const ids = reach === null ? null : [...reach.machineIds];
      return listMachineRows(catalogue, query, { ids, nowMs: clock.nowMs() });
    },
  }),
  defineRoute({
    method: 'get',
    path: '/lists/jobs',
    permission: 'browse',
    tag,
    summary: 'A page of the jobs, filtered and sorted',
    query: jobListQuerySchema,
    answer: jobListSchema,
    handle: ({ services, caller, query }) => {
      const { catalogue, clock } = services.orchestration.context;
      const { reach } = known(caller);
      const ids = reach === null ? null : [...reach.jobIds];
      return listJobRows(catalogue, query, { ids, nowMs: clock.nowMs() });
    },
  }),
];

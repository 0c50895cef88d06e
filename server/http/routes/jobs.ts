import * as z from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import {
  jobChangeSchema,
  jobInputSchema,
  jobRemoveQuerySchema,
  jobRemovedSchema,
  jobRunSchema,
  jobSchema,
  type JobView,
} from '../../contract/api/job.schema.ts';
import { runSchema } from '../../contract/api/run.schema.ts';
import {
  jobScheduleSchema,
  schedulePreviewInputSchema,
  schedulePreviewSchema,
  scheduleSchema,
} from '../../contract/api/schedule.schema.ts';
import { selectionPreviewInputSchema, selectionPreviewSchema } from '../../contract/api/selection.schema.ts';
import { found, listJobViews } from '../../orchestration/index.ts';
import { assertReached } from '../reach.ts';
import { defineRoute, known, type HttpServices } from '../route.ts';
import { loadRun } from './runs.ts';

const tag = 'jobs';
const params = z.object({ id: idSchema });

export const jobRoutes = [
  defineRoute({
    method: 'get',
    path: '/jobs',
    permission: 'browse',
    tag,
    summary: 'All jobs',
    answer: z.array(jobSchema),
    handle: async ({ services, caller }) => {
      const { reach } = known(caller);
      return (await listJobs(services)).filter(({ id }) => reach === null || reach.jobIds.has(id));
    },
  }),
  defineRoute({
    method: 'post',
    path: '/jobs',
    permission: 'configure',
    tag,
    summary: 'Make a job',
    body: jobInputSchema,
    status: 201,
    answer: jobSchema,
    handle: async ({ services, body }) => loadJob(services, await services.orchestration.jobs.add(body)),
  }),
  defineRoute({
    method: 'get',
    path: '/jobs/:id',
    permission: 'browse',
    tag,
    summary: 'One job',
    params,
    answer: jobSchema,
    handle: ({ services, caller, params: { id } }) => {
      const { reach } = known(caller);
      assertReached(reach === null || reach.jobIds.has(id), 'job', id);
      return loadJob(services, id);
    },
  }),
  defineRoute({
    method: 'put',
    path: '/jobs/:id',
    permission: 'configure',
    tag,
    summary: 'Change a job; refused when someone else did meanwhile',
    params,
    body: jobChangeSchema,
    answer: jobSchema,
    handle: async ({ services, params: { id }, body }) => {
      await services.orchestration.jobs.change(id, body);
      return loadJob(services, id);
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/jobs/:id',
    permission: 'configure',
    tag,
    summary: 'Delete a job; its versions stay, or go to the trash',
    params,
    query: jobRemoveQuerySchema,
    answer: jobRemovedSchema,
    handle: ({ services, params: { id }, query }) => services.orchestration.removeJob(id, query.versions),
  }),
  defineRoute({
    method: 'post',
    path: '/jobs/:id/run',
    permission: 'operate',
    tag,
    summary: 'Back up now',
    params,
    body: jobRunSchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, params: { id }, body }) =>
      loadRun(services, await services.orchestration.startJob(id, body)),
  }),
  defineRoute({
    method: 'get',
    path: '/jobs/:id/schedule',
    permission: 'view',
    tag,
    summary: 'When a job runs by itself, and its next ten runs',
    params,
    answer: jobScheduleSchema,
    handle: ({ services, params: { id } }) => services.orchestration.schedules.describe(id),
  }),
  defineRoute({
    method: 'put',
    path: '/jobs/:id/schedule',
    permission: 'configure',
    tag,
    summary: 'Let a job run by itself; counts from now on',
    params,
    body: scheduleSchema,
    answer: jobScheduleSchema,
    handle: async ({ services, params: { id }, body }) => {
      await services.orchestration.schedules.set(id, body);
      return services.orchestration.schedules.describe(id);
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/jobs/:id/schedule',
    permission: 'configure',
    tag,
    summary: 'Let a job run on request only',
    params,
    handle: ({ services, params: { id } }) => services.orchestration.schedules.remove(id),
  }),
  defineRoute({
    method: 'post',
    path: '/schedules/preview',
    permission: 'view',
    tag,
    summary: 'The next runs of a schedule that is not saved, and what it follows',
    body: schedulePreviewInputSchema,
    answer: schedulePreviewSchema,
    handle: ({ services, body }) => services.orchestration.schedules.preview(body),
  }),
  defineRoute({
    method: 'post',
    path: '/selections/preview',
    permission: 'view',
    tag,
    summary: 'Machines that rules fit, as far as hosts have told of them',
    body: selectionPreviewInputSchema,
    answer: selectionPreviewSchema,
    handle: ({ services, body }) => services.orchestration.jobs.previewSelection(body.selection),
  }),
];

async function listJobs({ orchestration }: HttpServices): Promise<JobView[]> {
  return listJobViews(orchestration.context.catalogue, orchestration.context.clock.nowMs());
}

async function loadJob(services: HttpServices, id: string): Promise<JobView> {
  const jobs = await listJobs(services);
  return found(jobs.find((job) => job.id === id) ?? null, 'job', id);
}

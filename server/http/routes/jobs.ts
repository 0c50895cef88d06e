import { z } from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import {
  jobChangeSchema,
  jobInputSchema,
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
import { found, listJobViews } from '../../orchestration/index.ts';
import { defineRoute, type HttpServices } from '../route.ts';
import { loadRun } from './runs.ts';

const tag = 'jobs';
const params = z.object({ id: idSchema });

export const jobRoutes = [
  defineRoute({
    method: 'get',
    path: '/jobs',
    tag,
    summary: 'All jobs',
    answer: z.array(jobSchema),
    handle: ({ services }) => listJobs(services),
  }),
  defineRoute({
    method: 'post',
    path: '/jobs',
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
    tag,
    summary: 'One job',
    params,
    answer: jobSchema,
    handle: ({ services, params: { id } }) => loadJob(services, id),
  }),
  defineRoute({
    method: 'put',
    path: '/jobs/:id',
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
    tag,
    summary: 'Delete a job; its versions stay',
    params,
    handle: ({ services, params: { id } }) => services.orchestration.jobs.remove(id),
  }),
  defineRoute({
    method: 'post',
    path: '/jobs/:id/run',
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
    tag,
    summary: 'When a job runs by itself, and its next ten runs',
    params,
    answer: jobScheduleSchema,
    handle: ({ services, params: { id } }) => services.orchestration.schedules.describe(id),
  }),
  defineRoute({
    method: 'put',
    path: '/jobs/:id/schedule',
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
    tag,
    summary: 'Let a job run on request only',
    params,
    handle: ({ services, params: { id } }) => services.orchestration.schedules.remove(id),
  }),
  defineRoute({
    method: 'post',
    path: '/schedules/preview',
    tag,
    summary: 'The next runs of a schedule that is not saved',
    body: schedulePreviewInputSchema,
    answer: schedulePreviewSchema,
    handle: async ({ services, body }) => ({ runsAtMs: services.orchestration.schedules.preview(body) }),
  }),
];

async function listJobs({ orchestration }: HttpServices): Promise<JobView[]> {
  return listJobViews(orchestration.context.catalogue, orchestration.context.clock.nowMs());
}

async function loadJob(services: HttpServices, id: string): Promise<JobView> {
  const jobs = await listJobs(services);
  return found(jobs.find((job) => job.id === id) ?? null, 'job', id);
}

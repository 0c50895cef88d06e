import * as z from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import {
  jobHooksSchema,
  newTriggerSchema,
  scriptsSchema,
  triggeredSchema,
  type JobHooksView,
} from '../../contract/api/hook.schema.ts';
import { jobRunSchema } from '../../contract/api/job.schema.ts';
import { found } from '../../orchestration/index.ts';
import { rawBodyOf } from '../raw-body.ts';
import { defineRoute, type HttpServices } from '../route.ts';

const tag = 'jobs';
const params = z.object({ id: idSchema });

export const hookRoutes = [
  defineRoute({
    method: 'get',
    path: '/jobs/:id/hooks',
    tag,
    permission: 'configure',
    summary: 'Scripts around runs of a job, and the address that starts it',
    params,
    answer: jobHooksSchema,
    handle: ({ services, params: { id } }) => describeHooks(services, id),
  }),
  defineRoute({
    method: 'put',
    path: '/jobs/:id/scripts',
    tag,
    permission: 'administer',
    summary: 'Run files of the folder of scripts before and after runs of a job',
    params,
    body: scriptsSchema,
    answer: jobHooksSchema,
    handle: async ({ services, params: { id }, body }) => {
      await services.orchestration.scripts.save(id, body);
      return describeHooks(services, id);
    },
  }),
  defineRoute({
    method: 'post',
    path: '/jobs/:id/trigger',
    tag,
    permission: 'configure',
    summary: 'Make an address that starts a job, with a secret that is shown this once; the one before ends',
    params,
    status: 201,
    answer: newTriggerSchema,
    handle: ({ services, params: { id } }) => services.orchestration.triggers.renew(id),
  }),
  defineRoute({
    method: 'delete',
    path: '/jobs/:id/trigger',
    tag,
    permission: 'configure',
    summary: 'Let nobody start a job by its address any more',
    params,
    handle: ({ services, params: { id } }) => services.orchestration.triggers.remove(id),
  }),
  defineRoute({
    method: 'post',
    path: '/triggers/:id',
    tag,
    permission: 'open',
    summary: 'Start a job by its address; the headers X-Dozo-Timestamp and X-Dozo-Signature let in',
    params,
    body: jobRunSchema,
    status: 202,
    answer: triggeredSchema,
    handle: async ({ services, params: { id }, body, request }) => {
      const { orchestration } = services;
      await orchestration.triggers.accept(id, {
        timestamp: request.get('x-dozo-timestamp'),
        signature: request.get('x-dozo-signature'),
        body: rawBodyOf(request),
      });
      return { runId: await orchestration.startJob(id, body) };
    },
  }),
];

async function describeHooks({ orchestration }: HttpServices, jobId: string): Promise<JobHooksView> {
  const { scripts, triggers, context } = orchestration;
  found(await context.catalogue.jobs.load(jobId), 'job', jobId);
  return {
    scriptsAllowed: scripts.areAllowed,
    scripts: await scripts.load(jobId),
    availableScripts: await scripts.list(),
    trigger: await triggers.describe(jobId),
  };
}

import * as z from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import {
  jobRetentionSchema,
  retentionPreviewInputSchema,
  retentionPreviewSchema,
  retentionSimulationInputSchema,
  retentionSimulationSchema,
} from '../../contract/api/retention.schema.ts';
import { defineRoute } from '../route.ts';

const tag = 'retention';

export const retentionRoutes = [
  defineRoute({
    method: 'put',
    path: '/jobs/:id/retention',
    permission: 'configure',
    tag,
    summary: 'Which versions of a job stay; the others go to the trash after each run',
    params: z.object({ id: idSchema }),
    body: jobRetentionSchema,
    answer: jobRetentionSchema,
    handle: async ({ services, params: { id }, body }) => {
      await services.orchestration.retention.setOfJob(id, body.retention);
      return body;
    },
  }),
  defineRoute({
    method: 'post',
    path: '/retention/preview',
    permission: 'view',
    tag,
    summary: 'Which versions would stay, and why; nothing is removed',
    body: retentionPreviewInputSchema,
    answer: retentionPreviewSchema,
    handle: ({ services, body }) => services.orchestration.retention.preview(body),
  }),
  defineRoute({
    method: 'post',
    path: '/retention/simulate',
    permission: 'view',
    tag,
    summary: 'Play a schedule through and tell which versions would be there in the end',
    body: retentionSimulationInputSchema,
    answer: retentionSimulationSchema,
    handle: async ({ services, body }) => services.orchestration.retention.simulate(body),
  }),
];

import {
  retentionPreviewInputSchema,
  retentionPreviewSchema,
  retentionSimulationInputSchema,
  retentionSimulationSchema,
} from '../../contract/api/retention.schema.ts';
import { defineRoute } from '../route.ts';

const tag = 'retention';

export const retentionRoutes = [
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

import { healthDetailsSchema } from '../../contract/api/health.schema.ts';
import { describeHealth } from '../health.ts';
import { defineRoute } from '../route.ts';

export const healthRoutes = [
  defineRoute({
    method: 'get',
    path: '/health/details',
    permission: 'monitor',
    tag: 'system',
    summary: 'What is well and what is not, check by check; a token of the scope "monitor" is enough',
    answer: healthDetailsSchema,
    handle: ({ services }) => describeHealth(services.orchestration),
  }),
];

import * as z from 'zod';
import { settingsChangeSchema, settingsSchema } from '../../contract/api/settings.schema.ts';
import { healthSchema, systemSchema } from '../../contract/api/system.schema.ts';
import { collectMetrics } from '../metrics.ts';
import { encodeMetrics, OPEN_METRICS_TYPE } from '../open-metrics.ts';
import { defineRoute } from '../route.ts';

const tag = 'system';

export const systemRoutes = [
  defineRoute({
    method: 'get',
    path: '/health',
    permission: 'open',
    tag,
    summary: 'Whether the server is well',
    answer: healthSchema,
    handle: async ({ services }) => ({
      status:
        services.orchestration.context.queue.isUp() && services.orchestration.notifications.catalogueTrouble === null
          ? ('ok' as const)
          : ('degraded' as const),
    }),
  }),
  defineRoute({
    method: 'get',
    path: '/openapi.json',
    permission: 'whoami',
    tag,
    summary: 'This document',
    answer: z.record(z.string(), z.unknown()),
    // Served by the router itself, which made it from all routes.
    handle: async () => ({}),
  }),
  defineRoute({
    method: 'get',
    path: '/system',
    permission: 'monitor',
    tag,
    summary: 'Version, queue, workers',
    answer: systemSchema,
    handle: async ({ services }) => ({
      ...(await services.orchestration.describeSystem()),
      certificate: services.certificate,
    }),
  }),
  defineRoute({
    method: 'get',
    path: '/metrics',
    permission: 'monitor',
    tag,
    summary: 'Numbers for a monitor, in the OpenMetrics format; a token of the scope "monitor" is enough',
    contentType: OPEN_METRICS_TYPE,
    handle: async ({ services, response }) => {
      const text = encodeMetrics(await collectMetrics(services.orchestration));
      response.setHeader('Content-Type', OPEN_METRICS_TYPE);
      response.end(text);
    },
  }),
  defineRoute({
    method: 'get',
    path: '/settings',
    permission: 'view',
    tag,
    summary: 'Settings',
    answer: settingsSchema,
    handle: ({ services }) => services.orchestration.loadSettings(),
  }),
  defineRoute({
    method: 'patch',
    path: '/settings',
    permission: 'configure',
    tag,
    summary: 'Change settings; what is not named stays',
    body: settingsChangeSchema,
    answer: settingsSchema,
    handle: ({ services, body }) => services.orchestration.changeSettings(body),
  }),
];

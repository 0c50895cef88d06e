import { z } from 'zod';
import { emptySchema, idSchema } from '../../contract/api/common.schema.ts';
import {
  runDetailSchema,
  runLogQuerySchema,
  runLogSchema,
  runPageSchema,
  runQuerySchema,
  runSchema,
  type RunView,
} from '../../contract/api/run.schema.ts';
import { AppError } from '../../errors/index.ts';
import { found, viewRun, viewRunParts } from '../../orchestration/index.ts';
import { defineRoute, type HttpServices } from '../route.ts';

const tag = 'runs';
const params = z.object({ id: idSchema });

export const runRoutes = [
  defineRoute({
    method: 'get',
    path: '/runs',
    tag,
    summary: 'Runs, newest first, in pages',
    query: runQuerySchema,
    answer: runPageSchema,
    handle: async ({ services, query: { before, ...filter } }) => {
      const runs = await services.orchestration.context.catalogue.runs.list({
        ...filter,
        beforeNumber: before === undefined ? undefined : parseNumber(before),
      });
      const last = runs.length === filter.limit ? runs.at(-1) : undefined;
      return { runs: runs.map(viewRun), next: last === undefined ? null : String(last.number) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/runs/:id',
    tag,
    summary: 'One run with its machines and their progress',
    params,
    answer: runDetailSchema,
    handle: async ({ services, params: { id } }) => ({
      ...(await loadRun(services, id)),
      parts: await viewRunParts(services.orchestration.context.catalogue, id, (partId) =>
        services.orchestration.keeper.progressOf(partId),
      ),
    }),
  }),
  defineRoute({
    method: 'get',
    path: '/runs/:id/log',
    tag,
    summary: 'Lines of a run, oldest first',
    params,
    query: runLogQuerySchema,
    answer: runLogSchema,
    handle: async ({ services, params: { id }, query: { after, limit, level } }) => {
      await loadRun(services, id);
      const { catalogue } = services.orchestration.context;
      const lines = await catalogue.log.list(id, { afterNumber: after, limit, level });
      return { lines, next: lines.at(-1)?.number ?? after };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/runs/:id/cancel',
    tag,
    summary: 'Cancel a run; it ends when the hosts are as they were',
    params,
    body: emptySchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, params: { id } }) => {
      await services.orchestration.keeper.cancel(id);
      return loadRun(services, id);
    },
  }),
];

export async function loadRun(services: HttpServices, id: string): Promise<RunView> {
  return viewRun(found(await services.orchestration.context.catalogue.runs.load(id), 'run', id));
}

function parseNumber(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new AppError('INPUT_INVALID', 'This page is not known.', { hint: 'Pass "next" of the page before.' });
}

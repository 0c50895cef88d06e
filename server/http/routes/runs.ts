import * as z from 'zod';
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
import { assertPermitted, type Caller } from '../authentication.ts';
import { assertReached } from '../reach.ts';
import { defineRoute, known, type HttpServices } from '../route.ts';

const tag = 'runs';
const params = z.object({ id: idSchema });

export const runRoutes = [
  defineRoute({
    method: 'get',
    path: '/runs',
    permission: 'browse',
    tag,
    summary: 'Runs, newest first, in pages',
    query: runQuerySchema,
    answer: runPageSchema,
    handle: async ({ services, caller, query: { before, ...filter } }) => {
      const { catalogue } = services.orchestration.context;
      const { reach } = known(caller);
      const runs = await catalogue.runs.list({
        ...filter,
        beforeNumber: before === undefined ? undefined : parseNumber(before),
      });
      const last = runs.length === filter.limit ? runs.at(-1) : undefined;
      const shown = [];
      // A page may be shorter than asked for, and not be the last one.
      for (const run of runs) if (reach === null || (await reach.coversRun(catalogue, run))) shown.push(viewRun(run));
      return { runs: shown, next: last === undefined ? null : String(last.number) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/runs/:id',
    permission: 'browse',
    tag,
    summary: 'One run with its machines and their progress',
    params,
    answer: runDetailSchema,
    handle: async ({ services, caller, params: { id } }) => ({
      ...(await loadReachedRun(services, known(caller), id)),
      parts: await viewRunParts(services.orchestration.context.catalogue, id, (partId) =>
        services.orchestration.keeper.progressOf(partId),
      ),
    }),
  }),
  defineRoute({
    method: 'get',
    path: '/runs/:id/log',
    permission: 'browse',
    tag,
    summary: 'Lines of a run, oldest first',
    params,
    query: runLogQuerySchema,
    answer: runLogSchema,
    handle: async ({ services, caller, params: { id }, query: { after, limit, level } }) => {
      await loadReachedRun(services, known(caller), id);
      const { catalogue } = services.orchestration.context;
      const lines = await catalogue.log.list(id, { afterNumber: after, limit, level });
      return { lines, next: lines.at(-1)?.number ?? after };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/runs/:id/cancel',
    permission: 'restore',
    tag,
    summary: 'Cancel a run; it ends when the hosts are as they were',
    params,
    body: emptySchema,
    status: 202,
    answer: runSchema,
    handle: async ({ services, caller, params: { id } }) => {
      const run = await loadReachedRun(services, known(caller), id);
      // Who may restore may take a restore back; other runs are an operator's business.
      if (run.kind !== 'restore') assertPermitted(known(caller), 'operate');
      await services.orchestration.keeper.cancel(id);
      return loadRun(services, id);
    },
  }),
];

/** @throws NOT_FOUND also for a run that the caller does not reach */
async function loadReachedRun(services: HttpServices, { reach }: Caller, id: string): Promise<RunView> {
  const run = await loadRun(services, id);
  const isReached = reach === null || (await reach.coversRun(services.orchestration.context.catalogue, run));
  assertReached(isReached, 'run', id);
  return run;
}

export async function loadRun(services: HttpServices, id: string): Promise<RunView> {
  return viewRun(found(await services.orchestration.context.catalogue.runs.load(id), 'run', id));
}

function parseNumber(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new AppError('INPUT_INVALID', 'This page is not known.', { hint: 'Pass "next" of the page before.' });
}

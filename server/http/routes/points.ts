import { once } from 'node:events';
import { z } from 'zod';
import {
  pointPageSchema,
  pointQuerySchema,
  pointsChangedSchema,
  pointSchema,
  pointsDeleteSchema,
  pointsLockSchema,
  pointsUndeleteSchema,
  type PointView,
} from '../../contract/api/point.schema.ts';
import { AppError } from '../../errors/index.ts';
import { addressOf, found } from '../../orchestration/index.ts';
import type { Caller } from '../authentication.ts';
import { defineRoute, known, type HttpServices } from '../route.ts';

const tag = 'points';
const pointIdSchema = z.string().min(1).max(128);

export const pointRoutes = [
  defineRoute({
    method: 'get',
    path: '/points',
    permission: 'browse',
    tag,
    summary: 'Versions, newest first, in pages',
    query: pointQuerySchema,
    answer: pointPageSchema,
    handle: async ({ services, caller, query }) => {
      const { catalogue } = services.orchestration.context;
      const { reach } = known(caller);
      if (query.refresh === true && reach === null) await refreshRepositories(services, query.repositoryId);
      const points = await catalogue.points.list({
        machineId: query.machineId,
        repositoryId: query.repositoryId,
        trash: query.trash,
        before: query.before === undefined ? undefined : parsePosition(query.before),
        limit: query.limit,
      });
      const last = points.length === query.limit ? points.at(-1) : undefined;
      return {
        // A page may be shorter than asked for, and not be the last one.
        points: points.filter((point) => reach === null || reach.coversPoint(point)),
        next: last === undefined ? null : `${last.createdAtMs}-${last.id}`,
      };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/points/delete',
    permission: 'configure',
    tag,
    summary: 'Move versions to the trash; locked ones are refused',
    body: pointsDeleteSchema,
    answer: pointsChangedSchema,
    handle: ({ services, body }) => services.orchestration.maintenance.deletePoints(body),
  }),
  defineRoute({
    method: 'post',
    path: '/points/undelete',
    permission: 'configure',
    tag,
    summary: 'Bring versions back from the trash',
    body: pointsUndeleteSchema,
    answer: pointsChangedSchema,
    handle: ({ services, body }) => services.orchestration.maintenance.undeletePoints(body),
  }),
  defineRoute({
    method: 'post',
    path: '/points/lock',
    permission: 'configure',
    tag,
    summary: 'Lock versions until a time; cannot be taken back or shortened',
    body: pointsLockSchema,
    answer: pointsChangedSchema,
    handle: ({ services, body }) => services.orchestration.maintenance.lockPoints(body),
  }),
  defineRoute({
    method: 'get',
    path: '/points/:id',
    permission: 'browse',
    tag,
    summary: 'One version',
    params: z.object({ id: pointIdSchema }),
    answer: pointSchema,
    handle: ({ services, caller, params: { id } }) => loadPoint(services, known(caller), id),
  }),
  defineRoute({
    method: 'get',
    path: '/points/:id/disks/:key/download',
    permission: 'restore',
    tag,
    summary: 'A disk of a version as a raw image',
    params: z.object({ id: pointIdSchema, key: z.string().min(1).max(64) }),
    contentType: 'application/octet-stream',
    handle: async ({ services, caller, params: { id, key }, response }) => {
      const point = await loadPoint(services, known(caller), id);
      const { catalogue } = services.orchestration.context;
      const repository = found(await catalogue.repositories.load(point.repositoryId), 'repository', point.repositoryId);
      const download = await services.downloads.open(await addressOf(catalogue, repository), id, key);
      const gone = new AbortController();
      response.on('close', () => gone.abort());
      try {
        response.writeHead(200, {
          'Content-Type': 'application/octet-stream',
          'Content-Length': download.sizeBytes,
          'Content-Disposition': `attachment; filename*=UTF-8''${encodeFileName(`${point.machineName} ${key}.img`)}`,
        });
        for await (const bytes of download.bytes(gone.signal)) {
          if (!response.write(bytes)) await once(response, 'drain', { signal: gone.signal });
        }
        response.end();
      } catch (error) {
        // The reader went away: nobody is left to tell.
        if (!gone.signal.aborted) throw error;
      } finally {
        await download.close();
      }
    },
  }),
];

/** @throws POINT_NOT_FOUND also for a version that the caller does not reach */
export async function loadPoint(services: HttpServices, { reach }: Caller, id: string): Promise<PointView> {
  const point = await services.orchestration.context.catalogue.points.load(id);
  if (point !== null && (reach === null || reach.coversPoint(point))) return point;
  throw new AppError('POINT_NOT_FOUND', 'There is no such version.', { hint: 'Load the list of versions again.' });
}

async function refreshRepositories(services: HttpServices, repositoryId: string | undefined): Promise<void> {
  const { orchestration } = services;
  const ids =
    repositoryId === undefined
      ? (await orchestration.context.catalogue.repositories.list()).map((repository) => repository.id)
      : [repositoryId];
  for (const id of ids) await orchestration.repositories.refresh(id);
}

function parsePosition(text: string): { createdAtMs: number; id: string } {
  const [, createdAtMs, id] = /^(\d{1,15})-(.{1,128})$/.exec(text) ?? [];
  if (createdAtMs !== undefined && id !== undefined) return { createdAtMs: Number(createdAtMs), id };
  throw new AppError('INPUT_INVALID', 'This page is not known.', { hint: 'Pass "next" of the page before.' });
}

/** As RFC 8187 wants it: what encodeURIComponent leaves but headers do not take is encoded too. */
function encodeFileName(name: string): string {
  return encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*!]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

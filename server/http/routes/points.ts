import { once } from 'node:events';
import type { Response } from 'express';
import * as z from 'zod';
import {
  guestArchiveQuerySchema,
  guestFileQuerySchema,
  guestFolderPageSchema,
  guestFolderQuerySchema,
  guestVolumesSchema,
} from '../../contract/api/guest-file.schema.ts';
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
import type { ErrorBody } from '../../contract/error-codes.ts';
import type { RepositoryAddress } from '../../contract/task.ts';
import { AppError } from '../../errors/index.ts';
import { addressOf, found } from '../../orchestration/index.ts';
import type { Caller } from '../authentication.ts';
import { defineRoute, known, type DiskBrowser, type HttpServices, type RouteInput } from '../route.ts';

const tag = 'points';
type Telling = Pick<RouteInput<unknown, unknown, unknown>, 'note' | 'tellBegin'>;
const pointIdSchema = z.string().min(1).max(128);
const diskShape = { id: pointIdSchema, key: z.string().min(1).max(64) };
/** Long enough to tell which file it was; a path may be far longer. */
const NOTED_PATH_MAX = 1_000;
const volumeSchema = z.coerce.number().int().min(0).max(1_000_000);

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
    handle: async ({ services, body, note }) => {
      note(await namingAll(services, body.pointIds));
      return services.orchestration.maintenance.deletePoints(body);
    },
  }),
  defineRoute({
    method: 'post',
    path: '/points/undelete',
    permission: 'configure',
    tag,
    summary: 'Bring versions back from the trash',
    body: pointsUndeleteSchema,
    answer: pointsChangedSchema,
    handle: async ({ services, body, note }) => {
      note(await namingAll(services, body.pointIds));
      return services.orchestration.maintenance.undeletePoints(body);
    },
  }),
  defineRoute({
    method: 'post',
    path: '/points/lock',
    permission: 'configure',
    tag,
    summary: 'Lock versions until a time; cannot be taken back or shortened',
    body: pointsLockSchema,
    answer: pointsChangedSchema,
    handle: async ({ services, body, note }) => {
      note(await namingAll(services, body.pointIds));
      return services.orchestration.maintenance.lockPoints(body);
    },
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
    place: 'version',
    params: z.object(diskShape),
    contentType: 'application/octet-stream',
    handle: async ({ services, caller, params: { id, key }, note, tellBegin, response }) => {
      const { point, address } = await locatePoint(services, known(caller), id);
      note({ ...naming(point), disk: key });
      const download = await services.downloads.open(address, id, key);
      try {
        await sendBytes(response, download, { name: `${point.machineName} ${key}.img`, note, tellBegin });
      } finally {
        await download.close();
      }
    },
  }),
  defineRoute({
    method: 'get',
    path: '/points/:id/disks/:key/volumes',
    permission: 'restore',
    tag,
    summary: 'The volumes on a disk of a version, and which of them can be browsed',
    place: 'version',
    params: z.object(diskShape),
    answer: guestVolumesSchema,
    isLook: true,
    handle: ({ services, caller, params: { id, key }, note, response }) =>
      browse(services, known(caller), { id, key, note, response }, async (browser, signal) => ({
        volumes: await browser.volumes(signal),
      })),
  }),
  defineRoute({
    method: 'get',
    path: '/points/:id/disks/:key/volumes/:volume/files',
    permission: 'restore',
    tag,
    summary: 'A folder of a volume, in pages',
    place: 'version',
    params: z.object({ ...diskShape, volume: volumeSchema }),
    query: guestFolderQuerySchema,
    answer: guestFolderPageSchema,
    isLook: true,
    handle: ({ services, caller, params: { id, key, volume }, query, note, response }) =>
      browse(services, known(caller), { id, key, note, response }, (browser, signal) =>
        browser.list(volume, query, signal),
      ),
  }),
  defineRoute({
    method: 'get',
    path: '/points/:id/disks/:key/volumes/:volume/file',
    permission: 'restore',
    tag,
    summary: 'One file of a volume',
    place: 'version',
    params: z.object({ ...diskShape, volume: volumeSchema }),
    query: guestFileQuerySchema,
    contentType: 'application/octet-stream',
    handle: ({ services, caller, params: { id, key, volume }, query, note, tellBegin, response }) => {
      note({ path: query.path.slice(0, NOTED_PATH_MAX) });
      return browse(services, known(caller), { id, key, note, response }, async (browser, signal) => {
        const file = await browser.file(volume, query.path, signal);
        await sendBytes(response, file, { name: file.name, note, tellBegin });
      });
    },
  }),
  defineRoute({
    method: 'get',
    path: '/points/:id/disks/:key/volumes/:volume/archive',
    permission: 'restore',
    tag,
    summary:
      'A folder of a volume with all that is in it, or what was chosen of that, as a ZIP archive; what cannot be in it is named in it',
    place: 'version',
    params: z.object({ ...diskShape, volume: volumeSchema }),
    query: guestArchiveQuerySchema,
    contentType: 'application/zip',
    handle: ({ services, caller, params: { id, key, volume }, query, note, tellBegin, response }) => {
      const { names: chosen, ...asked } = query;
      const names = chosen?.split('/').filter((name) => name !== '');
      note({
        path: query.path.slice(0, NOTED_PATH_MAX),
        ...(names === undefined ? {} : { chosen: names.join('/').slice(0, NOTED_PATH_MAX) }),
      });
      return browse(services, known(caller), { id, key, note, response }, async (browser, signal) => {
        const options = {
          ...asked,
          ...(names === undefined ? {} : { names }),
          isAsked: response.req.method === 'HEAD',
        };
        const { name, files, fileBytes, bytes } = await browser.archive(volume, options, signal);
        note({ files, fileBytes });
        await sendBytes(response, { type: 'application/zip', sizeBytes: null, bytes }, { name, note, tellBegin });
      });
    },
  }),
];

async function locatePoint(
  services: HttpServices,
  caller: Caller,
  id: string,
): Promise<{ point: PointView; address: RepositoryAddress }> {
  const point = await loadPoint(services, caller, id);
  const { catalogue } = services.orchestration.context;
  const repository = found(await catalogue.repositories.load(point.repositoryId), 'repository', point.repositoryId);
  return { point, address: await addressOf(catalogue, repository) };
}

/** Opens a disk for as long as `act` takes; ends it when the one who asked goes away. */
async function browse<Result>(
  services: HttpServices,
  caller: Caller,
  { id, key, note, response }: { id: string; key: string; note: Telling['note']; response: Response },
  act: (browser: DiskBrowser, signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const { point, address } = await locatePoint(services, caller, id);
  note(naming(point));
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  const browser = await services.downloads.browse(address, id, key);
  try {
    return await act(browser, gone.signal);
  } finally {
    await browser.close();
  }
}

/** As `naming`; of several versions how many they are. */
async function namingAll(services: HttpServices, ids: readonly string[]): Promise<ErrorBody['details']> {
  const [id = '', ...others] = ids;
  return others.length === 0 ? namePoint(services, id) : { versions: ids.length };
}

/** What the audit log says of a version that a request names. */
export async function namePoint(services: HttpServices, id: string): Promise<ErrorBody['details']> {
  const point = await services.orchestration.context.catalogue.points.load(id);
  return point === null ? { versions: 1 } : naming(point);
}

/** What the audit log calls a version by: its id tells nobody anything once it has gone. */
function naming({ machineName, createdAtMs }: PointView): { machine: string; versionAtMs: number } {
  return { machine: machineName, versionAtMs: createdAtMs };
}

/** Sends the bytes as a file, of a `HEAD` what it would be; notes how much of it has left. */
async function sendBytes(
  response: Response,
  content: {
    /** Null: known at the end. */
    sizeBytes: number | null;
    type?: string;
    bytes(signal: AbortSignal): AsyncIterable<Buffer>;
  },
  { name, note, tellBegin }: Telling & { name: string },
): Promise<void> {
  let sentBytes = 0;
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  const { sizeBytes, type = 'application/octet-stream' } = content;
  if (sizeBytes !== null) note({ sizeBytes });
  // What has left cannot be taken back: whoever kills the server on the way leaves an entry.
  if (response.req.method !== 'HEAD') await tellBegin();
  try {
    response.writeHead(200, {
      'Content-Type': type,
      ...(sizeBytes === null ? {} : { 'Content-Length': sizeBytes }),
      'Content-Disposition': `attachment; filename*=UTF-8''${encodeFileName(name)}`,
    });
    if (response.req.method === 'HEAD') {
      response.end();
      return;
    }
    for await (const bytes of content.bytes(gone.signal)) {
      sentBytes += bytes.length;
      if (!response.write(bytes)) await once(response, 'drain', { signal: gone.signal });
    }
    response.end();
  } catch (error) {
    // The reader went away: nobody is left to tell.
    if (!gone.signal.aborted) throw error;
    note({ isCut: true });
  } finally {
    note({ sentBytes });
  }
}

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

import type { Request, Response } from 'express';
import type { z } from 'zod';
import type { ErrorBody } from '../contract/error-codes.ts';
import type { RepositoryAddress } from '../contract/task.ts';
import type { GuestFolderPage, GuestVolumeView } from '../contract/api/guest-file.schema.ts';
import type { Language } from '../contract/api/notification.schema.ts';
import type { Permission } from '../contract/api/permission.schema.ts';
import type { SystemView } from '../contract/api/system.schema.ts';
import { assert } from '../errors/index.ts';
import type { Nas } from '../nas/index.ts';
import type { Orchestration } from '../orchestration/index.ts';
import type { Caller } from './authentication.ts';
import type { People } from './people.ts';
import type { Place } from './places.ts';
import type { Method, RouteAction } from './route-action.ts';

/** What the routes reach. */
export interface HttpServices extends People {
  orchestration: Orchestration;
  nas: Nas;
  /** Of the API with TLS: the one that was wanted first, and the one that it answers on. */
  port: { wanted: number; actual: number };
  /** Of that port. */
  certificate: SystemView['certificate'];
  downloads: DiskDownloads;
}

/** Bytes of a version's disk for a download; implemented where repositories are known. */
export interface DiskDownloads {
  /** @throws POINT_NOT_FOUND, NOT_FOUND, REPOSITORY_* */
  open(repository: RepositoryAddress, pointId: string, diskKey: string): Promise<DiskDownload>;
  /** @throws as `open` */
  browse(repository: RepositoryAddress, pointId: string, diskKey: string): Promise<DiskBrowser>;
}

/** What a guest's disk holds. All throw FILESYSTEM_*, NOT_FOUND for the volume, INPUT_INVALID for a path. */
export interface DiskBrowser {
  volumes(signal: AbortSignal): Promise<GuestVolumeView[]>;
  list(
    volume: number,
    options: { path: string; from: number; limit: number },
    signal: AbortSignal,
  ): Promise<GuestFolderPage>;
  file(
    volume: number,
    path: string,
    signal: AbortSignal,
  ): Promise<{ name: string; sizeBytes: number; bytes(signal: AbortSignal): AsyncIterable<Buffer> }>;
  /**
   * A folder with all that is in it, or with some of that.
   * @param options.names of what is in the folder: only these
   * @param options.isAsked only asked for, to be taken soon: what is found is kept until then
   * @throws also FOLDER_TOO_LARGE
   */
  archive(
    volume: number,
    options: { path: string; names?: readonly string[]; language: Language; isAsked: boolean },
    signal: AbortSignal,
  ): Promise<{ name: string; files: number; fileBytes: number; bytes(signal: AbortSignal): AsyncIterable<Buffer> }>;
  close(): Promise<void>;
}

export interface DiskDownload {
  sizeBytes: number;
  /** The disk from beginning to end, zeros included. */
  bytes(signal: AbortSignal): AsyncIterable<Buffer>;
  close(): Promise<void>;
}

/** What a handler is given: checked input, and who asks (null on open routes). */
export interface RouteInput<Params, Query, Body> {
  params: Params;
  query: Query;
  body: Body;
  services: HttpServices;
  caller: Caller | null;
  /** Adds to what the audit log says of this request; never a secret. */
  note(details: ErrorBody['details']): void;
  /** Lets the audit log tell at once of a download, with what was noted: its end may never come. */
  tellBegin(): Promise<void>;
  request: Request;
  response: Response;
}

/** One function of the API: what routes, checks and documents it. */
export interface Route {
  method: Method;
  /** Below `/api/v1`, with `:name` for parameters. */
  path: string;
  summary: string;
  tag: string;
  /** What a caller must be allowed to; `open` answers before login. */
  permission: Permission | 'open';
  params: z.ZodObject | null;
  query: z.ZodObject | null;
  body: z.ZodType | null;
  status: number;
  /** Null: no content, or the handler writes the answer itself. */
  answer: z.ZodType | null;
  /** Set where the handler writes the answer itself. */
  contentType: string | null;
  /** Shows what is in a version without giving it away. */
  isLook: boolean;
  /** What of the account's the answer keeps busy; null: it is short. */
  place: Place | null;
  handle(input: RouteInput<unknown, unknown, unknown>): Promise<unknown>;
}

interface RouteDefinition<
  Params extends z.ZodObject,
  Query extends z.ZodObject,
  Body extends z.ZodType,
  Answer extends z.ZodType,
> {
  method: Method;
  path: string;
  summary: string;
  tag: string;
  permission: Permission | 'open';
  params?: Params;
  query?: Query;
  body?: Body;
  status?: number;
  answer?: Answer;
  contentType?: string;
  isLook?: boolean;
  place?: Place;
  handle(input: RouteInput<z.output<Params>, z.output<Query>, z.output<Body>>): Promise<z.input<Answer> | void>;
}

/** Ties the types of a handler to the schemas beside it. */
export function defineRoute<
  Params extends z.ZodObject,
  Query extends z.ZodObject,
  Body extends z.ZodType,
  Answer extends z.ZodType,
>(definition: RouteDefinition<Params, Query, Body, Answer>): Route {
  return {
    method: definition.method,
    path: definition.path,
    summary: definition.summary,
    tag: definition.tag,
    permission: definition.permission,
    params: definition.params ?? null,
    query: definition.query ?? null,
    body: definition.body ?? null,
    status: definition.status ?? (definition.answer === undefined && definition.contentType === undefined ? 204 : 200),
    answer: definition.answer ?? null,
    contentType: definition.contentType ?? null,
    isLook: definition.isLook === true,
    place: definition.place ?? null,
    handle: definition.handle as Route['handle'],
  };
}

/** Who asks, on a route that is not open. */
export function known(caller: Caller | null): Caller {
  assert(caller !== null, 'a route behind the login has a caller');
  return caller;
}

/**
 * How the audit log tells of a request: each for itself, looking into a version once a visit, or not at all. Told is
 * what changes something, and versions that leave.
 * @param isHead only asked whether it would be answered
 */
export function auditOf({ method, permission, path, isLook }: Route, isHead: boolean): 'each' | 'visit' | 'never' {
  // These only look, whatever their method.
  if (['monitor', 'view', 'browse'].includes(permission)) return 'never';
  // A login tells of itself.
  if (permission === 'open') return path.startsWith('/triggers/') ? 'each' : 'never';
  if (method === 'get' && permission === 'restore') return isLook || isHead ? 'visit' : 'each';
  return method !== 'get' || path === '/audit/export' ? 'each' : 'never';
}

/** What the audit log calls a request. */
export function routeAction({ method, path }: Route): RouteAction {
  return `${method.toUpperCase() as Uppercase<Method>} ${path}`;
}

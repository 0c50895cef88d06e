import { once } from 'node:events';
import { createServer as createPlainServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import express, { type Express, type NextFunction, type Request, type Response } from 'express';
import * as z from 'zod';
import { AppError, isAbort } from '../errors/index.ts';
import type { Logger } from '../runtime/index.ts';
import { nameOfTarget } from './audit-names.ts';
import { outcomeOf, type Deed } from './audit-trail.ts';
import { assertPermitted, type Caller } from './authentication.ts';
import { answerError } from './error-answer.ts';
import { createOpenApi } from './openapi.ts';
import { Places } from './places.ts';
import { keepRawBody } from './raw-body.ts';
import { auditOf, routeAction, type HttpServices, type Route } from './route.ts';
import { listRoutes } from './routes/index.ts';
import { assertNoSecretInUrl, assertSameSite } from './session-secrets.ts';

export interface HttpServerOptions {
  services: HttpServices;
  logger: Logger;
  version: string;
  bind: string;
  /** 0: any free port. */
  port: number;
  /** Null: plain HTTP, for a web server on the same machine that speaks TLS in front. */
  tls: { key: string; certificate: string } | null;
  /** Folder of the built window; null: none is served. */
  uiFolder: string | null;
  /** Path under which a web server in front leads here and which it leaves in place, such as `/dozo`. */
  prefix?: string | null;
  /** Whether only the web server of the NAS leads here: its sessions are believed then. */
  isBehindNas?: boolean;
  connectionsMax?: number;
}

export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

const BODY_LIMIT = '1mb';
/** Of those whom nobody knows yet: a login, or a call that names a thousand machines. They may be many at once. */
const STRANGERS_BODY_LIMIT = '32kb';
const CLOSE_GRACE_MS = 2_000;
/** Each costs a file descriptor, of which a NAS may give a process 1024: catalogue, queue and workers need some too. */
const CONNECTIONS_MAX = 512;
/** What connects and says nothing goes again. */
const HANDSHAKE_TIMEOUT_MS = 20_000;

/** Listens. @throws CONFLICT when the port is taken */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { prefix = null } = options;
  const app = prefix === null ? createApp(options) : behindPrefix(createApp(options), prefix);
  const server: Server =
    options.tls === null
      ? createPlainServer(app)
      : createTlsServer(
          {
            key: options.tls.key,
            cert: options.tls.certificate,
            minVersion: 'TLSv1.2',
            handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
          },
          app,
        );
  // A request's head must come soon; its answer (a download, events) may take as long as it likes.
  server.headersTimeout = 20_000;
  server.requestTimeout = 60_000;
  server.maxConnections = options.connectionsMax ?? CONNECTIONS_MAX;
  server.listen(options.port, options.bind);
  try {
    await once(server, 'listening');
  } catch (cause) {
    throw new AppError('CONFLICT', `Port ${options.port} cannot be opened: ${(cause as Error).message}`, {
      hint: 'Another program may use it. Set another one with DOZO_PORT.',
      details: { port: options.port },
      cause,
    });
  }
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
      await closed;
      clearTimeout(timer);
    },
  };
}

function createApp(options: HttpServerOptions): Express {
  const { services, logger, version, uiFolder } = options;
  const routes = listRoutes();
  const openApi = createOpenApi(routes, version);
  const places = new Places();
  const app = express();
  app.disable('x-powered-by');
  // The NAS's own web server stands in front on the same machine: who asks is what it says.
  app.set('trust proxy', 'loopback');
  app.set('query parser', 'simple');
  app.locals['isBehindNas'] = options.isBehindNas === true;
  app.locals['isAddressClaimed'] = options.isBehindNas === true && !services.nas.vouchesForAddress;
  app.use(setSecurityHeaders);

  const api = express.Router();
  const parseJson = express.json({ limit: BODY_LIMIT, strict: true, verify: keepRawBody });
  const parseStrangers = express.json({ limit: STRANGERS_BODY_LIMIT, strict: true, verify: keepRawBody });
  api.use((request, response, next) => {
    response.setHeader('Cache-Control', 'no-store');
    assertNoSecretInUrl(request);
    next();
  });
  for (const route of routes) {
    const parse = route.permission === 'open' ? parseStrangers : parseJson;
    api[route.method](route.path, (request, response, next) => {
      // Nothing of a stranger's body is read before it is known that they may send one.
      admit(route, services, request)
        .then((caller) => {
          parse(request, response, (error?: unknown) => {
            if (error !== undefined) next(error);
            else answer(route, { services, caller, request, response, openApi, places }).catch(next);
          });
        })
        .catch(next);
    });
  }
  api.use(async (request: Request) => {
    // Even what exists is not told to strangers.
    if ((await services.authentication.identify(request)) === null) throw loginRequired();
    throw new AppError('NOT_FOUND', `There is no ${request.method} ${request.path.slice(0, 200)}.`, {
      hint: 'GET /api/v1/openapi.json lists what there is.',
    });
  });
  app.use('/api/v1', api);
  app.use('/api', (_request, _response, next) => next(new AppError('NOT_FOUND', 'The API lies at /api/v1.')));
  if (uiFolder !== null) serveWindow(app, uiFolder);
  app.use((_request, _response, next) => next(new AppError('NOT_FOUND', 'There is nothing here.')));
  app.use((error: unknown, _request: Request, response: Response, _next: NextFunction) => {
    answerError(response, error, logger);
  });
  return app;
}

/**
 * Takes the prefix off. The proxy of QTS also doubles the slash behind it and opens the window without one;
 * relative addresses of the window need the name of its page.
 */
function behindPrefix(app: Express, prefix: string): RequestListener {
  return (request, response) => {
    const [path = '/', ...query] = (request.url ?? '/').split('?');
    const isBelow = path === prefix || path.startsWith(`${prefix}/`);
    const inner = `/${(isBelow ? path.slice(prefix.length) : path).replace(/^\/+/, '')}`;
    if (inner === '/' && (request.method === 'GET' || request.method === 'HEAD')) {
      // To another address than the one asked for: no loop, however often the slash is doubled.
      response.writeHead(302, { Location: `${prefix}/index.html`, 'Cache-Control': 'no-store' }).end();
      return;
    }
    request.url = [inner, ...query].join('?');
    app(request, response);
  };
}

/** @throws LOGIN_REQUIRED, FORBIDDEN */
async function admit(route: Route, services: HttpServices, request: Request): Promise<Caller | null> {
  if (route.permission === 'open') {
    // Nor may another site log a browser in to an account of its choice.
    assertSameSite(request);
    return null;
  }
  const caller = await services.authentication.identify(request);
  if (caller === null) throw loginRequired();
  try {
    assertPermitted(caller, route.permission);
  } catch (error) {
    if (auditOf(route, isHead(request)) !== 'never') {
      const notes = await noteName(route, services, request);
      await services.audit.record(describeDeed(route, { caller, request, error, notes }));
    }
    throw error;
  }
  return caller;
}

interface Answering {
  services: HttpServices;
  caller: Caller | null;
  request: Request;
  response: Response;
  openApi: object;
  places: Places;
}

async function answer(route: Route, input: Answering): Promise<void> {
  const { request, response, services, caller } = input;
  if (route.path === OPENAPI_PATH) {
    response.json(input.openApi);
    return;
  }
  const told = auditOf(route, isHead(request));
  const notes: AuditNotes = told === 'each' ? await noteName(route, services, request) : {};
  const tell = async (): Promise<void> => {
    const deed = describeDeed(route, { caller, request, error: null, notes });
    if (told === 'each') await services.audit.record(deed);
    else if (told === 'visit') await services.audit.recordVisit(deed, String(request.params['id']));
  };
  let value: unknown;
  let leave: () => void = () => undefined;
  try {
    if (route.place !== null && caller !== null) leave = input.places.take(route.place, caller.user.name);
    value = await handle(route, input, notes);
  } catch (error) {
    // What strangers are refused would fill the log. Whoever asks only whether something is there asks for why not.
    const isTold = told !== 'never' && caller !== null && !isHead(request);
    // Who leaves while looking has looked: nothing failed.
    if (isTold && told === 'visit' && isAbort(error)) await tell();
    else if (isTold) await services.audit.record(describeDeed(route, { caller, request, error, notes }));
    throw error;
  } finally {
    // Whoever goes away early leaves the work behind for a moment.
    if (response.closed) leave();
    else response.once('close', leave);
  }
  // Before the answer: who was told that something is done finds it in the log.
  await tell();
  if (route.contentType !== null) return;
  if (route.answer === null) response.status(route.status).end();
  // Through the schema: what it does not name never leaves.
  else response.status(route.status).json(route.answer.parse(value));
}

async function handle(route: Route, input: Answering, notes: AuditNotes): Promise<unknown> {
  const { request, response, services, caller } = input;
  const params = route.params === null ? {} : route.params.parse(request.params);
  const query = route.query === null ? {} : route.query.parse(request.query);
  const body = route.body === null ? null : route.body.parse((request.body as unknown) ?? {});
  const note = (details: AuditNotes): void => void Object.assign(notes, details);
  // What is made has no id yet.
  const named = namedSchema.safeParse(body);
  if (named.success) notes['name'] ??= named.data.name;
  const tellBegin = (): Promise<void> =>
    services.audit.record({
      ...describeDeed(route, { caller, request, error: null, notes }),
      action: 'download begun',
    });
  return route.handle({ params, query, body, services, caller, note, tellBegin, request, response });
}

const namedSchema = z.object({ name: z.string() });

async function noteName(route: Route, services: HttpServices, request: Request): Promise<AuditNotes> {
  const name = await nameOfTarget(services.orchestration.context.catalogue, route.path, request);
  return name === null ? {} : { name };
}

function isHead(request: Request): boolean {
  return request.method === 'HEAD';
}

type AuditNotes = NonNullable<Deed['details']>;

function describeDeed(
  route: Route,
  what: { caller: Caller | null; request: Request; error: unknown; notes?: AuditNotes },
): Deed {
  const { caller, request, error, notes } = what;
  const ended = error === null ? { outcome: 'done' as const, details: {} } : outcomeOf(error);
  const target = Object.values(request.params).join(' ').slice(0, 200);
  return {
    session: caller?.session ?? null,
    request,
    action: routeAction(route),
    target: target === '' ? null : target,
    outcome: ended.outcome,
    details: { ...notes, ...ended.details },
  };
}

export const OPENAPI_PATH = '/openapi.json';

function loginRequired(): AppError {
  return new AppError('LOGIN_REQUIRED', 'Please log in.', { hint: 'The session may have ended.' });
}

function serveWindow(app: Express, folder: string): void {
  app.use(
    express.static(folder, {
      index: 'index.html',
      setHeaders: (response, path) => {
        // Names of assets hold their hash; the page itself is asked for anew each time.
        const isAsset = path.includes('/assets/');
        response.setHeader('Cache-Control', isAsset ? 'public, max-age=31536000, immutable' : 'no-cache');
      },
    }),
  );
  app.use((request, response, next) => {
    const isPage =
      request.method === 'GET' && !request.path.startsWith('/assets/') && request.accepts('html') !== false;
    if (!isPage) {
      next();
      return;
    }
    response.setHeader('Cache-Control', 'no-cache');
    response.sendFile(join(folder, 'index.html'));
  });
}

function setSecurityHeaders(_request: Request, response: Response, next: NextFunction): void {
  response.setHeader(
    'Content-Security-Policy',
    [
      "default-src 'self'",
      "img-src 'self' data:",
      // Quasar sets widths and positions as style attributes.
      "style-src 'self' 'unsafe-inline'",
      "font-src 'self' data:",
      "object-src 'none'",
      "base-uri 'none'",
      "form-action 'self'",
      // The window of the NAS shows us in a frame of the same origin.
      "frame-ancestors 'self'",
    ].join('; '),
  );
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('X-Frame-Options', 'SAMEORIGIN');
  response.setHeader('Referrer-Policy', 'no-referrer');
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
  response.setHeader('Permissions-Policy', 'camera=(), microphone=(), geolocation=(), payment=()');
  next();
}

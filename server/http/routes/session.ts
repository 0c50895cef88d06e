import { z } from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import {
  loginSchema,
  newTokenSchema,
  passwordChangeSchema,
  sessionSchema,
  tokenRequestSchema,
  tokenSchema,
  type SessionView,
  type TokenView,
} from '../../contract/api/session.schema.ts';
import type { SessionRecord } from '../../database/index.ts';
import { assert } from '../../errors/index.ts';
import { found } from '../../orchestration/index.ts';
import { defineRoute } from '../route.ts';

const tag = 'session';

export const sessionRoutes = [
  defineRoute({
    method: 'post',
    path: '/session',
    tag,
    summary: 'Log in; the session is in a cookie',
    access: 'open',
    body: loginSchema,
    answer: sessionSchema,
    handle: async ({ services, body, request, response }) =>
      viewSession(await services.authentication.login(body, request, response)),
  }),
  defineRoute({
    method: 'get',
    path: '/session',
    tag,
    summary: 'Who is logged in',
    answer: sessionSchema,
    handle: async ({ session }) => viewSession(known(session)),
  }),
  defineRoute({
    method: 'delete',
    path: '/session',
    tag,
    summary: 'Log out; a token is revoked',
    handle: async ({ services, session, response }) => services.authentication.logout(known(session), response),
  }),
  defineRoute({
    method: 'post',
    path: '/session/password',
    tag,
    summary: 'Change the password; ends all other sessions and tokens',
    body: passwordChangeSchema,
    handle: async ({ services, session, body, request }) =>
      services.authentication.changePassword(known(session), body, request),
  }),
  defineRoute({
    method: 'post',
    path: '/tokens',
    tag,
    summary: 'Make a token for a program, with the password of the account',
    access: 'open',
    body: tokenRequestSchema,
    status: 201,
    answer: newTokenSchema,
    handle: async ({ services, body, request }) => {
      const { token, session } = await services.authentication.makeToken(body, request);
      services.orchestration.context.events.emit({ type: 'changed', what: 'token', id: session.id });
      return { ...viewToken(session), token };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/tokens',
    tag,
    summary: 'Tokens of the account',
    answer: z.array(tokenSchema),
    handle: async ({ services, session }) => {
      const { catalogue } = services.orchestration.context;
      return (await catalogue.sessions.listTokens(known(session).userName)).map(viewToken);
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/tokens/:id',
    tag,
    summary: 'Revoke a token',
    params: z.object({ id: idSchema }),
    handle: async ({ services, session, params }) => {
      const { catalogue, events } = services.orchestration.context;
      const wasThere = await catalogue.sessions.remove(params.id, known(session).userName);
      found(wasThere ? params.id : null, 'token', params.id);
      events.emit({ type: 'changed', what: 'token', id: params.id });
    },
  }),
];

function known(session: SessionRecord | null): SessionRecord {
  assert(session !== null, 'a route behind the login has a session');
  return session;
}

function viewSession(session: SessionRecord): SessionView {
  return { user: session.userName, role: 'administrator', by: session.kind, expiresAtMs: session.expiresAtMs };
}

function viewToken({ id, name, createdAtMs, expiresAtMs, usedAtMs, scope }: SessionRecord): TokenView {
  return { id, name, createdAtMs, expiresAtMs, usedAtMs, scope };
}

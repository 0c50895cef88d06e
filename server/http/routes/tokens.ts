import * as z from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import { newTokenSchema, tokenRequestSchema, tokenSchema, type TokenView } from '../../contract/api/session.schema.ts';
import type { SessionRecord } from '../../database/index.ts';
import { found } from '../../orchestration/index.ts';
import { defineRoute, known } from '../route.ts';

const tag = 'tokens';

export const tokenRoutes = [
  defineRoute({
    method: 'post',
    path: '/tokens',
    permission: 'open',
    tag,
    summary: 'Make a token for a program, with the password of the account',
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
    permission: 'account',
    tag,
    summary: 'Tokens of the account',
    answer: z.array(tokenSchema),
    handle: async ({ services, caller }) => {
      const { catalogue, clock } = services.orchestration.context;
      const tokens = await catalogue.sessions.list(known(caller).session.userName, 'token', clock.nowMs());
      return tokens.map(viewToken);
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/tokens/:id',
    permission: 'account',
    tag,
    summary: 'Revoke a token',
    params: z.object({ id: idSchema }),
    handle: async ({ services, caller, params }) => {
      const { catalogue, events } = services.orchestration.context;
      const wasThere = await catalogue.sessions.remove(params.id, known(caller).session.userName);
      found(wasThere ? params.id : null, 'token', params.id);
      events.emit({ type: 'changed', what: 'token', id: params.id });
    },
  }),
];

function viewToken({ id, name, createdAtMs, expiresAtMs, usedAtMs, scope }: SessionRecord): TokenView {
  return { id, name, createdAtMs, expiresAtMs, usedAtMs, scope };
}

import * as z from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import {
  loginSchema,
  openSessionSchema,
  passwordChangeSchema,
  recoveryCodesSchema,
  secondFactorBeginSchema,
  secondFactorConfirmSchema,
  secondFactorEndSchema,
  secondFactorSecretSchema,
  sessionSchema,
  type SessionView,
} from '../../contract/api/session.schema.ts';
import { AppError } from '../../errors/index.ts';
import { found } from '../../orchestration/index.ts';
import type { Caller } from '../authentication.ts';
import { defineRoute, known } from '../route.ts';

const tag = 'session';

export const sessionRoutes = [
  defineRoute({
    method: 'post',
    path: '/session',
    permission: 'open',
    tag,
    summary: 'Log in; the session is in a cookie',
    body: loginSchema,
    answer: sessionSchema,
    handle: async ({ services, body, request, response }) =>
      viewSession(await services.authentication.login(body, request, response)),
  }),
  defineRoute({
    method: 'get',
    path: '/session',
    permission: 'whoami',
    tag,
    summary: 'Who is logged in, and what they may do',
    answer: sessionSchema,
    handle: async ({ caller }) => viewSession(known(caller)),
  }),
  defineRoute({
    method: 'delete',
    path: '/session',
    permission: 'whoami',
    tag,
    summary: 'Log out; a token is revoked',
    handle: async ({ services, caller, response }) => services.authentication.logout(known(caller).session, response),
  }),
  defineRoute({
    method: 'post',
    path: '/session/password',
    permission: 'account',
    tag,
    summary: 'Change the password; ends all other sessions and tokens',
    body: passwordChangeSchema,
    handle: async ({ services, caller, body, request }) =>
      services.authentication.changePassword(known(caller).session, body, request),
  }),
  defineRoute({
    method: 'post',
    path: '/session/second-factor',
    permission: 'account',
    tag,
    summary: 'Get a secret for one-time codes, with the password; it holds once it is confirmed',
    body: secondFactorBeginSchema,
    answer: secondFactorSecretSchema,
    handle: async ({ services, caller, body, request }) => {
      const { user } = known(caller);
      // With a second factor at work already, the password alone must not replace it.
      assertWithout(user.totpSecret);
      await services.authentication.verify({ user: user.name, password: body.password }, request);
      return services.secondFactor.begin(user);
    },
  }),
  defineRoute({
    method: 'post',
    path: '/session/second-factor/confirm',
    permission: 'account',
    tag,
    summary: 'Ask for one-time codes from now on; gives recovery codes, this once',
    body: secondFactorConfirmSchema,
    answer: recoveryCodesSchema,
    handle: async ({ services, caller, body, request }) => {
      const { user } = known(caller);
      const attempt = services.authentication.beginCode(request, user.name);
      const recoveryCodes = await services.secondFactor.confirm(user, body.code);
      attempt.succeeded();
      return { recoveryCodes };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/session/second-factor/end',
    permission: 'account',
    tag,
    summary: 'Ask for no one-time codes any more, with password and code',
    body: secondFactorEndSchema,
    handle: async ({ services, caller, body, request }) => {
      const { user } = known(caller);
      await services.authentication.verify({ user: user.name, ...body }, request);
      await services.secondFactor.end(user.name);
    },
  }),
  defineRoute({
    method: 'get',
    path: '/sessions',
    permission: 'account',
    tag,
    summary: 'Browsers that are logged in to the account',
    answer: z.array(openSessionSchema),
    handle: async ({ services, caller }) => {
      const { session } = known(caller);
      const { catalogue, clock } = services.orchestration.context;
      const open = await catalogue.sessions.list(session.userName, 'cookie', clock.nowMs());
      return open.map((other) => ({ ...other, isThis: other.id === session.id }));
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/sessions/:id',
    permission: 'account',
    tag,
    summary: 'End a session of the account',
    params: z.object({ id: idSchema }),
    handle: async ({ services, caller, params: { id } }) => {
      const { catalogue } = services.orchestration.context;
      const wasThere = await catalogue.sessions.remove(id, known(caller).session.userName);
      found(wasThere ? id : null, 'session', id);
    },
  }),
];

export function viewSession({ session, user, role, permissions }: Caller): SessionView {
  return {
    user: user.name,
    source: user.source,
    role,
    permissions: [...permissions],
    by: session.kind,
    hasSecondFactor: user.totpSecret !== null,
    expiresAtMs: session.expiresAtMs,
    timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone,
  };
}

function assertWithout(totpSecret: string | null): void {
  if (totpSecret === null) return;
  throw new AppError('CONFLICT', 'This account asks for one-time codes already.', {
    hint: 'End that first, with a code of the old authenticator or a recovery code.',
  });
}

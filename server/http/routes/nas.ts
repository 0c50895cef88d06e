import { folderInputSchema, folderSchema, nasSchema } from '../../contract/api/nas.schema.ts';
import { sessionSchema } from '../../contract/api/session.schema.ts';
import { AppError } from '../../errors/index.ts';
import { describeFolder, describeNas } from '../nas-advice.ts';
import { defineRoute } from '../route.ts';
import { viewSession } from './session.ts';

const tag = 'nas';

export const nasRoutes = [
  defineRoute({
    method: 'post',
    path: '/session/nas',
    permission: 'open',
    tag,
    summary: 'Log in with the session of the NAS; only in the window on its desktop, for its administrators',
    answer: sessionSchema,
    handle: async ({ services, request, response }) => {
      const { nasSignIn, authentication, accounts } = services;
      // Cookies of the NAS come to other ports of it as well, where anybody may have set them.
      if (request.app.locals['isBehindNas'] !== true || !nasSignIn.isOffered) throw noSession();
      const name = await nasSignIn.identify({
        cookies: request.headers.cookie ?? '',
        csrfToken: request.get('x-syno-token') ?? '',
        address: request.ip ?? '',
        host: request.get('host') ?? '',
      });
      if (name === null) throw noSession();
      const user = await accounts.ensureNasUser(name);
      return viewSession(await authentication.loginNasUser(user, request, response));
    },
  }),
  defineRoute({
    method: 'get',
    path: '/nas',
    permission: 'view',
    tag,
    summary: 'The NAS: its shared folders, and what to know before the first backup',
    answer: nasSchema,
    handle: ({ services }) => describeNas(services.nas, services.port),
  }),
  defineRoute({
    method: 'post',
    path: '/nas/folder',
    permission: 'configure',
    tag,
    summary: 'Try out a folder for a repository; nothing is left there',
    body: folderInputSchema,
    answer: folderSchema,
    handle: ({ body }) => describeFolder(body.path),
  }),
];

function noSession(): AppError {
  return new AppError('NAS_SESSION_REFUSED', 'There is no session of an administrator of the NAS.', {
    hint: 'Sign in to the desktop of the NAS as an administrator and open Dozo there, or log in with an account of Dozo.',
  });
}

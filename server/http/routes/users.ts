import * as z from 'zod';
import { idSchema } from '../../contract/api/common.schema.ts';
import { delegatesSchema, userChangeSchema, userInputSchema, userSchema } from '../../contract/api/user.schema.ts';
import { openSessionSchema } from '../../contract/api/session.schema.ts';
import { defineRoute, known } from '../route.ts';

const tag = 'users';
/** Of any account, those of the NAS included. */
const params = z.object({ name: z.string().min(1).max(100) });
const jobParams = z.object({ id: idSchema });

export const userRoutes = [
  defineRoute({
    method: 'get',
    path: '/users',
    permission: 'administer',
    tag,
    summary: 'All accounts',
    answer: z.array(userSchema),
    handle: ({ services }) => services.accounts.list(),
  }),
  defineRoute({
    method: 'post',
    path: '/users',
    permission: 'administer',
    tag,
    summary: 'Make an account',
    body: userInputSchema,
    status: 201,
    answer: userSchema,
    handle: async ({ services, body, note }) => {
      note({ user: body.name, role: body.role, jobs: body.jobIds.length });
      await services.accounts.add(body);
      return services.accounts.load(body.name);
    },
  }),
  defineRoute({
    method: 'get',
    path: '/users/:name',
    permission: 'administer',
    tag,
    summary: 'One account',
    params,
    answer: userSchema,
    handle: ({ services, params: { name } }) => services.accounts.load(name),
  }),
  defineRoute({
    method: 'patch',
    path: '/users/:name',
    permission: 'administer',
    tag,
    summary: 'Change an account; what is not named stays',
    params,
    body: userChangeSchema,
    answer: userSchema,
    handle: async ({ services, params: { name }, body, note }) => {
      const { password, jobIds, ...plain } = body;
      for (const [field, value] of Object.entries(plain)) if (value !== undefined) note({ [field]: value });
      if (password !== undefined) note({ password: 'new' });
      if (jobIds !== undefined) note({ jobs: jobIds.join(' ') });
      await services.accounts.change(name, body);
      return services.accounts.load(name);
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/users/:name',
    permission: 'administer',
    tag,
    summary: 'Delete an account; its sessions and tokens end',
    params,
    handle: ({ services, params: { name } }) => services.accounts.remove(name),
  }),
  defineRoute({
    method: 'get',
    path: '/users/:name/sessions',
    permission: 'administer',
    tag,
    summary: 'Browsers that are logged in to an account',
    params,
    answer: z.array(openSessionSchema),
    handle: async ({ services, caller, params: { name } }) => {
      await services.accounts.load(name);
      const { catalogue, clock } = services.orchestration.context;
      const open = await catalogue.sessions.list(name, 'cookie', clock.nowMs());
      return open.map((session) => ({ ...session, isThis: session.id === known(caller).session.id }));
    },
  }),
  defineRoute({
    method: 'delete',
    path: '/users/:name/sessions',
    permission: 'administer',
    tag,
    summary: 'End all sessions and tokens of an account, but for the one that asks',
    params,
    handle: async ({ services, caller, params: { name } }) => {
      await services.accounts.load(name);
      await services.orchestration.context.catalogue.sessions.removeOthers(name, known(caller).session.id);
    },
  }),
  defineRoute({
    method: 'get',
    path: '/jobs/:id/delegates',
    permission: 'administer',
    tag,
    summary: 'Accounts of the role "restore" that may restore the versions of a job',
    params: jobParams,
    answer: delegatesSchema,
    handle: async ({ services, params: { id } }) => ({ users: await services.accounts.delegatesOf(id) }),
  }),
  defineRoute({
    method: 'put',
    path: '/jobs/:id/delegates',
    permission: 'administer',
    tag,
    summary: 'Let these accounts, and no others, restore the versions of a job',
    params: jobParams,
    body: delegatesSchema,
    answer: delegatesSchema,
    handle: async ({ services, params: { id }, body, note }) => {
      note({ users: body.users.join(' ') });
      await services.accounts.delegate(id, body.users);
      return { users: await services.accounts.delegatesOf(id) };
    },
  }),
];

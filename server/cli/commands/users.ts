import type { Command } from 'commander';
import type { Role } from '../../contract/api/permission.schema.ts';
import type { OpenSessionView } from '../../contract/api/session.schema.ts';
import type { UserView } from '../../contract/api/user.schema.ts';
import { askSecret } from '../ask.ts';
import { doneOutput, listOutput, showOutput, type Api, type CommandContext } from '../command-context.ts';
import { findNamed, type Named } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { collect, oneOf } from '../parse-options.ts';

const ROLES = ['administrator', 'operator', 'restore', 'viewer'] as const satisfies readonly Role[];

interface ChangeOptions {
  role?: Role;
  job: string[];
  disable?: boolean;
  enable?: boolean;
  newPassword?: boolean;
  endSecondFactor?: boolean;
  passwordStdin?: boolean;
}

export function addUserCommands(program: Command, context: CommandContext): void {
  const { terminal, environment } = context;
  const users = program.command('users').description('accounts, their roles and what is delegated to them');
  const askPassword = (name: string, fromInput: boolean | undefined): Promise<string> =>
    askSecret(terminal, {
      question: `New password of ${name}: `,
      environment: 'DOZO_NEW_PASSWORD',
      fromInput: fromInput === true,
      variables: environment,
    });

  context.handle(context.leaf(users, 'list', 'all accounts'), async ({ api }) =>
    listOutput(await api.get<UserView[]>('/users'), ['NAME', 'ROLE', 'FROM', 'CODES', 'STATE', 'USED'], (user) => [
      user.name,
      user.role,
      user.source,
      user.hasSecondFactor ? 'yes' : 'no',
      user.disabled ? 'disabled' : 'enabled',
      formatTime(user.usedAtMs),
    ]),
  );
  context.handle(context.leaf(users, 'show <name>', 'one account'), async ({ api, args }) =>
    describeUser(await api.get<UserView>(`/users/${encodeURIComponent(args[0] ?? '')}`)),
  );
  const add = context
    .leaf(users, 'add <name>', 'make an account')
    .requiredOption('--role <role>', 'administrator, operator, restore or viewer', oneOf(ROLES))
    .option('--job <job>', 'of the role restore: may restore the versions of this job; several times', collect, [])
    .option('--password-stdin', 'the password is the first line of standard input; else DOZO_NEW_PASSWORD, else asked');
  context.handle<{ role: Role; job: string[]; passwordStdin?: boolean }>(add, async ({ api, args, options }) => {
    const name = args[0] ?? '';
    const jobIds = await findJobs(api, options.job);
    const password = await askPassword(name, options.passwordStdin);
    return describeUser(await api.post<UserView>('/users', { name, role: options.role, password, jobIds }));
  });
  const change = context
    .leaf(users, 'change <name>', 'change an account; what is not named stays')
    .option('--role <role>', 'administrator, operator, restore or viewer', oneOf(ROLES))
    .option('--job <job>', 'delegate this job and no other; several times', collect, [])
    .option('--disable', 'keep it out; ends its sessions and tokens')
    .option('--enable', 'let it in again')
    .option('--new-password', 'set a password; ends its sessions and tokens')
    .option('--end-second-factor', 'ask for no one-time codes any more: who lost phone and recovery codes')
    .option('--password-stdin', 'the password is the first line of standard input; else DOZO_NEW_PASSWORD, else asked');
  context.handle<ChangeOptions>(change, async ({ api, args, options }) => {
    const name = args[0] ?? '';
    const isPassword = options.newPassword === true || options.passwordStdin === true;
    return describeUser(
      await api.patch<UserView>(`/users/${encodeURIComponent(name)}`, {
        ...(options.role === undefined ? {} : { role: options.role }),
        ...(options.job.length === 0 ? {} : { jobIds: await findJobs(api, options.job) }),
        ...(options.disable === true ? { disabled: true } : options.enable === true ? { disabled: false } : {}),
        ...(isPassword ? { password: await askPassword(name, options.passwordStdin) } : {}),
        ...(options.endSecondFactor === true ? { endSecondFactor: true } : {}),
      }),
    );
  });
  context.handle(context.leaf(users, 'remove <name>', 'delete an account'), async ({ api, args }) => {
    await api.delete(`/users/${encodeURIComponent(args[0] ?? '')}`);
    return doneOutput({ removed: args[0] }, 'Removed.');
  });
  context.handle(context.leaf(users, 'sessions <name>', 'browsers that are logged in'), async ({ api, args }) =>
    listSessions(await api.get<OpenSessionView[]>(`/users/${encodeURIComponent(args[0] ?? '')}/sessions`)),
  );
  context.handle(
    context.leaf(users, 'log-out <name>', 'end all sessions and tokens of an account'),
    async ({ api, args }) => {
      await api.delete(`/users/${encodeURIComponent(args[0] ?? '')}/sessions`);
      return doneOutput({ loggedOut: args[0] }, 'Logged out.');
    },
  );
  const delegates = context
    .leaf(users, 'delegates <job>', 'who may restore the versions of a job, besides administrators and operators')
    .option('--set <name>', 'these and no others; several times', collect, [])
    .option('--none', 'nobody any more');
  context.handle<{ set: string[]; none?: boolean }>(delegates, async ({ api, args, options }) => {
    const { id } = await findNamed<Named>(api, 'jobs', args[0] ?? '');
    const isSet = options.set.length > 0 || options.none === true;
    const named = isSet
      ? await api.put<{ users: string[] }>(`/jobs/${id}/delegates`, { users: options.set })
      : await api.get<{ users: string[] }>(`/jobs/${id}/delegates`);
    return { document: named, text: named.users.length === 0 ? 'Nobody.\n' : `${named.users.join('\n')}\n` };
  });
}

export function listSessions(sessions: readonly OpenSessionView[]): ReturnType<typeof listOutput> {
  return listOutput(sessions, ['ID', 'FROM', 'SINCE', 'USED', 'BROWSER'], (session) => [
    session.id,
    session.address ?? '-',
    formatTime(session.createdAtMs),
    formatTime(session.usedAtMs),
    session.name,
  ]);
}

async function findJobs(api: Api, names: readonly string[]): Promise<string[]> {
  const ids: string[] = [];
  for (const name of names) ids.push((await findNamed<Named>(api, 'jobs', name)).id);
  return ids;
}

function describeUser(user: UserView): ReturnType<typeof showOutput> {
  return showOutput(user, [
    ['name', user.name],
    ['role', user.role],
    ['from', user.source],
    ['state', user.disabled ? 'disabled' : 'enabled'],
    ['one-time codes', user.hasSecondFactor ? `yes, ${user.recoveryCodesLeft} recovery codes left` : 'no'],
    ['delegated jobs', user.jobIds.length === 0 ? '-' : user.jobIds.join(' ')],
    ['used', formatTime(user.usedAtMs)],
  ]);
}

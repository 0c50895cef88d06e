import type { Command } from 'commander';
import type { OpenSessionView } from '../../contract/api/session.schema.ts';
import { askSecret } from '../ask.ts';
import { doneOutput, type CommandContext } from '../command-context.ts';
import { listSessions } from './users.ts';

/** What one does with one's own account, besides logging in. */
export function addAccountCommands(program: Command, context: CommandContext): void {
  const { terminal, environment } = context;
  const askPassword = (fromInput: boolean | undefined): Promise<string> =>
    askSecret(terminal, {
      question: 'Password: ',
      environment: 'DOZO_PASSWORD',
      fromInput: fromInput === true,
      variables: environment,
    });

  const sessions = program.command('sessions').description('browsers that are logged in to the account');
  context.handle(context.leaf(sessions, 'list', 'all of them'), async ({ api }) =>
    listSessions(await api.get<OpenSessionView[]>('/sessions')),
  );
  context.handle(context.leaf(sessions, 'end <id>', 'log a browser out'), async ({ api, args }) => {
    await api.delete(`/sessions/${encodeURIComponent(args[0] ?? '')}`);
    return doneOutput({ ended: args[0] }, 'Ended.');
  });

  const codes = program.command('second-factor').description('one-time codes at login');
  const begin = context
    .leaf(codes, 'begin', 'get a secret for an authenticator')
    .option('--password-stdin', 'the password is the first line of standard input; else DOZO_PASSWORD, else asked');
  context.handle<{ passwordStdin?: boolean }>(begin, async ({ api, options }) => {
    const password = await askPassword(options.passwordStdin);
    const made = await api.post<{ secret: string; uri: string }>('/session/second-factor', { password });
    return {
      document: made,
      text: `${made.secret}\n${made.uri}\nPut it into an authenticator, then: dozo second-factor confirm <code>\n`,
    };
  });
  context.handle(
    context.leaf(codes, 'confirm <code>', 'ask for codes from now on; prints recovery codes, this once'),
    async ({ api, args }) => {
      const made = await api.post<{ recoveryCodes: string[] }>('/session/second-factor/confirm', { code: args[0] });
      return { document: made, text: `${made.recoveryCodes.join('\n')}\n` };
    },
  );
  const end = context
    .leaf(codes, 'end <code>', 'ask for no codes any more')
    .option('--password-stdin', 'the password is the first line of standard input; else DOZO_PASSWORD, else asked');
  context.handle<{ passwordStdin?: boolean }>(end, async ({ api, args, options }) => {
    const password = await askPassword(options.passwordStdin);
    await api.post('/session/second-factor/end', { password, code: args[0] });
    return doneOutput({ ended: true }, 'One-time codes are not asked for any more.');
  });
}

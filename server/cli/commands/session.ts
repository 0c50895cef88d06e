import type { Command } from 'commander';
import type { TokenScope } from '../../contract/api/permission.schema.ts';
import type { SessionView, TokenView } from '../../contract/api/session.schema.ts';
import { AppError } from '../../errors/index.ts';
import { askSecret, askYes } from '../ask.ts';
import { createApi, doneOutput, listOutput, showOutput, type CommandContext } from '../command-context.ts';
import { readFingerprint, type Connection } from '../connection.ts';
import { formatTime } from '../format.ts';
import { oneOf, parseInteger } from '../parse-options.ts';
import { forgetConnection, loadConnection, saveConnection, settingsPath } from '../settings-file.ts';

const SCOPES = ['full', 'operate', 'restore', 'read', 'monitor'] as const satisfies readonly TokenScope[];

interface LoginOptions {
  server?: string;
  fingerprint?: string;
  json?: boolean;
  user: string;
  passwordStdin?: boolean;
  acceptNew?: boolean;
  code?: string;
  days: number;
}

export function addSessionCommands(program: Command, context: CommandContext): void {
  const { terminal, environment } = context;
  const secret = (question: string, name: string, fromInput: boolean | undefined): Promise<string> =>
    askSecret(terminal, { question, environment: name, fromInput: fromInput === true, variables: environment });

  const login = context
    .leaf(program, 'login', 'log in and keep a token for this machine')
    .option('--user <name>', 'account', 'admin')
    .option('--password-stdin', 'the password is the first line of standard input; else DOZO_PASSWORD, else asked')
    .option('--code <code>', 'one-time code, where the account asks for one')
    .option('--accept-new', 'trust the certificate that the server shows now')
    .option('--days <number>', 'how long the token holds', parseInteger(1, 3660), 90);
  login.action(async () => {
    const options = login.optsWithGlobals<LoginOptions>();
    context.isJson = options.json === true;
    const known = await loadConnection(options, environment);
    const connection = await pinCertificate({ ...known, token: null }, options, context);
    const password = await secret(`Password of ${options.user}: `, 'DOZO_PASSWORD', options.passwordStdin);
    const made = await createApi(connection).post<TokenView & { token: string }>('/tokens', {
      user: options.user,
      password,
      ...codeOf(options),
      name: 'dozo command line',
      expiresInDays: options.days,
    });
    await saveConnection(settingsPath(environment), { ...connection, token: made.token });
    const { token: _token, ...shown } = made;
    context.print(
      doneOutput(
        { server: connection.server, fingerprint: connection.fingerprint, token: shown },
        `Logged in to ${connection.server}.`,
      ),
    );
  });

  context.handle(context.leaf(program, 'logout', 'revoke the token and forget it'), async ({ api }) => {
    await api.delete('/session');
    await forgetConnection(settingsPath(environment));
    return doneOutput({ loggedOut: true }, 'Logged out.');
  });

  context.handle(context.leaf(program, 'whoami', 'who is logged in, and where'), async ({ api, connection }) => {
    const session = await api.get<SessionView>('/session');
    return showOutput({ ...session, server: connection.server }, [
      ['server', connection.server],
      ['user', session.user],
      ['role', session.role],
      ['may', session.permissions.join(' ')],
      ['until', formatTime(session.expiresAtMs)],
    ]);
  });

  const password = context
    .leaf(program, 'password', 'change the password; ends all other sessions')
    .option('--code <code>', 'one-time code, where the account asks for one')
    .option('--password-stdin', 'old and new password are the first two lines of standard input');
  password.description('change the password (DOZO_PASSWORD and DOZO_NEW_PASSWORD, or asked)');
  context.handle<{ code?: string; passwordStdin?: boolean }>(password, async ({ api, options }) => {
    const [first, second] =
      options.passwordStdin === true ? await readTwoLines(terminal.input) : [undefined, undefined];
    const oldPassword = first ?? (await secret('Old password: ', 'DOZO_PASSWORD', false));
    const newPassword = second ?? (await secret('New password: ', 'DOZO_NEW_PASSWORD', false));
    await api.post('/session/password', { oldPassword, newPassword, ...codeOf(options) });
    return doneOutput({ changed: true }, 'The password was changed.');
  });

  const tokens = program.command('tokens').description('tokens of the account');
  context.handle(context.leaf(tokens, 'list', 'all tokens'), async ({ api }) =>
    listOutput(await api.get<TokenView[]>('/tokens'), ['ID', 'NAME', 'MADE', 'USED', 'UNTIL'], (token) => [
      token.id,
      token.name,
      formatTime(token.createdAtMs),
      formatTime(token.usedAtMs),
      formatTime(token.expiresAtMs),
    ]),
  );
  const add = context
    .leaf(tokens, 'add <name>', 'make a token and print it, this once')
    .option('--user <name>', 'account', 'admin')
    .option('--days <number>', 'how long it holds; 0: for ever', parseInteger(0, 3660), 90)
    .option('--scope <scope>', 'full, operate, restore, read or monitor', oneOf(SCOPES), 'full')
    .option('--code <code>', 'one-time code, where the account asks for one')
    .option('--password-stdin', 'the password is the first line of standard input; else DOZO_PASSWORD, else asked');
  context.handle<{ user: string; days: number; scope: TokenScope; code?: string; passwordStdin?: boolean }>(
    add,
    async ({ api, args, options }) => {
      const made = await api.post<TokenView & { token: string }>('/tokens', {
        user: options.user,
        password: await secret(`Password of ${options.user}: `, 'DOZO_PASSWORD', options.passwordStdin),
        ...codeOf(options),
        name: args[0],
        expiresInDays: options.days === 0 ? null : options.days,
        scope: options.scope,
      });
      return { document: made, text: `${made.token}\n` };
    },
  );
  context.handle(context.leaf(tokens, 'revoke <id>', 'end a token'), async ({ api, args }) => {
    await api.delete(`/tokens/${encodeURIComponent(args[0] ?? '')}`);
    return doneOutput({ revoked: args[0] }, 'Revoked.');
  });
}

function codeOf({ code }: { code?: string }): { code?: string } {
  return code === undefined ? {} : { code };
}

/** On first contact the certificate is shown and trusted by decision, never silently. */
async function pinCertificate(
  connection: Connection,
  options: LoginOptions,
  context: CommandContext,
): Promise<Connection> {
  if (connection.server.startsWith('http:')) return connection;
  const shown = await readFingerprint(connection.server);
  if (connection.fingerprint === shown) return connection;
  if (connection.fingerprint !== null && options.acceptNew !== true) {
    throw new AppError('SERVER_CERTIFICATE_CHANGED', `${connection.server} shows another certificate than expected.`, {
      hint: 'Find out why. If it is right, log in again with --accept-new.',
      details: { expected: connection.fingerprint, shown },
    });
  }
  const isTrusted =
    options.acceptNew === true ||
    (await askYes(context.terminal, `The certificate of ${connection.server} has the SHA-256\n  ${shown}\nTrust it?`));
  if (!isTrusted) {
    throw new AppError('SERVER_CERTIFICATE_CHANGED', 'The certificate of the server is not trusted yet.', {
      hint: `Compare it with what the server printed at its start, then pass --fingerprint ${shown} or --accept-new.`,
      details: { shown },
    });
  }
  return { ...connection, fingerprint: shown };
}

async function readTwoLines(input: NodeJS.ReadableStream): Promise<[string | undefined, string | undefined]> {
  let text = '';
  input.setEncoding('utf8');
  for await (const piece of input) text += piece as string;
  const [first, second] = text.split(/\r?\n/);
  return [first, second];
}

import ssh2 from 'ssh2';
import type { LabHost } from './lab-host.ts';

export interface CommandResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** A login to a lab host for tests, made with ssh2 directly and not with the product's own client. */
export interface LabLogin {
  run(command: string): Promise<CommandResult>;
  /** Standard output; fails the caller unless the status is 0. */
  read(command: string): Promise<string>;
  /** Starts a command and does not wait for it. */
  start(command: string): Promise<{ ended: Promise<CommandResult>; abort(): void }>;
  client: ssh2.Client;
  close(): void;
}

export async function loginToLab(
  lab: LabHost,
  credentials: { password?: string; privateKey?: string; user?: string } = {},
): Promise<LabLogin> {
  const client = new ssh2.Client();
  const password = credentials.privateKey === undefined ? (credentials.password ?? lab.password) : undefined;
  let tries = 0;
  await new Promise<void>((resolve, reject) => {
    client.on('keyboard-interactive', (_name, _instructions, _language, prompts, answer) => {
      // One try: a second wrong answer would count twice in the lockout.
      tries += 1;
      if (tries > 1) client.end();
      else answer(prompts.map(() => password ?? ''));
    });
    client.on('ready', resolve);
    client.on('error', reject);
    client.on('close', () => reject(new Error('closed before login')));
    client.connect({
      host: lab.address,
      port: lab.sshPort,
      username: credentials.user ?? lab.user,
      tryKeyboard: password !== undefined,
      readyTimeout: 120_000,
      ...(credentials.privateKey === undefined ? {} : { privateKey: credentials.privateKey }),
    });
  });
  client.on('error', () => undefined);

  const start = (command: string) =>
    new Promise<{ ended: Promise<CommandResult>; abort(): void }>((resolve, reject) => {
      client.exec(command, (error, channel) => {
        if (error !== undefined) {
          reject(error);
          return;
        }
        const out: Buffer[] = [];
        const err: Buffer[] = [];
        let code: number | null = null;
        channel.on('data', (chunk: Buffer) => out.push(chunk));
        channel.stderr.on('data', (chunk: Buffer) => err.push(chunk));
        channel.on('exit', (status: number | null) => (code = status));
        const ended = new Promise<CommandResult>((done) => {
          channel.on('close', () => {
            done({ code, stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8') });
          });
        });
        resolve({ ended, abort: () => channel.close() });
      });
    });
  const run = async (command: string) => (await start(command)).ended;
  return {
    client,
    start,
    run,
    async read(command) {
      const { code, stdout, stderr } = await run(command);
      if (code !== 0) throw new Error(`${command}: status ${String(code)}: ${stdout}${stderr}`);
      return stdout;
    },
    close: () => client.end(),
  };
}

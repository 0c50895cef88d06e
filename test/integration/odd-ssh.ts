import type { AddressInfo } from 'node:net';
import ssh2 from 'ssh2';

/** What an SSH service does where a healthy one would give a shell. */
export interface OddBehaviour {
  onPassword?: 'hang up';
  onReady?: 'hang up';
  onSession?: 'refuse' | 'no shell';
}

/** An SSH service that takes any password, and goes wrong later. */
export async function startOddSsh(
  behaviour: OddBehaviour,
): Promise<{ port: number; passwords: string[]; close(): void }> {
  const passwords: string[] = [];
  const clients = new Set<ssh2.Connection>();
  const hostKeys = [ssh2.utils.generateKeyPairSync('ed25519').private];
  const server = new ssh2.Server({ hostKeys }, (client) => {
    clients.add(client);
    client.on('error', () => undefined);
    client.on('authentication', (context) => {
      if (context.method !== 'keyboard-interactive') return context.reject(['keyboard-interactive']);
      context.prompt([{ prompt: 'Password: ', echo: false }], (answers) => {
        passwords.push(...answers);
        if (behaviour.onPassword === 'hang up') client.end();
        else context.accept();
      });
    });
    client.on('ready', () => {
      if (behaviour.onReady === 'hang up') client.end();
    });
    client.on('session', (accept, reject) => {
      if (behaviour.onSession === 'refuse') return void reject();
      accept().on('exec', (acceptCommand) => {
        const channel = acceptCommand();
        channel.write('This account is currently not available.\n');
        channel.exit(1);
        channel.end();
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    passwords,
    close: () => {
      for (const client of clients) client.end();
      server.close();
    },
  };
}

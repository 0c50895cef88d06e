/**
 * The lab's host daemon, a process of its own. The first line on standard input are its options
 * (`LabOptions` as JSON); when standard input ends, everything ends. Prints one line, `LabReady` as
 * JSON, once the host can be reached.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setMounts } from '../commands/nfs-mounts.ts';
import { buildRootFolder, writeAccountFiles } from '../jail/root-folder.ts';
import { Jail } from '../jail/jail.ts';
import { buildNative } from '../native/build.ts';
import { serveApi, type LabControl } from './api.ts';
import { CommandServer } from './command-server.ts';
import { Host } from './host.ts';
import { hostProfile } from './host-profile.ts';
import type { LabOptions, LabReady } from './lab-options.ts';
import { SoapFront } from './soap-front.ts';
import { freePort } from '../free-port.ts';
import { SshService } from './ssh-service.ts';

const TMP_MIB = 256;

const lines = createInterface({ input: process.stdin });
const closers: (() => Promise<void> | void)[] = [];
let closing: Promise<void> | undefined;

function close(status: number): Promise<void> {
  closing ??= (async () => {
    for (const closer of closers.reverse()) await closer();
    process.exit(status);
  })();
  return closing;
}

lines.once('line', (line) => {
  lines.on('close', () => void close(0));
  start(JSON.parse(line) as LabOptions).then(
    (ready) => process.stdout.write(JSON.stringify(ready) + '\n'),
    (error: unknown) => {
      console.error(error);
      void close(1);
    },
  );
});
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void close(0));
process.stdout.on('error', () => undefined);

async function start(options: LabOptions): Promise<LabReady> {
  if (process.getuid?.() !== 0) throw new Error('the lab host needs root: it makes namespaces and mounts');
  const { directory } = options;
  const root = join(directory, 'root');
  const run = join(directory, 'run');
  const address = options.listenAddress ?? '127.0.0.1';
  mkdirSync(run, { recursive: true });
  for (const name of ['hostd.sock', 'command.sock', 'locks']) rmSync(join(run, name), { recursive: true, force: true });

  const programs = buildNative();
  const folder = buildRootFolder(root, hostProfile(options.version ?? '8.0.3'), programs);
  const host = new Host(options, root, programs);
  closers.push(() => host.close());
  writeAccountFiles(root, {
    users: [options.user ?? 'root'],
    authorizedKeys: options.authorizedKeys ?? [],
    hostName: host.hostName,
  });
  const applyTools = () => folder.setMissing(host.switches.missingTools, host.switches.python3);
  applyTools();
  host.onSwitches(applyTools);

  const commands = await CommandServer.start(host, join(run, 'command.sock'));
  const chosen = async (wanted = 0): Promise<number> => (wanted === 0 ? await freePort(address) : wanted);
  const port = await chosen(options.sshPort);
  const ssh = new SshService({ host, root, address, port });
  closers.push(() => ssh.close());
  let jail: Jail | null = null;
  let front: SoapFront | null = null;
  closers.push(async () => {
    await front?.close();
    await jail?.close();
  });
  const startShell = async (): Promise<void> => {
    jail = await Jail.start({ program: programs.jail, root, run, hostName: host.hostName, tmpMib: TMP_MIB });
    await setMounts(host, jail);
    await ssh.start(jail);
  };
  const startFront = async (frontPort: number): Promise<SoapFront | null> => {
    if (options.https === false) return null;
    return (front = await SoapFront.start({ directory, address, port: frontPort }));
  };
  const control: LabControl = {
    killSessions: () => ssh.killSessions(),
    settled: () => ssh.settled(),
    async losePower() {
      await front?.close();
      await jail?.close();
      await ssh.losePower();
      await host.losePower();
      await commands.settled();
    },
    async boot(boot) {
      await host.boot(boot);
      await startShell();
      await startFront(ready.httpsPort ?? 0);
    },
  };
  await serveApi(host, control, join(run, 'hostd.sock'));
  await startShell();

  for (const machine of options.vms ?? []) await host.createMachine(machine);

  const first = await startFront(await chosen(options.httpsPort));
  const ready: LabReady = {
    sshPort: ssh.port,
    httpsPort: first?.port ?? null,
    sshHostKey: ssh.fingerprint,
    tlsCertificate: first?.certificate ?? null,
  };
  return ready;
}

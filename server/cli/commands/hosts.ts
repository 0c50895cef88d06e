import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { z } from 'zod';
import type { datastoreSchema, HostView, probeResultSchema } from '../../contract/api/host.schema.ts';
import { AppError } from '../../errors/index.ts';
import { formatBytes } from '../../runtime/index.ts';
import { askSecret } from '../ask.ts';
import {
  doneOutput,
  EXIT_DONE,
  EXIT_FAILED,
  listOutput,
  showOutput,
  type CommandContext,
  type Output,
} from '../command-context.ts';
import { findNamed } from '../find-named.ts';
import { formatTime } from '../format.ts';
import { parseInteger } from '../parse-options.ts';
import { cleanText } from '../table.ts';

type Probe = z.infer<typeof probeResultSchema>;
type Datastore = z.infer<typeof datastoreSchema>;

interface AddressOptions {
  user?: string;
  sshPort?: number;
  httpsPort?: number;
  passwordStdin?: boolean;
  keyFile?: string;
  sshHostKey?: string;
  tlsCertificate?: string;
  name?: string;
}

export function addHostCommands(program: Command, context: CommandContext): void {
  const hosts = program.command('hosts').description('ESXi hosts');
  context.handle(context.leaf(hosts, 'list', 'all hosts'), async ({ api }) =>
    listOutput(await api.get<HostView[]>('/hosts'), ['ID', 'NAME', 'ADDRESS', 'PRODUCT', 'VMS', 'STATE'], (host) => [
      host.id,
      host.name,
      host.host,
      host.facts?.product ?? '-',
      String(host.machineCount),
      host.error === null ? 'ok' : host.error.code,
    ]),
  );
  context.handle(context.leaf(hosts, 'show <host>', 'one host, by id or name'), async ({ api, args }) =>
    describeHost(await findNamed<HostView>(api, 'hosts', args[0] ?? '')),
  );

  const probe = addAddressOptions(context.leaf(hosts, 'probe <address>', 'try a host out without adding it'));
  context.handle<AddressOptions>(probe, async ({ api, args, options }) =>
    describeProbe(await api.post<Probe>('/hosts/probe', await readAddress(context, args[0] ?? '', options))),
  );

  const add = addAddressOptions(
    context.leaf(hosts, 'add <address>', 'add a host; pins its key and certificate'),
  ).option('--name <name>', 'what to call it; its address by default');
  context.handle<AddressOptions>(add, async ({ api, args, options }) => {
    const address = await readAddress(context, args[0] ?? '', options);
    return describeHost(await api.post<HostView>('/hosts', { ...address, name: options.name ?? null }));
  });

  const change = addAddressOptions(context.leaf(hosts, 'change <host>', 'change a host; what is not named stays'))
    .option('--name <name>', 'new name')
    .option('--address <address>', 'new address')
    .option('--ask-password', 'ask for a new password (or DOZO_HOST_PASSWORD, or --password-stdin)');
  context.handle<AddressOptions & { address?: string; askPassword?: boolean }>(
    change,
    async ({ api, args, options }) => {
      const host = await findNamed<HostView>(api, 'hosts', args[0] ?? '');
      const wantsPassword = options.askPassword === true || options.passwordStdin === true;
      return describeHost(
        await api.patch<HostView>(`/hosts/${host.id}`, {
          name: options.name,
          host: options.address,
          user: options.user,
          sshPort: options.sshPort,
          httpsPort: options.httpsPort,
          sshHostKey: options.sshHostKey,
          tlsCertificate: options.tlsCertificate,
          ...(wantsPassword ? { password: await askHostPassword(context, host.host, options) } : {}),
          ...(options.keyFile === undefined ? {} : { privateKey: await readKeyFile(options.keyFile) }),
        }),
      );
    },
  );

  context.handle(context.leaf(hosts, 'remove <host>', 'forget a host; versions stay'), async ({ api, args }) => {
    const host = await findNamed<HostView>(api, 'hosts', args[0] ?? '');
    await api.delete(`/hosts/${host.id}`);
    return doneOutput({ removed: host.id }, `Forgot ${cleanText(host.name)}.`);
  });
  context.handle(context.leaf(hosts, 'test <host>', 'try the connection'), async ({ api, args }) => {
    const host = await findNamed<HostView>(api, 'hosts', args[0] ?? '');
    return describeProbe(await api.post<Probe>(`/hosts/${host.id}/test`, {}));
  });
  context.handle(context.leaf(hosts, 'datastores <host>', 'its datastores, asked now'), async ({ api, args }) => {
    const host = await findNamed<HostView>(api, 'hosts', args[0] ?? '');
    const datastores = await api.get<Datastore[]>(`/hosts/${host.id}/datastores`);
    return listOutput(datastores, ['NAME', 'TYPE', 'SIZE', 'FREE'], (datastore) => [
      datastore.name,
      datastore.type,
      formatBytes(datastore.capacityBytes),
      formatBytes(datastore.freeBytes),
    ]);
  });
  context.handle(context.leaf(hosts, 'networks <host>', 'its networks, asked now'), async ({ api, args }) => {
    const host = await findNamed<HostView>(api, 'hosts', args[0] ?? '');
    return listOutput(await api.get<string[]>(`/hosts/${host.id}/networks`), ['NAME'], (name) => [name]);
  });
}

function addAddressOptions(command: Command): Command {
  return command
    .option('--user <name>', 'account on the host (root)')
    .option('--ssh-port <number>', 'port of SSH (22)', parseInteger(1, 65535))
    .option('--https-port <number>', 'port of HTTPS (443)', parseInteger(1, 65535))
    .option('--password-stdin', 'its password is the first line of standard input; else DOZO_HOST_PASSWORD, else asked')
    .option('--key-file <file>', 'private key for SSH')
    .option('--ssh-host-key <SHA256:…>', 'expect this host key')
    .option('--tls-certificate <sha256>', 'expect this certificate');
}

async function readAddress(
  context: CommandContext,
  host: string,
  options: AddressOptions,
): Promise<Record<string, unknown>> {
  return {
    host,
    user: options.user,
    sshPort: options.sshPort,
    httpsPort: options.httpsPort,
    sshHostKey: options.sshHostKey,
    tlsCertificate: options.tlsCertificate,
    password: await askHostPassword(context, host, options),
    ...(options.keyFile === undefined ? {} : { privateKey: await readKeyFile(options.keyFile) }),
  };
}

function askHostPassword(context: CommandContext, host: string, options: AddressOptions): Promise<string> {
  return askSecret(context.terminal, {
    question: `Password of ${options.user ?? 'root'} on ${host}: `,
    environment: 'DOZO_HOST_PASSWORD',
    fromInput: options.passwordStdin === true,
    variables: context.environment,
  });
}

async function readKeyFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AppError('INPUT_INVALID', `The key file ${path} cannot be read.`, { cause });
  }
}

function describeHost(host: HostView): Output {
  const { facts } = host;
  return showOutput(host, [
    ['id', host.id],
    ['name', host.name],
    ['address', `${host.user}@${host.host} (SSH ${host.sshPort}, HTTPS ${host.httpsPort})`],
    ['product', facts?.product ?? '-'],
    ['licence', facts?.licenseName ?? '-'],
    ['host key', host.sshHostKey ?? '-'],
    ['certificate', host.tlsCertificate ?? '-'],
    ['VMs', String(host.machineCount)],
    ['checked', formatTime(host.checkedAtMs)],
    ['state', host.error === null ? 'ok' : `${host.error.code}: ${host.error.message}`],
  ]);
}

function describeProbe(probe: Probe): Output {
  const lines = probe.steps.map((step) => `${step.level.padEnd(7)} ${cleanText(step.text)}\n`);
  const end =
    probe.error === null ? 'ok\n' : `error   ${cleanText(`${probe.error.message} ${probe.error.hint ?? ''}`)}\n`;
  return { document: probe, text: lines.join('') + end, exitStatus: probe.ok ? EXIT_DONE : EXIT_FAILED };
}

import type { Command } from 'commander';
import type { RunView } from '../../contract/api/run.schema.ts';
import type { CommandContext } from '../command-context.ts';
import { findNamed, type Named } from '../find-named.ts';
import { collectPairs, oneOf } from '../parse-options.ts';
import { addWaitOptions, followRun, type WaitOptions } from '../run-output.ts';

interface RestoreOptions extends WaitOptions {
  datastore?: string;
  provisioning: string;
  network: Record<string, string>;
  keepIdentity?: boolean;
  powerOn?: boolean;
  acceptIncomplete?: boolean;
}

export function addRestoreCommands(program: Command, context: CommandContext): void {
  const restores = program.command('restores').description('restore VMs and disks');
  const asNew = addRestoreOptions(
    context.leaf(restores, 'new <point> <host> <name>', 'restore a version as a new VM on a host'),
  );
  context.handle<RestoreOptions>(asNew, async (call) => {
    const [pointId, hostText = '', name] = call.args;
    const host = await findNamed<Named>(call.api, 'hosts', hostText);
    const input = { ...readOptions(call.options), pointId, hostId: host.id, mode: { kind: 'new', name } };
    return followRun(context, call, await call.api.post<RunView>('/restores', input));
  });
  const replace = addRestoreOptions(
    context.leaf(restores, 'replace <point> <vm>', 'restore a version over a VM; it stays as it is until the end'),
  );
  context.handle<RestoreOptions>(replace, async (call) => {
    const [pointId, vmText = ''] = call.args;
    const machine = await findNamed<Named & { hostId: string | null }>(call.api, 'machines', vmText);
    const input = {
      ...readOptions({ ...call.options, keepIdentity: true }),
      pointId,
      hostId: machine.hostId,
      mode: { kind: 'replace', machineId: machine.id },
    };
    return followRun(context, call, await call.api.post<RunView>('/restores', input));
  });
  const toFile = addWaitOptions(
    context
      .leaf(restores, 'export <point> <disk> <path>', 'write a disk of a version to a file on the NAS')
      .option('--format <format>', 'raw or vmdk', oneOf(['raw', 'vmdk']), 'raw'),
  );
  context.handle<WaitOptions & { format: string }>(toFile, async (call) => {
    const [pointId, diskKey, path] = call.args;
    const { format } = call.options;
    return followRun(context, call, await call.api.post<RunView>('/exports', { pointId, diskKey, path, format }));
  });
}

function addRestoreOptions(command: Command): Command {
  return addWaitOptions(command)
    .option('--datastore <name>', 'where to; where it was by default')
    .option(
      '--provisioning <kind>',
      'thin, thick, eager or as-source',
      oneOf(['thin', 'thick', 'eager', 'as-source']),
      'as-source',
    )
    .option('--network <old=new>', 'connect to another network (several times)', collectPairs, {})
    .option('--keep-identity', 'keep MAC addresses and UUIDs (new ones by default for a new VM)')
    .option('--power-on', 'start it at the end')
    .option('--accept-incomplete', 'restore what an incomplete version holds');
}

function readOptions(options: RestoreOptions): Record<string, unknown> {
  return {
    datastore: options.datastore ?? null,
    provisioning: options.provisioning,
    networks: options.network,
    identity: options.keepIdentity === true ? 'keep' : 'new',
    powerOn: options.powerOn === true,
    acceptIncomplete: options.acceptIncomplete === true,
  };
}

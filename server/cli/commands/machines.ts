import type { Command } from 'commander';
import type { MachineView } from '../../contract/api/machine.schema.ts';
import { formatBytes } from '../../runtime/index.ts';
import { listOutput, showOutput, type CommandContext } from '../command-context.ts';
import { findNamed, type Named } from '../find-named.ts';
import { formatTime } from '../format.ts';

export function addMachineCommands(program: Command, context: CommandContext): void {
  const machines = program.command('vms').alias('machines').description('virtual machines');
  const list = context
    .leaf(machines, 'list', 'all VMs')
    .option('--host <host>', 'of one host')
    .option('--search <text>', 'with this in their name')
    .option('--refresh', 'ask the host first (with --host)');
  context.handle<{ host?: string; search?: string; refresh?: boolean }>(list, async ({ api, options }) => {
    const host = options.host === undefined ? null : await findNamed<Named>(api, 'hosts', options.host);
    if (host !== null && options.refresh === true) await api.get(`/hosts/${host.id}/machines`, { refresh: true });
    const items = await api.get<MachineView[]>('/machines', { hostId: host?.id, search: options.search });
    return listOutput(items, ['ID', 'NAME', 'POWER', 'SIZE', 'VERSIONS', 'LAST VERSION', 'LAST RUN'], (machine) => [
      machine.id,
      machine.name,
      machine.present ? (machine.summary?.powerState ?? '-') : 'gone',
      formatBytes((machine.summary?.disks ?? []).reduce((sum, disk) => sum + disk.sizeBytes, 0)),
      String(machine.pointCount),
      formatTime(machine.lastPointAtMs),
      machine.lastRun?.state ?? '-',
    ]);
  });
  context.handle(context.leaf(machines, 'show <vm>', 'one VM, by id or name'), async ({ api, args }) => {
    const machine = await findNamed<MachineView>(api, 'machines', args[0] ?? '');
    const { summary } = machine;
    return showOutput(machine, [
      ['id', machine.id],
      ['name', machine.name],
      ['path', machine.identity.path],
      ['guest', summary?.guest ?? '-'],
      ['power', machine.present ? (summary?.powerState ?? '-') : 'gone'],
      ['change tracking', summary === null ? '-' : summary.changeTracking ? 'on' : 'off'],
      ...(summary?.disks ?? []).map(
        (disk) => [disk.key, `${disk.label}, ${formatBytes(disk.sizeBytes)}, ${disk.path}`] as const,
      ),
      ['versions', String(machine.pointCount)],
      ['last version', formatTime(machine.lastPointAtMs)],
    ]);
  });
}

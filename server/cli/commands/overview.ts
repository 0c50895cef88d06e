import type { Command } from 'commander';
import type { JobRow, MachineRow } from '../../contract/api/list.schema.ts';
import type { History, Overview } from '../../contract/api/overview.schema.ts';
import { formatBytes } from '../../runtime/index.ts';
import { listOutput, showOutput, type CommandContext } from '../command-context.ts';
import { formatTime } from '../format.ts';
import { oneOf, parseInteger } from '../parse-options.ts';

interface ListOptions {
  search?: string;
  offset: number;
  limit: number;
}

export function addOverviewCommands(program: Command, context: CommandContext): void {
  const overview = program.command('overview').description('what is protected, what fails, what runs next');
  context.handle(context.leaf(overview, 'show', 'machines by protection, and what is due next'), async ({ api }) => {
    const view = await api.get<Overview>('/overview');
    return showOutput(view, [
      ['protected', String(view.machines.protected)],
      ['failing', String(view.machines.failing)],
      ['no version yet', String(view.machines.pending)],
      ['no job', String(view.machines.unprotected)],
      ...view.nextRuns.map(({ name, atMs }): [string, string] => ['next', `${formatTime(atMs)} ${name}`]),
    ]);
  });

  const history = context
    .leaf(overview, 'history', 'runs and transferred sizes, day by day')
    .option('--days <number>', 'how many days', parseInteger(1, 366), 30)
    .option('--time-zone <name>', 'in which days begin', 'UTC');
  context.handle<{ days: number; timeZone: string }>(history, async ({ api, options: { days, timeZone } }) => {
    const view = await api.get<History>('/history', { days, timeZone });
    return listOutput(view.days, ['DAY', 'RUNS', 'READ', 'STORED'], (day) => [
      day.date,
      String(day.runs.reduce((sum, { count }) => sum + count, 0)),
      formatBytes(day.readBytes),
      formatBytes(day.storedBytes),
    ]);
  });

  const machines = addPageOptions(context.leaf(overview, 'vms', 'a page of the machines')).option(
    '--protection <kind>',
    'only those',
    oneOf(['protected', 'failing', 'pending', 'unprotected']),
  );
  context.handle<ListOptions & { protection?: string }>(machines, async ({ api, options }) => {
    const page = await api.get<{ rows: MachineRow[]; total: number }>('/lists/machines', { ...options });
    return listOutput(page.rows, ['NAME', 'HOST', 'PROTECTION', 'VERSIONS', 'SIZE'], (row) => [
      row.name,
      row.hostName ?? '',
      row.protection,
      String(row.pointCount),
      formatBytes(row.sizeBytes),
    ]);
  });

  const jobs = addPageOptions(context.leaf(overview, 'jobs', 'a page of the jobs'));
  context.handle<ListOptions>(jobs, async ({ api, options }) => {
    const page = await api.get<{ rows: JobRow[]; total: number }>('/lists/jobs', { ...options });
    return listOutput(page.rows, ['NAME', 'MACHINES', 'LAST', 'NEXT'], (row) => [
      row.name,
      row.machineNames.join(', '),
      row.lastRun?.state ?? '',
      row.nextRunAtMs === null ? '' : formatTime(row.nextRunAtMs),
    ]);
  });
}

function addPageOptions(command: Command): Command {
  return command
    .option('--search <text>', 'part of the name')
    .option('--offset <number>', 'how many to skip', parseInteger(0, 10_000_000), 0)
    .option('--limit <number>', 'how many to show', parseInteger(1, 200), 50);
}

import type { Command } from 'commander';
import type { Settings, SettingsChange } from '../../contract/api/settings.schema.ts';
import { showOutput, type CommandContext, type Output } from '../command-context.ts';
import { parseInteger } from '../parse-options.ts';
import { collectThrottle, describeThrottle, toThrottle, type ThrottleInput } from '../parse-throttle.ts';

interface SettingsOptions extends Omit<SettingsChange, 'throttle' | 'tasksPerWorker'> {
  tasksPerWorker?: number | 'auto';
  throttle?: ThrottleInput;
  throttleZone?: string;
}

export function addSettingsCommands(program: Command, context: CommandContext): void {
  const settings = program.command('settings').description('settings of the server');
  context.handle(context.leaf(settings, 'show', 'all settings'), async ({ api }) =>
    describe(await api.get<Settings>('/settings')),
  );
  const change = context
    .leaf(settings, 'set', 'change settings; what is not named stays')
    .option('--tasks-per-host <number>', 'machines of one host at the same time', parseInteger(1, 16))
    .option('--tasks-per-datastore <number>', 'machines of one datastore at the same time', parseInteger(1, 16))
    .option('--tasks-per-repository <number>', 'tasks of one repository at the same time', parseInteger(1, 64))
    .option('--tasks-per-worker <number>', 'tasks of one worker at the same time; "auto": as it was started', (text) =>
      text === 'auto' ? text : parseInteger(1, 32)(text),
    )
    .option('--tasks-in-total <number>', 'tasks at the same time', parseInteger(1, 256))
    .option(
      '--throttle <limit>',
      'MB/s of all backups, like "mon-fri 08:00-18:00 10", "50" for all other times, or "off" (several times)',
      collectThrottle,
    )
    .option('--throttle-zone <zone>', 'time zone of these times like Europe/Berlin; else that of this machine')
    .option('--keep-runs-days <number>', 'how long ended runs are kept', parseInteger(1, 3660))
    .option('--trash-days <number>', 'how long a deleted version can be brought back', parseInteger(0, 3660));
  context.handle<SettingsOptions>(change, async ({ api, options }) => {
    const { tasksPerHost, tasksPerDatastore, tasksPerRepository, tasksInTotal, keepRunsDays, trashDays } = options;
    const { throttle, throttleZone, tasksPerWorker } = options;
    const changed = await api.patch<Settings>('/settings', {
      tasksPerHost,
      tasksPerDatastore,
      tasksPerRepository,
      tasksPerWorker: tasksPerWorker === 'auto' ? null : tasksPerWorker,
      tasksInTotal,
      throttle: toThrottle(throttle, throttleZone),
      keepRunsDays,
      trashDays,
    });
    return describe(changed);
  });
}

function describe(settings: Settings): Output {
  return showOutput(settings, [
    ['tasks per host', String(settings.tasksPerHost)],
    ['tasks per datastore', String(settings.tasksPerDatastore)],
    ['tasks per repository', String(settings.tasksPerRepository)],
    ['tasks per worker', settings.tasksPerWorker === null ? 'auto' : String(settings.tasksPerWorker)],
    ['tasks in total', String(settings.tasksInTotal)],
    ['throttle', describeThrottle(settings.throttle)],
    ['keep runs', `${settings.keepRunsDays} days`],
    ['trash', `${settings.trashDays} days`],
  ]);
}

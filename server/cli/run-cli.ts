import { Command, CommanderError } from 'commander';
import { toAppError } from '../errors/index.ts';
import type { Terminal } from './ask.ts';
import { addGlobalOptions, CommandContext, EXIT_FAILED, EXIT_USAGE } from './command-context.ts';
import { addAccountCommands } from './commands/account.ts';
import { addAuditCommands } from './commands/audit.ts';
import { addConfigurationCommands } from './commands/configuration.ts';
import { addHookCommands } from './commands/hooks.ts';
import { addHostCommands } from './commands/hosts.ts';
import { addJobCommands } from './commands/jobs.ts';
import { addMachineCommands } from './commands/machines.ts';
import { addNotificationCommands } from './commands/notifications.ts';
import { addOverviewCommands } from './commands/overview.ts';
import { addNasCommands } from './commands/nas.ts';
import { addPointCommands } from './commands/points.ts';
import { addReportCommands } from './commands/reports.ts';
import { addRepositoryCommands } from './commands/repositories.ts';
import { addRetentionCommands } from './commands/retention.ts';
import { addRestoreCommands } from './commands/restores.ts';
import { addRunCommands } from './commands/runs.ts';
import { addScheduleCommands } from './commands/schedules.ts';
import { addSessionCommands } from './commands/session.ts';
import { addSettingsCommands } from './commands/settings.ts';
import { addSystemCommands } from './commands/system.ts';
import { addUserCommands } from './commands/users.ts';
import { cleanText } from './table.ts';

/**
 * Runs one command.
 * @param args without the program's own name
 * @returns exit status: 0 done, 1 failed, 2 wrong usage, 3 finished with warnings or incomplete
 */
export async function runCli(
  args: readonly string[],
  terminal: Terminal,
  environment: Record<string, string | undefined>,
): Promise<number> {
  const context = new CommandContext(terminal, environment);
  const program = createProgram(context);
  try {
    await program.parseAsync(args, { from: 'user' });
    return context.exitStatus;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    const known = toAppError(error);
    if (context.isJson) {
      terminal.output.write(`${JSON.stringify({ error: known.toBody() })}\n`);
    } else {
      terminal.errors.write(`${known.code}: ${cleanText(known.message)}\n`);
      if (known.hint !== undefined) terminal.errors.write(`${cleanText(known.hint)}\n`);
    }
    return known.code === 'INPUT_INVALID' ? EXIT_USAGE : EXIT_FAILED;
  }
}

function createProgram(context: CommandContext): Command {
  const program = new Command('dozo')
    .description('Backs up the virtual machines of ESXi hosts, and brings them back.')
    .showHelpAfterError('Add --help for what there is.')
    .addHelpText('after', '\nExit status: 0 done, 1 failed, 2 wrong usage, 3 finished with warnings or incomplete.');
  addGlobalOptions(program);
  addSessionCommands(program, context);
  addAccountCommands(program, context);
  addUserCommands(program, context);
  addAuditCommands(program, context);
  addHostCommands(program, context);
  addMachineCommands(program, context);
  addOverviewCommands(program, context);
  addRepositoryCommands(program, context);
  addJobCommands(program, context);
  addScheduleCommands(program, context);
  addRetentionCommands(program, context);
  addRunCommands(program, context);
  addPointCommands(program, context);
  addRestoreCommands(program, context);
  addNotificationCommands(program, context);
  addReportCommands(program, context);
  addConfigurationCommands(program, context);
  addHookCommands(program, context);
  addNasCommands(program, context);
  addSettingsCommands(program, context);
  addSystemCommands(program, context);
  for (const command of listCommands(program)) {
    command.exitOverride();
    command.configureOutput({
      writeOut: (text) => context.terminal.output.write(text),
      writeErr: (text) => context.terminal.errors.write(text),
    });
  }
  return program;
}

function listCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(listCommands)];
}

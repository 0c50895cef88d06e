import { readFile, writeFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type {
  ConfigurationDocument,
  GhettoImportReport,
  ImportReport,
} from '../../contract/api/configuration.schema.ts';
import { AppError } from '../../errors/index.ts';
import { askSecret } from '../ask.ts';
import { doneOutput, EXIT_WARNINGS, type CommandContext, type Output } from '../command-context.ts';
import { findNamed, type Named } from '../find-named.ts';
import { cleanText, formatTable } from '../table.ts';

const PASSPHRASE = 'DOZO_CONFIGURATION_PASSPHRASE';

export function addConfigurationCommands(program: Command, context: CommandContext): void {
  const configuration = program
    .command('configuration')
    .description('export and import of everything that is configured');
  const save = context
    .leaf(configuration, 'export <file>', 'write it to a file')
    .option('--secrets', `with passwords, sealed with a passphrase: from ${PASSPHRASE}, or asked for`);
  context.handle<{ secrets?: boolean }>(save, async ({ api, args, options }) => {
    const passphrase = options.secrets === true ? await askPassphrase(context) : null;
    const document = await api.post<ConfigurationDocument>('/configuration/export', { passphrase });
    const [file = ''] = args;
    await writeFile(file, `${JSON.stringify(document, null, 2)}\n`, { mode: 0o600 });
    return doneOutput({ file }, `Written to ${file}${passphrase === null ? ', without any password.' : '.'}`);
  });
  const load = context
    .leaf(configuration, 'import <file>', 'add what is not there yet')
    .option('--secrets', `open its passwords with a passphrase: from ${PASSPHRASE}, or asked for`)
    .option('--dry-run', 'only tell what would be taken over');
  context.handle<{ secrets?: boolean; dryRun?: boolean }>(load, async ({ api, args, options }) => {
    const report = await api.post<ImportReport>('/configuration/import', {
      document: await readDocument(args[0] ?? ''),
      passphrase: options.secrets === true ? await askPassphrase(context) : null,
      dryRun: options.dryRun === true,
    });
    const rows = report.items.map(({ kind, name, outcome, reason }) => [
      kind,
      cleanText(name),
      outcome,
      cleanText(reason ?? ''),
    ]);
    return {
      document: report,
      text: formatTable(['WHAT', 'NAME', 'OUTCOME', ''], rows),
      exitStatus: report.items.some(({ outcome }) => outcome === 'skipped') ? EXIT_WARNINGS : 0,
    };
  });
  const ghetto = context
    .leaf(configuration, 'import-ghettovcb <name>', 'make a task of what ghettoVCB was told to do')
    .option('--file <ghettoVCB.conf>', 'its configuration')
    .option('--vms <list>', 'its list of VMs; without it, all machines')
    .option('--repository <repository>', 'where to store, by id or name')
    .option('--dry-run', 'only tell what would be taken over');
  context.handle<{ file?: string; vms?: string; repository?: string; dryRun?: boolean }>(
    ghetto,
    async ({ api, args, options }) => {
      if (options.repository === undefined) throw new AppError('INPUT_INVALID', 'Name the --repository.');
      const repository = await findNamed<Named>(api, 'repositories', options.repository);
      return describeGhetto(
        await api.post<GhettoImportReport>('/configuration/import/ghettovcb', {
          name: args[0],
          repositoryId: repository.id,
          configuration: options.file === undefined ? '' : await readText(options.file),
          machines: options.vms === undefined ? '' : await readText(options.vms),
          dryRun: options.dryRun === true,
        }),
      );
    },
  );
}

function describeGhetto(report: GhettoImportReport): Output {
  const settings = report.settings.map(({ key, value, outcome, reason }) => [key, cleanText(value), outcome, reason]);
  const machines = report.machines.map(({ line, machineId, reason }) => [
    cleanText(line),
    machineId === null ? 'not found' : 'found',
    reason ?? '',
  ]);
  const end = report.jobId === null ? 'No task was made.' : `Made the task ${report.jobId}.`;
  const isWhole = report.machines.every(({ machineId }) => machineId !== null);
  return {
    document: report,
    text: `${formatTable(['SETTING', 'VALUE', 'OUTCOME', ''], settings)}\n${formatTable(['VM', '', ''], machines)}\n${end}\n`,
    exitStatus: isWhole ? 0 : EXIT_WARNINGS,
  };
}

function askPassphrase(context: CommandContext): Promise<string> {
  return askSecret(context.terminal, {
    question: 'Passphrase: ',
    fromInput: false,
    environment: PASSPHRASE,
    variables: context.environment,
  });
}

async function readDocument(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readText(file)) as unknown;
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new AppError('INPUT_INVALID', `${file} is not a configuration.`, { cause });
    throw cause;
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new AppError('INPUT_INVALID', `${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
}
